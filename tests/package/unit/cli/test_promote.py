import json

import pytest

from omnirelay.errors import (
    BadRequest,
    DrainTimedOut,
    OperationInProgress,
    PreflightFailed,
    SelfApproval,
    Unreachable,
    VerifyFailed,
)

PROMOTE = ("mesh", "clusters", "promote", "eu-west")


def refuse(api, path, *errors, method="POST"):
    api.refusals[(method, f"/control/{path}")] = list(errors)


def test_it_goes_from_plan_to_completion_once_somebody_approves(api, run):
    api.approve_after = 3
    result = run(*PROMOTE, "--yes", "--change-ticket", "CHG7", "--reason", "drill", "--max-lag-seconds", "2")
    assert result.exit_code == 0, result.output
    assert api.steps == ["drain", "promote", "verify", "complete"]
    assert "omnirelay mesh failovers approve fo-1" in result.stderr
    assert "approved by spiffe://m/operator/bob" in result.stderr
    assert "0.123 s" in result.stdout
    asked = [body for method, path, _, body, _ in api.requests if path == "/control/failovers"]
    assert [body.pop("dry_run", False) for body in asked] == [True, False]
    assert asked[0] == asked[1]
    assert asked[0]["limits"] == {"max_lag_seconds": 2.0}


def test_a_plan_is_shown_and_nothing_happens(api, run):
    result = run(*PROMOTE, "--plan")
    assert result.exit_code == 0
    for text in ("us-east -> eu-west", "1 -> 2", "predicted loss", "0 records", "drain", "lag"):
        assert text in result.stdout
    assert api.failovers == {}


def test_a_plan_is_json_for_programs(api, run):
    result = run(*PROMOTE, "--plan", "--output", "json")
    assert json.loads(result.stdout)["plan"]["hash"] == "sha256:1"


def test_without_a_terminal_it_needs_a_yes(api, run):
    result = run(*PROMOTE)
    assert (result.exit_code, api.requests) == (2, [])


@pytest.mark.parametrize(("typed", "exit_code"), [("eu-west\n", 0), ("us-east\n", 2), ("\n", 2)])
def test_on_a_terminal_the_name_is_typed(api, run, terminal, typed, exit_code):
    api.approve_after = 0
    result = run(*PROMOTE, stdin=typed)
    assert result.exit_code == exit_code
    assert bool(api.failovers) == (exit_code == 0)


def test_a_step_that_takes_longer_is_asked_for_again(api, run):
    api.approve_after = 0
    api.unfinished = {"drain": 2, "promote": 1}
    assert run(*PROMOTE, "--yes").exit_code == 0
    assert api.steps == ["drain"] * 3 + ["promote"] * 2 + ["verify", "complete"]


def test_a_mesh_that_is_away_for_a_moment_is_asked_again(api, run):
    api.approve_after = 0
    refuse(api, "failovers/fo-1/drain", *[Unreachable("gone")] * 4)
    assert run(*PROMOTE, "--yes").exit_code == 0


def test_a_mesh_that_stays_away_half_way_leaves_a_failover_to_resume(api, run, monkeypatch):
    monkeypatch.setattr("omnirelay.cli.drive.PATIENCE_SECONDS", 2.0)
    api.approve_after = 0
    refuse(api, "failovers/fo-1/promote", *[Unreachable("gone")] * 1000)
    result = run(*PROMOTE, "--yes")
    assert result.exit_code == 8
    assert "omnirelay mesh failovers resume fo-1" in result.stderr


def test_an_approval_that_does_not_come_leaves_the_failover_open(api, run):
    result = run(*PROMOTE, "--yes", "--approval-timeout", "5")
    assert (result.exit_code, api.steps) == (4, [])
    assert "error[not_approved]" in result.stderr
    assert "resume fo-1" in result.stderr


@pytest.mark.parametrize(
    ("path", "error", "exit_code"),
    [
        ("failovers", PreflightFailed("no", failed="lag"), 3),
        ("failovers", OperationInProgress("no", failover_id="fo-0"), 6),
        ("failovers", BadRequest("no"), 2),
        ("failovers", Unreachable("no"), 7),
        ("failovers/fo-1/drain", DrainTimedOut("no"), 5),
        ("failovers/fo-1/verify", VerifyFailed("no", target="eu-west"), 8),
    ],
    ids=lambda value: getattr(value, "code", None),
)
def test_exit_codes_are_those_of_the_table(api, run, path, error, exit_code):
    api.approve_after = 0
    refuse(api, path, error)
    result = run(*PROMOTE, "--yes")
    assert result.exit_code == exit_code
    assert f"error[{error.code}]: no" in result.stderr
    assert "hint: " in result.stderr


