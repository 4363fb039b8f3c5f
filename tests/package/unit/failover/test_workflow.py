"""A planned failover, command by command: what each does, and what it refuses when it is not its turn."""

from dataclasses import replace

import pytest
from tests.package.unit.failover.support import NOW, REQUEST, ROUTING, a_plan, a_token, an_approval, at

from omnirelay.errors import EpochMoved, IllegalTransition, NotApproved, PlanExpired, TokenInvalid, VerifyFailed
from omnirelay.failover import workflow
from omnirelay.failover.approvals import decide
from omnirelay.failover.planned import SOURCE_CLOSED
from omnirelay.failover.record import Barrier, Canary, State
from omnirelay.model.position import Cursor
from omnirelay.model.readers import Acknowledgement
from omnirelay.model.routing import Ownership, Route, RoutingDocument

BOTH = {"default": 40, "orders": 41}


def a_canary(namespace, written=NOW):
    return Canary("eu-west", {"default": 1, "orders": 2}[namespace], "cd" * 32, written)


# Each of these is the step before, and one more.


def planned():
    return a_plan()


def approved():
    plan = planned()
    return decide(plan, an_approval(plan))


def draining():
    return workflow.start_drain(approved(), ROUTING, "bob", at(1))


def closed():
    f = draining()
    return workflow.demote(f, a_token(f), at(2))


def drained():
    return workflow.reach(closed(), BOTH, "eu-west", at(3))


def promoted():
    return workflow.promote(drained(), ROUTING, "bob", at(4))[0]


def opened():
    f = promoted()
    for namespace in f.request.namespaces:
        f = workflow.open_writes(f, [namespace], at(5))
    return f


def verifying():
    f = workflow.request_verify(opened(), "bob", at(6))
    for namespace in f.request.namespaces:
        f = workflow.write_canaries(f, {namespace: a_canary(namespace)}, at(7))
    return f


def verified():
    f = verifying()
    for namespace in f.request.namespaces:
        f = workflow.see_canaries(f, [namespace], "us-east", at(8))
    return f


NOTICED = Acknowledgement(2, ("ap-south",), (), readers=3, readers_behind=0, late=())


def completed():
    return workflow.complete(verified(), NOTICED, "bob", "", at(9))


def aborted():
    return workflow.abort(draining(), "bob", "", at(2))


def verify_failed():
    return workflow.fail_verify(verifying(), "bob", at(30))


STAGES = {
    "planned": planned,
    "approved": approved,
    "draining": draining,
    "closed": closed,
    "drained": drained,
    "promoted": promoted,
    "opened": opened,
    "verifying": verifying,
    "verify_failed": verify_failed,
    "verified": verified,
    "completed": completed,
    "aborted": aborted,
}

COMMANDS = {
    "start_drain": (lambda f: workflow.start_drain(f, ROUTING, "bob", at(50)), {"approved"}),
    "reach": (lambda f: workflow.reach(f, BOTH, "eu-west", at(50)), {"closed"}),
    "expire_drain": (lambda f: workflow.expire_drain(f, at(50)), {"draining", "closed", "drained"}),
    "promote": (lambda f: workflow.promote(f, ROUTING, "bob", at(50))[0], {"drained"}),
    "fail_verify": (lambda f: workflow.fail_verify(f, "bob", at(50)), {"promoted", "opened", "verifying"}),
    "complete": (lambda f: workflow.complete(f, NOTICED, "bob", "it is gone", at(50)), {"verified", "verify_failed"}),
    "abort": (lambda f: workflow.abort(f, "bob", "", at(50)), {"planned", "approved", "draining", "closed", "drained"}),
}
"""What people and deadlines do, and the stages in which it may be done; in any other it is refused."""

