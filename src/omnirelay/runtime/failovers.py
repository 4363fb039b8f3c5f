"""Failovers as the API and the replicators drive them: load, decide (omnirelay.failover), compare-and-set, wait.

No step calls another cluster. A command is an intent in the coordination store; the replicators that it names act on
it (omnirelay.runtime.agent), and whoever asked waits for the state to change. So any caller can drive any step from
any cluster, and a caller that dies leaves a state that the next one finishes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from omnirelay.errors import (
    BadRequest,
    Conflict,
    IllegalTransition,
    NotFound,
    OmniRelayError,
    OperationInProgress,
    PreflightFailed,
    VerifyFailed,
)
from omnirelay.failover import approvals, emergency, emergency_workflow, workflow
from omnirelay.failover.acknowledgement import acknowledgement
from omnirelay.failover.modes import HOLDS_LOCK, is_open
from omnirelay.failover.preflight import failed
from omnirelay.failover.record import Approval, ApprovalSource, Check, DemotionToken, Failover, Mode, Request, State
from omnirelay.failover.refusal import Refusal
from omnirelay.model.readers import Acknowledgement
from omnirelay.model.routing import RoutingDocument
from omnirelay.model.times import rfc3339
from omnirelay.ports.clock import Clock
from omnirelay.ports.coordination import Compare, CoordinationStore, Delete, Put, Write
from omnirelay.runtime.audit import GROUP_OPERATIONS, Actor, Auditor, Deed
from omnirelay.runtime.convoy import Convoy, Passenger
from omnirelay.runtime.documents import CLUSTERS, FAILOVERS, LEASES, LOCKS, ROUTING, ROUTING_DOCUMENT
from omnirelay.runtime.planning import MAX_NAMESPACES, Planner
from omnirelay.runtime.refusals import Refusals
from omnirelay.runtime.ticket_reader import TicketReader
from omnirelay.runtime.view import MeshView

ATTEMPTS = 20
"""How often a change is decided again because the record moved meanwhile."""

PROMOTION_OPERATIONS = 4
"""Of one promotion, beside the deletion of each namespace's lease: two compares, the record, the audit entry."""

Change = Callable[[Failover], Failover]


@dataclass(frozen=True, slots=True)
class StepResult:
    failover: Failover
    finished: bool
    """False when `wait` ran out while the step is still going on."""
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True)
class _Promotion:
    """One that waits for the routing document."""

    failover_id: str
    actor: Actor


_Waiting = Passenger[_Promotion, Failover]


