"""`omnirelay mesh failovers ticket`, and what the other commands show of the change ticket."""

import json

import pytest

from omnirelay.cli import failovers

PROMOTE = ("mesh", "clusters", "promote", "eu-west", "--change-ticket", "CHG1", "--yes")


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(failovers, "TICKET_POLL_SECONDS", 0.01)


@pytest.fixture
def lacking(api, run):
    api.approve_after = 0
    assert run(*PROMOTE).exit_code == 0
    api.ticket = {
        "number": "CHG1",
        "url": "https://acme.example/CHG1",
        "posted": [],
        "pending": ["plan"],
        "problem": "",
        "hint": "",
        "retry_at": "",
        "gave_up": False,
    }
    return api


def test_it_asks_and_waits_until_the_ticket_holds_everything(lacking, run):
    lacking.posting_takes = 3
    done = run("mesh", "failovers", "ticket", "fo-1", "--change-ticket", "CHG1")
    assert done.exit_code == 0, done.output
    assert "https://acme.example/CHG1" in done.output
    (asked,) = [body for method, path, _, body, _ in lacking.requests if path.endswith("/ticket")]
    assert asked == {"change_ticket": "CHG1"}


@pytest.mark.parametrize("why", [{"retry_at": "2026-11-23T12:30:00Z", "problem": "it is down"}, {}])
def test_what_is_still_pending_is_told_with_the_command_to_try_again(lacking, run, why):
    lacking.posting_takes = 10**6
    lacking.ticket |= why
    done = run("mesh", "failovers", "ticket", "fo-1", "--wait", "0.05")
    assert done.exit_code == 8
    assert "lacks plan" in done.stderr
    assert "omnirelay mesh failovers ticket fo-1" in done.stderr


def test_show_has_what_the_ticket_lacks(lacking, run):
    lacking.posting_takes = 10**6
    lacking.ticket |= {"problem": "it is down", "gave_up": True}
    shown = run("mesh", "failovers", "show", "fo-1").output
    assert "it is down" in shown
    assert "it was given up" in shown


def test_for_programs_it_is_what_the_api_said(lacking, run):
    lacking.posting_takes = 0
    done = run("mesh", "failovers", "ticket", "fo-1", "--output", "json")
    assert json.loads(done.stdout)["ticket"]["number"] == "CHG1"


@pytest.mark.parametrize("command", [PROMOTE, ("mesh", "clusters", "failback", "fo-0", "--yes")])
def test_a_plan_can_ask_for_its_approval_in_the_ticket(api, run, command):
    api.approve_after = 0
    done = run(*command, "--approval-source", "ticket")
    assert done.exit_code == 0, done.output
    asked = [body for method, path, _, body, _ in api.requests if path == "/control/failovers"]
    assert {body["approval_source"] for body in asked} == {"ticket"}