def test_failed_checks_are_told_with_what_to_do(api, run):
    checks = [{"id": "lag", "status": "fail", "observed": "9 s", "limit": "5 s", "hint": "Wait."}]
    refuse(api, "failovers", PreflightFailed("lag fails", checks=checks, failed="lag"))
    assert "  lag: 9 s (limit: 5 s)\n    Wait.\n" in run(*PROMOTE, "--plan").stderr


def test_errors_are_json_for_programs(api, run):
    refuse(api, "failovers", OperationInProgress("busy", failover_id="fo-0"))
    error = json.loads(run(*PROMOTE, "--plan", "-o", "json").stderr)["error"]
    assert (error["code"], error["message"], error["retryable"]) == ("operation_in_progress", "busy", False)
    assert "fo-0" in error["hint"]


def test_an_interruption_tells_how_to_go_on(api, run, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("omnirelay.cli.drive.Driver.run", interrupt)
    result = run(*PROMOTE, "--yes")
    assert result.exit_code == 130
    assert "omnirelay mesh failovers resume fo-1" in result.stderr


def test_resume_goes_on_where_it_stands(api, run):
    api.approve_after = 0
    run(*PROMOTE, "--yes")
    api.failovers["fo-1"]["state"] = "drained"
    api.requests.clear()
    assert run("mesh", "failovers", "resume", "fo-1").exit_code == 0
    assert api.steps == ["promote", "verify", "complete"]


@pytest.mark.parametrize(("state", "exit_code"), [("aborted", 3), ("denied", 4), ("expired", 4), ("completed", 0)])
def test_resume_of_what_is_finished_says_how_it_ended(api, run, state, exit_code):
    api.approve_after = 0
    run(*PROMOTE, "--yes")
    api.failovers["fo-1"]["state"] = state
    assert run("mesh", "failovers", "resume", "fo-1").exit_code == exit_code


def test_approve_deny_abort(api, run):
    run(*PROMOTE, "--yes", "--approval-timeout", "0")
    assert run("mesh", "failovers", "approve", "fo-1").exit_code == 2, "needs --yes"
    assert run("mesh", "failovers", "approve", "fo-1", "--yes", "--plan-hash", "sha256:0").exit_code == 6
    assert run("mesh", "failovers", "approve", "fo-1", "--yes", "--comment", "fine").exit_code == 0
    decision = [body for _, path, _, body, _ in api.requests if path.endswith("/approvals")][-1]
    assert decision == {"decision": "approve", "plan_hash": "sha256:1", "comment": "fine", "via": "api"}
    assert run("mesh", "failovers", "deny", "fo-1").exit_code == 0
    assert run("mesh", "failovers", "abort", "fo-1", "--reason", "enough").exit_code == 0
    assert api.failovers["fo-1"]["state"] == "aborted"
    refuse(api, "failovers/fo-1/approvals", SelfApproval("no", principal="alice", failover_id="fo-1"))
    assert run("mesh", "failovers", "approve", "fo-1", "--yes").exit_code == 4


def test_what_could_not_be_verified_is_closed_for_a_reason(api, run):
    api.approve_after = 0
    run(*PROMOTE, "--yes")
    api.failovers["fo-1"]["state"] = "verify_failed"
    assert run("mesh", "failovers", "complete", "fo-1").exit_code == 2, "needs a reason"
    assert run("mesh", "failovers", "complete", "fo-1", "--reason", "eu-west burns").exit_code == 0
    asked = [body for _, path, _, body, _ in api.requests if path.endswith("/complete")][-1]
    assert (asked, api.failovers["fo-1"]["state"]) == ({"reason": "eu-west burns"}, "completed")


def test_list_show_watch_report(api, run):
    run(*PROMOTE, "--yes", "--approval-timeout", "0")
    assert "fo-1" in run("mesh", "failovers", "list", "--open").stdout
    assert "awaiting_approval" in run("mesh", "failovers", "show", "fo-1").stdout
    assert run("mesh", "failovers", "watch", "fo-1").stdout.splitlines()[-1] == "state: completed"
    assert "timings.promoted_at  unknown" in run("mesh", "failovers", "report", "fo-1").stdout
    assert run("mesh", "failovers", "report", "fo-1", "--markdown").stdout == "# Report\n"
    assert run("mesh", "failovers", "show", "fo-2").exit_code == 2