class Failovers:
    """One instance per replicator. `new_id` makes an id from the wall clock (ms); `verify_token` raises TokenInvalid
    unless the token is signed by the cluster that it demotes."""

    def __init__(
        self,
        store: CoordinationStore,
        view: MeshView,
        auditor: Auditor,
        clock: Clock,
        planner: Planner,
        new_id: Callable[[int], str],
        verify_token: Callable[[DemotionToken, str], None],
        policy: approvals.ApprovalPolicy = approvals.NO_FLOOR,
        tickets: TicketReader | None = None,
    ) -> None:
        self.policy = policy
        self.refusals = Refusals(clock)
        self._store = store
        self._planner = planner
        self._view = view
        self._auditor = auditor
        self._clock = clock
        self._new_id = new_id
        self._verify_token = verify_token
        self._promotions = Convoy[_Promotion, Failover](self._together, self._promote_all)
        self._tickets = tickets or TicketReader(None)

    # --- reading ---------------------------------------------------------------------------------------------

    def all(self) -> list[Failover]:
        """As this cluster sees them, newest first."""
        return sorted(self._view.failovers.values(), key=lambda f: (f.created_at, f.id), reverse=True)

    async def load(self, failover_id: str) -> tuple[Failover, int]:
        """The record and its revision, from the store. Raises NotFound."""
        entry = await self._store.get(FAILOVERS.key(failover_id))
        if entry is None:
            raise NotFound(f"there is no failover {failover_id!r}", kind="failovers", failover_id=failover_id)
        return FAILOVERS.decode(entry.value), entry.revision

    # --- planning --------------------------------------------------------------------------------------------

    async def plan(self, request: Request, actor: Actor, run_url: str, dry_run: bool) -> tuple[Failover, bool]:
        """A plan with its preflight, and whether it is new. The same request finds the open plan that it made before.

        Raises ApprovalsBelowFloor, PreflightFailed with the checks when one fails; nothing is stored then. Its change
        ticket is told later, unless it was a dry run.
        """
        self.policy.require(request)
        await self._view.refresh()
        existing = self._same(request, actor)
        if existing is not None:
            return existing, False
        source, request = self._planner.resolve(request)
        self._tickets.require(request)
        reading = await self._tickets.reading(request)
        if reading.configured:  # asking takes a while
            await self._view.refresh()
            source, request = self._planner.resolve(request)
        checks = await self._planner.checks(request, source, reading)
        if failed(checks) and not dry_run and reading.configured and request.change_ticket:
            self.refusals.add(Refusal(request, source, checks, actor.principal, run_url, self._now()))
        self._refuse_failed(checks)
        id = "" if dry_run else self._new_id(self._clock.wall_ms())
        failover = self._planner.make(id, request, source, checks, actor, run_url)
        failover = replace(failover, ticket=replace(reading.ticket, decisions=()) if reading.ticket else None)
        if dry_run:
            return failover, True
        key = FAILOVERS.key(failover.id)
        deed = _deed("failover.plan", failover, before=None)
        if not await self._auditor.commit([Compare(key, 0)], [Put(key, FAILOVERS.encode(failover))], actor, deed):
            raise Conflict(f"failover {failover.id} exists already")
        return failover, True

    def _same(self, request: Request, actor: Actor) -> Failover | None:
        """The open failover that the same request made before, unless it is a plan that can no longer be carried out.

        It is looked for before the request is judged: a driver that died after the promotion asks for what has come
        true meanwhile. Without namespaces a request means all that the target does not own, and by then these are
        fewer than those that the failover moves.
        """
        request = self._planner.spelt_out(request)
        wanted = set(request.namespaces) or {
            name for name, route in self._view.routing.routes.items() if route.active != request.target
        }
        for failover in self.all():
            moves = set(failover.request.namespaces)
            started = failover.state in HOLDS_LOCK
            same = replace(failover.request, namespaces=request.namespaces) == request
            covers = wanted == moves or (not request.namespaces and started and wanted <= moves)
            if same and covers and failover.requested_by == actor.principal and (started or self._startable(failover)):
                return failover
        return None

    def _startable(self, failover: Failover) -> bool:
        epochs = {name: route.epoch for name, route in self._view.routing.routes.items()}
        current = all(epochs.get(name) == epoch for name, epoch in failover.expected_epochs.items())
        return is_open(failover) and current and failover.plan.expires_at > self._now()

    # --- approving -------------------------------------------------------------------------------------------

    async def approve(
        self,
        failover_id: str,
        decision: str,
        plan_hash: str,
        comment: str,
        via: str,
        actor: Actor,
        dry_run: bool = False,
    ) -> Failover:
        """Records the decision. A dry run takes the same checks and answers the record as it would be (I14)."""
        if decision not in ("approve", "deny"):
            raise BadRequest(f"decision {decision!r} is neither approve nor deny")

        def change(failover: Failover) -> Failover:
            approval = Approval(actor.principal, decision, plan_hash, self._now(), comment, via)
            return approvals.decide(failover, approval)

        if dry_run:
            return change((await self.load(failover_id))[0])
        return await self.mutate(failover_id, change, actor, f"failover.{decision}", comment)

    # --- steps -----------------------------------------------------------------------------------------------

    async def step(
        self, failover_id: str, name: str, actor: Actor, wait: float, dry_run: bool = False, reason: str = ""
    ) -> StepResult:
        """Writes the intent of step `name` unless it is there, then waits up to `wait` seconds for its end.

        A dry run takes the same checks and answers the record as the step's end would leave it (I14). A step that is
        done already answers the record as it is.
        """
        await self._view.refresh()
        failover, _ = await self.load(failover_id)
        if name == "preflight":
            return await self._preflight(failover)
        done = _DONE.get(name)
        if done is None:
            raise BadRequest(f"there is no step {name!r}; there are {', '.join([*_DONE, 'preflight'])}")
        if done(failover):
            return StepResult(failover, True)
        _raise_if_undone(name, failover)
        change = self._intents()[name](actor, reason)
        checks: tuple[Check, ...] = ()
        predicted = failover
        if not _under_way(name, failover):
            if name in ("drain", "promote"):
                # A plan may have been made where the configuration was another.
                self.policy.require(failover.request)
            predicted = change(failover)
            if name == "drain" or (name == "promote" and failover.request.mode is Mode.EMERGENCY):
                checks = await self._gate(failover)
            if not dry_run:
                failover = await self._write(failover_id, name, change, actor, reason)
        if dry_run:
            return StepResult(replace(predicted, state=_REACHES[name]), True, checks)
        failover = await self._wait(failover_id, failover, name, done, wait)
        return StepResult(failover, done(failover), checks)

    def _intents(self) -> dict[str, Callable[[Actor, str], Change]]:
        now, view = self._now, self._view
        return {
            "drain": lambda a, r: lambda f: workflow.start_drain(f, view.routing, a.principal, now()),
            "promote": lambda a, r: lambda f: self._start_promotion(f, a),
            "verify": lambda a, r: lambda f: workflow.request_verify(f, a.principal, now()),
            "complete": lambda a, r: lambda f: workflow.complete(f, self._noticed(f), a.principal, r, now()),
            "abort": lambda a, r: lambda f: workflow.abort(f, a.principal, r, now()),
        }

    def _noticed(self, failover: Failover) -> Acknowledgement:
        return acknowledgement(self._view.evidence(), failover.request.namespaces)

    async def _write(self, failover_id: str, name: str, change: Change, actor: Actor, reason: str) -> Failover:
        failover, _ = await self.load(failover_id)
        if name == "promote" and failover.request.mode is not Mode.EMERGENCY:
            return await self.commit_promotion(failover_id, actor)
        done = _DONE[name]

        def once(failover: Failover) -> Failover:
            return failover if done(failover) or _under_way(name, failover) else change(failover)

        return await self.mutate(failover_id, once, actor, f"failover.{name}", reason)

    async def _preflight(self, failover: Failover) -> StepResult:
        """Judges again while nothing has started; afterwards the lock and the drain would fail their own checks."""
        if failover.state not in (State.AWAITING_APPROVAL, State.APPROVED):
            return StepResult(failover, True, failover.checks)
        return StepResult(failover, True, await self._check_again(failover))

    async def _gate(self, failover: Failover) -> tuple[Check, ...]:
        """The cheap gate: everything is checked once more while the source is still serving."""
        await self._refuse_locked(failover)
        return await self._check_again(failover)

    async def _check_again(self, failover: Failover) -> tuple[Check, ...]:
        reading = await self._tickets.again(failover)
        if reading.configured:  # asking takes a while
            await self._view.refresh()
        checks = await self._planner.checks(failover.request, failover.source, reading)
        self._refuse_failed(checks, failover.id)
        return checks

    def _start_promotion(self, failover: Failover, actor: Actor) -> Failover:
        """Of an emergency the intent, which the target's replicator carries out; else the promotion itself."""
        if failover.request.mode is not Mode.EMERGENCY:
            return self._promote(failover, self._view.routing, actor, self._view.cluster_revisions)[0]
        predictions = self._planner.predictions(failover.request, failover.source)
        heard = self._planner.last_heard(failover.source)
        return emergency_workflow.start(failover, self._view.routing, predictions, actor.principal, self._now(), heard)

    def _promote(
        self, failover: Failover, routing: RoutingDocument, actor: Actor, clusters: Mapping[str, int]
    ) -> tuple[Failover, RoutingDocument]:
        target = failover.request.target
        if target not in clusters:
            raise NotFound(f"there is no cluster {target!r} any more", kind="clusters", cluster=target)
        if failover.request.mode is Mode.EMERGENCY:
            return emergency_workflow.promote(failover, routing, actor.principal, self._now())
        promoted, routing = workflow.promote(failover, routing, actor.principal, self._now())
        if failover.token is not None:  # without one the line above has raised
            self._verify_token(failover.token, failover.source)
        return promoted, routing

    async def commit_promotion(self, failover_id: str, actor: Actor) -> Failover:
        """The one compare-and-set of I8: failover, routing, leases, audit.

        All change the one routing document, so those of this process go together."""
        return await self._promotions.join(_Promotion(failover_id, actor))

    def _together(self, waiting: Sequence[_Waiting]) -> list[_Waiting]:
        """Each failover once, as many as fit into one transaction."""
        taken: dict[str, _Waiting] = {}
        operations = 0
        for passenger in waiting:
            known = self._view.failovers.get(passenger.what.failover_id)
            operations += PROMOTION_OPERATIONS + (len(known.request.namespaces) if known else MAX_NAMESPACES)
            if taken and operations > GROUP_OPERATIONS:
                break
            taken.setdefault(passenger.what.failover_id, passenger)
        return list(taken.values())

    async def _promote_all(self, promotions: Sequence[_Waiting]) -> None:
        for _ in range(ATTEMPTS):
            promotions = [promotion for promotion in promotions if not promotion.done.done()]
            if not promotions or await self._commit_promotions(promotions):
                return
        names = ", ".join(promotion.what.failover_id for promotion in promotions)
        raise Conflict(f"failover {names} was changed by others all the time", failover_id=names)

    async def _commit_promotions(self, promotions: Sequence[_Waiting]) -> bool:
        """False when the store has moved on. Whatever is refused by itself is told so and holds up nobody else."""
        await self._view.refresh()
        routing, clusters = self._view.routing, self._view.cluster_revisions
        compares, writes = {ROUTING: self._view.routing_revision}, list[Write]()
        told: list[tuple[Actor, Deed]] = []
        promoted: list[tuple[_Waiting, Failover]] = []
        for promotion in promotions:
            try:
                before, revision = await self.load(promotion.what.failover_id)
                if before.routing_version:
                    promotion.done.set_result(before)
                    continue
                after, routing = self._promote(before, routing, promotion.what.actor, clusters)
            except OmniRelayError as error:
                promotion.refuse(error)
                continue
            target = after.request.target
            compares |= {FAILOVERS.key(after.id): revision, CLUSTERS.key(target): clusters[target]}
            # The old active has confirmed its demotion by the token, or its claims are gone: nothing of it is cut
            # short.
            writes += [Delete(LEASES.key(namespace)) for namespace in after.request.namespaces]
            writes.append(Put(FAILOVERS.key(after.id), FAILOVERS.encode(after)))
            told.append((promotion.what.actor, _deed("failover.promote", after, before)))
            promoted.append((promotion, after))
        if not promoted:
            return True
        writes.append(Put(ROUTING, ROUTING_DOCUMENT.encode(routing)))
        if not await self._auditor.commit_all([Compare(*compare) for compare in compares.items()], writes, told):
            return False
        for promotion, after in promoted:
            promotion.done.set_result(after)
        return True

    async def _wait(
        self, failover_id: str, failover: Failover, name: str, done: Callable[[Failover], bool], wait: float
    ) -> Failover:
        end = self._clock.monotonic() + wait
        while True:
            seen = self._view.changed.version
            failover = _later(failover, self._view.failovers.get(failover_id))
            _raise_if_undone(name, failover)
            if name == "verify" and failover.state is State.VERIFY_FAILED:
                raise VerifyFailed(failover.problem, failover_id=failover.id, target=failover.request.target)
            left = end - self._clock.monotonic()
            if done(failover) or left <= 0:
                return failover
            await self._view.changed.wait_beyond(seen, left)

    # --- writing ---------------------------------------------------------------------------------------------

    async def mutate(
        self, failover_id: str, change: Change, actor: Actor, action: str, why: str = "", also: Sequence[Write] = ()
    ) -> Failover:
        """Applies `change` by compare-and-set, with the locks that its new state implies, the writes `also`, and an
        audit entry.

        `change` may run more than once and raises to refuse; returning its argument means that nothing is to be done.
        Raises OperationInProgress when another failover holds a namespace that this one now needs.
        """
        for _ in range(ATTEMPTS):
            before, revision = await self.load(failover_id)
            after = change(before)
            if after == before:
                return before
            key = FAILOVERS.key(failover_id)
            writes: list[Write] = [Put(key, FAILOVERS.encode(after)), *also]
            compares = [Compare(key, revision)]
            locks = [LOCKS.key(namespace) for namespace in after.request.namespaces]
            if before.state not in HOLDS_LOCK and after.state in HOLDS_LOCK:
                await self._refuse_locked(after)
                compares += [Compare(lock, 0) for lock in locks]
                writes += [Put(lock, LOCKS.encode(failover_id)) for lock in locks]
            elif before.state in HOLDS_LOCK and after.state not in HOLDS_LOCK:
                writes += [Delete(lock) for lock in locks]
            if await self._auditor.commit(compares, writes, actor, _deed(action, after, before, why)):
                return after
        raise Conflict(f"failover {failover_id} was changed by others all the time", failover_id=failover_id)

    async def _refuse_locked(self, failover: Failover) -> None:
        for namespace in failover.request.namespaces:
            entry = await self._store.get(LOCKS.key(namespace))
            if entry is not None:
                holder = LOCKS.decode(entry.value)
                raise OperationInProgress(
                    f"failover {holder} holds namespace {namespace}", failover_id=holder, namespace=namespace
                )

    def _refuse_failed(self, checks: tuple[Check, ...], failover_id: str = "") -> None:
        names = failed(checks)
        if names:
            seen = "; ".join(f"{c.id}: {c.observed}" for c in checks if c.id in names)
            raise PreflightFailed(
                f"preflight failed: {seen}", failed=", ".join(names), checks=_plain(checks), failover_id=failover_id
            )

    def _now(self) -> str:
        return rfc3339(self._clock.wall_ms())


