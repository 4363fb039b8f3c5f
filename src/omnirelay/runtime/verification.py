"""After the promotion, whatever the mode: the target opens and writes canaries, another cluster sees them."""

from __future__ import annotations

from functools import partial

from omnirelay.failover import workflow
from omnirelay.failover.record import Canary, Failover, Mode, State
from omnirelay.model.batch import BatchKind
from omnirelay.runtime.acting import Acting
from omnirelay.runtime.failovers import Change


class Verification:
    def __init__(self, acting: Acting) -> None:
        self._acting = acting

    async def as_target(self, failover: Failover) -> None:
        if failover.state is not State.PROMOTED:
            return
        await self._open(failover)
        if failover.verify_requested_at:
            await self._write(failover)

    async def as_witness(self, failover: Failover) -> None:
        """Anybody sees that it takes too long: the target may be gone. What counts as seen is what the old active of a
        planned failover sees, for that proves the way back; in an emergency what anybody else does."""
        acting = self._acting
        if failover.state is not State.PROMOTED:
            return
        if failover.verify_requested_at:
            await self._expire(failover)
        if not self._counts(failover):
            return
        seen = [
            namespace
            for namespace, canary in failover.canaries.items()
            if namespace not in failover.seen and await acting.holds(canary.origin, canary.sequence, canary.digest)
        ]
        if seen:
            change = partial(workflow.see_canaries, namespaces=seen, witness=acting.cluster, now=acting.now())
            await acting.change(failover, change, "canary_seen")

    def _counts(self, failover: Failover) -> bool:
        cluster, target = self._acting.cluster, failover.request.target
        if failover.request.mode is not Mode.EMERGENCY:
            return cluster == failover.source
        # With nobody else alive the target's own disk is all the proof there is.
        others = set(self._acting.view.reports) - {target}
        return cluster != target or not others

    async def _open(self, failover: Failover) -> None:
        admitting = self._acting.ownerships.admitting()
        opened = [
            namespace
            for namespace, epoch in failover.expected_epochs.items()
            if namespace not in failover.opened and admitting.get(namespace, 0) > epoch
        ]
        if opened:
            change = partial(workflow.open_writes, namespaces=opened, now=self._acting.now())
            await self._acting.change(failover, change, "opened")

    async def _write(self, failover: Failover) -> None:
        acting = self._acting
        missing = [
            namespace
            for namespace in failover.request.namespaces
            if namespace not in failover.canaries and namespace in failover.opened
        ]
        if missing:
            batches = await acting.controls(missing, BatchKind.CANARY, failover.id)
            canaries = {
                namespace: Canary(batch.header.origin, batch.header.last_sequence, batch.digest.hex(), acting.now())
                for namespace, batch in batches.items()
            }
            change = partial(workflow.write_canaries, canaries=canaries, now=acting.now())
            await acting.change(failover, change, "canary_written")

    async def _expire(self, failover: Failover) -> None:
        acting, timeout = self._acting, failover.request.limits.verify_timeout_seconds
        # By this process's own clock, from when it saw the request: whoever asked may have another time of day.
        if acting.waited(failover, f"verify {failover.verify_requested_at}", timeout):
            await acting.change(failover, self._fail(failover.verify_requested_at), "verify_failed")

    def _fail(self, requested_at: str) -> Change:
        """Of this verification, not of one that was asked for since."""
        acting = self._acting

        def fail(failover: Failover) -> Failover:
            if failover.state is not State.PROMOTED or failover.verify_requested_at != requested_at:
                return failover
            return workflow.fail_verify(failover, acting.actor.principal, acting.now())

        return fail