OBSERVATIONS = {
    "demote": (lambda f: workflow.demote(f, a_token(f), at(50)), {"draining"}),
    "open_writes": (lambda f: workflow.open_writes(f, ["default"], at(50)), {"promoted"}),
    "request_verify": (lambda f: workflow.request_verify(f, "bob", at(50)), {"promoted", "opened", "verify_failed"}),
    "write_canary": (lambda f: workflow.write_canaries(f, {"default": a_canary("default")}, at(50)), set()),
    "see_canary": (lambda f: workflow.see_canaries(f, ["default"], "us-east", at(50)), {"verifying"}),
}
"""What replicators report; in any other stage it changes nothing, so a late or doubled report is harmless."""


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_out_of_order_is_refused(name, stage):
    command, allowed = COMMANDS[name]
    failover = STAGES[stage]()
    if stage in allowed:
        assert command(failover) != failover
    else:
        with pytest.raises((IllegalTransition, NotApproved, TokenInvalid)):
            command(failover)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", [name for name in OBSERVATIONS if name != "request_verify"])
def test_fm02_a_report_out_of_order_changes_nothing(name, stage):
    report, wanted = OBSERVATIONS[name]
    failover = STAGES[stage]()
    assert (report(failover) != failover) == (stage in wanted)


@pytest.mark.parametrize("name", [*COMMANDS, *OBSERVATIONS])
def test_the_journal_only_grows_and_each_entry_is_complete(name):
    command, allowed = (COMMANDS | OBSERVATIONS)[name]
    for stage in allowed:
        before = STAGES[stage]()
        after = command(before)
        assert after.journal[: len(before.journal)] == before.journal
        [entry] = after.journal[len(before.journal) :][:1]
        assert (entry.at, bool(entry.step), bool(entry.event)) == (at(50), True, True)
        assert entry.actor in {"bob", "us-east", "eu-west"}


def test_the_journal_tells_the_whole_story():
    told = [f"{e.step} {e.event} by {e.actor}" for e in completed().journal]
    assert told == [
        "plan planned by alice",
        "drain started by bob",
        "drain closed by us-east",
        "drain reached by eu-west",
        "promote promoted by bob",
        "promote opened by eu-west",
        "promote opened by eu-west",
        "verify started by bob",
        "verify canary_written by eu-west",
        "verify canary_written by eu-west",
        "verify canary_seen by us-east",
        "verify canary_seen by us-east",
        "verify verified by us-east",
        "complete completed by bob",
    ]
    assert [e.at for e in completed().journal] == sorted(e.at for e in completed().journal)


# --- plan ---------------------------------------------------------------------------------------------------------


def test_a_plan_says_what_moves_and_predicts_no_loss():
    plan = planned()
    assert (plan.state, plan.expected_epochs) == (State.AWAITING_APPROVAL, {"default": 3, "orders": 5})
    changes = {c.namespace: (c.source, c.target, c.epoch_before, c.epoch_after) for c in plan.plan.routing}
    assert changes == {"default": ("us-east", "eu-west", 3, 4), "orders": ("us-east", "eu-west", 5, 6)}
    assert plan.plan.predicted_loss_records == 0


# --- drain --------------------------------------------------------------------------------------------------------


def test_fm03_the_deadline_is_stored_with_the_intent_to_drain():
    f = draining()
    assert (f.state, f.drain_started_at) == (State.DRAINING, at(1))
    assert f.journal[-1].detail == {"timeout_seconds": REQUEST.limits.drain_timeout_seconds}


def test_fm28_without_approval_nothing_drains():
    with pytest.raises(NotApproved):
        workflow.start_drain(replace(planned(), state=State.APPROVED), ROUTING, "bob", NOW)


def test_fm28_an_expired_plan_does_not_drain():
    assert workflow.start_drain(approved(), ROUTING, "bob", at(3600)).state is State.DRAINING
    with pytest.raises(PlanExpired) as refused:
        workflow.start_drain(approved(), ROUTING, "bob", at(3600.001))
    assert refused.value.details["expires_at"] == at(3600)


def routing(**histories):
    return RoutingDocument(8, {**ROUTING.routes, **{n: Route(n, h) for n, h in histories.items()}})


