"""The planned failover as the three nodes of a workflow, each a job of its own, and its undo."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.system.support.driving import Driver
from tests.system.support.playbooks import BIN, CHECKOUT, Playbooks, active, passive, state_of

from omnirelay.demo.planned import approve

pytestmark = pytest.mark.timeout(300)  # several whole playbooks

PREPARE, EXECUTE, FINISH = (f"omnirelay.mesh.planned_failover_{node}" for node in ("prepare", "execute", "finish"))
ABORT = "omnirelay.mesh.abort_failover"
TICKET = {"mesh_change_ticket": "CHG-7", "mesh_reason": "workflow"}


def node(playbooks: Playbooks, name: str, **variables: Any) -> dict[str, Any]:
    """Runs a wrapper as a controller does. Answers what it hands on to the next node."""
    job = playbooks.directory / name
    (job / "project").mkdir(parents=True)
    (job / "env").mkdir()
    (job / "env/extravars").write_text(json.dumps(variables))
    wrapper = str(CHECKOUT / f"runbooks/{name}.yml")
    with playbooks.started([str(BIN / "ansible-runner"), "run", str(job), "-p", wrapper, "--ident", "1"]) as running:
        done = running.finish()
    assert done.status == 0, done.output
    events = [json.loads(path.read_text()) for path in (job / "artifacts/1/job_events").glob("*.json")]
    (stats,) = (event for event in events if event["event"] == "playbook_on_stats")
    handed: dict[str, Any] = stats["event_data"]["artifact_data"]
    return handed


def prepared(playbooks: Playbooks) -> str:
    """A plan that nobody has approved."""
    mesh = playbooks.mesh
    wanted = {"target": passive(mesh), "change_ticket": "CHG-7", "reason": f"{playbooks.directory}"}
    return str(Driver(mesh, active(mesh)).plan({"mode": "planned", **wanted})["id"])


def state(playbooks: Playbooks, failover_id: str) -> str:
    with playbooks.mesh.control() as client:
        return str(client.failover(failover_id).body["state"])


def abort(playbooks: Playbooks, failover_id: str) -> None:
    with playbooks.mesh.control() as client:
        client.step(failover_id, "abort", reason="the test is over")


def test_three_nodes_hand_on_what_the_next_one_needs(playbooks: Playbooks) -> None:
    mesh = playbooks.mesh
    source, target = active(mesh), passive(mesh)
    plan = node(playbooks, "planned_failover_prepare", mesh_target=target, **TICKET)
    assert plan.keys() == {"mesh_failover_id", "mesh_failover_state", "mesh_plan_hash"}
    assert (plan["mesh_failover_state"], active(mesh)) == ("awaiting_approval", source)
    approve(mesh, plan["mesh_failover_id"])
    moved = node(playbooks, "planned_failover_execute", **plan)
    assert moved == plan | {"mesh_failover_state": "promoted"}
    assert active(mesh) == target
    done = node(playbooks, "planned_failover_finish", **moved)
    assert done.keys() == plan.keys() | {"mesh_report_sha256"}
    assert (done["mesh_failover_state"], done["mesh_plan_hash"]) == ("completed", plan["mesh_plan_hash"])
    assert state(playbooks, plan["mesh_failover_id"]) == "completed"

    refused = playbooks.run(ABORT, mesh_failover_id=plan["mesh_failover_id"])
    assert refused.status != 0
    assert f"omnirelay.mesh.failback -e mesh_reverses={plan['mesh_failover_id']}" in refused.output
    assert active(mesh) == target


def test_check_mode_of_each_node_changes_nothing(playbooks: Playbooks) -> None:
    failover_id = prepared(playbooks)
    before = state_of(playbooks.mesh)
    for playbook, given in (
        (PREPARE, {"mesh_target": passive(playbooks.mesh), **TICKET}),
        (EXECUTE, {"mesh_failover_id": failover_id}),
        (FINISH, {"mesh_failover_id": failover_id}),
        (ABORT, {"mesh_failover_id": failover_id}),
    ):
        done = playbooks.run(playbook, "--check", "--diff", **given)
        assert done.status == 0, done.output
        assert state_of(playbooks.mesh) == before, playbook
    abort(playbooks, failover_id)


def test_another_plan_than_the_one_that_was_prepared_is_not_executed(playbooks: Playbooks) -> None:
    failover_id = prepared(playbooks)
    done = playbooks.run(EXECUTE, mesh_failover_id=failover_id, mesh_plan_hash="sha256:another")
    assert done.status != 0
    assert "the one that was prepared is sha256:another" in done.output
    assert state(playbooks, failover_id) == "awaiting_approval"
    abort(playbooks, failover_id)


def test_another_plan_does_not_abort_what_another_run_has_drained(playbooks: Playbooks) -> None:
    failover_id = prepared(playbooks)
    approve(playbooks.mesh, failover_id)
    with playbooks.mesh.control() as client:
        client.step(failover_id, "drain")
    done = playbooks.run(EXECUTE, mesh_failover_id=failover_id, mesh_plan_hash="sha256:another")
    assert done.status != 0
    assert "the one that was prepared is sha256:another" in done.output
    assert state(playbooks, failover_id) == "drained"
    abort(playbooks, failover_id)


def test_nothing_is_finished_before_the_promotion_and_nothing_is_undone_for_it(playbooks: Playbooks) -> None:
    failover_id = prepared(playbooks)
    done = playbooks.run(FINISH, mesh_failover_id=failover_id)
    assert done.status != 0
    assert "there is nothing to finish" in done.output
    assert state(playbooks, failover_id) == "awaiting_approval"
    abort(playbooks, failover_id)


def test_an_unapproved_plan_is_not_executed_and_stays_for_whoever_approves_it(playbooks: Playbooks) -> None:
    failover_id = prepared(playbooks)
    done = playbooks.run(EXECUTE, mesh_failover_id=failover_id, mesh_approval_mode="api", mesh_approval_timeout=1)
    assert done.status != 0
    assert "nobody decided within 1 s" in done.output
    assert state(playbooks, failover_id) == "awaiting_approval"
    abort(playbooks, failover_id)


@pytest.mark.parametrize("playbook", [EXECUTE, FINISH])
def test_a_node_that_is_not_told_which_failover_fails(playbooks: Playbooks, playbook: str) -> None:
    before = state_of(playbooks.mesh)
    done = playbooks.run(playbook)
    assert done.status != 0
    assert "Name the failover that was prepared" in done.output
    assert state_of(playbooks.mesh) == before


def test_a_plan_is_rolled_back_once(playbooks: Playbooks) -> None:
    failover_id, source = prepared(playbooks), active(playbooks.mesh)
    done = playbooks.run(ABORT, mesh_failover_id=failover_id, mesh_reason="postponed")
    assert done.status == 0, done.output
    assert f"Failover {failover_id} is aborted, {source} admits writes." in done.output
    assert state(playbooks, failover_id) == "aborted"
    with playbooks.mesh.control() as client:
        assert client.failover(failover_id).body["problem"] == "postponed"
    again = playbooks.run(ABORT, mesh_failover_id=failover_id)
    assert (again.status, "changed=0" in again.output) == (0, True)
    missing = playbooks.run(ABORT, mesh_failover_id="fo-20000101-000000-0000")
    assert (missing.status != 0, "There is no failover" in missing.output) == (True, True)
