"""Source and target of an emergency failover, up to the promotion.

The target does everything that is left to do once the loss is accepted; nothing here waits for the source, but a source
that lives shortens the wait by confirming that it has stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from omnirelay.failover import emergency_workflow
from omnirelay.failover.emergency import SOURCE_BARRED, TARGET_HOLDS
from omnirelay.failover.evidence import ClusterReport, Evidence, LeaseClaim
from omnirelay.failover.lease import Timing
from omnirelay.failover.loss import best_prefix, in_reach
from omnirelay.failover.record import Failover, State
from omnirelay.model.position import Cursor
from omnirelay.ports.coordination import Compare, Put, Write
from omnirelay.runtime.acting import DISK_SECONDS, Acting
from omnirelay.runtime.documents import LEASES

DEMOTION_SECONDS = 1.0
"""How long a source that still reports may take to say that it has stopped."""
EXPIRY_SLACK_SECONDS = 0.5
"""How much later than its ttl a store may end a lease before it is taken for renewed."""


class EmergencyRole:
    def __init__(self, acting: Acting, timing: Timing) -> None:
        self._acting = acting
        self._timing = timing

    async def as_source(self, failover: Failover) -> None:
        """Closed already (the agent keeps it so); once nothing is in flight, it says so. After that it vouches for
        nothing: what it has not acknowledged by then may lie beyond the cut."""
        if failover.state not in SOURCE_BARRED or failover.demoted:
            return
        acting = self._acting
        if not set(failover.request.namespaces) <= acting.ownerships.closed:
            return
        if not await acting.sequencer.settled(DISK_SECONDS):
            return  # a disk that hangs must not keep the agent from everything else
        for namespace in failover.request.namespaces:
            acting.ownerships.renounce(namespace)
        await acting.change(failover, lambda f: emergency_workflow.confirm_demotion(f, acting.now()), "demoted")

    async def as_target(self, failover: Failover) -> None:
        if failover.state is State.GATHERING:
            await self._gather(failover)
        elif failover.state is State.FENCING:
            await self._fence(failover)
        elif failover.state is State.FENCED:
            await self._acting.failovers.commit_promotion(failover.id, self._acting.actor)
            await self._acting.view.refresh()

    async def _gather(self, failover: Failover) -> None:
        """Until nobody in reach holds a longer prefix of any of the namespaces. What counts is what they hold once the
        source is barred: of what it acknowledged in its last second their former reports know nothing."""
        acting = self._acting
        evidence = acting.view.evidence()
        reports = in_reach(evidence, failover.source)
        late = acting.passed(
            failover, "gather", failover.gather_started_at, failover.request.limits.gather_timeout_seconds
        )
        if not late and not self._told(failover, evidence, reports):
            return
        held = acting.sequencer.log_vector()
        mine: dict[str, Cursor] = {}
        behind = ""
        for namespace in failover.request.namespaces:
            route = evidence.routing.routes[namespace]
            end, best = best_prefix(route, reports)
            mine[namespace] = route.unbroken_prefix(held)
            if mine[namespace] < end:
                behind = best
        if not behind:
            await acting.change(
                failover, lambda f: _in(State.GATHERING, f, emergency_workflow.gathered, mine, acting.now()), "gathered"
            )
        elif late:
            await acting.change(
                failover,
                lambda f: _in(State.GATHERING, f, emergency_workflow.expire_gather, behind, acting.now()),
                "gather_expired",
            )

    def _told(self, failover: Failover, evidence: Evidence, reports: Mapping[str, ClusterReport]) -> bool:
        """Whether everybody in reach has said what it holds since the source confirmed that it stopped; a source that
        reports and does not confirm is waited for a moment only."""
        acting = self._acting
        alive = evidence.fresh_report(failover.source) is not None
        if alive and not failover.demoted and not acting.waited(failover, "demotion", DEMOTION_SECONDS):
            return False
        barred = acting.view.failover_revisions.get(failover.id, 0)
        others = (report for cluster, report in reports.items() if cluster != acting.cluster)
        return all(report.revision >= barred for report in others)

    async def _fence(self, failover: Failover) -> None:
        """Waits until no claim of the source can be valid, then takes the cut from what is durable.

        A source that is dead renews nothing, so its claim ends within one ttl. If it does not, the claim is replaced
        by a mark, and once that stands, by one that lives one ttl from then on: its holder sees at the next renewal
        that the claim is not its own any more, and the mark's end, which the store decides, comes after the last moment
        at which the holder could have used it. A lease that was granted before the first mark stood would end earlier
        by all that the store took to write it. So a key that is not there always means that nobody may admit, whoever
        removed it and however often.
        """
        acting = self._acting
        claimed = [n for n in failover.request.namespaces if self._claimed(failover, n)]
        if claimed and not failover.demoted:
            if failover.revoked:
                await self._end_marks([n for n in claimed if acting.view.leases[n].lasting])
            elif acting.waited(failover, "expiry", self._timing.lease_ttl + EXPIRY_SLACK_SECONDS):
                mark = LEASES.encode(LeaseClaim(failover.source, 0, revoked=True, lasting=True))
                also: list[Write] = [Put(LEASES.key(n), mark) for n in claimed]
                await acting.change(failover, lambda f: emergency_workflow.revoke(f, acting.now()), "revoked", also)
            return
        if not await acting.sequencer.settled(DISK_SECONDS):
            return
        held = acting.sequencer.log_vector()
        routes = acting.sequencer.routes()
        cuts = {namespace: routes[namespace].unbroken_prefix(held) for namespace in failover.request.namespaces}
        await acting.change(
            failover,
            lambda f: _in(State.FENCING, f, emergency_workflow.fence, cuts, acting.sequencer.origin, acting.now()),
            "fenced",
        )

    async def _end_marks(self, namespaces: Sequence[str]) -> None:
        """Lets the marks that stand end, one ttl from now."""
        if not namespaces:
            return
        acting = self._acting
        lease = await acting.store.grant_lease(self._timing.lease_ttl)
        compares = [Compare(LEASES.key(n), acting.view.lease_revisions[n]) for n in namespaces]
        marks: list[Write] = [
            Put(LEASES.key(n), LEASES.encode(replace(acting.view.leases[n], lasting=False)), lease) for n in namespaces
        ]
        await acting.store.transact(compares, marks)
        await acting.view.refresh()

    def _claimed(self, failover: Failover, namespace: str) -> bool:
        claim = self._acting.view.leases.get(namespace)
        return claim is not None and claim.cluster == failover.source


def _in(state: State, failover: Failover, change: Callable[..., Failover], *args: object) -> Failover:
    """`change` if the record is still in `state`; another process of this cluster, or an abort, may have come first."""
    return change(failover, *args) if failover.state is state else failover


def held_origins(cluster: str, failovers: Mapping[str, Failover], logs: Mapping[str, set[str]]) -> frozenset[str]:
    """Origins of which `cluster`, as the target of an emergency, applies nothing at the moment. `logs` maps a namespace
    to the origins of all its epochs."""
    return frozenset(
        origin
        for failover in failovers.values()
        if failover.state in TARGET_HOLDS and failover.request.target == cluster
        for namespace in failover.request.namespaces
        for origin in logs.get(namespace, ())
    )
