"""Which endpoint to try next, and when: pure.

A cluster that refuses a write usually knows who takes it; its word is followed unless something newer is known. A
cluster that does not answer teaches nothing, so the configured endpoints are tried in turn; until the turn is over
nobody's word leads back to it, for others go on naming a dead active until its successor is promoted.
"""

from __future__ import annotations

from collections.abc import Sequence

from omnirelay.errors import ConfigInvalid, OmniRelayError, RpoExceeded, StaleEpoch, WriteRefused

BACKOFF_MIN_SECONDS = 0.025
BACKOFF_MAX_SECONDS = 0.25
REFUSED_BACKOFF_MAX_SECONDS = 0.1
"""A switch takes tenths of a second and asking a live cluster is cheap: ask it more often than a silent one."""


class Finder:
    def __init__(self, endpoints: Sequence[str]) -> None:
        if not endpoints:
            raise ConfigInvalid("no endpoint is configured")
        self._endpoints = tuple(endpoints)
        self._turn = 0
        self._failures = 0
        self._silent: set[str] = set()
        self.endpoint = self._endpoints[0]
        """The one to try now."""
        self.epoch = 0
        """The highest epoch heard of: a cluster with a lower one is behind."""
        self.token = 0
        """The epoch to open with; 0 while ownership moves, for whoever takes over does so in a later one."""

    def opened(self, epoch: int) -> None:
        self.token = self.epoch = max(self.epoch, epoch)
        self._failures = 0
        self._silent.clear()

    def failed(self, error: OmniRelayError, jitter: float) -> float:
        """Chooses the next endpoint. Returns the seconds to wait before it is tried; `jitter` is within [0, 1)."""
        news = self._learn(error)
        if isinstance(error, WriteRefused):
            self.token = self.epoch if isinstance(error, StaleEpoch) else 0
        if isinstance(error, StaleEpoch | RpoExceeded):
            pass  # the right place, asked with an old token or too early
        elif isinstance(error, WriteRefused) and (hint := self._hint(error)) and (news or hint not in self._silent):
            self.endpoint = hint
        else:
            if not isinstance(error, WriteRefused):
                self._silent.add(self.endpoint)
            self._next_turn()
        if news:
            return 0.0
        self._failures += 1
        return self._backoff(isinstance(error, WriteRefused), jitter)

    def _next_turn(self) -> None:
        self._turn = (self._turn + 1) % len(self._endpoints)
        self.endpoint = self._endpoints[self._turn]
        if self._turn == 0:
            self._silent.clear()

    def _learn(self, error: OmniRelayError) -> bool:
        """Whether the refusal tells of a later epoch: then where it points is worth trying at once."""
        epoch = _epoch(error)
        if not isinstance(error, WriteRefused) or epoch <= self.epoch:
            return False
        self.epoch = epoch
        return True

    def _hint(self, error: WriteRefused) -> str:
        """Where the refusal points, unless it points at itself or speaks of an epoch that is over."""
        endpoint = str(error.details.get("endpoint") or "")
        return endpoint if endpoint != self.endpoint and _epoch(error) >= self.epoch else ""

    def _backoff(self, refused: bool, jitter: float) -> float:
        limit = REFUSED_BACKOFF_MAX_SECONDS if refused else BACKOFF_MAX_SECONDS
        highest = min(limit, BACKOFF_MIN_SECONDS * (1 << min(self._failures, 10)))
        return BACKOFF_MIN_SECONDS + jitter * (highest - BACKOFF_MIN_SECONDS)


def _epoch(error: OmniRelayError) -> int:
    """0 where the error names none."""
    try:
        return int(error.details.get("epoch") or 0)
    except (TypeError, ValueError):
        return 0
