"""Which of a ticket's decisions approve which plan, and who made them."""

from dataclasses import replace

import pytest
from tests.package.unit.failover.support import NOW, REQUEST, a_plan, an_approval

from omnirelay.errors import SelfApproval, TicketApprovalNeeded
from omnirelay.failover.approvals import bound_decisions, decide, principal_of
from omnirelay.failover.record import Approval, ApprovalSource, State
from omnirelay.model.ticket import TicketDecision

FROM_TICKET = replace(REQUEST, approval_source=ApprovalSource.TICKET)


def a_decision(at_ms: int, user: str = "jane", decision: str = "approve", names=()) -> TicketDecision:
    return TicketDecision(user, tuple(names), decision, at_ms)


def test_a_decision_after_the_plans_note_is_about_that_plan():
    late = a_decision(2000)
    assert bound_decisions([late], 1000, []) == (late,)


@pytest.mark.parametrize("at_ms", [0, 999, 1000], ids=["long before", "before", "in the same second"])
def test_a_decision_before_the_plans_note_is_not(at_ms):
    assert bound_decisions([a_decision(at_ms)], 1000, []) == ()


def test_a_later_plan_in_the_same_ticket_takes_what_comes_after_it():
    between, after = a_decision(2000), a_decision(4000)
    assert bound_decisions([between, after], 1000, [3000]) == (between,)
    assert bound_decisions([between, after], 3000, [1000]) == (after,)


def test_of_each_person_the_last_decision_counts():
    approved, denied, other = a_decision(2000), a_decision(3000, decision="deny"), a_decision(2500, "joe")
    assert set(bound_decisions([denied, other, approved], 1000, [])) == {denied, other}


def test_a_person_of_the_ticket_system_is_named_after_it():
    assert principal_of(a_decision(1), "servicenow", {}, "spiffe://omnirelay/operator/alice") == "servicenow/jane"


@pytest.mark.parametrize("known_as", ["jane", "JANE", "jane@example.net"])
def test_people_that_the_configuration_names_are_who_they_are_in_the_mesh(known_as):
    decision = a_decision(1, names=["jane@example.net"])
    people = {known_as: "spiffe://omnirelay/operator/jd"}
    assert principal_of(decision, "jira", people, "token/alice") == "spiffe://omnirelay/operator/jd"


@pytest.mark.parametrize(
    "called", [("Alice", ()), ("alice@example.net", ()), ("x1", ("Alice@Example.NET",)), ("7", ("Alice",))]
)
@pytest.mark.parametrize("requester", ["spiffe://omnirelay/operator/alice", "token/alice"])
def test_whoever_is_called_as_the_requester_is_the_requester(called, requester):
    user, names = called
    assert principal_of(a_decision(1, user, names=names), "servicenow", {}, requester) == requester


def test_nobody_approves_their_own_plan_in_the_ticket_either():
    plan = a_plan(FROM_TICKET)
    own = Approval(plan.requested_by, "approve", plan.plan.hash, NOW, via="ticket", ticket="CHG-1")
    with pytest.raises(SelfApproval):
        decide(plan, own)


def test_a_plan_that_the_ticket_approves_takes_no_other_approval():
    plan = a_plan(FROM_TICKET)
    with pytest.raises(TicketApprovalNeeded) as refused:
        decide(plan, replace(an_approval(plan), via="ticket"))
    assert "CHG-1" in refused.value.operator_hint
    assert decide(plan, replace(an_approval(plan), ticket="CHG-1")).state is State.APPROVED


def test_anybody_may_deny_it_through_the_api():
    plan = a_plan(FROM_TICKET)
    assert decide(plan, an_approval(plan, decision="deny")).state is State.DENIED


def test_where_approvals_come_from_is_part_of_what_is_approved():
    assert a_plan(FROM_TICKET).plan.hash != a_plan(REQUEST).plan.hash
