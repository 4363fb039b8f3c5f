"""I6, I8, I9: ownership moves in one revision of the store, the cut is where the new owner's part of the order ends,
and a planned move leaves nothing behind."""

from __future__ import annotations

from collections.abc import Sequence

from omnirelay.failover.record import Failover, Mode, State
from omnirelay.model.routing import Ownership, Route
from omnirelay.ports.coordination import Change
from omnirelay.runtime.documents import AUDIT_HEAD, FAILOVERS, LEASES, ROUTING, ROUTING_DOCUMENT
from omnirelay.testing.simulation.checkers.base import Checker
from omnirelay.testing.simulation.checkers.facts import payload, place


class SwitchChecker(Checker):
    def stored(self, changes: Sequence[Change]) -> None:
        by_key = {change.key: change for change in changes}
        change = by_key.get(ROUTING)
        if change is None:
            return
        if change.entry is None:
            self.fail("I8", "the routing document was deleted")
            return
        before, after = self.facts.routing, ROUTING_DOCUMENT.decode(change.entry.value)
        if not before.version:
            return  # the mesh's first document
        if after.version != before.version + 1 or set(before.routes) - set(after.routes):
            self.fail("I8", f"routing went from version {before.version} to {after.version}")
        moved = {name for name, route in after.routes.items() if route != before.routes.get(name)}
        promoted = [FAILOVERS.decode(c.entry.value) for c in changes if c.key.startswith(FAILOVERS.prefix) and c.entry]
        behind = [f for f in promoted if f.state is State.PROMOTED and f.routing_version == after.version]
        if len(behind) != 1 or set(behind[0].request.namespaces) != moved or AUDIT_HEAD not in by_key:
            self.fail("I8", f"{sorted(moved)} moved without its failover and audit entry in the same revision")
            return
        for name in sorted(moved):
            self._moved(behind[0], before.routes[name], after.routes[name])

    def _moved(self, failover: Failover, before: Route, after: Route) -> None:
        name, new = before.namespace, after.current
        if after.history[:-1] != before.history or new.epoch != before.epoch + 1:
            self.fail("I8", f"the history of {name} went from {before.history} to {after.history}")
        if self.facts.store.get(LEASES.key(name)) is not None:
            self.fail("I8", f"{name} moved to {new.cluster} and the lease of {before.active} stands")
        self._cut(failover, before, new)
        if failover.request.mode is not Mode.EMERGENCY:
            self._lossless(failover, before, new)

    def _cut(self, failover: Failover, before: Route, new: Ownership) -> None:
        """The end of the target's unbroken prefix at this instant, no more and no less."""
        target, name = self.facts.clusters[new.cluster], before.namespace
        lacks = self.facts.missing_upto(target, name, before.history, new.cut)
        if lacks is not None:
            self.fail("I6", f"{failover.id}: {new.cluster} lacks {place(lacks)} of {name}, the cut is {new.cut}")
        beyond = self.facts.next_valid(name, before.history, new.cut)
        if beyond is not None and self.facts.holds(target, beyond):
            self.fail("I6", f"{failover.id}: {new.cluster} holds {place(beyond)} of {name}, the cut is {new.cut}")

    def _lossless(self, failover: Failover, before: Route, new: Ownership) -> None:
        """Nothing that a producer may count on lies beyond the cut of a planned failover."""
        old = before.current
        held = self.facts.clusters[new.cluster].disk.origins
        end = held[old.origin].head.sequence if old.origin in held else 0
        if new.cut.epoch != old.epoch or end < new.cut.sequence:
            self.fail("I9", f"{failover.id}: {new.cluster} holds {old.origin} to {end}, the cut is {new.cut}")
        for batch in self.facts.order[before.namespace, old.epoch]:
            if batch.header.last_sequence > new.cut.sequence and payload(batch) in self.facts.acknowledged:
                self.fail("I9", f"{failover.id}: {batch.records!r} is acknowledged and lies beyond the cut {new.cut}")
