"""Who may approve, and when it is enough: M of N, never the requester, bound to the plan hash."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace

from omnirelay.errors import (
    ApprovalDenied,
    ApprovalsBelowFloor,
    Conflict,
    NotApproved,
    PlanExpired,
    PlanHashMismatch,
    SelfApproval,
    TicketApprovalNeeded,
)
from omnirelay.failover.events import Event
from omnirelay.failover.modes import machine
from omnirelay.failover.record import Approval, ApprovalSource, Failover, Mode, Request, State
from omnirelay.model.ticket import TicketDecision


@dataclass(frozen=True, slots=True)
class ApprovalPolicy:
    """The least number of approvals that this mesh asks for; a request may ask for more, never for fewer."""

    planned: int = 1
    """Of planned failovers and failbacks."""
    emergency: int = 0
    """Of emergencies, on top of the loss that the requester accepts in writing."""

    def least(self, mode: Mode, break_glass: bool) -> int:
        """Breaking the glass is what is left when nobody can approve; it needs mesh.admin and a reason instead."""
        if mode is Mode.EMERGENCY:
            return 0 if break_glass else self.emergency
        return self.planned

    def require(self, request: Request) -> None:
        """Raises ApprovalsBelowFloor for a request that asks for too few."""
        least, asked = self.least(request.mode, request.break_glass), request.limits.approvals_required
        if asked < least:
            raise ApprovalsBelowFloor(
                f"{asked} approvals are asked for, this mesh wants at least {least}", required=least, asked=asked
            )


NO_FLOOR = ApprovalPolicy(0, 0)


def approvers(failover: Failover) -> tuple[str, ...]:
    """Principals whose approval of this very plan stands."""
    return tuple(
        a.principal for a in failover.approvals if a.decision == "approve" and a.plan_hash == failover.plan.hash
    )


def is_approved(failover: Failover) -> bool:
    return len(approvers(failover)) >= failover.request.limits.approvals_required


def decide(failover: Failover, approval: Approval) -> Failover:
    """The failover with the decision recorded.

    The same decision by the same principal again changes nothing. Raises SelfApproval, PlanHashMismatch,
    PlanExpired, TicketApprovalNeeded, Conflict when the principal decided otherwise before, IllegalTransition when the
    failover has gone beyond approval. Anybody who may decide can deny, wherever approvals come from.
    """
    earlier = next((a for a in failover.approvals if a.principal == approval.principal), None)
    if earlier is not None and earlier.decision == approval.decision and earlier.plan_hash == approval.plan_hash:
        return failover
    if approval.principal == failover.requested_by and approval.decision == "approve":
        raise SelfApproval(
            f"{approval.principal} asked for this failover and cannot approve it",
            principal=approval.principal,
            failover_id=failover.id,
        )
    from_ticket = failover.request.approval_source is ApprovalSource.TICKET
    if from_ticket and approval.decision == "approve" and not approval.ticket:
        raise TicketApprovalNeeded(
            f"this plan is approved in change ticket {failover.request.change_ticket} only",
            change_ticket=failover.request.change_ticket,
            failover_id=failover.id,
        )
    if approval.plan_hash != failover.plan.hash:
        raise PlanHashMismatch(
            f"the decision is for plan {approval.plan_hash}, the plan is {failover.plan.hash}",
            plan_hash=failover.plan.hash,
            failover_id=failover.id,
        )
    if approval.decision == "approve" and approval.at > failover.plan.expires_at:
        raise PlanExpired(
            f"the plan expired at {failover.plan.expires_at}",
            failover_id=failover.id,
            expires_at=failover.plan.expires_at,
        )
    if earlier is not None:
        raise Conflict(f"{approval.principal} has already decided: {earlier.decision}", failover_id=failover.id)
    event = Event.APPROVE if approval.decision == "approve" else Event.DENY
    if failover.state is State.APPROVED and event is Event.APPROVE:
        return replace(failover, approvals=(*failover.approvals, approval))
    after = machine(failover).step(failover.state, event, failover_id=failover.id)
    decided = replace(failover, approvals=(*failover.approvals, approval))
    if event is Event.APPROVE and not is_approved(decided):
        return decided
    return replace(decided, state=after)


def require_approval(failover: Failover) -> None:
    """Raises ApprovalDenied or NotApproved unless enough approvals of this plan stand."""
    denial = next((a for a in failover.approvals if a.decision == "deny"), None)
    if denial is not None:
        raise ApprovalDenied(
            f"{denial.principal} denied it: {denial.comment or 'no comment'}",
            principal=denial.principal,
            failover_id=failover.id,
        )
    have, need = approvers(failover), failover.request.limits.approvals_required
    if len(have) < need:
        raise NotApproved(
            f"{len(have)} of {need} approvals",
            approvals=list(have),
            required=need,
            failover_id=failover.id,
            requested_by=failover.requested_by,
            plan_hash=failover.plan.hash,
        )


def bound_decisions(
    decisions: Iterable[TicketDecision], plan_ms: int, other_plans_ms: Iterable[int], stale: Container[str] = ()
) -> tuple[TicketDecision, ...]:
    """Those of a ticket's decisions that are about the plan that was noted in it at `plan_ms`: made after that note and
    not after the note of a later plan; of each person the last. All times are the ticket system's own. In the second
    of the note itself nobody can tell what came first, so that decision does not count. `stale` are the users whose
    decision has stood in the ticket since before the note: where times are not exact, theirs does not count either."""
    until = min((at for at in other_plans_ms if at > plan_ms), default=None)
    last: dict[str, TicketDecision] = {}
    for decision in sorted(decisions, key=lambda decision: decision.at_ms):
        if not decision.exact and decision.user in stale:
            continue
        if decision.at_ms > plan_ms and (until is None or decision.at_ms <= until):
            last[decision.user] = decision
    return tuple(last.values())


def principal_of(decision: TicketDecision, system: str, people: Mapping[str, str], requested_by: str) -> str:
    """Who a person of the ticket system is in the mesh: whom the configuration names; the requester, if they are called
    the same there; else `SYSTEM/USER`."""
    known = {name.casefold(): principal for name, principal in people.items()}
    called = [name.casefold() for name in (decision.user, *decision.names)]
    found = next((known[name] for name in called if name in known), None)
    if found is not None:
        return found
    requester = requested_by.rpartition("/")[2].casefold()
    if requester in called or requester in (name.partition("@")[0] for name in called):
        return requested_by
    return f"{system}/{decision.user}"
