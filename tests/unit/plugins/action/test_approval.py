# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate, row by row of how a playbook can be run. What is not approved fails."""

from __future__ import annotations

import time

import pytest
import yaml
from ansible.errors import AnsiblePromptInterrupt, AnsiblePromptNoninteractive
from ansible_collections.omnirelay.mesh.plugins.action import approval
from ansible_collections.omnirelay.mesh.plugins.modules import approval as documentation
from ansible_collections.omnirelay.mesh.tests.unit.plugins.fake_control_api import PEOPLE, Problem

UNATTENDED = ("AWX_ISOLATED_DATA_DIR", "JOB_ID")


class Terminal:
    """Stands in for the display: answers the prompt with O(answer), or raises it."""

    def __init__(self):
        self.answer = AssertionError("nobody may be asked here")
        self.takes = 0
        self.asked = []
        self.lines = []

    def prompt_until(self, prompt, seconds=None):
        self.asked.append((prompt, seconds))
        time.sleep(self.takes)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def display(self, line):
        self.lines.append(line)


@pytest.fixture
def terminal(monkeypatch):
    for name in UNATTENDED:
        monkeypatch.delenv(name, raising=False)
    terminal = Terminal()
    monkeypatch.setattr(approval, "display", terminal)
    return terminal


@pytest.fixture
def gate(run_action, plan, terminal):
    def run(**options):
        return run_action("approval", **dict(dict(failover_id=plan["id"], wait_timeout=30, poll_interval=0), **options))

    return run


@pytest.fixture
def with_decision(gate, plan, mesh, terminal):
    """Runs the gate; bob decides elsewhere once it says that it waits."""

    def run(decision, then=None, **options):
        def decide(line):
            terminal.lines.append(line)
            if len(terminal.lines) == 1:
                body = dict(decision=decision, plan_hash=plan["plan"]["hash"], comment="", via="api")
                mesh.handle("POST", "/control/failovers/%s/approvals" % plan["id"], {}, body, PEOPLE["bob-token"], "")
                if then:
                    then()

        terminal.display = decide
        return gate(**options)

    return run


def code(result):
    assert result["failed"] and not result["changed"] and "approved" not in result
    return result["error"]["code"]


def test_approved_already_asks_nobody(gate, approved, mesh):
    result = gate()
    assert result["approved"] and not result["changed"] and not result["would_wait"]


def test_right_phrase_of_another_person_passes(gate, terminal, mesh, plan):
    terminal.answer = b"promote eu-west"
    result = gate(approver_token="bob-token", comment="seen", diff=True)
    assert result["approved"] and result["changed"]
    assert result["diff"]["after"]["state"] == "approved"
    recorded = mesh.failovers[plan["id"]]["approvals"][0]
    assert recorded["principal"].endswith("/bob") and (recorded["via"], recorded["comment"]) == ("terminal", "seen")
    assert recorded["plan_hash"] == plan["plan"]["hash"]


def test_the_plan_is_shown_before_it_is_asked(gate, terminal):
    terminal.answer = b""
    gate()
    shown = terminal.asked[0][0]
    for part in ("us-east -> eu-west", "0 records lost", "epoch 1 at us-east -> 2 at eu-west", "effect of promote", "'promote eu-west'"):
        assert part in shown


@pytest.mark.parametrize("answer", [b"", b"yes", b"y", b"promote", b"promote us-east", b"PROMOTE EU-WEST", b"promote eu-west!", b"\xff"])
def test_any_other_answer_fails(gate, terminal, mesh, plan, answer):
    terminal.answer = answer
    assert code(gate(approver_token="bob-token")) == "not_approved"
    assert not mesh.failovers[plan["id"]]["approvals"]


@pytest.mark.parametrize("obstacle", [AnsiblePromptNoninteractive("no"), AnsiblePromptInterrupt("^C")])
def test_nobody_to_ask_fails(gate, terminal, obstacle):
    terminal.answer = obstacle
    result = gate(approver_token="bob-token")
    assert code(result) == "not_approved"
    for way in ("omnirelay mesh failovers approve", "omnirelay.mesh.failover_approval", "terminal"):
        assert way in result["msg"]


def test_right_phrase_without_enter_is_a_timeout(gate, terminal):
    terminal.answer, terminal.takes = b"promote eu-west", 1.1
    result = gate(wait_timeout=1, approver_token="bob-token")
    assert code(result) == "not_approved" and "nobody answered within 1 s" in result["msg"]