def opened(failover: Failover) -> bool:
    """The target admits writes for every namespace."""
    return set(failover.opened) >= set(failover.request.namespaces)


_PROMOTED = frozenset({State.PROMOTED, State.VERIFY_FAILED, State.VERIFIED, State.COMPLETED})

_DONE: dict[str, Callable[[Failover], bool]] = {
    "drain": lambda f: f.state is State.DRAINED or f.state in _PROMOTED,
    "promote": lambda f: f.state in _PROMOTED and opened(f),
    "verify": lambda f: f.state in (State.VERIFIED, State.COMPLETED),
    "complete": lambda f: f.state is State.COMPLETED,
    "abort": lambda f: f.state is State.ABORTED,
}

_REACHES = {
    "drain": State.DRAINED,
    "promote": State.PROMOTED,
    "verify": State.VERIFIED,
    "complete": State.COMPLETED,
    "abort": State.ABORTED,
}
"""The state at a step's end."""


def _under_way(name: str, failover: Failover) -> bool:
    """The intent of the step is stored; only its end is missing."""
    if name == "drain":
        return failover.state is State.DRAINING
    if name == "promote":
        return failover.state in _PROMOTED | emergency.SOURCE_BARRED
    return name == "verify" and failover.state is State.PROMOTED and bool(failover.verify_requested_at)


