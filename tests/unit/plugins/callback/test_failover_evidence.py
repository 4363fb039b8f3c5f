# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of a run: everything that happened, nothing that is secret, and no line that can be changed unseen."""

from __future__ import annotations

import json
from unittest import mock

import pytest
from ansible.plugins.loader import callback_loader
from ansible_collections.omnirelay.mesh.plugins.filter.broken_evidence import broken_evidence
from ansible_collections.omnirelay.mesh.plugins.plugin_utils import _evidence

SECRET = "hunter2"
FAILOVER = dict(
    id="fo-1",
    state="drained",
    target="eu-west",
    reason=SECRET,
    problem=SECRET,
    plan=dict(hash="sha256:1", steps=[SECRET]),
    approvals=[dict(principal="bob", decision="approve", comment=SECRET)],
    checks=[dict(id="disk", status="pass", observed=SECRET)],
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.jsonl"


@pytest.fixture
def make(path):
    def make():
        callback = callback_loader.get("omnirelay.mesh.failover_evidence")
        callback.set_options(direct=dict(path=str(path)))
        callback._display = mock.Mock()
        return callback

    return make


@pytest.fixture
def callback(make):
    return make()


def result(values, action="omnirelay.mesh.failover_step", name="Drain {{ password }}", no_log=False):
    task = mock.Mock(action=action, resolved_action=action, no_log=no_log, check_mode=False, args=dict(token=SECRET))
    task.name, task.get_ds = "Drain " + SECRET, lambda: dict(name=name)
    host = mock.Mock(get_name=lambda: "localhost")
    return mock.Mock(_task=task, _host=host, _result=values)


def entries(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_whole_run(callback, path):
    callback.v2_playbook_on_start(mock.Mock(_file_name="/somewhere/planned_failover.yml"))
    callback.v2_runner_on_ok(result(dict(changed=True, failover=FAILOVER, request_id="r-1")))
    callback.v2_runner_item_on_ok(result(dict(changed=False, divergence=dict(id="default.1", resolution=None, decided_by=SECRET))))
    callback.v2_runner_on_failed(result(dict(failed=True, msg=SECRET, error=dict(code="not_approved", message=SECRET))), ignore_errors=True)
    callback.v2_runner_on_skipped(result(dict(skipped=True)))
    callback.v2_runner_on_unreachable(result(dict(unreachable=True)))
    callback.v2_playbook_on_stats(mock.Mock(processed=["localhost"], summarize=lambda host: dict(ok=1, failures=1)))
    written = entries(path)
    assert [entry["event"] for entry in written] == ["run_started", *["task"] * 5, "run_ended"]
    assert [entry.get("status") for entry in written[1:-1]] == ["changed", "ok", "failed", "skipped", "unreachable"]
    assert written[0]["playbook"] == "planned_failover.yml" and written[-1]["hosts"] == {"localhost": dict(ok=1, failures=1)}
    assert written[1]["result"]["failover"] == dict(
        id="fo-1",
        state="drained",
        target="eu-west",
        plan=dict(hash="sha256:1"),
        approvals=[dict(principal="bob", decision="approve")],
        checks=[dict(id="disk", status="pass")],
    )
    assert written[2]["item"] and written[2]["result"]["divergence"] == dict(id="default.1", resolution=None)
    assert written[3]["ignored"] and written[3]["result"] == dict(error=dict(code="not_approved"))
    assert len({entry["run"] for entry in written}) == 1
    assert SECRET not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert broken_evidence(path.read_text()) is None


def test_results_of_other_collections_leave_their_outcome_only(callback, path):
    for action in ("ansible.builtin.debug", "ansible.builtin.uri"):
        callback.v2_runner_on_ok(result(dict(changed=False, msg=SECRET, error=SECRET, failover=dict(id=SECRET)), action=action))
    assert all("result" not in entry for entry in entries(path)) and SECRET not in path.read_text()


def test_task_that_logs_nothing_leaves_its_outcome_only(callback, path):
    callback.v2_runner_on_ok(result(dict(changed=True, failover=dict(id=SECRET)), no_log=True))
    (entry,) = entries(path)
    assert entry["status"] == "changed" and "result" not in entry


def test_value_of_another_shape_is_not_written(callback, path):
    callback.v2_runner_on_ok(result(dict(failover=SECRET, error=[SECRET])))
    assert SECRET not in path.read_text()


def test_name_of_a_task_is_not_filled_in(callback, path):
    callback.v2_runner_on_ok(result({}))
    assert entries(path)[0]["task"] == "Drain {{ password }}" and SECRET not in path.read_text()


def test_it_must_be_asked_for(callback):
    assert callback.CALLBACK_NEEDS_ENABLED


def test_second_run_goes_on_with_the_chain(make, path):
    for dummy in range(2):
        make().v2_runner_on_ok(result({}))
    assert [entry["number"] for entry in entries(path)] == [1, 2]
    assert broken_evidence(path.read_text()) is None
    assert len({entry["run"] for entry in entries(path)}) == 2


def test_file_that_cannot_be_written_is_said_once(make, path, tmp_path):
    callback = make()
    callback.set_options(direct=dict(path=str(tmp_path / "missing" / "runs.jsonl")))
    for dummy in range(2):
        callback.v2_runner_on_ok(result({}))
    (said,) = [call.args[0] for call in callback._display.error.call_args_list]
    assert "not complete" in said and "OMNIRELAY_EVIDENCE" in said


@pytest.mark.parametrize("content", [b"no chain\n", b'{"number":1}\n', b'{"number":1,"digest":"x"}'])
def test_file_that_is_no_chain_is_left_alone(make, path, content):
    path.write_bytes(content)
    callback = make()
    callback.v2_runner_on_ok(result({}))
    assert path.read_bytes() == content and callback._display.error.call_count == 1


@pytest.fixture
def chain(path):
    for number in range(4):
        _evidence.append(str(path), dict(event="task", task="t%d" % number, text="ä" * 40000))
    return path.read_text().splitlines()


def test_untouched_chain_is_whole(chain):
    assert _evidence.broken(chain) is None
    assert _evidence.broken(chain, json.loads(chain[-1])["digest"]) is None


@pytest.mark.parametrize(
    "change, number, reason",
    [
        (lambda lines: [lines[0], lines[1].replace('"t1"', '"t9"'), *lines[2:]], 2, "its content has the digest"),
        (lambda lines: [lines[0], *lines[2:]], 2, "entry 3 stands in its place"),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], 2, "entry 3 stands in its place"),
        (lambda lines: [lines[0], lines[0], *lines[1:]], 2, "entry 1 stands in its place"),
        (lambda lines: [lines[0].replace('":', '": ', 1), *lines[1:]], 1, "its form is not canonical"),
        (lambda lines: [*lines, "{}"], 5, "it is not an entry"),
        (lambda lines: [*lines, "[]"], 5, "it is not an entry"),
        (lambda lines: [*lines, "nonsense"], 5, "it is not an entry"),
    ],
)
def test_every_tampering_is_found_where_it_is(chain, change, number, reason):
    found = broken_evidence("\n".join(change(chain)))
    assert found["number"] == number and reason in found["reason"]


def test_forged_entry_is_found_by_its_link(chain):
    forged = dict(json.loads(chain[1]), task="another")
    forged["digest"] = _evidence.digest(forged)
    lines = [chain[0], _evidence._canonical(forged).decode(), *chain[2:]]
    assert broken_evidence("\n".join(lines))["number"] == 3


def test_cut_off_end_is_found_with_the_head_only(chain):
    assert broken_evidence("\n".join(chain[:-1])) is None
    assert broken_evidence("\n".join(chain[:-1]), head=json.loads(chain[-1])["digest"])["number"] == 4
