"""Times as text: RFC 3339 in UTC with milliseconds, so that equal lengths make text order time order."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(ms: int) -> str:
    """Milliseconds since the Unix epoch as `2026-01-31T03:04:05.678Z`."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def to_ms(text: str) -> int:
    """The inverse of `rfc3339`; any RFC 3339 time is read. Raises ValueError."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)
