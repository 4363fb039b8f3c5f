# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate before a plan that only its change ticket approves."""

from __future__ import annotations

import pytest
from ansible_collections.omnirelay.mesh.plugins.action import approval


class Screen:
    """Takes lines; nobody may be asked at it. C(then) happens after the first line."""

    def __init__(self):
        self.lines = []
        self.then = lambda: None

    def display(self, line):
        self.lines.append(line)
        if len(self.lines) == 1:
            self.then()

    def prompt_until(self, prompt, seconds=None):
        raise AssertionError("nobody may be asked here")


@pytest.fixture
def screen(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(approval, "display", screen)
    return screen


@pytest.fixture
def plan(mesh, run_module):
    mesh.ticket_source = True
    return run_module("failover", target="eu-west", change_ticket="CHG0042", approval_source="ticket")["failover"]


@pytest.fixture
def gate(run_action, plan):
    def gate(**options):
        return run_action("approval", **dict(dict(failover_id=plan["id"], wait_timeout=30, poll_interval=0), **options))

    return gate


@pytest.mark.parametrize("mode", ["auto", "terminal", "api"])
def test_waits_for_the_ticket_in_every_mode_and_asks_nobody(gate, screen, mesh, plan, mode):
    def approve():
        mesh.failovers[plan["id"]]["approvals"].append(dict(principal="servicenow/jane", decision="approve", via="ticket"))

    screen.then = approve
    result = gate(mode=mode)
    assert result["approved"] and result["changed"]
    assert result["failover"]["approvals"][0]["principal"] == "servicenow/jane"
    assert "waits for approval (0 of 1). Approve change ticket CHG0042" in screen.lines[0]
    assert "https://acme.example/CHG0042" in screen.lines[0]


def test_says_why_nothing_comes_from_the_ticket(gate, screen, mesh, plan):
    mesh.failovers[plan["id"]]["ticket"].update(problem="acme.example does not answer", gave_up=True)
    result = gate(wait_timeout=0)
    assert result["error"]["code"] == "not_approved"
    assert "Now: acme.example does not answer" in result["msg"]
    assert "on a terminal" not in result["msg"]


def test_check_mode_does_not_wait(gate, screen):
    result = gate(check=True)
    assert (result["approved"], result["would_wait"], screen.lines) == (False, True, [])
