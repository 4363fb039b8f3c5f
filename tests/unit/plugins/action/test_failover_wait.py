# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wait: ends well only where it should, says what happens, and lists what remains when it gives up."""

from __future__ import annotations

import time

import pytest
import yaml
from ansible_collections.omnirelay.mesh.plugins.action import failover_wait
from ansible_collections.omnirelay.mesh.plugins.modules import failover_wait as documentation
from ansible_collections.omnirelay.mesh.plugins.plugin_utils._progress import EMERGENCY, PLANNED, Progress, remaining
from ansible_collections.omnirelay.mesh.tests.unit.plugins.fake_control_api import Problem

STEPS = ("drain", "promote", "verify", "complete")


@pytest.fixture
def lines(monkeypatch):
    said = []
    monkeypatch.setattr(failover_wait, "display", type("Terminal", (), dict(display=staticmethod(said.append))))
    return said


@pytest.fixture
def wait(run_action, approved, lines):
    def run(**options):
        return run_action("failover_wait", **dict(dict(failover_id=approved["id"], wait_timeout=30, poll_interval=0), **options))

    return run


@pytest.fixture
def driven(mesh, approved):
    """Somebody takes the next step before each reading but the first."""
    answer, taken = mesh.handle, iter(STEPS)

    def handle(method, path, *rest):
        result = answer(method, path, *rest)
        step = next(taken, None)
        if step:
            mesh._step(mesh.failovers[approved["id"]], step, {}, {})
        return result

    mesh.handle = handle
    return approved


def error(result):
    assert result["failed"] and not result["changed"] and "reached" not in result
    return result["error"]


def test_until_it_is_completed_with_a_line_for_each_step(wait, driven, lines):
    result = wait(diff=True)
    assert (result["reached"], result["would_wait"], result["remaining"], result["changed"]) == (True, False, [], False)
    assert result["failover"]["state"] == "completed"
    assert [line for line in lines if " is " in line] == [
        "fo-1 is approved, possible now: drain, abort",
        "fo-1 is drained, possible now: promote, abort",
        "fo-1 is promoted, possible now: verify",
        "fo-1 is verified, possible now: complete",
        "fo-1 is completed",
    ]
    assert [line for line in lines if "done by us-east" in line] == [
        "fo-1 2026-11-23T12:10:00Z: %s done by us-east" % step for step in STEPS
    ]
    assert (result["diff"]["before"]["state"], result["diff"]["after"]["state"]) == ("approved", "completed")


def test_no_further_than_asked(wait, driven):
    assert wait(state="promoted")["failover"]["state"] == "promoted"


def test_what_is_past_it_is_not_waited_for(wait, approved, mesh):
    mesh.failovers[approved["id"]]["state"] = "completed"
    assert wait(state="drained", wait_timeout=0)["reached"]


def test_wait_that_runs_out_fails_and_lists_what_remains(wait, approved, mesh):
    mesh._step(mesh.failovers[approved["id"]], "drain", {}, {})
    failed = error(wait(wait_timeout=0))
    assert (failed["code"], failed["retryable"]) == ("step_incomplete", True)
    assert failed["details"]["remaining"] == ["promoted", "verified", "completed"]
    assert "is drained, not completed. What remains: promoted, verified, completed; last came drain done" in failed["message"]
    assert "Possible now: promote, abort" in failed["hint"]


@pytest.mark.parametrize("in_check_mode", [False, True])
@pytest.mark.parametrize("state, code", [("denied", "approval_denied"), ("expired", "plan_expired"), ("aborted", "illegal_transition")])
def test_what_will_never_come_fails_at_once(wait, approved, mesh, state, code, in_check_mode):
    mesh.failovers[approved["id"]].update(state=state, problem="the drain took too long")
    failed = error(wait(check=in_check_mode))
    assert failed["code"] == code and "never be completed: the drain took too long" in failed["message"]


