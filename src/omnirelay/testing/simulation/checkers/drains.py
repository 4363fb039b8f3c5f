"""I10: a drain whose deadline passes is undone by its source, without anybody's help."""

from __future__ import annotations

from collections.abc import Iterable

from omnirelay.failover.planned import SOURCE_CLOSED
from omnirelay.testing.simulation.checkers.base import Checker, Fail
from omnirelay.testing.simulation.checkers.facts import Facts
from omnirelay.testing.simulation.cluster import Cluster

BOUND_SECONDS = 5.0
"""What a source that can act may take beyond the deadline, for a look every quarter of a second and the store's
answers."""


class DrainChecker(Checker):
    def __init__(self, facts: Facts, fail: Fail) -> None:
        super().__init__(facts, fail)
        self._since: dict[str, float] = {}
        self._next_look = 0.0

    def after_step(self, touched: Iterable[Cluster]) -> None:
        now = self.facts.store.now
        if now < self._next_look:
            return
        self._next_look = now + 0.25
        draining = {f.id: f for f in self.facts.failovers.values() if f.state in SOURCE_CLOSED}
        self._since = {id: self._since.get(id, now) for id in draining}
        for failover in draining.values():
            source = self.facts.clusters[failover.source]
            due = self._since[failover.id] + failover.request.limits.drain_timeout_seconds
            able = source.able_since
            if able is not None and now > max(due, able, source.disk.due) + BOUND_SECONDS:
                self.fail("I10", f"{failover.id} still drains {source.name}, {now - due:.1f} s after its deadline")
