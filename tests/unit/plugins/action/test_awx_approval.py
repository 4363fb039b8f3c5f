# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Only what a second person approved in the workflow that made the plan is approved; whatever the controller says instead."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock

import pytest
import yaml
from ansible_collections.omnirelay.mesh.plugins.modules import awx_approval as documentation
from ansible_collections.omnirelay.mesh.plugins.plugin_utils import _controller

TOKEN = "token-of-the-controller"
WORKFLOW = 7
PREPARING, APPROVING, RECORDING = 11, 12, 13
OTHER = 99


class FakeController:
    """Answers what C(resources) has for a path; C(failing) is how many calls are answered 503 before that."""

    def __init__(self, plan):
        self.failing = 0
        self.calls = 0
        self.plan = dict(mesh_failover_id=plan["id"], mesh_plan_hash=plan["plan"]["hash"])
        self.workflow = dict(id=WORKFLOW, summary_fields=dict(created_by=dict(username="alice")))
        self.preparing = dict(id=PREPARING, status="successful", artifacts=dict(self.plan))
        self.decision = dict(
            id=APPROVING, status="successful", summary_fields=dict(approved_or_denied_by=dict(username="carol"))
        )
        self.recording = dict(
            id=RECORDING, status="running", summary_fields=dict(source_workflow_job=dict(id=WORKFLOW, status="running"))
        )
        self.nodes = [
            dict(id=1, identifier="prepare", job=PREPARING, success_nodes=[2], failure_nodes=[], always_nodes=[]),
            dict(id=2, identifier="approve", job=APPROVING, success_nodes=[3], failure_nodes=[4], always_nodes=[]),
            dict(id=3, identifier="record", job=RECORDING, success_nodes=[], failure_nodes=[4], always_nodes=[]),
            dict(id=4, identifier="undo", job=None, success_nodes=[], failure_nodes=[], always_nodes=[]),
        ]
        self.next_page = None

    def resource(self, path):
        return {
            "/api/v2/jobs/%d/" % PREPARING: self.preparing,
            "/api/v2/jobs/%d/" % RECORDING: self.recording,
            "/api/v2/jobs/%d/" % OTHER: dict(id=OTHER, summary_fields={}),
            "/api/v2/workflow_jobs/%d/" % WORKFLOW: self.workflow,
            "/api/v2/workflow_jobs/%d/workflow_nodes/?page_size=200" % WORKFLOW: dict(results=self.nodes, next=self.next_page),
            "/api/v2/workflow_approvals/%d/" % APPROVING: self.decision,
        }.get(path)

    def answer(self, path, authorization):
        self.calls += 1
        if self.failing:
            self.failing -= 1
            return 503, {}
        if authorization != "Bearer " + TOKEN:
            return 401, dict(detail="Authentication credentials were not provided.")
        found = self.resource(path)
        return (404, dict(detail="Not found.")) if found is None else (200, found)


@pytest.fixture
def controller(plan, monkeypatch):
    fake = FakeController(plan)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = fake.answer(self.path, self.headers.get("Authorization"))
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    monkeypatch.setattr(_controller, "PAUSE", 0.01)
    for name in ("CONTROLLER_VERIFY_SSL", "JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CONTROLLER_HOST", "http://127.0.0.1:%d" % server.server_port)
    monkeypatch.setenv("CONTROLLER_OAUTH_TOKEN", TOKEN)
    monkeypatch.setenv("JOB_ID", str(RECORDING))
    yield fake
    server.shutdown()
    server.server_close()


@pytest.fixture
def record(run_action, controller, mesh, plan):
    """Runs the task as the identity that may approve. Whatever it answers, it tells no token."""

    def run(**options):
        given = dict(failover_id=plan["id"], plan_hash=plan["plan"]["hash"], token="bob-token", retries=1)
        result = run_action("awx_approval", **dict(given, **options))
        assert TOKEN not in json.dumps(result)
        if result.get("failed"):
            assert not mesh.failovers[plan["id"]]["approvals"], "what fails approves nothing"
        return result

    return run


