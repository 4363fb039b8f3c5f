import json

import pytest
from tests.package.unit.cli.conftest import divergence

from omnirelay.errors import FailbackRefused

FAILBACK = ("mesh", "clusters", "failback", "fo-1")


@pytest.fixture
def after_an_emergency(api, run):
    """Its failover is fo-1; what diverged is open."""
    run("mesh", "clusters", "promote", "eu-west", "--emergency", "--accept-data-loss", "37")
    api.divergences = {each["id"]: each for each in (divergence(), divergence("orders", 1))}
    api.requests.clear()


def resolve(api):
    for each in api.divergences.values():
        each |= {"unresolved": 0, "resolution": "replayed"}


def test_the_diff_is_shown_before_anything_is_chosen(api, run, after_an_emergency):
    result = run(*FAILBACK, "--plan")
    assert result.exit_code == 3
    for text in ("divergence_resolved", "default.1", "101 to 120", "k1", "12"):
        assert text in result.stdout
    assert "orders.1" not in result.stdout, "that namespace does not go home"
    assert "error[preflight_failed]" in result.stderr
    assert "omnirelay mesh divergence list" in result.stderr


def test_the_diff_is_json_for_programs(api, run, after_an_emergency):
    shown = json.loads(run(*FAILBACK, "--plan", "-o", "json").stdout)
    assert (shown["plan"], [each["id"] for each in shown["divergences"]]) == (None, ["default.1"])
    assert shown["diff"][0]["keys"] == [{"key": "k1", "fenced_records": 12, "written_since": 4}]


def test_a_plan_that_may_go_ahead_is_shown_with_what_was_decided(api, run, after_an_emergency):
    resolve(api)
    result = run(*FAILBACK, "--plan")
    assert result.exit_code == 0
    for text in ("Plan of a failback (dry run)", "eu-west", "replayed"):
        assert text in result.stdout
    assert len(api.failovers) == 1


def test_it_goes_home_as_a_planned_failover(api, run, after_an_emergency):
    resolve(api)
    api.approve_after = 1
    result = run(*FAILBACK, "--yes", "--change-ticket", "CHG8", "--drain-timeout-seconds", "4")
    assert result.exit_code == 0, result.stderr
    assert api.steps == ["drain", "promote", "verify", "complete"]
    asked = [body for _, path, _, body, _ in api.requests if path == "/control/failovers"]
    assert (asked[-1]["reverses"], asked[-1]["limits"]) == ("fo-1", {"drain_timeout_seconds": 4.0})


def test_open_records_refuse_it(api, run, after_an_emergency):
    result = run(*FAILBACK, "--yes")
    assert (result.exit_code, api.steps) == (3, [])
    assert "17 records of default" in result.stderr


def test_a_failover_that_is_not_completed_is_not_reversed(api, run, after_an_emergency):
    command = "omnirelay mesh failovers resume fo-1"
    api.refusals["POST", "/control/failovers"] = [FailbackRefused("it is promoted", command=command)]
    result = run(*FAILBACK, "--plan")
    assert result.exit_code == 3
    assert "error[failback_refused]" in result.stderr
    assert command in result.stderr


@pytest.mark.parametrize(("typed", "exit_code"), [("us-east\n", 0), ("eu-west\n", 2)])
def test_on_a_terminal_the_name_is_typed(api, run, after_an_emergency, terminal, typed, exit_code):
    resolve(api)
    api.approve_after = 0
    assert run(*FAILBACK, stdin=typed).exit_code == exit_code


def test_without_a_terminal_it_needs_a_yes(api, run, after_an_emergency):
    assert (run(*FAILBACK).exit_code, api.requests) == (2, [])