def test_nobody_approves_their_own_plan(gate, terminal, mesh, plan):
    terminal.answer = b"promote eu-west"
    assert code(gate(mode="terminal")) == "self_approval"
    assert code(gate(approver_token="alice-token")) == "self_approval"
    assert code(gate(wait_timeout=2)) == "not_approved"
    assert not mesh.failovers[plan["id"]]["approvals"]


def test_whoever_made_the_plan_confirms_it_and_another_approves(with_decision, terminal, plan):
    terminal.answer = b"promote eu-west"
    assert with_decision("approve")["approved"]
    assert terminal.asked and terminal.lines[0].startswith("Confirmed")


def test_stranger_at_the_terminal_fails(gate, terminal):
    terminal.answer = b"promote eu-west"
    result = gate(approver_token="guessed-token")
    assert code(result) == "unauthenticated"


@pytest.mark.parametrize("way", ["mode", "awx_job_id", "tower_job_id", *UNATTENDED])
def test_unattended_waits_for_a_decision_made_elsewhere(with_decision, terminal, plan, monkeypatch, way):
    keywords = dict(mode="api") if way == "mode" else {}
    if way in UNATTENDED:
        monkeypatch.setenv(way, "17")
    elif way != "mode":
        keywords["task_vars"] = {way: 17}
    result = with_decision("approve", **keywords)
    assert result["approved"] and result["changed"] and not terminal.asked
    assert "omnirelay mesh failovers approve " + plan["id"] in terminal.lines[0]


def test_denied_while_it_waits(with_decision):
    assert code(with_decision("deny", mode="api")) == "approval_denied"


def test_unattended_timeout_fails(gate):
    result = gate(mode="api", wait_timeout=0)
    assert code(result) == "not_approved" and "nobody decided within 0 s" in result["msg"]


def test_terminal_mode_in_a_job_still_needs_a_terminal(gate, terminal):
    terminal.answer = AnsiblePromptNoninteractive("no")
    assert code(gate(mode="terminal", task_vars=dict(awx_job_id=17))) == "not_approved"


@pytest.mark.parametrize("state, expected", [("denied", "approval_denied"), ("expired", "plan_expired"), ("aborted", "illegal_transition")])
@pytest.mark.parametrize("in_check_mode", [False, True])
def test_what_can_never_be_approved_fails_at_once(gate, mesh, plan, state, expected, in_check_mode):
    mesh.failovers[plan["id"]]["state"] = state
    assert code(gate(check=in_check_mode)) == expected


def test_silence_of_the_mesh_is_no_decision(with_decision, mesh, plan):
    path = "/control/failovers/" + plan["id"]

    def lose_contact():
        mesh.refuse(path, Problem(503, "coordination_unavailable", "Wait.", retryable=True), times=3)

    result = with_decision("approve", then=lose_contact, mode="api", retries=0)
    assert result["approved"]


def test_check_mode_neither_asks_nor_waits(gate, terminal, mesh, plan):
    result = gate(check=True)
    assert (result["approved"], result["would_wait"], result["changed"]) == (False, True, False)
    assert not terminal.asked and not mesh.failovers[plan["id"]]["approvals"]


@pytest.mark.parametrize("in_check_mode", [False, True])
def test_returned_keys_are_the_documented_ones(gate, approved, in_check_mode):
    documented = set(yaml.safe_load(documentation.RETURN)) - {"error"}
    assert set(gate(check=in_check_mode, diff=True)) == documented | {"changed"}


def test_one_of_two_at_the_terminal_waits_for_the_other(run_action, run_module, terminal, mesh):
    plan = run_module("failover", target="eu-west", limits=dict(approvals_required=2))["failover"]
    terminal.answer = b"promote eu-west"
    result = run_action("approval", failover_id=plan["id"], approver_token="bob-token", wait_timeout=2, poll_interval=0)
    assert code(result) == "not_approved"
    assert len(mesh.failovers[plan["id"]]["approvals"]) == 1
    assert "(1 of 2)" in terminal.lines[0]


def test_runs_once_for_all_hosts_and_never_as_a_module(make_action, plan, mesh):
    assert approval.ActionModule.BYPASS_HOST_LOOP
    assert "would_wait" in make_action("approval", failover_id=plan["id"], transport="ssh", check=True).run()