def code(result):
    assert result["failed"] and not result["changed"]
    return result["error"]["code"]


def test_who_approved_in_the_controller_stands_in_the_plan(record, mesh, plan):
    predicted = record(check=True, diff=True)
    assert not mesh.failovers[plan["id"]]["approvals"]
    real = record(diff=True)
    assert predicted["diff"] == real["diff"] and predicted["changed"] and real["changed"]
    assert (real["approved_by"], real["workflow_job"], real["failover"]["state"]) == ("carol", WORKFLOW, "approved")
    (approval,) = mesh.failovers[plan["id"]]["approvals"]
    assert approval["comment"] == "approved in the controller by carol, workflow job 7" and approval["via"] == "awx"
    assert not record()["changed"]


@pytest.mark.parametrize("in_check_mode", [False, True])
def test_returned_keys_are_the_documented_ones(record, in_check_mode):
    documented = set(yaml.safe_load(documentation.RETURN)) - {"error"}
    assert set(record(check=in_check_mode, diff=True)) == documented | {"changed"}


@pytest.mark.parametrize("status", ["pending", "failed", "canceled", None])
def test_what_is_not_approved_in_the_controller(record, controller, status):
    controller.decision["status"] = status
    result = record()
    assert code(result) == "not_approved" and "not successful" in result["msg"]


@pytest.mark.parametrize("said", [{}, dict(approved_or_denied_by=None), dict(approved_or_denied_by=dict(username=""))])
def test_approver_without_a_name(record, controller, said):
    controller.decision["summary_fields"] = said
    result = record()
    assert code(result) == "not_approved" and "does not say who approved" in result["msg"]


@pytest.mark.parametrize("said", [{}, dict(created_by=None), dict(created_by=dict(username=""))])
def test_workflow_that_nobody_is_known_to_have_started(record, controller, said):
    controller.workflow["summary_fields"] = said
    result = record()
    assert code(result) == "not_approved" and "does not say who started" in result["msg"]


def test_whoever_started_the_workflow_is_no_second_person(record, controller):
    controller.workflow["summary_fields"]["created_by"]["username"] = "carol"
    result = record()
    assert code(result) == "self_approval" and "Somebody else has to" in result["msg"]


@pytest.mark.parametrize("name", ["mesh_failover_id", "mesh_plan_hash"])
@pytest.mark.parametrize("in_check_mode", [False, True])
def test_approval_of_another_plan(record, controller, name, in_check_mode):
    controller.preparing["artifacts"][name] = "another"
    result = record(check=in_check_mode)
    assert code(result) == "plan_hash_mismatch" and "another" in result["msg"]


@pytest.mark.parametrize("artifacts", [None, {}, dict(mesh_failover_id="fo-1"), "$hidden due to Ansible no_log flag$"])
def test_workflow_that_has_made_no_plan(record, controller, artifacts):
    controller.preparing["artifacts"] = artifacts
    result = record()
    assert code(result) == "not_approved" and "prepared no plan" in result["msg"]


@pytest.mark.parametrize("missing", [dict(failover_id=""), dict(plan_hash="")])
def test_nothing_says_which_plan(record, controller, missing):
    controller.preparing["artifacts"] = dict(mesh_failover_id="", mesh_plan_hash="")
    assert code(record(**missing)) == "invalid_argument"
    assert not controller.calls


def test_plan_hash_must_be_given(record, controller):
    assert "plan_hash" in record(plan_hash=None)["msg"] and not controller.calls


@pytest.mark.parametrize("job", [None, "", str(OTHER)])
def test_job_that_is_no_node_of_a_workflow(record, controller, monkeypatch, job):
    monkeypatch.delenv("JOB_ID") if job is None else monkeypatch.setenv("JOB_ID", job)
    result = record(task_vars=dict(awx_workflow_job_id=WORKFLOW, awx_job_id=RECORDING))
    assert code(result) == "not_approved" and "no node of a workflow" in result["msg"]


