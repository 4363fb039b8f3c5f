"""An emergency from its acceptance to its promotion: what each step does, and when it is refused."""

from dataclasses import replace

import pytest
from tests.package.unit.failover import disasters
from tests.package.unit.failover.disasters import CUTS, EMERGENCY, an_emergency, predictions
from tests.package.unit.failover.support import NOW, ROUTING, an_approval, at

from omnirelay.errors import EpochMoved, IllegalTransition, LossNotAccepted, NotApproved, PlanExpired
from omnirelay.failover import emergency_workflow, workflow
from omnirelay.failover.approvals import decide
from omnirelay.failover.emergency import SOURCE_BARRED
from omnirelay.failover.record import Limits, State
from omnirelay.model.position import Cursor
from omnirelay.model.routing import Ownership, Route, RoutingDocument


def aborted():
    return workflow.abort(disasters.fencing(), "bob", "", at(3))


def revoked():
    return emergency_workflow.revoke(disasters.fencing(), at(3))


STAGES = {
    "planned": an_emergency,
    "accepted": disasters.accepted,
    "gathering": disasters.gathering,
    "fencing": disasters.fencing,
    "revoked": revoked,
    "fenced": disasters.fenced,
    "promoted": disasters.promoted,
    "aborted": aborted,
}

COMMANDS = {
    "start": (lambda f: emergency_workflow.start(f, ROUTING, predictions(), "bob", at(50)), {"accepted"}),
    "gathered": (lambda f: emergency_workflow.gathered(f, CUTS, at(50)), {"gathering"}),
    "expire_gather": (
        lambda f: emergency_workflow.expire_gather(f, "ap-south", at(50)),
        {"gathering", "fencing", "revoked"},
    ),
    "fence": (lambda f: emergency_workflow.fence(f, CUTS, "eu-west", at(50)), {"fencing", "revoked"}),
    "promote": (lambda f: emergency_workflow.promote(f, ROUTING, "cluster/eu-west", at(50))[0], {"fenced"}),
    "abort": (
        lambda f: workflow.abort(f, "bob", "", at(50)),
        {"planned", "accepted", "gathering", "fencing", "revoked", "fenced"},
    ),
    "start_drain": (lambda f: workflow.start_drain(f, ROUTING, "bob", at(50)), set()),
    "expire_drain": (lambda f: workflow.expire_drain(f, at(50)), set()),
}
"""What people, deadlines and the target do, and the stages in which it may be done; in any other it is refused."""

OBSERVATIONS = {
    "revoke": (lambda f: emergency_workflow.revoke(f, at(50)), {"fencing"}),
    "confirm_demotion": (
        lambda f: emergency_workflow.confirm_demotion(f, at(50)),
        {"gathering", "fencing", "revoked", "fenced"},
    ),
    "open_writes": (lambda f: workflow.open_writes(f, "default", at(50)), {"promoted"}),
}
"""What replicators report; in any other stage it changes nothing."""


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_step_out_of_order_is_refused(name, stage):
    command, allowed = COMMANDS[name]
    failover = STAGES[stage]()
    if stage in allowed:
        assert command(failover) != failover
    else:
        with pytest.raises((IllegalTransition, NotApproved)):
            command(failover)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", OBSERVATIONS)
def test_fm02_a_report_out_of_order_changes_nothing(name, stage):
    report, wanted = OBSERVATIONS[name]
    failover = STAGES[stage]()
    assert (report(failover) != failover) == (stage in wanted)


def test_the_journal_tells_the_whole_story():
    f = emergency_workflow.confirm_demotion(revoked(), at(4))
    f = emergency_workflow.promote(
        emergency_workflow.fence(f, CUTS, "eu-west", at(8)), ROUTING, "cluster/eu-west", at(9)
    )[0]
    assert [f"{e.step} {e.event} by {e.actor}" for e in f.journal] == [
        "plan planned by alice",
        "gather started by bob",
        "gather gathered by eu-west",
        "fence revoked by eu-west",
        "fence demoted by us-east",
        "fence fenced by eu-west",
        "promote promoted by cluster/eu-west",
    ]


# --- accepting ----------------------------------------------------------------------------------------------------


def test_the_loss_is_predicted_again_when_it_starts_and_kept():
    grown = (replace(predictions()[0], unheard_records=20),)
    f = emergency_workflow.start(disasters.accepted(), ROUTING, grown, "bob", at(1))
    assert (f.plan.loss, f.plan.predicted_loss_records) == (grown, 23)
    assert f.journal[-1].detail == {"predicted_loss_records": 23}


def test_a_loss_that_grew_beyond_what_was_accepted_is_refused():
    grown = (replace(predictions()[0], unheard_records=28),)
    with pytest.raises(LossNotAccepted, match="up to 31 records may be lost, and 30 records was accepted"):
        emergency_workflow.start(disasters.accepted(), ROUTING, grown, "bob", at(1))


