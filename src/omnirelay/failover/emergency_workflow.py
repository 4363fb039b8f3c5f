"""What happens to an emergency failover between its acceptance and its promotion: value in, value out.

Planning, approval, verification and closing are those of every failover (omnirelay.failover.workflow). `now` is
RFC 3339, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from omnirelay.errors import GatherTimedOut, IllegalTransition, PlanExpired
from omnirelay.failover import loss
from omnirelay.failover.approvals import require_approval
from omnirelay.failover.emergency import MACHINE, SOURCE_BARRED
from omnirelay.failover.events import Event
from omnirelay.failover.journal import expect_epochs, logged
from omnirelay.failover.loss import require_acceptance
from omnirelay.failover.record import Failover, LossPrediction, LossRange, State
from omnirelay.model.position import Cursor
from omnirelay.model.routing import Ownership, Route, RoutingDocument


def start(
    failover: Failover,
    routing: RoutingDocument,
    predictions: tuple[LossPrediction, ...],
    actor: str,
    now: str,
    last_heard: str = "",
) -> Failover:
    """The intent to promote. The loss is predicted again and must still be within what was accepted; what was known
    when it was planned counts on. `last_heard`: when anybody last heard of the source, where that is known."""
    predictions = loss.never_less(predictions, failover.plan.loss)
    require_approval(failover)
    if now > failover.plan.expires_at and failover.state is State.APPROVED:
        raise PlanExpired(
            f"the plan expired at {failover.plan.expires_at}",
            failover_id=failover.id,
            expires_at=failover.plan.expires_at,
        )
    state = MACHINE.step(failover.state, Event.GATHER, failover_id=failover.id)
    expect_epochs(failover, routing)
    require_acceptance(failover.request, predictions)
    plan = replace(
        failover.plan, loss=predictions, predicted_loss_records=sum(prediction.records for prediction in predictions)
    )
    started = replace(failover, state=state, plan=plan, gather_started_at=now)
    detail: dict[str, int | str] = {"predicted_loss_records": plan.predicted_loss_records}
    detail |= {"source_last_heard": last_heard} if last_heard else {}
    return logged(started, now, "gather", "started", actor, **detail)


def gathered(failover: Failover, prefixes: Mapping[str, Cursor], now: str) -> Failover:
    """The target holds all that any cluster in reach holds."""
    state = MACHINE.step(failover.state, Event.GATHERED, failover_id=failover.id)
    moved = replace(failover, state=state, fencing_started_at=now)
    return logged(moved, now, "gather", "gathered", failover.request.target, prefixes=_plain(prefixes))


def revoke(failover: Failover, now: str) -> Failover:
    """The source's claim did not end by itself, so somebody renews it: it is taken away in the same transaction, and
    may be used by its holder for one more ttl."""
    if failover.state is not State.FENCING or failover.revoked:
        return failover
    return logged(replace(failover, revoked=True), now, "fence", "revoked", failover.request.target)


def expire_gather(failover: Failover, best: str, now: str) -> Failover:
    """The target could not catch up in time with a cluster that holds more."""
    state = MACHINE.step(failover.state, Event.GATHER_EXPIRED, failover_id=failover.id)
    timeout = failover.request.limits.gather_timeout_seconds
    problem = f"{failover.request.target} did not reach what {best} holds within {timeout:g} s"
    return logged(
        replace(failover, state=state, problem=problem), now, "gather", "expired", failover.request.target, best=best
    )


def confirm_demotion(failover: Failover, now: str) -> Failover:
    """The source lives, has closed, and says so: nobody needs to wait for its lease."""
    if failover.state not in SOURCE_BARRED or failover.demoted:
        return failover
    return logged(replace(failover, demoted=True), now, "fence", "demoted", failover.source)


def fence(
    failover: Failover,
    cuts: Mapping[str, Cursor],
    target_origin: str,
    now: str,
    heard: Mapping[str, int] = MappingProxyType({}),
) -> Failover:
    """No claim of the source can be valid any more, and the target applies nothing more of its log: the cut stands.
    `heard`: origin → highest sequence that anybody has heard of by now; beyond the cut it is lost."""
    state = MACHINE.step(failover.state, Event.FENCED, failover_id=failover.id)
    fenced = replace(failover, state=state, cuts=dict(cuts), target_origin=target_origin, heard=dict(heard))
    return logged(fenced, now, "fence", "fenced", failover.request.target, cuts=_plain(cuts))


def promote(failover: Failover, routing: RoutingDocument, actor: str, now: str) -> tuple[Failover, RoutingDocument]:
    """Ownership, epoch, cut and routing in one step (I8), with the first manifest."""
    require_approval(failover)
    state = MACHINE.step(failover.state, Event.PROMOTE, failover_id=failover.id)
    expect_epochs(failover, routing)
    routes: dict[str, Route] = dict(routing.routes)
    for namespace in failover.request.namespaces:
        if namespace not in failover.cuts:
            raise IllegalTransition(
                f"there is no cut for {namespace}", failover_id=failover.id, state=failover.state, allowed="abort"
            )
        route = routes[namespace]
        ownership = Ownership(
            route.epoch + 1, failover.request.target, failover.target_origin, failover.cuts[namespace]
        )
        routes[namespace] = Route(namespace, (*route.history, ownership))
    document = RoutingDocument(routing.version + 1, routes)
    promoted = replace(failover, state=state, routing_version=document.version)
    promoted = replace(promoted, manifest=loss.manifest(promoted, document))
    return logged(promoted, now, "promote", "promoted", actor, routing_version=document.version), document


def regrade(failover: Failover, manifest: tuple[LossRange, ...], now: str) -> Failover:
    """The manifest as it is known now; allowed in every state after the promotion."""
    if not failover.routing_version or manifest == failover.manifest:
        return failover
    grades: dict[str, int] = {}
    for range_ in manifest:
        grades[range_.grade] = grades.get(range_.grade, 0) + range_.records
    return logged(replace(failover, manifest=manifest), now, "manifest", "regraded", failover.request.target, **grades)


def gather_error(failover: Failover) -> GatherTimedOut:
    best = str(failover.journal[-1].detail.get("best", ""))
    return GatherTimedOut(
        failover.problem,
        failover_id=failover.id,
        best=best,
        command=f"omnirelay mesh clusters promote {best} --emergency",
    )


def _plain(places: Mapping[str, Cursor]) -> dict[str, list[int]]:
    return {namespace: [place.epoch, place.sequence] for namespace, place in places.items()}
