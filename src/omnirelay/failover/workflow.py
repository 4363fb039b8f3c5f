"""What each command and each observation does to a failover: value in, value out. What only an emergency knows is in
omnirelay.failover.emergency_workflow.

The runtime loads the record, calls one of these, and writes the result back by compare-and-set together with what it
implies (locks, routing, audit). `now` is RFC 3339, UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from omnirelay.errors import DrainTimedOut, PlanExpired, TokenInvalid, VerifyFailed
from omnirelay.failover.approvals import require_approval
from omnirelay.failover.events import Event
from omnirelay.failover.journal import expect_epochs, logged
from omnirelay.failover.modes import machine
from omnirelay.failover.plan_hash import plan_hash
from omnirelay.failover.record import (
    Canary,
    Check,
    DemotionToken,
    Failover,
    JournalEntry,
    LossPrediction,
    Plan,
    PlanStep,
    Request,
    RoutingChange,
    State,
)
from omnirelay.model.position import Cursor
from omnirelay.model.readers import Acknowledgement
from omnirelay.model.routing import Ownership, Route, RoutingDocument

PREDICTED_OUTAGE_SECONDS = 0.5
"""Of a planned failover whose target is level; the report compares it with what was measured."""


def make(
    id: str,
    request: Request,
    routing: RoutingDocument,
    source: str,
    steps: tuple[PlanStep, ...],
    loss: tuple[LossPrediction, ...],
    outage_seconds: float,
    checks: tuple[Check, ...],
    requested_by: str,
    run_url: str,
    now: str,
    expires_at: str,
) -> Failover:
    """A new plan, with nothing done yet."""
    epochs = {namespace: routing.routes[namespace].epoch for namespace in request.namespaces}
    changes = tuple(RoutingChange(n, source, request.target, e, e + 1) for n, e in epochs.items())
    plan = Plan(
        steps=steps,
        routing=changes,
        predicted_loss_records=sum(prediction.records for prediction in loss),
        predicted_outage_seconds=outage_seconds,
        loss=loss,
        hash=plan_hash(request, source, epochs),
        expires_at=expires_at,
    )
    state = State.APPROVED if request.limits.approvals_required == 0 else State.AWAITING_APPROVAL
    return Failover(
        id=id,
        state=state,
        request=request,
        source=source,
        requested_by=requested_by,
        created_at=now,
        expected_epochs=epochs,
        plan=plan,
        checks=checks,
        run_url=run_url,
        journal=(JournalEntry(now, "plan", "planned", requested_by),),
    )


def start_drain(failover: Failover, routing: RoutingDocument, actor: str, now: str) -> Failover:
    """The intent to drain, which carries its own deadline: the undo is stored before writes are blocked (I10)."""
    if now > failover.plan.expires_at and failover.state in (State.AWAITING_APPROVAL, State.APPROVED):
        raise PlanExpired(
            f"the plan expired at {failover.plan.expires_at}",
            failover_id=failover.id,
            expires_at=failover.plan.expires_at,
        )
    require_approval(failover)
    state = machine(failover).step(failover.state, Event.DRAIN, failover_id=failover.id)
    expect_epochs(failover, routing)
    timeout = failover.request.limits.drain_timeout_seconds
    return logged(
        replace(failover, state=state, drain_started_at=now), now, "drain", "started", actor, timeout_seconds=timeout
    )


def demote(failover: Failover, token: DemotionToken, now: str) -> Failover:
    """The source has closed and signed its demotion; the state stays until the target has the barrier."""
    if failover.state is not State.DRAINING or failover.token is not None:
        return failover
    barriers = {namespace: barrier.sequence for namespace, barrier in token.barriers.items()}
    return logged(replace(failover, token=token), now, "drain", "closed", failover.source, barriers=barriers)


def reach(failover: Failover, reached: Mapping[str, int], target_origin: str, now: str) -> Failover:
    """The target has proven that it holds every barrier, and names the log it would append to."""
    state = machine(failover).step(failover.state, Event.REACHED, failover_id=failover.id)
    if failover.token is None:
        raise TokenInvalid("there is no barrier to reach: the source has not closed yet", failover_id=failover.id)
    moved = replace(failover, state=state, reached=dict(reached), target_origin=target_origin)
    return logged(moved, now, "drain", "reached", failover.request.target, reached=dict(reached))


def expire_drain(failover: Failover, now: str, why: str = "") -> Failover:
    """The source's own undo (I10); `why` says what it waited for, where that is known."""
    state = machine(failover).step(failover.state, Event.DRAIN_EXPIRED, failover_id=failover.id)
    problem = f"no promotion within {failover.request.limits.drain_timeout_seconds:g} s of the drain"
    problem += f": {why}" if why else ""
    return logged(replace(failover, state=state, problem=problem), now, "drain", "expired", failover.source)