MOVED = {
    "a new epoch": routing(
        default=(Ownership(3, "us-east", "us-east"), Ownership(4, "us-east", "us-east", Cursor(3, 9)))
    ),
    "another owner": routing(default=(Ownership(3, "ap-south", "ap-south"),)),
    "no such namespace": RoutingDocument(8, {"default": ROUTING.routes["default"]}),
}


@pytest.mark.parametrize("moved", MOVED.values(), ids=MOVED)
def test_fm01_ownership_that_moved_since_the_plan_stops_drain_and_promotion(moved):
    with pytest.raises(EpochMoved):
        workflow.start_drain(approved(), moved, "bob", NOW)
    with pytest.raises(EpochMoved):
        workflow.promote(drained(), moved, "bob", NOW)


def test_a_second_token_does_not_replace_the_first():
    f = closed()
    assert workflow.demote(f, a_token(f, issued_at=at(9)), at(9)) is f


def test_without_a_barrier_there_is_nothing_to_reach():
    with pytest.raises(TokenInvalid, match="not closed yet"):
        workflow.reach(draining(), BOTH, "eu-west", NOW)


def test_fm14_a_drain_that_takes_too_long_undoes_itself_and_says_why():
    for stage in (draining, closed, drained):
        f = workflow.expire_drain(stage(), at(12))
        assert (f.state, f.state in SOURCE_CLOSED) == (State.ABORTED, False)
        assert f.problem == "no promotion within 10 s of the drain"
        assert workflow.drain_error(f).message == "the drain undid itself: no promotion within 10 s of the drain"
        assert workflow.drain_error(f).details == {"failover_id": "fo-1"}


def test_i10_of_undoing_and_promotion_the_first_excludes_the_other():
    with pytest.raises(IllegalTransition):
        workflow.promote(workflow.expire_drain(drained(), at(12)), ROUTING, "bob", at(12))
    with pytest.raises(IllegalTransition):
        workflow.expire_drain(promoted(), at(12))


def test_an_abort_gives_its_reason_or_its_author():
    assert workflow.abort(drained(), "bob", "wrong night", NOW).problem == "wrong night"
    assert workflow.abort(drained(), "bob", "", NOW).problem == "aborted by bob"


# --- promote ------------------------------------------------------------------------------------------------------


def test_i8_promotion_moves_ownership_epoch_cut_and_version_at_once():
    f, document = workflow.promote(drained(), ROUTING, "bob", at(4))
    assert (f.state, f.routing_version, document.version) == (State.PROMOTED, 8, 8)
    assert document.routes["default"].history == (
        Ownership(3, "us-east", "us-east"),
        Ownership(4, "eu-west", "eu-west", Cursor(3, 40)),
    )
    assert document.routes["orders"].current == Ownership(6, "eu-west", "eu-west", Cursor(5, 41))
    assert document.routes["other"] is ROUTING.routes["other"]
    assert ROUTING.routes["default"].epoch == 3, "the document before is as it was"


def test_fm35_the_new_epoch_is_in_the_log_that_the_target_named():
    f = workflow.reach(closed(), BOTH, "eu-west~2", at(3))
    current = workflow.promote(f, ROUTING, "bob", at(4))[1].routes["default"].current
    assert (current.cluster, current.origin) == ("eu-west", "eu-west~2")


def barriers(**changes):
    return {"default": Barrier("us-east", 3, 40), "orders": Barrier("us-east", 5, 41), **changes}


@pytest.mark.parametrize(
    "token",
    [
        {"plan_hash": "sha256:other"},
        {"failover_id": "fo-2"},
        {"barriers": {"default": Barrier("us-east", 3, 40)}},
        {"barriers": barriers(default=Barrier("us-east", 3, 42))},
        {"barriers": barriers(default=Barrier("us-east", 2, 40))},
        {"barriers": barriers(default=Barrier("ap-south", 3, 40))},
    ],
    ids=["another plan", "another failover", "no barrier", "barrier not reached", "another epoch", "another log"],
)
def test_i9_promotion_refuses_a_token_that_does_not_prove_the_barrier(token):
    f = draining()
    f = workflow.reach(workflow.demote(f, a_token(f, **token), at(2)), BOTH, "eu-west", at(3))
    with pytest.raises(TokenInvalid):
        workflow.promote(f, ROUTING, "bob", at(4))


