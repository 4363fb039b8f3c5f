"""Logs: one line of JSON each on standard error, or lines for people on a terminal.

What the code is busy with (a failover, a request) is bound once, with `bound`, and stands in every line that is
logged meanwhile, also by tasks started there. Bearer tokens and private keys are taken out of every text on its way
out, tracebacks included: the formatter is the one place that all text passes.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TextIO

from omnirelay.model.times import rfc3339

REDACTED = "[redacted]"

_SECRETS = re.compile(
    r"(?P<scheme>\bbearer\s+)[A-Za-z0-9._~+/=-]+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_bound: ContextVar[Mapping[str, str]] = ContextVar("bound", default=MappingProxyType({}))


@contextmanager
def bound(**fields: str) -> Iterator[None]:
    """Adds fields (`operation_id`, `request_id`, `cluster`) to what is logged inside."""
    token = _bound.set({**_bound.get(), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


def configure(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Sends everything from `level` up to `stream` (standard error), replacing what was set up before."""
    out = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(out)
    handler.setFormatter(HumanFormatter() if out.isatty() else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def redact(text: str) -> str:
    """The text without bearer tokens and private keys."""
    return _SECRETS.sub(lambda found: (found["scheme"] or "") + REDACTED, text)


class JsonFormatter(logging.Formatter):
    """time, level, logger, message, then what is bound and what the call added as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            **_clean(_fields(record)),
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        trace = _trace(self, record)
        if trace:
            line["exception"] = trace
        first = ("time", "level", "logger", "message")
        return json.dumps({**{key: line[key] for key in first}, **line}, ensure_ascii=False)


class HumanFormatter(logging.Formatter):
    """`2026-01-31T03:04:05.678Z INFO  omnirelay.runtime: message  key=value`, then the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f"  {key}={value}" for key, value in _clean(_fields(record)).items())
        head = f"{_time(record)} {record.levelname:<7} {record.name}: {redact(record.getMessage())}{fields}"
        trace = _trace(self, record)
        return f"{head}\n{trace}" if trace else head


def _fields(record: logging.LogRecord) -> dict[str, object]:
    extra = {key: value for key, value in vars(record).items() if key not in _OWN_FIELDS}
    return {**_bound.get(), **extra}


def _clean(fields: Mapping[str, object]) -> dict[str, object]:
    """Numbers and truth values as they are, anything else as text without secrets."""
    return {
        key: value if value is None or isinstance(value, int | float) else redact(str(value))
        for key, value in fields.items()
    }


def _time(record: logging.LogRecord) -> str:
    return rfc3339(int(record.created * 1000))


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return redact("\n".join(parts))
