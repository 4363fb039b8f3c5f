"""Does what this cluster's role in a failover demands, whenever the mesh's state says so.

Level-triggered: each pass looks at the state as it is, not at what led there, so a process that was killed in the
middle goes on from whatever it finds. Every change is a compare-and-set on the failover's record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from omnirelay.errors import OmniRelayError
from omnirelay.failover import workflow
from omnirelay.failover.lease import Timing
from omnirelay.failover.modes import SOURCE_CLOSED, is_open
from omnirelay.failover.record import DemotionToken, Failover, Mode, State
from omnirelay.runtime.acting import Acting
from omnirelay.runtime.emergency_role import EmergencyRole
from omnirelay.runtime.planned_role import PlannedRole
from omnirelay.runtime.signal import Signal, first_of
from omnirelay.runtime.verification import Verification

_log = logging.getLogger(__name__)

TICK_SECONDS = 0.25
"""Deadlines are looked at this often when nothing else happens."""


class Agent:
    def __init__(self, acting: Acting, timing: Timing, sign: Callable[[DemotionToken], DemotionToken]) -> None:
        self._acting = acting
        self._planned = PlannedRole(acting, sign)
        self._emergency = EmergencyRole(acting, timing)
        self._verification = Verification(acting)

    async def run(self) -> None:
        """Until cancelled."""
        acting, moved = self._acting, Signal()
        unlisten = acting.sequencer.log.listen(moved.fire)
        try:
            while True:
                seen, held, owned = acting.view.changed.version, moved.version, acting.ownerships.changed.version
                await self._pass()
                await self._next(seen, held, owned, moved)
        finally:
            unlisten()

    async def _next(self, seen: int, held: int, owned: int, moved: Signal) -> None:
        """Waits for anything that a pass looks at. The log matters only while a failover waits for it."""
        acting = self._acting
        waits = [acting.view.changed.wait_beyond(seen, TICK_SECONDS), acting.ownerships.changed.wait_beyond(owned)]
        if any(self._concerned(failover) for failover in acting.view.failovers.values()):
            waits.append(moved.wait_beyond(held))
        await first_of(*waits)

    async def _pass(self) -> None:
        self._keep_closed()
        self._emergency.keep_held()
        # All at once: one that waits for a disk or the store must not make the others' producers wait with it, and
        # what they write shares batches of the log and transactions of the store.
        async with asyncio.TaskGroup() as group:
            for failover in self._acting.view.failovers.values():
                if self._concerned(failover):
                    group.create_task(self._act(failover))
        self._acting.was_there = True

    async def _act(self, failover: Failover) -> None:
        try:
            await self._play(failover)
        except OmniRelayError as error:
            # Nothing is given up: the next pass looks again.
            _log.warning("failover %s: %s", failover.id, error.message)

    async def _play(self, failover: Failover) -> None:
        if failover.plan.expires_at < self._acting.now() and failover.state in (
            State.AWAITING_APPROVAL,
            State.APPROVED,
        ):
            await self._acting.change(failover, lambda f: workflow.expire(f, self._acting.now()), "expired")
            return
        role = self._emergency if failover.request.mode is Mode.EMERGENCY else self._planned
        if failover.source == self._acting.cluster:
            await role.as_source(failover)
        if failover.request.target == self._acting.cluster:
            await role.as_target(failover)
            await self._verification.as_target(failover)
        await self._emergency.as_witness(failover)
        await self._verification.as_witness(failover)

    def _concerned(self, failover: Failover) -> bool:
        """Everybody is, of an emergency and of what is promoted: who lives may see the canary, or that none comes."""
        takes_part = self._acting.cluster in (failover.source, failover.request.target)
        everybody = failover.request.mode is Mode.EMERGENCY or failover.state is State.PROMOTED
        return is_open(failover) and (takes_part or everybody)

    def _keep_closed(self) -> None:
        """A namespace is closed exactly while a failover takes it away from this cluster; everything else is open."""
        acting = self._acting
        closed = {
            namespace: failover.request.target
            for failover in acting.view.failovers.values()
            if failover.source == acting.cluster and failover.state in SOURCE_CLOSED
            for namespace in failover.request.namespaces
        }
        for namespace in acting.ownerships.closed - set(closed):
            acting.ownerships.reopen(namespace)
        for namespace, target in closed.items():
            acting.ownerships.close(namespace, target)
