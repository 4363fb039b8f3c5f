"""M of N, never the requester, bound to the plan hash; and what that hash binds."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.package.unit.failover.support import NOW, REQUEST, a_plan, an_approval

from omnirelay.errors import ApprovalDenied, Conflict, IllegalTransition, NotApproved, PlanHashMismatch, SelfApproval
from omnirelay.failover.approvals import approvers, decide, is_approved, require_approval
from omnirelay.failover.plan_hash import canonical_json, plan_hash
from omnirelay.failover.record import Approval, State


def needing(approvals):
    return a_plan(replace(REQUEST, limits=replace(REQUEST.limits, approvals_required=approvals)))


def test_one_approval_of_one_is_enough():
    plan = needing(1)
    approved = decide(plan, an_approval(plan, "bob"))
    assert (approved.state, approvers(approved)) == (State.APPROVED, ("bob",))
    assert require_approval(approved) is None


def test_two_of_two_take_two_people():
    plan = needing(2)
    once = decide(plan, an_approval(plan, "bob"))
    assert (once.state, is_approved(once)) == (State.AWAITING_APPROVAL, False)
    with pytest.raises(NotApproved, match="1 of 2 approvals") as refused:
        require_approval(once)
    assert refused.value.details["approvals"] == ["bob"]
    twice = decide(once, an_approval(plan, "carol"))
    assert (twice.state, is_approved(twice)) == (State.APPROVED, True)


def test_the_same_approval_again_changes_nothing():
    plan = needing(2)
    once = decide(plan, an_approval(plan, "bob"))
    assert decide(once, replace(an_approval(plan, "bob"), comment="again", at="later")) is once


def test_more_approvals_than_needed_are_recorded():
    plan = needing(1)
    both = decide(decide(plan, an_approval(plan, "bob")), an_approval(plan, "carol"))
    assert (both.state, approvers(both)) == (State.APPROVED, ("bob", "carol"))


def test_nobody_approves_what_they_asked_for():
    plan = needing(1)
    with pytest.raises(SelfApproval, match="alice"):
        decide(plan, an_approval(plan, plan.requested_by))


def test_whoever_asked_may_still_deny():
    plan = needing(1)
    assert decide(plan, an_approval(plan, plan.requested_by, "deny")).state is State.DENIED


@pytest.mark.parametrize("decision", ["approve", "deny"])
def test_fm28_a_decision_on_another_plan_is_refused(decision):
    plan = needing(1)
    with pytest.raises(PlanHashMismatch) as refused:
        decide(plan, replace(an_approval(plan, "bob", decision), plan_hash="sha256:other"))
    assert refused.value.details["plan_hash"] == plan.plan.hash


def test_fm28_an_approval_of_another_plan_does_not_count():
    plan = needing(1)
    stale = replace(plan, state=State.APPROVED, approvals=(Approval("bob", "approve", "sha256:other", NOW),))
    with pytest.raises(NotApproved, match="0 of 1"):
        require_approval(stale)


@pytest.mark.parametrize(("first", "second"), [("approve", "deny"), ("deny", "approve")])
def test_nobody_decides_twice(first, second):
    plan = needing(2)
    decided = decide(plan, an_approval(plan, "bob", first))
    with pytest.raises(Conflict, match=f"bob has already decided: {first}"):
        decide(decided, an_approval(plan, "bob", second))


def test_one_denial_wins_over_any_number_of_approvals():
    plan = needing(1)
    approved = decide(plan, an_approval(plan, "bob"))
    denied = decide(approved, replace(an_approval(plan, "carol", "deny"), comment="not on a Friday"))
    assert denied.state is State.DENIED
    with pytest.raises(ApprovalDenied, match="carol denied it: not on a Friday"):
        require_approval(denied)
    with pytest.raises(IllegalTransition):
        decide(denied, an_approval(plan, "dave"))


@pytest.mark.parametrize("state", [s for s in State if s not in {State.AWAITING_APPROVAL, State.APPROVED}])
@pytest.mark.parametrize("decision", ["approve", "deny"])
def test_once_it_is_under_way_or_over_nobody_decides(state, decision):
    plan = replace(needing(1), state=state)
    with pytest.raises(IllegalTransition):
        decide(plan, an_approval(plan, "bob", decision))


def test_a_plan_that_needs_nobody_is_approved_from_the_start():
    plan = needing(0)
    assert plan.state is State.APPROVED
    assert require_approval(plan) is None


people = st.sampled_from(["alice", "bob", "carol", "dave"])


@given(st.integers(1, 3), st.lists(st.tuples(people, st.sampled_from(["approve", "approve", "deny"])), max_size=8))
def test_approved_means_enough_different_people_and_no_denial(needed, decisions):
    plan = now = needing(needed)
    stood = {}
    for person, decision in decisions:
        try:
            now = decide(now, an_approval(plan, person, decision))
        except (Conflict, SelfApproval):
            continue
        stood[person] = decision
    yes = [p for p, d in stood.items() if d == "approve"]
    denied = "deny" in stood.values()
    assert plan.requested_by not in yes
    assert (now.state is State.APPROVED) == (len(yes) >= needed and not denied)
    assert (now.state is State.DENIED) == denied
    assert sorted(approvers(now)) == sorted(yes)


# --- the hash -----------------------------------------------------------------------------------------------------

EPOCHS = {"default": 3, "orders": 5}


def test_the_hash_is_of_canonical_json():
    assert plan_hash(REQUEST, "us-east", EPOCHS) == plan_hash(REQUEST, "us-east", dict(reversed(EPOCHS.items())))
    assert plan_hash(REQUEST, "us-east", EPOCHS).startswith("sha256:")
    assert canonical_json({"b": 1, "a": ["é"]}) == '{"a":["é"],"b":1}'.encode()


@pytest.mark.parametrize(
    "change",
    [
        {"target": "ap-south"},
        {"namespaces": ("default",)},
        {"reason": "another"},
        {"change_ticket": "CHG-2"},
        *({"limits": {name: 77}} for name in vars(type(REQUEST.limits))["__slots__"]),
    ],
    ids=lambda change: str(next(iter(change.get("limits", change)))),
)
def test_every_bound_input_changes_the_hash(change):
    if "limits" in change:
        change = {"limits": replace(REQUEST.limits, **change["limits"])}
    assert plan_hash(replace(REQUEST, **change), "us-east", EPOCHS) != plan_hash(REQUEST, "us-east", EPOCHS)


@pytest.mark.parametrize(
    ("source", "epochs"), [("ap-south", EPOCHS), ("us-east", {**EPOCHS, "orders": 6}), ("us-east", {})]
)
def test_source_and_epochs_are_bound_too(source, epochs):
    assert plan_hash(REQUEST, source, epochs) != plan_hash(REQUEST, "us-east", EPOCHS)


def test_what_is_measured_or_merely_told_is_not_bound():
    plan = a_plan()
    assert plan.plan.hash == plan_hash(REQUEST, "us-east", EPOCHS)
    assert a_plan(id="fo-2", run_url="", checks=()).plan.hash == plan.plan.hash
