"""The SQL of this package, from the .sql files beside it."""

from __future__ import annotations

import re
from importlib import resources

_SQL = resources.files("omnirelay.storage") / "sql"
_STATEMENT = re.compile(r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", re.MULTILINE | re.DOTALL)


def _load() -> dict[str, str]:
    text = (_SQL / "statements.sql").read_text(encoding="utf-8")
    return {name: body.strip() for name, body in _STATEMENT.findall(text)}


SQL = _load()
"""Name → statement."""


def migrations() -> list[str]:
    """Scripts in order; the n-th, counted from 1, takes a database to `user_version` n."""
    files = sorted((f for f in _SQL.iterdir() if re.fullmatch(r"\d{4}_\w+\.sql", f.name)), key=lambda f: f.name)
    return [f.read_text(encoding="utf-8") for f in files]
