"""The transition table: every state × event, and what holds of the planned failover as a whole."""

import pytest

from omnirelay.errors import IllegalTransition
from omnirelay.failover.planned import HOLDS_LOCK, MACHINE, OPEN, SOURCE_CLOSED, STEPS, Event, plan_steps
from omnirelay.failover.record import State

BEFORE_PROMOTION = {State.AWAITING_APPROVAL, State.APPROVED, State.DRAINING, State.DRAINED}
PROMOTED = {State.PROMOTED, State.VERIFY_FAILED, State.VERIFIED, State.COMPLETED}
UNDONE = {State.ABORTED, State.DENIED, State.EXPIRED}

LEGAL = {
    ("awaiting_approval", "approve"): "approved",
    ("awaiting_approval", "deny"): "denied",
    ("awaiting_approval", "expire"): "expired",
    ("awaiting_approval", "abort"): "aborted",
    ("approved", "drain"): "draining",
    ("approved", "deny"): "denied",
    ("approved", "expire"): "expired",
    ("approved", "abort"): "aborted",
    ("draining", "reached"): "drained",
    ("draining", "drain_expired"): "aborted",
    ("draining", "abort"): "aborted",
    ("drained", "promote"): "promoted",
    ("drained", "drain_expired"): "aborted",
    ("drained", "abort"): "aborted",
    ("promoted", "verify"): "promoted",
    ("promoted", "verified"): "verified",
    ("promoted", "verify_failed"): "verify_failed",
    ("verify_failed", "verify"): "promoted",
    ("verified", "complete"): "completed",
}
"""The documented failover, written down a second time."""


def reachable(*starts):
    """States that can follow, the starts included."""
    found, frontier = set(starts), list(starts)
    while frontier:
        for after in MACHINE.table[frontier.pop()].values():
            if after not in found:
                found.add(after)
                frontier.append(after)
    return found


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", State)
def test_every_state_and_event(state, event):
    after = LEGAL.get((state.value, event.value))
    assert MACHINE.allows(state, event) == (after is not None)
    if after is not None:
        assert MACHINE.step(state, event) is State(after)
        return
    with pytest.raises(IllegalTransition) as refused:
        MACHINE.step(state, event, failover_id="fo-1")
    possible = [e for s, e in LEGAL if s == state.value]
    assert refused.value.details == {
        "state": state.value,
        "event": event.value,
        "allowed": ", ".join(possible) or "nothing; it is final",
        "failover_id": "fo-1",
    }
    assert refused.value.operator_hint == f"The failover is {state}; possible now: {refused.value.details['allowed']}."


def test_every_state_has_a_row_and_can_be_reached():
    assert set(MACHINE.table) == set(State)
    assert reachable(State.AWAITING_APPROVAL) == set(State)


def test_before_promotion_every_state_can_be_aborted():
    assert {state for state in State if MACHINE.allows(state, Event.ABORT)} == BEFORE_PROMOTION


def test_after_promotion_no_way_leads_to_an_undoing():
    assert reachable(State.PROMOTED) == PROMOTED
    assert not any(MACHINE.allows(state, Event.ABORT) for state in PROMOTED)


def test_nothing_but_a_proven_barrier_leads_to_promotion():
    ways = {
        (state, event) for state in State for event, after in MACHINE.table[state].items() if after is State.PROMOTED
    }
    assert ways == {(State.DRAINED, Event.PROMOTE), (State.PROMOTED, Event.VERIFY), (State.VERIFY_FAILED, Event.VERIFY)}


def test_every_state_reaches_a_final_one():
    final = {state for state in State if MACHINE.final(state)}
    assert final == UNDONE | {State.COMPLETED}
    assert all(reachable(state) & final for state in State)


def test_fm34_a_failed_verification_can_be_tried_again():
    assert State.COMPLETED in reachable(State.VERIFY_FAILED)


def test_i10_wherever_the_source_is_closed_its_own_deadline_opens_it():
    assert {state for state in State if MACHINE.allows(state, Event.DRAIN_EXPIRED)} == SOURCE_CLOSED


def test_the_lock_is_held_from_the_drain_until_the_end():
    assert reachable(State.DRAINING) - HOLDS_LOCK == {State.ABORTED, State.COMPLETED}
    assert not HOLDS_LOCK & {State.AWAITING_APPROVAL, State.APPROVED}
    assert HOLDS_LOCK <= OPEN


def test_open_is_what_is_not_final():
    assert set(State) - OPEN == UNDONE | {State.COMPLETED}


def test_the_diagram_shows_every_transition_and_every_end():
    lines = MACHINE.mermaid().splitlines()
    assert lines[0] == "stateDiagram-v2"
    ends = [f"    {state} --> [*]" for state in ("completed", "aborted", "denied", "expired")]
    assert sorted(lines[1:]) == sorted([f"    {s} --> {after}: {e}" for (s, e), after in LEGAL.items()] + ends)


def test_the_steps_that_are_approved_are_those_that_are_driven():
    steps = plan_steps("us-east", "eu-west", 12.5)
    assert tuple(step.name for step in steps) == STEPS
    assert "after 12.5 s" in steps[1].undo
    assert all(step.effect and step.undo for step in steps)