def _raise_if_undone(name: str, failover: Failover) -> None:
    """What the caller waits for, now or since an earlier call, will not come."""
    if name in ("drain", "promote") and failover.state is State.ABORTED:
        if failover.journal[-1].event == "expired":
            emergency_ = failover.request.mode is Mode.EMERGENCY
            raise emergency_workflow.gather_error(failover) if emergency_ else workflow.drain_error(failover)
        raise IllegalTransition(
            f"the failover was aborted: {failover.problem}", failover_id=failover.id, state="aborted", allowed="nothing"
        )


def _later(known: Failover, seen: Failover | None) -> Failover:
    """The one with the longer journal: the view may still show what was before our own write."""
    return seen if seen is not None and len(seen.journal) >= len(known.journal) else known


def _deed(action: str, after: Failover, before: Failover | None, why: str = "") -> Deed:
    return Deed(
        action=action,
        subject=f"failovers/{after.id}",
        why=why or after.request.reason,
        change_ticket=after.request.change_ticket,
        run_url=after.run_url,
        before={"state": before.state} if before else None,
        after={
            "state": after.state,
            "plan_hash": after.plan.hash,
            "routing_version": after.routing_version,
            **_grounds(after.request),
            **_decision(after, before),
        },
    )


def _grounds(request: Request) -> dict[str, Any]:
    """What a failover rests on where that is not the usual, so that a reviewer finds it in each entry."""
    grounds: dict[str, Any] = {}
    if request.accept_data_loss is not None:
        grounds["accept_data_loss"] = request.accept_data_loss
    if request.break_glass:
        grounds["break_glass"] = True
    if request.approval_source is not ApprovalSource.API:
        grounds["approval_source"] = request.approval_source
    return grounds


def _decision(after: Failover, before: Failover | None) -> dict[str, Any]:
    """How the approval or refusal came that this entry is about; who and why, the entry says itself."""
    if before is None or len(after.approvals) <= len(before.approvals):
        return {}
    approval = after.approvals[-1]
    return {"decision": {"via": approval.via} | ({"ticket": approval.ticket} if approval.ticket else {})}


def _plain(checks: tuple[Check, ...]) -> list[dict[str, Any]]:
    return [
        {"id": c.id, "status": str(c.status), "observed": c.observed, "limit": c.limit, "hint": c.hint} for c in checks
    ]
