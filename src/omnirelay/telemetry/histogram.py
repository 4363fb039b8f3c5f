"""A histogram that belongs to whoever fills it; the exporter only reads it."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Bounds for a commit of the log: from a fast disk's sync to one that is about to fail."""

STEP_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Bounds for a failover's step."""


class Histogram:
    """Counts of values up to and including each bound, beside their sum. Not thread-safe; one owner."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        if not bounds or list(bounds) != sorted(set(bounds)):
            raise ValueError(f"bounds must grow: {bounds}")
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Bound as text → how many values are at or below it; the last bound is +Inf."""
        names = (*(str(bound) for bound in self._bounds), "+Inf")
        return [(name, float(count)) for name, count in zip(names, accumulate(self._counts), strict=True)]
