import json

import pytest
from tests.package.unit.cli.conftest import refusal

from omnirelay.errors import AccessDenied, GatherTimedOut, PreflightFailed

EMERGENCY = ("mesh", "clusters", "promote", "eu-west", "--emergency")


def asked(api):
    """The requests for a plan, without what no test cares for."""
    return [body for method, path, _, body, _ in api.requests if (method, path) == ("POST", "/control/failovers")]


def test_the_evidence_and_the_loss_are_shown_and_nothing_happens(api, run):
    api.clusters["eu-west"]["peers"] = [{"peer": "us-east", "inbound": {"status": "disconnected"}}]
    result = run(*EMERGENCY, "--plan")
    assert result.exit_code == 0, result.stderr
    for text in (
        "HEARS us-east".upper(),
        "disconnected",
        "Predicted loss",
        "4096",
        "2.5 s",
        "loss_accepted",
        "37 records",
    ):
        assert text in result.stdout
    assert "nothing yet" in result.stdout, "nobody has accepted it"
    assert api.failovers == {}


def test_a_plan_for_programs_says_what_was_accepted_not_what_it_took_to_see_it(run):
    shown = json.loads(run(*EMERGENCY, "--plan", "-o", "json").stdout)
    assert (shown["accept_data_loss"], shown["plan"]["predicted_loss_records"]) == (None, 37)
    assert [check["status"] for check in shown["checks"]] == ["pass", "fail"]


def test_a_loss_that_is_accepted_in_writing_goes_from_plan_to_manifest(api, run):
    result = run(*EMERGENCY, "--accept-data-loss", "40", "--change-ticket", "CHG7", "--gather-timeout-seconds", "3")
    assert result.exit_code == 0, result.stderr
    assert api.steps == ["promote", "verify", "complete"]
    assert (asked(api)[-1]["accept_data_loss"], asked(api)[-1]["limits"]) == (40, {"gather_timeout_seconds": 3.0})
    assert "Loss manifest" in result.stdout
    assert "presumed_lost" in result.stdout
    assert "<= 20" in result.stdout, "the range is not exact yet"


def test_what_happens_is_told_once_as_it_happens(api, run):
    api.unfinished = {"promote": 5}
    lines = run(*EMERGENCY, "--accept-data-loss", "37").stderr.splitlines()
    assert [line.partition(":")[0] for line in lines if "fenc" in line or "gather" in line][:3] == [
        "gathering",
        "fencing",
        "fenced",
    ]
    assert len([line for line in lines if line == "fencing: waiting for the lease of us-east to end"]) == 1
    waits = [query["wait"] for _, path, query, _, _ in api.requests if path.endswith("/promote")]
    assert set(waits) == {"1"}


@pytest.mark.parametrize(
    "options", [(), ("--yes",), ("--accept-data-loss", "36"), ("--plan", "--accept-data-loss", "36")]
)
def test_without_enough_acceptance_the_command_that_would_be_right_is_named(api, run, options):
    result = run(*EMERGENCY, "--namespace", "default", "--reason", "it burns", *options)
    assert result.exit_code == 3
    assert "error[loss_not_accepted]: up to 37 records" in result.stderr
    right = "promote eu-west --emergency --namespace default --reason 'it burns' --accept-data-loss 37"
    assert right in result.stderr
    assert "Predicted loss" in result.stdout
    assert api.failovers == {}


@pytest.mark.parametrize(
    ("typed", "exit_code"),
    [("37\neu-west\n", 0), ("50\neu-west\n", 0), ("36\neu-west\n", 3), ("yes\n", 1), ("37\nus-east\n", 2), ("", 1)],
)
def test_on_a_terminal_the_records_and_the_name_are_typed(api, run, terminal, typed, exit_code):
    result = run(*EMERGENCY, stdin=typed)
    assert result.exit_code == exit_code
    assert bool(api.failovers) == (exit_code == 0)
    if exit_code == 0:
        assert asked(api)[-1]["accept_data_loss"] == int(typed.split()[0])