def test_the_acceptance_in_writing_needs_no_second_person_unless_the_limits_ask_for_one():
    alone = an_emergency(replace(EMERGENCY, limits=Limits(approvals_required=0)))
    assert alone.state is State.APPROVED
    assert emergency_workflow.start(alone, ROUTING, predictions(), "alice", at(1)).state is State.GATHERING
    assert an_emergency().state is State.AWAITING_APPROVAL


def test_fm28_without_the_approval_that_was_asked_for_nothing_starts():
    with pytest.raises(NotApproved):
        emergency_workflow.start(replace(an_emergency(), state=State.APPROVED), ROUTING, predictions(), "bob", NOW)


def test_fm28_an_expired_plan_does_not_start():
    assert emergency_workflow.start(disasters.accepted(), ROUTING, predictions(), "bob", at(3600)).gather_started_at
    with pytest.raises(PlanExpired):
        emergency_workflow.start(disasters.accepted(), ROUTING, predictions(), "bob", at(3600.001))


def moved(namespace="default"):
    route = ROUTING.routes[namespace]
    further = Route(namespace, (*route.history, Ownership(route.epoch + 1, "ap-south", "ap-south", Cursor(3, 1))))
    return RoutingDocument(8, {**ROUTING.routes, namespace: further})


def test_fm01_an_epoch_that_moved_meanwhile_stops_it_at_the_start_and_at_the_promotion():
    with pytest.raises(EpochMoved):
        emergency_workflow.start(disasters.accepted(), moved(), predictions(), "bob", at(1))
    with pytest.raises(EpochMoved):
        emergency_workflow.promote(disasters.fenced(), moved(), "cluster/eu-west", at(9))


# --- gathering and fencing ----------------------------------------------------------------------------------------


def test_fm12_a_gather_that_takes_too_long_is_undone_and_names_the_better_one():
    f = emergency_workflow.expire_gather(disasters.gathering(), "ap-south", at(7))
    assert (f.state, f.state in SOURCE_BARRED) == (State.ABORTED, False)
    assert f.problem == "eu-west did not reach what ap-south holds within 5 s"
    error = emergency_workflow.gather_error(f)
    assert error.details["command"] == "omnirelay mesh clusters promote ap-south --emergency"


def test_of_an_abort_and_the_promotion_the_first_excludes_the_other():
    with pytest.raises(IllegalTransition):
        emergency_workflow.promote(workflow.abort(disasters.fenced(), "bob", "", at(8)), ROUTING, "x", at(9))
    with pytest.raises(IllegalTransition):
        workflow.abort(disasters.promoted(), "bob", "", at(10))


def test_claims_are_revoked_once():
    assert emergency_workflow.revoke(revoked(), at(4)) == revoked()


def test_a_demotion_is_confirmed_once():
    once = emergency_workflow.confirm_demotion(disasters.gathering(), at(2))
    assert once.demoted
    assert emergency_workflow.confirm_demotion(once, at(3)) is once


# --- promoting ----------------------------------------------------------------------------------------------------


def test_i8_promotion_moves_ownership_epoch_cut_and_version_at_once():
    f, document = emergency_workflow.promote(disasters.fenced(), ROUTING, "cluster/eu-west", at(9))
    assert (f.state, f.routing_version, document.version) == (State.PROMOTED, 8, 8)
    assert document.routes["default"].history == (
        Ownership(3, "us-east", "us-east"),
        Ownership(4, "eu-west", "eu-west", Cursor(3, 40)),
    )
    assert document.routes["orders"].current == Ownership(6, "eu-west", "eu-west", Cursor(5, 40))
    assert document.routes["other"] is ROUTING.routes["other"], "only what was asked for moves"


def test_the_cut_is_the_fenced_one_and_not_what_was_gathered():
    late = {"default": Cursor(3, 42), "orders": Cursor(5, 42)}
    f = emergency_workflow.fence(disasters.fencing(), late, "eu-west", at(8))
    document = emergency_workflow.promote(f, ROUTING, "cluster/eu-west", at(9))[1]
    assert document.routes["default"].current.cut == Cursor(3, 42)


def test_a_namespace_without_a_cut_is_not_promoted():
    f = emergency_workflow.fence(disasters.fencing(), {"default": Cursor(3, 40)}, "eu-west", at(8))
    with pytest.raises(IllegalTransition, match="no cut for orders"):
        emergency_workflow.promote(f, ROUTING, "cluster/eu-west", at(9))


def test_fm35_the_new_epoch_is_in_the_log_that_the_target_named():
    f = emergency_workflow.fence(disasters.fencing(), CUTS, "eu-west~2", at(8))
    assert emergency_workflow.promote(f, ROUTING, "x", at(9))[1].routes["default"].current.origin == "eu-west~2"


def test_verification_and_completion_are_those_of_every_failover():
    f = disasters.promoted()
    for namespace in f.request.namespaces:
        f = workflow.open_writes(f, namespace, at(10))
    f = workflow.request_verify(f, "bob", at(11))
    assert workflow.fail_verify(f, "bob", at(40)).state is State.VERIFY_FAILED


def test_a_denied_plan_ends():
    plan = an_emergency()
    assert decide(plan, an_approval(plan, decision="deny")).state is State.DENIED
