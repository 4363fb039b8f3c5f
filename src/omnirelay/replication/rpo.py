"""The RPO guard: an active that its peers cannot follow slows its producers, then refuses them.

What an emergency would lose is what the best peer lacks, so the best peer is what the guard looks at. Loss is measured
as lag is: the age of the oldest batch that is missing there. What is not known counts as infinite.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from omnirelay.errors import RpoExceeded
from omnirelay.model.routing import Route
from omnirelay.model.version_vector import VersionVector

LONGEST_DELAY_SECONDS = 0.1
"""Of one batch, just below the limit. A delay holds back one producer's stream, so its rate falls to ten batches a
second; a longer one would look like a connection that has stalled."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One peer, as the active sees it."""

    acknowledged: VersionVector | None
    """What it last confirmed to hold durably; None if it never did."""
    lag_seconds: float | None
    """Age of the active's oldest batch that the peer has not confirmed; None where that is unknown."""
    silent_seconds: float = 0.0
    """Since it was last heard of; 0 while it is connected."""


@dataclass(frozen=True, slots=True)
class RpoGuard:
    max_lag_seconds: float
    """The most that an emergency may lose."""
    slow_from: float
    """Ratio of it, 0 to 1, from which on batches are delayed: the longer, the nearer the limit."""

    def delay(self, exposure: float) -> float:
        """Seconds to hold a batch back for. Raises RpoExceeded."""
        if exposure > self.max_lag_seconds:
            lag = "unknown" if exposure == inf else f"{exposure:.3g} s"
            raise RpoExceeded(
                f"the lag of the best peer is {lag}, {self.max_lag_seconds:g} s are allowed",
                lag=lag,
                limit=f"{self.max_lag_seconds:g} s",
            )
        slow_from = self.max_lag_seconds * self.slow_from
        if exposure <= slow_from:
            return 0.0
        return LONGEST_DELAY_SECONDS * (exposure - slow_from) / (self.max_lag_seconds - slow_from)


def exposure_seconds(route: Route, peers: Iterable[Standing]) -> float:
    """How many seconds of a namespace's writes would be lost with the active at this moment."""
    return min((_behind(route, peer) for peer in peers), default=inf)


def _behind(route: Route, peer: Standing) -> float:
    """A peer whose prefix ends in an earlier epoch would, if promoted, keep nothing of the current one. Of a peer that
    is gone nobody knows whether it still has what it confirmed, and ever less so."""
    if peer.acknowledged is None or peer.lag_seconds is None:
        return inf
    if route.unbroken_prefix(peer.acknowledged).epoch < route.epoch:
        return inf
    return max(peer.lag_seconds, peer.silent_seconds)