def test_i9_promotion_without_a_token_is_refused():
    with pytest.raises(TokenInvalid):
        workflow.promote(replace(drained(), token=None), ROUTING, "bob", at(4))


def test_fm28_approval_is_looked_at_again_when_it_is_used():
    with pytest.raises(NotApproved):
        workflow.promote(replace(drained(), approvals=()), ROUTING, "bob", at(4))


# --- verify -------------------------------------------------------------------------------------------------------


def test_the_last_canary_seen_verifies():
    once = workflow.see_canaries(verifying(), ["orders"], "us-east", at(8))
    assert once.state is State.PROMOTED
    assert workflow.see_canaries(once, ["orders"], "us-east", at(8)) is once
    assert workflow.see_canaries(once, ["default"], "us-east", at(8)).state is State.VERIFIED


def test_a_canary_of_a_namespace_that_does_not_move_is_no_proof():
    f = workflow.write_canaries(verifying(), {"other": a_canary("default")}, at(7))
    assert "other" not in f.canaries
    assert workflow.see_canaries(f, ["other"], "us-east", at(8)) is f


def test_before_verification_is_asked_for_no_canary_is_taken():
    f = workflow.write_canaries(opened(), {"default": a_canary("default")}, at(7))
    assert f == opened()


def test_asking_twice_asks_once():
    f = workflow.request_verify(opened(), "bob", at(6))
    assert workflow.request_verify(f, "carol", at(7)) is f


def test_fm34_a_failed_verification_says_what_is_missing_and_starts_again_with_new_canaries():
    once = workflow.see_canaries(verifying(), ["orders"], "us-east", at(8))
    f = workflow.fail_verify(once, "eu-west", at(30))
    assert (f.state, f.problem) == (
        State.VERIFY_FAILED,
        "the canary of default was not seen elsewhere within 15 s",
    )
    assert workflow.see_canaries(f, ["default"], "us-east", at(31)) is f, "too late"
    again = workflow.request_verify(f, "bob", at(40))
    assert (again.state, again.canaries, again.seen, again.problem) == (State.PROMOTED, {}, {}, "")
    assert again.verify_requested_at == at(40)
    assert workflow.see_canaries(again, ["default"], "us-east", at(41)) is again, (
        "that canary was an earlier verification's"
    )
    for namespace in REQUEST.namespaces:
        again = workflow.write_canaries(again, {namespace: a_canary(namespace, at(42))}, at(42))
        again = workflow.see_canaries(again, [namespace], "us-east", at(43))
    assert again.state is State.VERIFIED


def test_what_could_not_be_verified_is_closed_for_a_reason_only_and_keeps_its_problem() -> None:
    failed = workflow.fail_verify(verifying(), "eu-west", at(30))
    with pytest.raises(VerifyFailed, match="reason"):
        workflow.complete(failed, NOTICED, "bob", "", at(40))
    closed = workflow.complete(failed, NOTICED, "bob", "us-east burned down", at(40))
    assert closed.state is State.COMPLETED
    assert (closed.problem, closed.noticed) == (failed.problem, NOTICED)
    assert closed.journal[-1].detail == {"reason": "us-east burned down"}


def test_a_plan_that_nobody_began_in_time_expires_and_one_that_began_does_not() -> None:
    late = at(10_000_000)
    assert workflow.expire(planned(), late).state is State.EXPIRED
    assert workflow.expire(planned(), at(1)).state is planned().state
    assert workflow.expire(verifying(), late) is not None
    assert workflow.expire(verifying(), late).state is State.PROMOTED
