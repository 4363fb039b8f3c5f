"""Source and target of a planned failover, up to the promotion."""

from __future__ import annotations

from collections.abc import Callable

from omnirelay.errors import CredentialsUnreadable, StorageUnavailable
from omnirelay.failover import workflow
from omnirelay.failover.planned import SOURCE_CLOSED
from omnirelay.failover.record import Barrier, DemotionToken, Failover, State
from omnirelay.model.batch import BatchKind
from omnirelay.model.position import Cursor
from omnirelay.runtime.acting import Acting


class PlannedRole:
    """`sign` adds the source's signature to a token."""

    def __init__(self, acting: Acting, sign: Callable[[DemotionToken], DemotionToken]) -> None:
        self._acting = acting
        self._sign = sign
        self._why: dict[str, str] = {}
        """Failover → what kept this cluster from closing, for the record of an undone drain."""
        self._unsigned: dict[str, DemotionToken] = {}
        """Failover → its token, as soon as the barriers are durable: they are written once, however often the rest
        fails."""

    async def as_source(self, failover: Failover) -> None:
        if failover.state not in SOURCE_CLOSED:
            return
        acting, timeout = self._acting, failover.request.limits.drain_timeout_seconds
        if acting.passed(failover, "drain", failover.drain_started_at, timeout):
            why = self._why.pop(failover.id, "")
            self._unsigned.pop(failover.id, None)
            await acting.change(
                failover,
                lambda f: workflow.expire_drain(f, acting.now(), why) if f.state in SOURCE_CLOSED else f,
                "expired",
            )
        elif failover.token is None:
            try:
                await self._demote(failover)
            except (StorageUnavailable, CredentialsUnreadable) as error:
                self._why[failover.id] = error.message
                raise
            self._why.pop(failover.id, None)

    async def _demote(self, failover: Failover) -> None:
        """Everything admitted so far and the barriers become durable; then the token says so."""
        if failover.id not in self._unsigned:
            self._unsigned[failover.id] = await self._close(failover)
        acting, token = self._acting, self._sign(self._unsigned[failover.id])
        await acting.change(failover, lambda f: workflow.demote(f, token, acting.now()), "closed")
        del self._unsigned[failover.id]

    async def _close(self, failover: Failover) -> DemotionToken:
        acting = self._acting
        batches = await acting.controls(failover.request.namespaces, BatchKind.BARRIER, failover.id)
        barriers, digests = {}, {}
        for namespace, batch in batches.items():
            barriers[namespace] = Barrier(batch.header.origin, batch.header.epoch, batch.header.last_sequence)
            digests[batch.header.origin] = batch.digest.hex()
        return DemotionToken(failover.id, failover.plan.hash, barriers, digests, acting.now())

    def _unbroken(self, token: DemotionToken) -> bool:
        """Nothing of an earlier epoch, which may be in another's log, is missing before the barriers (I9)."""
        held, routes = self._acting.sequencer.log_vector(), self._acting.sequencer.routes()
        return all(
            name in routes and routes[name].unbroken_prefix(held) >= Cursor(barrier.epoch, barrier.sequence)
            for name, barrier in token.barriers.items()
        )

    async def as_target(self, failover: Failover) -> None:
        """Proves the barriers. The digest at the last one of an origin proves the whole history before it."""
        token, acting = failover.token, self._acting
        if failover.state is not State.DRAINING or token is None:
            return
        last: dict[str, int] = {}
        for barrier in token.barriers.values():
            last[barrier.origin] = max(last.get(barrier.origin, 0), barrier.sequence)
        for origin, sequence in last.items():
            if not await acting.holds(origin, sequence, token.digests.get(origin, "")):
                return
        if not self._unbroken(token):
            return
        reached = {namespace: barrier.sequence for namespace, barrier in token.barriers.items()}
        origin = acting.sequencer.origin
        await acting.change(
            failover,
            lambda f: workflow.reach(f, reached, origin, acting.now()) if f.state is State.DRAINING else f,
            "reached",
        )