def test_check_mode_never_waits(wait, lines, mesh):
    readings = sum(call[:2] == ("GET", "/control/failovers/fo-1") for call in mesh.calls)
    result = wait(check=True, wait_timeout=3600)
    assert (result["reached"], result["would_wait"]) == (False, True)
    assert result["remaining"] == ["draining", "drained", "promoted", "verified", "completed"]
    assert not lines and sum(call[:2] == ("GET", "/control/failovers/fo-1") for call in mesh.calls) == readings + 1


def test_silence_of_the_mesh_does_not_end_the_wait(wait, driven, mesh):
    answer, silent = mesh.handle, [False, True, True]

    def handle(*arguments):
        if silent and silent.pop(0):
            raise Problem(503, "coordination_unavailable", "Wait.", retryable=True)
        return answer(*arguments)

    mesh.handle = handle
    assert wait(retries=0)["reached"]


def test_timeout_in_silence_says_so(wait, approved, mesh):
    answer, calls = mesh.handle, []

    def handle(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise Problem(503, "coordination_unavailable", "The store is silent.", retryable=True)
        return answer(*arguments)

    mesh.handle = handle
    failed = error(wait(wait_timeout=1, retries=0, poll_interval=0.05))
    assert failed["code"] == "step_incomplete" and "The last reading failed: " in failed["message"]


def test_refusal_ends_the_wait(wait, mesh, approved):
    answer, calls = mesh.handle, []

    def handle(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise Problem(401, "unauthenticated", "The token was withdrawn.")
        return answer(*arguments)

    mesh.handle = handle
    assert error(wait())["code"] == "unauthenticated"


def test_call_that_hangs_does_not_outlive_the_deadline(wait, mesh, approved):
    answer, calls = mesh.handle, []

    def handle(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            time.sleep(8)
        return answer(*arguments)

    mesh.handle = handle
    begun = time.monotonic()
    failed = error(wait(wait_timeout=1, timeout=7, deadline=7))
    assert time.monotonic() - begun < 6, "the call's own timeout is longer than that"
    assert "no answer within" in failed["message"]


def test_failover_that_does_not_exist(wait):
    assert error(wait(failover_id="fo-99"))["code"] == "not_found"


def test_long_silence_is_broken_by_a_line(wait, driven, lines, monkeypatch):
    monkeypatch.setattr(failover_wait, "SECONDS_BETWEEN_LINES", 0)
    wait()
    assert any("s left" in line for line in lines)


@pytest.mark.parametrize("in_check_mode", [False, True])
def test_returned_keys_are_the_documented_ones(wait, driven, in_check_mode):
    documented = set(yaml.safe_load(documentation.RETURN)) - {"error"}
    assert set(wait(check=in_check_mode, diff=True)) == documented | {"changed"}


def at(mode, state):
    return dict(id="fo-1", mode=mode, state=state, problem="", next=[], journal=[])


@pytest.mark.parametrize("mode, way", [("planned", PLANNED), ("failback", PLANNED), ("emergency", EMERGENCY)])
def test_every_state_of_the_way_leads_to_the_next(mode, way):
    for index, state in enumerate(way):
        assert remaining(at(mode, state), "completed") == list(way[index + 1 :])


@pytest.mark.parametrize("mode, wanted, last", [("planned", "fenced", "promoted"), ("emergency", "drained", "promoted")])
def test_waypoint_of_the_other_kind_is_passed_with_the_promotion(mode, wanted, last):
    assert remaining(at(mode, "approved"), wanted)[-1] == last
    assert remaining(at(mode, "promoted"), wanted) == []


def test_failed_proof_leaves_it_promoted():
    assert remaining(at("planned", "verify_failed"), "promoted") == []
    assert remaining(at("planned", "verify_failed"), "completed") == ["verified", "completed"]


def test_nothing_is_said_twice():
    failover = dict(at("planned", "approved"), journal=[dict(at="t", step="approve", event="approve", actor="bob", detail={})])
    progress = Progress(failover)
    assert len(progress.lines(failover)) == 2 and progress.lines(failover) == []