def without_prepare(controller):
    controller.nodes[0]["identifier"] = "another"


def without_approval(controller):
    controller.nodes[1]["job"] = None


def approved_before_the_plan(controller):
    controller.nodes[0]["success_nodes"] = [3]


def another_way_to_the_approval(controller):
    controller.nodes[3]["always_nodes"] = [2]


def two_approvals(controller):
    controller.nodes[3].update(identifier="approve", job=APPROVING)


def more_than_was_read(controller):
    controller.next_page = "/api/v2/workflow_jobs/7/workflow_nodes/?page=2"


def no_nodes(controller):
    controller.nodes[:] = []


FOREIGN = (
    without_prepare,
    without_approval,
    approved_before_the_plan,
    another_way_to_the_approval,
    two_approvals,
    more_than_was_read,
    no_nodes,
)


@pytest.mark.parametrize("foreign", FOREIGN)
def test_workflow_in_which_no_approval_stands_behind_the_plan(record, controller, foreign):
    foreign(controller)
    result = record()
    assert code(result) == "not_approved" and "no approval node behind" in result["msg"]


def test_control_plane_has_the_last_word(record, controller, mesh, plan):
    assert code(record(token="alice-token")) == "self_approval"


# --- the controller's API -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, value",
    [
        ("CONTROLLER_HOST", ""),
        ("CONTROLLER_HOST", "http://controller.example.net"),
        ("CONTROLLER_HOST", "https://"),
        ("CONTROLLER_OAUTH_TOKEN", ""),
        ("CONTROLLER_VERIFY_SSL", "perhaps"),
    ],
)
def test_controller_that_cannot_be_asked(record, controller, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert code(record()) == "config_invalid"
    assert not controller.calls


def test_address_without_a_scheme_is_https():
    reader = _controller.Controller(dict(CONTROLLER_HOST="controller.example.net/", CONTROLLER_OAUTH_TOKEN=TOKEN), 1, 1, 0)
    assert reader._address == "https://controller.example.net"


@pytest.mark.parametrize("said, checked", [("", True), ("true", True), ("True", True), ("false", False), ("False", False)])
def test_certificates_are_checked_unless_the_credential_says_otherwise(said, checked):
    environment = dict(CONTROLLER_HOST="controller.example.net", CONTROLLER_OAUTH_TOKEN=TOKEN, CONTROLLER_VERIFY_SSL=said)
    assert _controller.Controller(environment, 1, 1, 0)._request.validate_certs is checked


def test_refused_token(record, monkeypatch):
    monkeypatch.setenv("CONTROLLER_OAUTH_TOKEN", "expired")
    result = record()
    assert code(result) == "unauthenticated" and result["error"]["http_status"] == 401 and "expired" not in result["msg"]


def test_resource_that_the_reader_may_not_see(record, controller):
    controller.nodes[1]["job"] = OTHER
    assert code(record()) == "not_found"


def test_controller_that_is_busy_for_a_moment(record, controller):
    controller.failing = 2
    result = record()
    assert code(result) == "unreachable" and result["error"]["retryable"]
    controller.failing = 1
    assert record()["approved_by"] == "carol"


@pytest.mark.parametrize("body", [b"<h1>It works</h1>", b"[]", b"{\"x\": \"" + b"x" * _controller.MOST_BYTES + b"\"}"])
def test_what_is_no_controller(record, controller, body):
    controller.resource = lambda path: body
    result = record()
    assert code(result) == "unreachable" and "not a controller's API" in result["msg"]


def test_silent_controller_costs_no_more_than_the_deadline(record, controller, monkeypatch):
    monkeypatch.setattr(_controller, "time", mock.Mock(monotonic=iter(range(0, 1000, 40)).__next__))
    result = record(deadline=30)
    assert code(result) == "unreachable" and "no time left" in result["msg"]
    assert not controller.calls
