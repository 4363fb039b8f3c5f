"""Source and target of an emergency failover, up to the promotion.

The target does everything that is left to do once the loss is accepted; nothing here waits for the source, but a source
that lives shortens the wait by confirming that it has stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from omnirelay.failover import emergency_workflow, workflow
from omnirelay.failover.emergency import SOURCE_BARRED, TARGET_HOLDS
from omnirelay.failover.evidence import ClusterReport, LeaseClaim
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

GONE_TTLS = 2.0
"""A target whose report has been gone for so many ttls is not waited for."""


class EmergencyRole:
    def __init__(self, acting: Acting, timing: Timing) -> None:
        self._acting = acting
        self._timing = timing
        self._unclaimed_at: dict[str, int] = {}
        """Failover → revision of the store at which no claim of its source could be used any more."""
        self._cutting: set[str] = set()
        """Failovers whose cut this process is taking."""

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

    async def as_witness(self, failover: Failover) -> None:
        """A target that is gone must not bar a source that lives: whoever lives undoes what it did not finish."""
        acting, target = self._acting, failover.request.target
        if failover.state not in SOURCE_BARRED or acting.cluster == target:
            return
        if acting.view.silence_of(target) <= GONE_TTLS * self._timing.lease_ttl:
            return
        await acting.view.refresh()  # it may be this cluster that was away
        silent = acting.view.silence_of(target)
        if silent > GONE_TTLS * self._timing.lease_ttl:
            await self._undo(failover, f"{target} has not reported for {silent:.0f} s")

    async def _undo(self, failover: Failover, why: str) -> None:
        acting = self._acting
        undo = partial(workflow.abort, actor=acting.actor.principal, reason=why, now=acting.now())
        await acting.change(failover, lambda f: _in(failover.state, f, undo), "abort")

    async def _gather(self, failover: Failover) -> None:
        """Until nobody in reach holds a longer prefix of any of the namespaces. What counts is what they hold once the
        source is barred: of what it acknowledged in its last second their former reports know nothing."""
        acting = self._acting
        self._note_unclaimed(failover)
        reports = in_reach(acting.view.evidence(), failover.source)
        late = acting.passed(
            failover, "gather", failover.gather_started_at, failover.request.limits.gather_timeout_seconds
        )
        if not late and not self._told(failover, reports):
            return
        mine, ahead = self._compare(failover, reports)
        if not ahead:
            await acting.change(
                failover, lambda f: _in(State.GATHERING, f, emergency_workflow.gathered, mine, acting.now()), "gathered"
            )
        elif late:
            await self._give_up(failover, ahead)

    def _compare(self, failover: Failover, reports: Mapping[str, ClusterReport]) -> tuple[dict[str, Cursor], str]:
        """What this cluster holds of each namespace, and who holds more of one; "" if nobody does."""
        held, routes = self._acting.sequencer.log_vector(), self._acting.view.routing.routes
        mine: dict[str, Cursor] = {}
        ahead = ""
        for namespace in failover.request.namespaces:
            end, best = best_prefix(routes[namespace], reports)
            mine[namespace] = routes[namespace].unbroken_prefix(held)
            if mine[namespace] < end:
                ahead = best
        return mine, ahead

    async def _give_up(self, failover: Failover, ahead: str) -> None:
        acting = self._acting
        await acting.change(
            failover,
            lambda f: _in(failover.state, f, emergency_workflow.expire_gather, ahead, acting.now()),
            "gather_expired",
        )

    def _told(self, failover: Failover, reports: Mapping[str, ClusterReport]) -> bool:
        """Whether everybody in reach has said what it holds since the source confirmed that it stopped; a source that
        reports and does not confirm is waited for a moment only."""
        acting = self._acting
        alive = acting.view.evidence().fresh_report(failover.source) is not None
        if alive and not failover.demoted and not acting.waited(failover, "demotion", DEMOTION_SECONDS):
            return False
        barred = acting.view.failover_revisions.get(failover.id, 0)
        return self._reported_since(barred, reports)

    def _reported_since(self, revision: int, reports: Mapping[str, ClusterReport]) -> bool:
        """Whether every other cluster in reach has looked at what it holds at that revision of the store, or later."""
        others = (report for cluster, report in reports.items() if cluster != self._acting.cluster)
        return all(report.revision >= revision for report in others)

    async def _fence(self, failover: Failover) -> None:
        """Waits until no claim of the source can be valid, gathers again, and takes the cut from what is durable.

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
            marked = self._lasting(claimed)
            if marked:  # also what an emergency left that was given up
                await self._end_marks(marked)
            elif not failover.revoked and acting.waited(
                failover, "expiry", self._timing.lease_ttl + EXPIRY_SLACK_SECONDS
            ):
                mark = LEASES.encode(LeaseClaim(failover.source, 0, revoked=True, lasting=True))
                also: list[Write] = [Put(LEASES.key(n), mark) for n in claimed]
                await acting.change(failover, lambda f: emergency_workflow.revoke(f, acting.now()), "revoked", also)
            return
        self._note_unclaimed(failover)
        if failover.id not in self._cutting and not await self._gathered_again(failover):
            return
        self._cutting.add(failover.id)
        self.keep_held()
        if not await acting.sequencer.settled(DISK_SECONDS):
            if acting.waited(failover, "cut", failover.request.limits.gather_timeout_seconds):
                await self._undo(failover, f"the disk of {acting.cluster} does not take what came before the cut")
            return
        held = acting.sequencer.log_vector()
        routes = acting.sequencer.routes()
        cuts = {namespace: routes[namespace].unbroken_prefix(held) for namespace in failover.request.namespaces}
        owners = {routes[namespace].current.origin for namespace in failover.request.namespaces}
        heard = {origin: n for origin, n in acting.view.evidence().heard.items() if origin in owners}
        await acting.change(
            failover,
            lambda f: _in(
                State.FENCING, f, emergency_workflow.fence, cuts, acting.sequencer.origin, acting.now(), heard
            ),
            "fenced",
        )

    def _note_unclaimed(self, failover: Failover) -> None:
        """Remembers the revision of the store at which the source could acknowledge nothing more."""
        if failover.demoted or not any(self._claimed(failover, n) for n in failover.request.namespaces):
            self._unclaimed_at.setdefault(failover.id, self._acting.view.revision)

    async def _gathered_again(self, failover: Failover) -> bool:
        """Whether this cluster holds all that others in reach took while the source could still acknowledge."""
        acting = self._acting
        reports = in_reach(acting.view.evidence(), failover.source)
        late = acting.waited(failover, "gather again", failover.request.limits.gather_timeout_seconds)
        if not late and not self._reported_since(self._unclaimed_at[failover.id], reports):
            return False
        _, ahead = self._compare(failover, reports)
        if ahead and late:
            await self._give_up(failover, ahead)
        return not ahead

    async def _end_marks(self, marks: Mapping[str, tuple[LeaseClaim, int]]) -> None:
        """Lets marks end one ttl from now: those that were seen, before anything is waited for."""
        store = self._acting.store
        lease = await store.grant_lease(self._timing.lease_ttl)
        await store.transact(
            [Compare(LEASES.key(namespace), revision) for namespace, (_, revision) in marks.items()],
            [
                Put(LEASES.key(namespace), LEASES.encode(replace(mark, lasting=False)), lease)
                for namespace, (mark, _) in marks.items()
            ],
        )
        await self._acting.view.refresh()

    def _lasting(self, namespaces: Sequence[str]) -> dict[str, tuple[LeaseClaim, int]]:
        """Namespace → its mark whose time has not begun, and the revision of that."""
        view = self._acting.view
        claims = {namespace: view.leases.get(namespace) for namespace in namespaces}
        return {
            n: (claim, view.lease_revisions[n]) for n, claim in claims.items() if claim is not None and claim.lasting
        }

    def _claimed(self, failover: Failover, namespace: str) -> bool:
        claim = self._acting.view.leases.get(namespace)
        return claim is not None and claim.cluster == failover.source

    def keep_held(self) -> None:
        """Nothing is applied of a log whose cut this cluster is taking: it would be fenced although it is here. That
        goes for every earlier owner's log too: what comes late in one of them closes a hole, and the prefix jumps."""
        acting = self._acting
        logs = {name: {o.origin for o in route.history} for name, route in acting.view.routing.routes.items()}
        acting.sequencer.hold(
            frozenset(
                origin
                for failover in acting.view.failovers.values()
                if failover.request.target == acting.cluster and self._holds(failover)
                for namespace in failover.request.namespaces
                for origin in logs.get(namespace, ())
            )
            - {acting.sequencer.origin}
        )

    def _holds(self, failover: Failover) -> bool:
        return failover.state in TARGET_HOLDS or (failover.state is State.FENCING and failover.id in self._cutting)


def _in(state: State, failover: Failover, change: Callable[..., Failover], *args: object) -> Failover:
    """`change` if the record is still in `state`; another process of this cluster, or an abort, may have come first."""
    return change(failover, *args) if failover.state is state else failover
