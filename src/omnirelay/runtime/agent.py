"""Does what this cluster's role in a failover demands, whenever the mesh's state says so.

Level-triggered: each pass looks at the state as it is, not at what led there, so a process that was killed in the
middle goes on from whatever it finds. Every change is a compare-and-set on the failover's record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from omnirelay.errors import OmniRelayError
from omnirelay.failover import workflow
from omnirelay.failover.planned import MACHINE, SOURCE_CLOSED
from omnirelay.failover.record import Barrier, Canary, DemotionToken, Failover, State
from omnirelay.model.batch import Batch, BatchKind
from omnirelay.model.times import rfc3339, to_ms
from omnirelay.ports.clock import Clock
from omnirelay.runtime.audit import Actor
from omnirelay.runtime.failovers import Change, Failovers
from omnirelay.runtime.ownership import Ownerships
from omnirelay.runtime.sequencer import Sequencer
from omnirelay.runtime.signal import Signal
from omnirelay.runtime.view import MeshView

_log = logging.getLogger(__name__)

TICK_SECONDS = 0.25
"""Deadlines are looked at this often when nothing else happens."""


class Agent:
    """`sign` adds the source's signature to a token."""

    def __init__(
        self,
        cluster: str,
        failovers: Failovers,
        view: MeshView,
        sequencer: Sequencer,
        ownerships: Ownerships,
        clock: Clock,
        sign: Callable[[DemotionToken], DemotionToken],
    ) -> None:
        self._cluster = cluster
        self._failovers = failovers
        self._view = view
        self._sequencer = sequencer
        self._ownerships = ownerships
        self._clock = clock
        self._sign = sign
        self._actor = Actor(f"cluster/{cluster}", "system")
        self._deadlines: dict[str, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        moved = Signal()
        unlisten = self._sequencer.log.listen(moved.fire)
        try:
            while True:
                seen, held, owned = self._view.changed.version, moved.version, self._ownerships.changed.version
                await self._pass()
                await self._next(seen, held, owned, moved)
        finally:
            unlisten()

    async def _next(self, seen: int, held: int, owned: int, moved: Signal) -> None:
        """Waits for anything that a pass looks at. The log matters only while a failover waits for it."""
        waits = [self._view.changed.wait_beyond(seen, TICK_SECONDS), self._ownerships.changed.wait_beyond(owned)]
        if any(self._concerned(failover) for failover in self._view.failovers.values()):
            waits.append(moved.wait_beyond(held))
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def _pass(self) -> None:
        self._keep_closed()
        for failover in list(self._view.failovers.values()):
            if not self._concerned(failover):
                continue
            try:
                if failover.source == self._cluster:
                    await self._as_source(failover)
                if failover.request.target == self._cluster:
                    await self._as_target(failover)
            except OmniRelayError as error:
                # Nothing is given up: the next pass looks again.
                _log.warning("failover %s: %s", failover.id, error.message)

    def _concerned(self, failover: Failover) -> bool:
        return self._cluster in (failover.source, failover.request.target) and not MACHINE.final(failover.state)

    def _keep_closed(self) -> None:
        """A namespace is closed exactly while a failover drains it; everything else is open again."""
        closed = {
            namespace: failover.request.target
            for failover in self._view.failovers.values()
            if failover.source == self._cluster and failover.state in SOURCE_CLOSED
            for namespace in failover.request.namespaces
        }
        for namespace in self._ownerships.closed - set(closed):
            self._ownerships.reopen(namespace)
        for namespace, target in closed.items():
            self._ownerships.close(namespace, target)

    # --- source ------------------------------------------------------------------------------------------------

    async def _as_source(self, failover: Failover) -> None:
        if failover.state in SOURCE_CLOSED:
            if self._clock.monotonic() >= self._deadline(failover):
                await self._change(
                    failover,
                    lambda f: workflow.expire_drain(f, self._now()) if f.state in SOURCE_CLOSED else f,
                    "expired",
                )
            elif failover.token is None:
                await self._demote(failover)
        elif failover.state is State.PROMOTED:
            for namespace, canary in failover.canaries.items():
                if namespace not in failover.seen and await self._holds(canary.origin, canary.sequence, canary.digest):
                    change = partial(workflow.see_canary, namespace=namespace, now=self._now())
                    await self._change(failover, change, "canary_seen")

    def _deadline(self, failover: Failover) -> float:
        """On this process's monotonic clock. A process that starts in mid-drain counts what the wall clock says is
        left, and never more than the whole."""
        if failover.id not in self._deadlines:
            timeout = failover.request.limits.drain_timeout_seconds
            passed = (self._clock.wall_ms() - to_ms(failover.drain_started_at)) / 1000
            self._deadlines[failover.id] = self._clock.monotonic() + min(timeout, max(0.0, timeout - passed))
        return self._deadlines[failover.id]

    async def _demote(self, failover: Failover) -> None:
        """Everything admitted so far and the barriers become durable; then the token says so."""
        barriers, digests = {}, {}
        for namespace in failover.request.namespaces:
            batch = await self._control(namespace, BatchKind.BARRIER, failover.id)
            barriers[namespace] = Barrier(batch.header.origin, batch.header.epoch, batch.header.last_sequence)
            digests[batch.header.origin] = batch.digest.hex()
        token = self._sign(DemotionToken(failover.id, failover.plan.hash, barriers, digests, self._now()))
        await self._change(failover, lambda f: workflow.demote(f, token, self._now()), "closed")

    # --- target ------------------------------------------------------------------------------------------------

    async def _as_target(self, failover: Failover) -> None:
        if failover.state is State.DRAINING and failover.token is not None:
            await self._reach(failover, failover.token)
        elif failover.state is State.PROMOTED:
            await self._open(failover)
            await self._verify(failover)

    async def _reach(self, failover: Failover, token: DemotionToken) -> None:
        """The digest at the last barrier proves the whole history before it."""
        last: dict[str, int] = {}
        for barrier in token.barriers.values():
            last[barrier.origin] = max(last.get(barrier.origin, 0), barrier.sequence)
        for origin, sequence in last.items():
            if not await self._holds(origin, sequence, token.digests.get(origin, "")):
                return
        reached = {namespace: barrier.sequence for namespace, barrier in token.barriers.items()}
        await self._change(
            failover,
            lambda f: (
                workflow.reach(f, reached, self._sequencer.origin, self._now()) if f.state is State.DRAINING else f
            ),
            "reached",
        )

    async def _open(self, failover: Failover) -> None:
        admitting = self._ownerships.admitting()
        for namespace, epoch in failover.expected_epochs.items():
            if namespace not in failover.opened and admitting.get(namespace, 0) > epoch:
                change = partial(workflow.open_writes, namespace=namespace, now=self._now())
                await self._change(failover, change, "opened")

    async def _verify(self, failover: Failover) -> None:
        if not failover.verify_requested_at:
            return
        for namespace in failover.request.namespaces:
            if namespace not in failover.canaries and namespace in failover.opened:
                batch = await self._control(namespace, BatchKind.CANARY, failover.id)
                header = batch.header
                canary = Canary(header.origin, header.last_sequence, batch.digest.hex(), self._now())
                change = partial(workflow.write_canary, namespace=namespace, canary=canary, now=self._now())
                await self._change(failover, change, "canary_written")
        timeout_ms = failover.request.limits.verify_timeout_seconds * 1000
        if self._clock.wall_ms() - to_ms(failover.verify_requested_at) > timeout_ms:
            await self._change(
                failover,
                lambda f: (
                    workflow.fail_verify(f, self._actor.principal, self._now()) if f.state is State.PROMOTED else f
                ),
                "verify_failed",
            )

    # --- both --------------------------------------------------------------------------------------------------

    async def _control(self, namespace: str, kind: BatchKind, subject: str) -> Batch:
        """Appends a barrier or canary as the owner that this cluster still is. Raises NotActive."""
        ownership = self._sequencer.picture.route(namespace).current
        self._ownerships.still(namespace, ownership.epoch)
        queued = self._sequencer.control(ownership, namespace, kind, subject)
        await asyncio.shield(queued.durable)
        return queued.batch

    async def _holds(self, origin: str, sequence: int, digest: str) -> bool:
        """Whether this cluster holds the origin durably up to `sequence`, with the same history. A different digest
        never becomes equal: the failover then ends by its deadline."""
        head = self._sequencer.log.heads.get(origin)
        if head is None or head.sequence < sequence:
            return False
        found = await self._sequencer.log.digest_at(origin, sequence)
        if found is None or found.hex() != digest:
            _log.error("%s:%d has another chain digest here", origin, sequence)
            return False
        return True

    async def _change(self, failover: Failover, change: Change, action: str) -> None:
        await self._failovers.mutate(failover.id, change, self._actor, f"failover.{action}")
        # The next pass must see this change, or it would do the same again: a second barrier, a second canary.
        await self._view.refresh()

    def _now(self) -> str:
        return rfc3339(self._clock.wall_ms())
