"""Files and names in a configuration: what is malformed is refused, since it would be read as something else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator

_NAME = "[A-Za-z0-9._-]"
_PRINCIPAL = re.compile(rf"(cluster|operator|client)/({_NAME}{{1,128}}|{_NAME}{{0,127}}\*)")
_PERSON = re.compile(rf"(cluster|operator|client|token)/{_NAME}{{1,128}}|spiffe://[a-z0-9._-]+/.+")
_TOKEN = re.compile(rf"{_NAME}{{1,128}}")


def _file(value: Any) -> Any:
    """An empty path would be the folder that the process happens to be started in."""
    if isinstance(value, str) and (not value.strip() or "\0" in value):
        raise ValueError(f"{value!r} is no path")
    return value


def _principal(text: str) -> str:
    if not _PRINCIPAL.fullmatch(text):
        raise ValueError(f"{text!r} is not cluster|operator|client/NAME, where NAME may end in * for all that begin so")
    return text


def _person(text: str) -> str:
    if not _PERSON.fullmatch(text):
        raise ValueError(f"{text!r} is not operator/NAME, token/NAME or a whole SPIFFE id")
    return text


def _token(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"{text!r} is not 1 to 128 of the characters A-Z a-z 0-9 . _ -")
    return text


def _https(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname or parts.port == 0:
        raise ValueError(f"{text!r} is not https://HOST:PORT")
    return text


File = Annotated[Path, BeforeValidator(_file)]
HttpsUrl = Annotated[str, AfterValidator(_https)]
Person = Annotated[str, AfterValidator(_person)]
Principal = Annotated[str, AfterValidator(_principal)]
TokenName = Annotated[str, AfterValidator(_token)]
