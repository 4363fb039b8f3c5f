"""The shipped playbook of the planned failover against a mesh of real processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.system.support.playbooks import CHECKOUT, FQCN, Playbooks, active, passive, state_of

from omnirelay.demo.ledger import judge
from omnirelay.demo.load import Load
from omnirelay.demo.mesh import CLIENT, LocalMesh
from omnirelay.demo.planned import GATE_WAITS, approve

pytestmark = pytest.mark.timeout(180)  # a whole playbook, and some tests start a mesh of their own

TICKET = {"mesh_change_ticket": "CHG-7", "mesh_reason": "system test"}
WRAPPER = CHECKOUT / "runbooks/planned_failover.yml"


def record(mesh: LocalMesh, failover_id: str) -> dict[str, Any]:
    with mesh.control() as client:
        return client.failover(failover_id).body


def newest(mesh: LocalMesh) -> dict[str, Any]:
    with mesh.control() as client:
        return max(client.failovers(), key=lambda failover: failover["created_at"])


# --- the ways to start it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("playbook", [FQCN, WRAPPER], ids=["name", "wrapper"])
def test_it_makes_the_target_active_with_the_next_epoch(playbooks: Playbooks, playbook: str | Path) -> None:
    mesh, target = playbooks.mesh, passive(playbooks.mesh)
    before = newest_epoch(mesh)
    report = playbooks.directory / "report.json"
    done = playbooks.run_deciding(playbook, mesh_target=target, mesh_report_json=str(report), **TICKET)
    assert done.status == 0, done.output
    assert (active(mesh), newest_epoch(mesh)) == (target, before + 1)
    evidence = json.loads(report.read_text())
    assert (evidence["state"], evidence["target"], evidence["change_ticket"]) == ("completed", target, "CHG-7")


def newest_epoch(mesh: LocalMesh) -> int:
    with mesh.control() as client:
        clusters = client.clusters()["clusters"]
    return max(owned["epoch"] for cluster in clusters for owned in cluster["namespaces"])


# --- what changes nothing -----------------------------------------------------------------------------------------


def test_check_mode_shows_the_plan_and_changes_nothing(playbooks: Playbooks) -> None:
    mesh = playbooks.mesh
    before, source, target = state_of(mesh), active(mesh), passive(mesh)
    done = playbooks.run(FQCN, "--check", "--diff", mesh_target=target, **TICKET)
    assert done.status == 0, done.output
    for part in (
        f"{source} -> {target}",
        "check pass     target_lag",
        *(f"step {step}" for step in ("drain", "promote", "verify", "complete")),
        "0 records lost",
        "s without writes",
        # As a diff, for whoever keeps the run's output
        "+++ after: failover to",
        '"predicted_loss_records": 0',
        '"predicted_outage_seconds": ',
        f"default: {source} (epoch {newest_epoch(mesh)}) -> {target} (epoch {newest_epoch(mesh) + 1})",
    ):
        assert part in done.output, part
    assert state_of(mesh) == before


def test_a_check_that_fails_ends_it_before_anything_is_begun(playbooks: Playbooks) -> None:
    mesh = playbooks.mesh
    routing = state_of(mesh)["routing"]
    done = playbooks.run(FQCN, mesh_target=passive(mesh), mesh_reason="no ticket", mesh_change_ticket="")
    assert done.status != 0
    assert "change_ticket" in done.output
    assert state_of(mesh)["routing"] == routing


def test_a_run_that_gives_up_leaves_the_plan_of_another_run_alone(playbooks: Playbooks) -> None:
    mesh = playbooks.mesh
    asked = {"mesh_target": passive(mesh), **TICKET, "mesh_reason": "two at once"}
    with playbooks.start(FQCN, mesh_approval_mode="api", **asked) as patient:
        waiting = GATE_WAITS.match(patient.until("waits for approval"))
        assert waiting
        impatient = playbooks.run(FQCN, mesh_approval_mode="api", mesh_approval_timeout=1, **asked)
        assert impatient.status != 0
        assert "was not made by this run" in impatient.output
        assert (newest(mesh)["id"], newest(mesh)["state"]) == (waiting[1], "awaiting_approval")
        approve(mesh, waiting[1])
        assert patient.finish().status == 0
    assert active(mesh) == asked["mesh_target"]


# --- what goes wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "phase",
    [
        "waits for approval",
        "TASK [(3/6) Drain]",
        "TASK [(4/6) Promote]",
        "TASK [(5/6) Verify]",
        "TASK [omnirelay.mesh.verify : Close the record]",
        "TASK [(6/6) Report]",
    ],
)
def test_killed_at_any_phase_another_run_goes_on_and_nothing_is_lost(
    own_mesh: LocalMesh, tmp_path: Path, phase: str
) -> None:
    playbooks = Playbooks(tmp_path, own_mesh)
    endpoints = {member.cluster: member.grpc for member in own_mesh.members.values()}
    with Load(endpoints, own_mesh.credentials(CLIENT), rate=200, seed=1) as load:
        load.wait_flowing(30)
        limits = {"drain_timeout_seconds": 30}
        with playbooks.start(
            FQCN, mesh_target="eu-west", mesh_limits=limits, mesh_approval_mode="api", **TICKET
        ) as running:
            running.until("waits for approval")
            failover_id = newest(own_mesh)["id"]
            if phase not in running.seen[-1]:
                approve(own_mesh, failover_id)
                running.until(phase)
            running.kill()
        resumed = playbooks.run_deciding(FQCN, mesh_failover_id=failover_id)
        assert resumed.status == 0, resumed.output
        verdict = judge(load.finish())
    assert record(own_mesh, failover_id)["state"] == "completed"
    assert active(own_mesh) == "eu-west"
    assert verdict.acknowledged > 0
    assert (verdict.lost, verdict.duplicated, verdict.reordered, verdict.consistent) == (0, 0, 0, True)


def test_a_failure_before_promotion_is_undone_and_the_source_admits_writes(own_mesh: LocalMesh, tmp_path: Path) -> None:
    """The target stops while the gate waits, so it never reaches the barrier."""
    playbooks = Playbooks(tmp_path, own_mesh, clusters=["us-east", "ap-south"])
    endpoints = {member.cluster: member.grpc for member in own_mesh.members.values()}

    def approve_and_stop_the_target(failover_id: str) -> None:
        approve(own_mesh, failover_id)
        own_mesh.pause("eu-west")

    with Load(endpoints, own_mesh.credentials(CLIENT), rate=200, seed=1) as load:
        load.wait_flowing(30)
        done = playbooks.run_deciding(
            FQCN,
            decide=approve_and_stop_the_target,
            mesh_target="eu-west",
            mesh_limits={"drain_timeout_seconds": 2},
            **TICKET,
        )
        assert done.status != 0
        assert "keeps nobody from writing" in done.output
        acknowledged = load.ledger.acknowledged
        own_mesh.resume("eu-west")
        own_mesh.wait_level()
        verdict = judge(load.finish())
    assert newest(own_mesh)["state"] == "aborted"
    assert (active(own_mesh), newest_epoch(own_mesh)) == ("us-east", 1)
    assert verdict.acknowledged > acknowledged, "writes went on after the undo"
    assert (verdict.lost, verdict.duplicated, verdict.reordered, verdict.consistent) == (0, 0, 0, True)


# --- what is saved ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("--check",)], ids=["run", "check"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("planned_failover", "json"),
        ("emergency_failover", "markdown"),
        ("failback", "json"),
        ("planned_failover_finish", "markdown"),
    ],
)
def test_evidence_that_cannot_be_saved_is_refused_before_a_plan_is_made(
    playbooks: Playbooks, name: str, kind: str, arguments: tuple[str, ...]
) -> None:
    before = state_of(playbooks.mesh)
    in_the_way = playbooks.directory / "in-the-way"
    in_the_way.write_text("a file, not a directory")
    given = {"mesh_target": passive(playbooks.mesh), **TICKET, f"mesh_report_{kind}": str(in_the_way / "report")}
    done = playbooks.run(f"omnirelay.mesh.{name}", *arguments, **given)
    assert done.status != 0
    assert "invalid_argument" in done.output
    assert str(in_the_way) in done.output
    assert "Preflight" not in done.output, "it was found too late"
    assert state_of(playbooks.mesh) == before


def test_a_missing_directory_of_the_evidence_is_made_and_in_check_mode_not(playbooks: Playbooks) -> None:
    target, report = passive(playbooks.mesh), playbooks.directory / "new/below/report.json"
    given = {"mesh_target": target, **TICKET, "mesh_report_json": str(report)}
    assert playbooks.run(FQCN, "--check", **given).status == 0
    assert not report.parent.parent.exists()
    done = playbooks.run_deciding(FQCN, **given)
    assert done.status == 0, done.output
    assert json.loads(report.read_text())["state"] == "completed"


def test_evidence_that_cannot_be_saved_any_more_hides_nothing_and_is_told_last(playbooks: Playbooks) -> None:
    """A file takes the place of its directory while the gate waits."""
    mesh, target = playbooks.mesh, passive(playbooks.mesh)
    report = playbooks.directory / "new/report.json"

    def approve_without_directory(failover_id: str) -> None:
        report.parent.rmdir()
        report.parent.write_text("a file, not a directory")
        approve(mesh, failover_id)

    done = playbooks.run_deciding(
        FQCN, decide=approve_without_directory, mesh_target=target, mesh_report_json=str(report), **TICKET
    )
    assert active(mesh) == target
    completed, lost = done.output.index(f"{target} is active since"), done.output.index("Its evidence was not saved")
    assert done.output.index("See that the change ticket holds everything") < completed < lost
    assert done.status != 0, "somebody counts on the file"


def test_what_failed_is_the_failure_also_when_the_evidence_cannot_be_saved(playbooks: Playbooks) -> None:
    """And a reason of any length ends up in the record: the run was undone, not refused for what it said."""
    report = playbooks.directory / "new/report.json"
    long = "x" * 3000
    given = {"mesh_target": passive(playbooks.mesh), **TICKET, "mesh_reason": "too long a word"}
    with playbooks.start(FQCN, mesh_report_json=str(report), mesh_approval_mode=long, **given) as running:
        running.until("TASK [(1/6) Preflight]")
        report.parent.rmdir()
        report.parent.write_text("a file, not a directory")
        done = running.finish()
    assert done.status != 0
    fatal = done.output.rindex("fatal: ")
    assert "keeps nobody from writing" in done.output[fatal:]
    assert "See that the change ticket holds everything" in done.output[fatal:]
    found = newest(playbooks.mesh)
    assert (found["reason"], found["state"]) == ("too long a word", "aborted")
    assert found["problem"].startswith("The run failed at")
    assert len(found["problem"]) == 2000
