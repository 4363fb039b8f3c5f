"""The preflight's check of the change ticket."""

from dataclasses import replace

import pytest
from tests.package.unit.failover.disasters import EMERGENCY, disaster
from tests.package.unit.failover.support import NOW_MS, REQUEST, healthy

from omnirelay.failover import emergency_preflight, preflight
from omnirelay.failover.record import ApprovalSource, Verdict
from omnirelay.failover.ticket_check import NOT_ASKED, TicketReading, change_ticket
from omnirelay.model.ticket import Ticket, TicketApproval

HOUR_MS = 3_600_000
TICKET = Ticket(
    number="CHG-1",
    system="servicenow",
    url="https://acme.example/CHG-1",
    state="Scheduled",
    approval=TicketApproval.APPROVED,
    workable=True,
    closed=False,
    starts_ms=NOW_MS - HOUR_MS,
    ends_ms=NOW_MS + HOUR_MS,
)
FROM_TICKET = replace(REQUEST, approval_source=ApprovalSource.TICKET)


def judged(ticket=TICKET, request=REQUEST, **changes):
    reading = TicketReading(configured=True, ticket=ticket)
    return change_ticket(replace(reading, **changes), request, NOW_MS, {})


def test_a_ticket_that_is_approved_and_within_its_window_passes():
    check = judged()
    assert check.status is Verdict.PASS
    assert check.observed.startswith("CHG-1: Scheduled, approved, window 2026-")


@pytest.mark.parametrize("missing", ["starts_ms", "ends_ms", "both"])
def test_a_window_without_end_or_beginning_is_open_there(missing):
    open_ = {"starts_ms": None, "ends_ms": None} if missing == "both" else {missing: None}
    assert judged(replace(TICKET, **open_)).status is Verdict.PASS


REFUSED = {
    "not approved": ({"approval": TicketApproval.PENDING, "workable": False}, "Get it approved"),
    "approved but not scheduled": ({"workable": False}, "Get it approved and scheduled"),
    "rejected": ({"approval": TicketApproval.REJECTED}, "Find out why"),
    "closed": ({"closed": True}, "Name a change ticket that is open"),
    "before its window": ({"starts_ms": NOW_MS + 1}, "Run the same command from"),
    "after its window": ({"ends_ms": NOW_MS - 1}, "Ask for another one"),
}
refused = pytest.mark.parametrize(("changes", "hint"), REFUSED.values(), ids=REFUSED.keys())


@refused
def test_a_ticket_that_does_not_allow_it_blocks_with_the_next_command(changes, hint):
    check = judged(replace(TICKET, **changes))
    assert check.status is Verdict.FAIL
    assert check.observed.startswith("CHG-1: ")
    assert hint in check.hint
    assert "https://acme.example/CHG-1" in check.hint or "window" in check.hint.lower()


@refused
def test_an_emergency_is_told_and_goes_on(changes, hint):
    check = judged(replace(TICKET, **changes), EMERGENCY)
    assert check.status is Verdict.WARN
    assert hint in check.hint


def test_a_ticket_that_cannot_be_read_blocks_with_the_reason():
    check = judged(None, problem="acme.example does not answer", hint="Check it.")
    assert (check.status, check.hint) == (Verdict.FAIL, "Check it.")
    assert "acme.example does not answer" in check.observed
    assert judged(None, EMERGENCY, problem="no").status is Verdict.WARN


def test_what_was_read_for_the_plan_counts_when_the_system_is_silent_at_the_drain():
    check = judged(None, before=TICKET, problem="acme.example does not answer", planning=False)
    assert check.status is Verdict.WARN
    assert "as it was read for the plan; now: acme.example does not answer" in check.observed


@refused
def test_what_was_read_for_the_plan_still_has_to_allow_it(changes, hint):
    before = replace(TICKET, **changes)
    assert judged(None, before=before, problem="silent", planning=False).status is Verdict.FAIL


def test_the_ticket_as_it_is_now_outweighs_what_it_was():
    cancelled = replace(TICKET, closed=True)
    assert judged(cancelled, before=TICKET, planning=False).status is Verdict.FAIL


def test_a_plan_that_the_ticket_is_to_approve_can_be_made_before_it_is_approved():
    waiting = replace(TICKET, approval=TicketApproval.PENDING, workable=False, state="Authorize")
    assert judged(waiting, FROM_TICKET).status is Verdict.WARN
    assert judged(waiting, FROM_TICKET, planning=False).status is Verdict.FAIL


@pytest.mark.parametrize("changes", [{"closed": True}, {"approval": TicketApproval.REJECTED}, {"ends_ms": NOW_MS - 1}])
def test_a_ticket_that_can_approve_nothing_blocks_such_a_plan_too(changes):
    assert judged(replace(TICKET, **changes), FROM_TICKET).status is Verdict.FAIL


def test_without_a_source_the_number_is_recorded_and_the_check_says_so():
    check = change_ticket(NOT_ASKED, REQUEST, NOW_MS, {})
    assert check.status is Verdict.PASS
    assert "there is no ticket source to ask" in check.observed


@pytest.mark.parametrize(("request_", "status"), [(REQUEST, Verdict.FAIL), (EMERGENCY, Verdict.WARN)])
def test_a_cluster_without_source_is_no_way_around_the_source_that_others_have(request_, status):
    reports = {name: replace(report, ticket_source="jira") for name, report in healthy().reports.items()}
    evidence = replace(healthy(), reports=reports)
    check = change_ticket(NOT_ASKED, request_, NOW_MS, evidence.ticket_sources())
    assert check.status is status
    assert "us-east (jira)" in check.observed
    assert preflight.failed(preflight.preflight(evidence, REQUEST, "us-east")) == ["change_ticket"]


def test_both_preflights_take_the_check():
    closed = TicketReading(configured=True, ticket=replace(TICKET, closed=True))
    planned = preflight.preflight(replace(healthy(), ticket=closed), REQUEST, "us-east")
    assert preflight.failed(planned) == ["change_ticket"]
    emergency = emergency_preflight.preflight(replace(disaster(), ticket=closed), EMERGENCY, "us-east", 6.0)
    assert {check.id: check.status for check in emergency}["change_ticket"] is Verdict.WARN
