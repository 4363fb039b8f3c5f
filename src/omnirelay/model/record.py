"""One event, as producers hand it over and consumers get it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Record:
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()
    """Name and value, in the order given; a name may occur more than once."""
    event_time_ms: int = 0
    """When it happened, by the producer's clock; milliseconds since the Unix epoch."""
