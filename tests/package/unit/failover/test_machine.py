"""The two transition tables: every state × event, and what holds of each failover as a whole."""

import pytest
from tests.package.unit.failover.support import a_failover

from omnirelay.errors import IllegalTransition
from omnirelay.failover import emergency, modes, planned
from omnirelay.failover.events import Event
from omnirelay.failover.record import Mode, Request, State

PROMOTED = {State.PROMOTED, State.VERIFY_FAILED, State.VERIFIED, State.COMPLETED}
UNDONE = {State.ABORTED, State.DENIED, State.EXPIRED}
APPROVING = {State.AWAITING_APPROVAL, State.APPROVED}

BEGINNING = {
    ("awaiting_approval", "approve"): "approved",
    ("awaiting_approval", "deny"): "denied",
    ("awaiting_approval", "expire"): "expired",
    ("awaiting_approval", "abort"): "aborted",
    ("approved", "deny"): "denied",
    ("approved", "expire"): "expired",
    ("approved", "abort"): "aborted",
}
ENDING = {
    ("promoted", "verify"): "promoted",
    ("promoted", "verified"): "verified",
    ("promoted", "verify_failed"): "verify_failed",
    ("verify_failed", "verify"): "promoted",
    ("verify_failed", "complete"): "completed",
    ("verified", "complete"): "completed",
}
PLANNED = {
    ("approved", "drain"): "draining",
    ("draining", "reached"): "drained",
    ("draining", "drain_expired"): "aborted",
    ("draining", "abort"): "aborted",
    ("drained", "promote"): "promoted",
    ("drained", "drain_expired"): "aborted",
    ("drained", "abort"): "aborted",
}
EMERGENCY = {
    ("approved", "gather"): "gathering",
    ("gathering", "gathered"): "fencing",
    ("gathering", "gather_expired"): "aborted",
    ("gathering", "abort"): "aborted",
    ("fencing", "fenced"): "fenced",
    ("fencing", "gather_expired"): "aborted",
    ("fencing", "abort"): "aborted",
    ("fenced", "promote"): "promoted",
    ("fenced", "abort"): "aborted",
}
"""The documented failovers, written down a second time. What lies between approval and promotion is each one's own."""

MACHINES = {"planned": planned.MACHINE, "emergency": emergency.MACHINE}
LEGAL = {"planned": BEGINNING | PLANNED | ENDING, "emergency": BEGINNING | EMERGENCY | ENDING}
BEFORE_PROMOTION = {
    "planned": APPROVING | {State.DRAINING, State.DRAINED},
    "emergency": APPROVING | {State.GATHERING, State.FENCING, State.FENCED},
}
LOCKING = {"planned": planned.HOLDS_LOCK, "emergency": emergency.HOLDS_LOCK}

both = pytest.mark.parametrize("name", MACHINES)


def reachable(machine, *starts):
    """States that can follow, the starts included."""
    found, frontier = set(starts), list(starts)
    while frontier:
        for after in machine.table[frontier.pop()].values():
            if after not in found:
                found.add(after)
                frontier.append(after)
    return found


@both
@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", State)
def test_every_state_and_event(name, state, event):
    machine, legal = MACHINES[name], LEGAL[name]
    after = legal.get((state.value, event.value))
    assert machine.allows(state, event) == (after is not None)
    if after is not None:
        assert machine.step(state, event) is State(after)
        return
    with pytest.raises(IllegalTransition) as refused:
        machine.step(state, event, failover_id="fo-1")
    possible = {e for s, e in legal if s == state.value}
    details = refused.value.details
    allowed = details["allowed"]
    assert set(allowed.split(", ")) == possible or (not possible and allowed == "nothing; it is final")
    assert details == {"state": state.value, "event": event.value, "failover_id": "fo-1", "allowed": allowed}
    assert refused.value.operator_hint == f"The failover is {state}; possible now: {allowed}."


@both
def test_every_state_has_a_row_and_can_be_reached(name):
    states = BEFORE_PROMOTION[name] | PROMOTED | UNDONE
    assert set(MACHINES[name].table) == states
    assert reachable(MACHINES[name], State.AWAITING_APPROVAL) == states


def test_every_state_is_of_some_machine():
    assert set(planned.MACHINE.table) | set(emergency.MACHINE.table) == set(State)


@both
def test_before_promotion_every_state_can_be_aborted(name):
    assert {state for state in State if MACHINES[name].allows(state, Event.ABORT)} == BEFORE_PROMOTION[name]


@both
def test_after_promotion_no_way_leads_to_an_undoing(name):
    assert reachable(MACHINES[name], State.PROMOTED) == PROMOTED
    assert not any(MACHINES[name].allows(state, Event.ABORT) for state in PROMOTED)


