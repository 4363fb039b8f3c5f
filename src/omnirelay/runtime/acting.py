"""What every role in a failover does: look, write a batch, change the record."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence

from omnirelay.errors import StorageUnavailable
from omnirelay.failover.record import Failover
from omnirelay.model.batch import Batch, BatchKind
from omnirelay.model.times import rfc3339, to_ms
from omnirelay.ports.clock import Clock
from omnirelay.ports.coordination import CoordinationStore, Write
from omnirelay.runtime.audit import Actor
from omnirelay.runtime.failovers import Change, Failovers
from omnirelay.runtime.ownership import Ownerships
from omnirelay.runtime.sequencer import Queued, Sequencer
from omnirelay.runtime.view import MeshView

_log = logging.getLogger(__name__)


DISK_SECONDS = 0.5
"""What a role waits for the disk before it looks after everything else again."""


class Acting:
    """One per replicator, shared by its roles."""

    def __init__(
        self,
        cluster: str,
        store: CoordinationStore,
        failovers: Failovers,
        view: MeshView,
        sequencer: Sequencer,
        ownerships: Ownerships,
        clock: Clock,
    ) -> None:
        self.cluster = cluster
        self.store = store
        self.failovers = failovers
        self.view = view
        self.sequencer = sequencer
        self.ownerships = ownerships
        self.clock = clock
        self.actor = Actor(f"cluster/{cluster}", "system")
        self.was_there = False
        """Whether this process has looked at every failover before: what is new to it now has just begun."""
        self._ends: dict[tuple[str, str], float] = {}
        self._written: dict[tuple[str, str, BatchKind], Queued] = {}
        """Barriers and canaries that are not durable yet."""

    def now(self) -> str:
        return rfc3339(self.clock.wall_ms())

    async def controls(self, namespaces: Iterable[str], kind: BatchKind, subject: str) -> dict[str, Batch]:
        """Appends a barrier or canary to each namespace as the owner that this cluster still is, all with one wait for
        the disk; once, however often it is called before they are durable.

        Raises NotActive, and StorageUnavailable when the disk hangs: whoever waits for it has a deadline to keep.
        """
        keys = {namespace: (subject, namespace, kind) for namespace in namespaces}
        new = [namespace for namespace, key in keys.items() if key not in self._written]
        for namespace in new:
            ownership = self.sequencer.picture.route(namespace).current
            self.ownerships.still(namespace, ownership.epoch)
            queued = self.sequencer.control(ownership, namespace, kind, subject)
            self._written[keys[namespace]] = queued
        if new:
            await asyncio.wait([self._written[key].durable for key in keys.values()], timeout=DISK_SECONDS)
        hung = [namespace for namespace, key in keys.items() if not self._written[key].durable.done()]
        if hung:
            name = kind.name.lower()
            raise StorageUnavailable(f"the disk has not taken the {name} of {hung[0]}", reason="the disk hangs")
        written = {namespace: self._written.pop(key) for namespace, key in keys.items()}
        for each in written.values():
            each.durable.result()
        return {namespace: each.batch for namespace, each in written.items()}

    async def holds(self, origin: str, sequence: int, digest: str) -> bool:
        """Whether this cluster holds the origin durably up to `sequence`, with the same history. A different digest
        never becomes equal: the failover then ends by its deadline."""
        head = self.sequencer.log.heads.get(origin)
        if head is None or head.sequence < sequence:
            return False
        found = await self.sequencer.log.digest_at(origin, sequence)
        if found is None or found.hex() != digest:
            _log.error("%s:%d has another chain digest here", origin, sequence)
            return False
        return True

    async def change(self, failover: Failover, change: Change, action: str, also: Sequence[Write] = ()) -> None:
        await self.failovers.mutate(failover.id, change, self.actor, f"failover.{action}", also=also)
        # The next pass must see this change, or it would do the same again: a second barrier, a second canary.
        await self.view.refresh()

    def passed(self, failover: Failover, step: str, began_at: str, seconds: float) -> bool:
        """Whether `seconds` have passed since `began_at`, on this process's monotonic clock. A process that was there
        counts from when it saw the step begin, for `began_at` is another cluster's time of day. One that starts in the
        middle counts what the wall clock says is left, and never more than the whole."""
        key = (failover.id, f"{step} {began_at}")
        if key not in self._ends:
            since = 0.0 if self.was_there else (self.clock.wall_ms() - to_ms(began_at)) / 1000
            self._ends[key] = self.clock.monotonic() + min(seconds, max(0.0, seconds - since))
        return self.clock.monotonic() >= self._ends[key]

    def waited(self, failover: Failover, step: str, seconds: float) -> bool:
        """Whether this process itself has waited `seconds` since it first asked: for safety, where no wall clock
        counts."""
        end = self._ends.setdefault((failover.id, step), self.clock.monotonic() + seconds)
        return self.clock.monotonic() >= end