def promote(failover: Failover, routing: RoutingDocument, actor: str, now: str) -> tuple[Failover, RoutingDocument]:
    """Ownership, epoch, cut and routing in one step (I8).

    Raises EpochMoved, TokenInvalid, NotApproved, IllegalTransition; the caller has verified the token's signature.
    """
    require_approval(failover)
    state = machine(failover).step(failover.state, Event.PROMOTE, failover_id=failover.id)
    expect_epochs(failover, routing)
    token = failover.token
    if token is None or token.plan_hash != failover.plan.hash or token.failover_id != failover.id:
        raise TokenInvalid("the demotion token is for another plan", failover_id=failover.id)
    routes: dict[str, Route] = dict(routing.routes)
    for namespace in failover.request.namespaces:
        barrier = token.barriers.get(namespace)
        if barrier is None or failover.reached.get(namespace, 0) < barrier.sequence:
            raise TokenInvalid(f"the barrier of {namespace} is not proven at the target", failover_id=failover.id)
        route = routes[namespace]
        if (barrier.origin, barrier.epoch) != (route.current.origin, route.epoch):
            raise TokenInvalid(f"the barrier of {namespace} is not in its current epoch's log", failover_id=failover.id)
        cut = Cursor(barrier.epoch, barrier.sequence)
        ownership = Ownership(route.epoch + 1, failover.request.target, failover.target_origin, cut)
        routes[namespace] = Route(namespace, (*route.history, ownership))
    document = RoutingDocument(routing.version + 1, routes)
    promoted = replace(failover, state=state, routing_version=document.version)
    return logged(promoted, now, "promote", "promoted", actor, routing_version=document.version), document


def open_writes(failover: Failover, namespaces: Iterable[str], now: str) -> Failover:
    """The target admits writes for these."""
    if failover.state is not State.PROMOTED:
        return failover
    for namespace in namespaces:
        if namespace not in failover.opened:
            opened = {**failover.opened, namespace: now}
            target = failover.request.target
            failover = logged(replace(failover, opened=opened), now, "promote", "opened", target, namespace=namespace)
    return failover


def request_verify(failover: Failover, actor: str, now: str) -> Failover:
    """Asks the target for canaries; a repeated verification starts with new ones."""
    if failover.state is State.PROMOTED and failover.verify_requested_at:
        return failover
    state = machine(failover).step(failover.state, Event.VERIFY, failover_id=failover.id)
    asked = replace(failover, state=state, verify_requested_at=now, canaries={}, seen={}, problem="")
    return logged(asked, now, "verify", "started", actor)


def write_canaries(failover: Failover, canaries: Mapping[str, Canary], now: str) -> Failover:
    """The target has written canaries, durably. Nothing happens unless a verification under way still wants them."""
    if failover.state is not State.PROMOTED or not failover.verify_requested_at:
        return failover
    for namespace, canary in canaries.items():
        if namespace in failover.request.namespaces and namespace not in failover.canaries:
            written = replace(failover, canaries={**failover.canaries, namespace: canary})
            target = failover.request.target
            failover = logged(written, now, "verify", "canary_written", target, namespace=namespace)
    return failover


def see_canaries(failover: Failover, namespaces: Iterable[str], witness: str, now: str) -> Failover:
    """`witness` holds the canaries with the same digests: the old active, or in an emergency any other cluster. The
    last one verifies the failover. What was seen of an earlier verification, or comes after its end, changes
    nothing."""
    if failover.state is not State.PROMOTED:
        return failover
    for namespace in namespaces:
        if namespace in failover.canaries and namespace not in failover.seen:
            seen = replace(failover, seen={**failover.seen, namespace: now})
            failover = logged(seen, now, "verify", "canary_seen", witness, namespace=namespace)
    if not failover.seen or not set(failover.request.namespaces) <= set(failover.seen):
        return failover
    state = machine(failover).step(failover.state, Event.VERIFIED, failover_id=failover.id)
    return logged(replace(failover, state=state), now, "verify", "verified", witness)


def fail_verify(failover: Failover, actor: str, now: str) -> Failover:
    state = machine(failover).step(failover.state, Event.VERIFY_FAILED, failover_id=failover.id)
    timeout = failover.request.limits.verify_timeout_seconds
    missing = sorted(set(failover.request.namespaces) - set(failover.seen))
    problem = f"the canary of {', '.join(missing)} was not seen elsewhere within {timeout:g} s"
    return logged(replace(failover, state=state, problem=problem), now, "verify", "failed", actor)


def complete(failover: Failover, noticed: Acknowledgement, actor: str, reason: str, now: str) -> Failover:
    """Closes the record, and keeps in it who has taken notice of the routing by now. A failover that could not be
    verified is closed only for a reason, and says so for ever."""
    if failover.state is State.VERIFY_FAILED and not reason:
        raise VerifyFailed(
            f"{failover.problem}; it can be completed with a reason only",
            failover_id=failover.id,
            target=failover.request.target,
        )
    state = machine(failover).step(failover.state, Event.COMPLETE, failover_id=failover.id)
    detail = {"reason": reason} if reason else {}
    return logged(replace(failover, state=state, noticed=noticed), now, "complete", "completed", actor, **detail)


def expire(failover: Failover, now: str) -> Failover:
    """A plan that nobody began in time."""
    if failover.state not in (State.AWAITING_APPROVAL, State.APPROVED) or now <= failover.plan.expires_at:
        return failover
    state = machine(failover).step(failover.state, Event.EXPIRE, failover_id=failover.id)
    problem = f"the plan was valid until {failover.plan.expires_at}"
    return logged(replace(failover, state=state, problem=problem), now, "plan", "expired", "the mesh")


def abort(failover: Failover, actor: str, reason: str, now: str) -> Failover:
    state = machine(failover).step(failover.state, Event.ABORT, failover_id=failover.id)
    problem = reason or f"aborted by {actor}"
    return logged(replace(failover, state=state, problem=problem), now, "abort", "aborted", actor)


def drain_error(failover: Failover) -> DrainTimedOut:
    return DrainTimedOut(f"the drain undid itself: {failover.problem}", failover_id=failover.id)
