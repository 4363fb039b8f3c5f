"""Time, as an argument that a simulation can supply."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back. Leases and deadlines use this one only."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch; may jump. For people, for commit times, never for safety."""
        ...
