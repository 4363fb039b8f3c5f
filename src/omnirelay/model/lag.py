"""Lag and the state of a link, as words and figures. How they are measured is in omnirelay.replication.lag."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ReplicationStatus(StrEnum):
    STREAMING = "streaming"
    CATCHING_UP = "catching_up"
    STALLED = "stalled"
    DISCONNECTED = "disconnected"
    FENCED = "fenced"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Lag:
    """How far one side is behind the other's log. None means unknown."""

    records: int | None
    size: int | None
    """Bytes."""
    seconds: float | None
    """Age of the oldest batch that is not durably applied; 0 when level."""

    @property
    def level(self) -> bool:
        return self.records == 0


UNKNOWN = Lag(None, None, None)
