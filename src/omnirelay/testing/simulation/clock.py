"""A process's own time."""

from __future__ import annotations

from collections.abc import Callable

EPOCH_MS = 1_767_225_600_000
"""Where simulated wall clocks begin: 2026-01-01T00:00:00Z."""


class VirtualClock:
    """Monotonic time runs `rate` times as fast as the world's and never jumps. The wall clock is the world's, plus
    `skew_seconds`, which may change at any moment."""

    def __init__(self, time: Callable[[], float], rate: float = 1.0, skew_seconds: float = 0.0) -> None:
        self._time = time
        self._rate = rate
        self.skew_seconds = skew_seconds

    def monotonic(self) -> float:
        return self._time() * self._rate

    def wall_ms(self) -> int:
        return EPOCH_MS + int((self._time() + self.skew_seconds) * 1000)
