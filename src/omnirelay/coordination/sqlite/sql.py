"""The SQL of this adapter, read from the .sql files beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _statements(text: str) -> Mapping[str, str]:
    _, *parts = _NAME.split(text)
    return MappingProxyType(dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True)))


SCHEMA = _read("schema.sql")
SQL = _statements(_read("statements.sql"))
"""Statement by its name in statements.sql."""