@pytest.mark.parametrize(("name", "proof"), [("planned", State.DRAINED), ("emergency", State.FENCED)])
def test_nothing_but_a_proof_leads_to_promotion(name, proof):
    """Of a planned failover the barrier at the target, of an emergency the cut behind ended claims."""
    table = MACHINES[name].table
    ways = {(state, event) for state in table for event, after in table[state].items() if after is State.PROMOTED}
    assert ways == {(proof, Event.PROMOTE), (State.PROMOTED, Event.VERIFY), (State.VERIFY_FAILED, Event.VERIFY)}


def test_the_cut_is_taken_after_the_gather_and_never_around_it():
    """What arrived between a cut and a gather would be fenced although the new active holds it."""
    ways = {
        after: [(s, e) for s, row in emergency.MACHINE.table.items() for e, a in row.items() if a is after]
        for after in (State.GATHERING, State.FENCING, State.FENCED)
    }
    assert ways == {
        State.GATHERING: [(State.APPROVED, Event.GATHER)],
        State.FENCING: [(State.GATHERING, Event.GATHERED)],
        State.FENCED: [(State.FENCING, Event.FENCED)],
    }


@both
def test_every_state_reaches_a_final_one(name):
    machine = MACHINES[name]
    final = {state for state in machine.table if machine.final(state)}
    assert final == UNDONE | {State.COMPLETED}
    assert all(reachable(machine, state) & final for state in machine.table)


@both
def test_fm34_a_failed_verification_can_be_tried_again(name):
    assert State.COMPLETED in reachable(MACHINES[name], State.VERIFY_FAILED)


def test_the_two_share_no_dangerous_edge():
    """Two machines, not one with a flag: neither knows a step by which the other closes a source or proves a target."""
    shared = {
        (state, event)
        for state, row in planned.MACHINE.table.items()
        for event in row
        if emergency.MACHINE.allows(state, event)
    }
    assert shared == {(State(s), Event(e)) for s, e in BEGINNING | ENDING}
    assert not planned.SOURCE_CLOSED & set(emergency.MACHINE.table)
    assert not emergency.SOURCE_BARRED & set(planned.MACHINE.table)


def test_i10_wherever_a_drain_closes_the_source_its_own_deadline_opens_it():
    assert {state for state in State if planned.MACHINE.allows(state, Event.DRAIN_EXPIRED)} == planned.SOURCE_CLOSED


def test_fm11_an_emergency_bars_the_source_from_its_first_step_to_the_promotion():
    barred = reachable(emergency.MACHINE, State.GATHERING) - PROMOTED - UNDONE
    assert barred == emergency.SOURCE_BARRED
    assert barred - {State.GATHERING, State.FENCING} == emergency.TARGET_HOLDS


@pytest.mark.parametrize(("name", "first"), [("planned", State.DRAINING), ("emergency", State.GATHERING)])
def test_the_lock_is_held_from_the_first_step_until_the_end(name, first):
    assert reachable(MACHINES[name], first) - LOCKING[name] == {State.ABORTED, State.COMPLETED}
    assert not LOCKING[name] & APPROVING
    assert LOCKING[name] <= modes.HOLDS_LOCK


@pytest.mark.parametrize("mode", Mode)
def test_open_is_what_is_not_final(mode):
    request = Request(mode, "eu-west", ("default",), "", "")
    table = modes.machine(a_failover(request=request)).table
    closed = {state for state in table if not modes.is_open(a_failover(state=state, request=request))}
    assert closed == UNDONE | {State.COMPLETED}


def test_a_failback_is_a_planned_failover():
    requests = [Request(mode, "eu-west", ("default",), "", "") for mode in Mode]
    machines = {request.mode: modes.machine(a_failover(request=request)) for request in requests}
    assert machines == {
        Mode.PLANNED: planned.MACHINE,
        Mode.FAILBACK: planned.MACHINE,
        Mode.EMERGENCY: emergency.MACHINE,
    }


@both
def test_the_diagram_shows_every_transition_and_every_end(name):
    lines = MACHINES[name].mermaid().splitlines()
    assert lines[0] == "stateDiagram-v2"
    ends = [f"    {state} --> [*]" for state in ("completed", "aborted", "denied", "expired")]
    edges = [f"    {s} --> {after}: {e}" for (s, e), after in LEGAL[name].items()]
    assert sorted(lines[1:]) == sorted(edges + ends)


def test_the_planned_steps_that_are_approved_are_those_that_are_driven():
    steps = planned.plan_steps("us-east", "eu-west", 12.5)
    assert tuple(step.name for step in steps) == planned.STEPS
    assert "after 12.5 s" in steps[1].undo
    assert all(step.effect and step.undo for step in steps)


def test_the_emergency_steps_that_are_accepted_tell_what_promote_does_in_order():
    steps = emergency.plan_steps("us-east", "eu-west", 6.5)
    assert [step.name for step in steps] == ["gather", "fence", "promote", "verify", "complete"]
    assert "6.5 s at the most" in steps[1].effect
    assert all(step.effect and step.undo for step in steps)
