"""The change ticket before a failover: is it approved, may it be carried out now.

An emergency is told and goes on; everything else is refused. What was read when the plan was made counts for its drain
when the ticket system does not answer by then: a ticket system that is down holds nobody up in the middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from omnirelay.failover.record import ApprovalSource, Check, Mode, Request, Verdict
from omnirelay.model.ticket import Ticket, TicketApproval
from omnirelay.model.times import rfc3339

ID = "change_ticket"
WANTED = "approved, open for work, within its window"


@dataclass(frozen=True, slots=True)
class TicketReading:
    """What asking for the ticket brought."""

    configured: bool
    """There is a ticket source."""
    ticket: Ticket | None = None
    """As it is now."""
    before: Ticket | None = None
    """As it was when the plan was made."""
    problem: str = ""
    """Why `ticket` is None although it was asked for."""
    hint: str = ""
    planning: bool = True
    """No plan is there yet that the ticket could approve."""


NOT_ASKED = TicketReading(configured=False)


def change_ticket(reading: TicketReading, request: Request, now_ms: int, sources: Mapping[str, str]) -> Check:
    """`sources`: cluster → ticket system, of those that have one. Whoever has none judges nothing where others do: else
    the choice of an endpoint would be a way around the ticket."""
    if not request.change_ticket:
        hint = "Name the change ticket (change_ticket)."
        if request.mode is Mode.EMERGENCY:
            hint = "Open one afterwards, then: omnirelay mesh failovers ticket ID --change-ticket TICKET"
        return _lenient(request, Check(ID, Verdict.FAIL, "none", "present", hint))
    if not reading.configured and sources:
        others = ", ".join(f"{cluster} ({system})" for cluster, system in sorted(sources.items()))
        seen = f"{request.change_ticket} is not known: only {others} can ask for it, the cluster that answers cannot"
        hint = "Use the endpoint of a cluster that has a ticket source, or give all of them the same (tickets)."
        return _lenient(request, Check(ID, Verdict.FAIL, seen, WANTED, hint))
    if not reading.configured:
        return Check(ID, Verdict.PASS, f"{request.change_ticket}; there is no ticket source to ask", "present")
    ticket = reading.ticket or reading.before
    if ticket is None:
        seen = f"{request.change_ticket} is not known: {reading.problem}"
        return _lenient(request, Check(ID, Verdict.FAIL, seen, WANTED, reading.hint))
    check = _judge(ticket, request, now_ms, reading.planning)
    if reading.ticket is not None or not reading.problem:
        return _lenient(request, check)
    seen = f"{check.observed}, as it was read for the plan; now: {reading.problem}"
    verdict = Verdict.FAIL if check.status is Verdict.FAIL else Verdict.WARN
    return _lenient(request, replace(check, status=verdict, observed=seen, hint=check.hint or reading.hint))


def _judge(ticket: Ticket, request: Request, now_ms: int, planning: bool) -> Check:
    seen = f"{ticket.number}: {ticket.state}, {ticket.approval}, {_window(ticket)}"
    again = "then run the same command again"

    def refused(hint: str) -> Check:
        return Check(ID, Verdict.FAIL, seen, WANTED, hint)

    if ticket.closed:
        return refused(f"Name a change ticket that is open (change_ticket); this one: {ticket.url}")
    if ticket.approval is TicketApproval.REJECTED:
        return refused(f"Find out why it was rejected: {ticket.url}")
    if ticket.ends_ms is not None and now_ms > ticket.ends_ms:
        return refused(f"Its window is over. Ask for another one ({ticket.url}), {again}.")
    if ticket.starts_ms is not None and now_ms < ticket.starts_ms:
        return refused(f"Run the same command from {rfc3339(ticket.starts_ms)} on, or move the window: {ticket.url}")
    if ticket.approval is not TicketApproval.APPROVED or not ticket.workable:
        if planning and request.approval_source is ApprovalSource.TICKET:
            hint = f"Approve it once the plan stands in it: {ticket.url}"
            return Check(ID, Verdict.WARN, seen, WANTED, hint)
        return refused(f"Get it approved and scheduled ({ticket.url}), {again}.")
    return Check(ID, Verdict.PASS, seen, WANTED)


def _window(ticket: Ticket) -> str:
    if ticket.starts_ms is None and ticket.ends_ms is None:
        return "no window"
    starts, ends = (rfc3339(at) if at is not None else "open" for at in (ticket.starts_ms, ticket.ends_ms))
    return f"window {starts} to {ends}"


def _lenient(request: Request, check: Check) -> Check:
    """An emergency does not wait for paper; that it went without is on record."""
    if request.mode is Mode.EMERGENCY and check.status is Verdict.FAIL:
        return replace(check, status=Verdict.WARN)
    return check
