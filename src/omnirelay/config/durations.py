"""Durations and sizes as people write them: `250ms`, `5s`, `2m`, `1h`, `7d`; `64KiB`, `4MiB`, `10GiB`."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
MOST = 2.0**53
"""Up to here a float counts bytes one by one."""
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")


def seconds(value: Any) -> float:
    """`250ms` → 0.25. A number without a unit is refused: it would be read as whatever the reader expects."""
    return _quantity(value, _SECONDS, "a duration such as 250ms, 5s, 2m, 1h or 7d")


def size_bytes(value: Any) -> int:
    """`4MiB` → 4194304."""
    return int(_quantity(value, _BYTES, "a size such as 64KiB, 4MiB or 10GiB"))


def _quantity(value: Any, units: dict[str, float] | dict[str, int], what: str) -> float:
    match = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match.group(2) not in units:
        raise ValueError(f"{value!r} is not {what}")
    quantity = float(match.group(1)) * units[match.group(2)]
    if quantity > MOST:
        raise ValueError(f"{value!r} is beyond anything that can be meant")
    return quantity


Seconds = Annotated[float, BeforeValidator(seconds)]
Bytes = Annotated[int, BeforeValidator(size_bytes)]