def test_a_loss_that_nobody_knows_is_unknown_and_no_bound_helps(api, run, monkeypatch):
    make = api._plan

    def unheard_of(body):
        if not body["break_glass"]:
            raise refusal("loss_accepted", "nobody knows how many in all", "give --break-glass REASON")
        made = make(body)
        made["plan"]["loss"][0]["bounded"] = False
        return made

    monkeypatch.setattr(api, "_plan", unheard_of)
    refused = run(*EMERGENCY, "--plan")
    assert refused.exit_code == 3
    assert "give --break-glass REASON" in refused.stderr
    shown = [line.split() for line in run(*EMERGENCY, "--break-glass", "fire", "--plan").stdout.splitlines()]
    assert ["us-east", "100", "2.5", "s", "unknown", "unknown", "unknown", "unknown"] in shown
    assert ["predicted", "loss", "unknown"] in shown


def test_breaking_the_glass_needs_a_reason_and_no_bound(api, run):
    assert run(*EMERGENCY, "--break-glass", "the building is on fire").exit_code == 0
    assert (asked(api)[-1]["break_glass"], asked(api)[-1]["reason"]) == (True, "the building is on fire")
    assert asked(api)[-1]["accept_data_loss"] is None
    assert run(*EMERGENCY, "--break-glass", " ").exit_code == 2
    assert run(*EMERGENCY, "--break-glass", "a", "--reason", "b").exit_code == 2


def test_breaking_the_glass_without_the_scope_is_refused(api, run):
    denied = AccessDenied("no", scope="mesh.admin", principal="alice")
    api.refusals["POST", "/control/failovers"] = [denied]
    result = run(*EMERGENCY, "--break-glass", "fire")
    assert result.exit_code == 3
    assert "mesh.admin" in result.stderr


def test_a_source_that_lives_is_refused_with_the_evidence_and_the_right_command(api, run):
    hint = "It lives: omnirelay mesh clusters promote eu-west"
    checks = [
        {"id": "source_gone", "status": "fail", "observed": "ap-south receives from it", "limit": "", "hint": hint}
    ]
    api.refusals["POST", "/control/failovers"] = [PreflightFailed("no", failed="source_gone", checks=checks)]
    result = run(*EMERGENCY, "--accept-data-loss", "37")
    assert result.exit_code == 3
    assert "ap-south receives from it" in result.stderr
    assert hint in result.stderr


def test_a_gather_that_takes_too_long_names_the_better_target(api, run):
    command = "omnirelay mesh clusters promote ap-south --emergency"
    late = GatherTimedOut("too late", failover_id="fo-1", best="ap-south", command=command)
    api.refusals["POST", "/control/failovers/fo-1/promote"] = [late]
    result = run(*EMERGENCY, "--accept-data-loss", "37")
    assert result.exit_code == 5
    assert command in result.stderr


def test_a_source_that_changed_meanwhile_ends_it(api, run, monkeypatch):
    make, calls = api._plan, []

    def other(body):
        calls.append(body)
        made = make(body)
        made["plan"]["routing"][0]["epoch_before"] += 0 if body.get("dry_run") else 1
        return made

    monkeypatch.setattr(api, "_plan", other)
    result = run(*EMERGENCY, "--accept-data-loss", "37")
    assert (result.exit_code, api.steps) == (6, ["abort"])


STEPS_LEFT = dict.fromkeys(("approved", "gathering", "fencing", "fenced"), 3)
STEPS_LEFT |= {"promoted": 2, "verify_failed": 2, "verified": 1}


@pytest.mark.parametrize("state", STEPS_LEFT)
def test_it_is_resumed_from_every_state(api, run, state):
    run(*EMERGENCY, "--accept-data-loss", "37")
    api.failovers["fo-1"]["state"] = state
    before = len(api.steps)
    assert run("mesh", "failovers", "resume", "fo-1").exit_code == 0
    assert api.steps[before:] == ["promote", "verify", "complete"][-STEPS_LEFT[state] :]


def test_options_of_the_other_kind_are_refused(api, run):
    assert run("mesh", "clusters", "promote", "eu-west", "--accept-data-loss", "5").exit_code == 2
    assert run(*EMERGENCY, "--max-lag-seconds", "5").exit_code == 2
    assert api.requests == []


def test_the_manifest_is_shown_with_the_failover(run):
    run(*EMERGENCY, "--accept-data-loss", "37")
    shown = run("mesh", "failovers", "show", "fo-1").stdout
    assert "Loss manifest" in shown
    assert "up to 37 records" in shown
