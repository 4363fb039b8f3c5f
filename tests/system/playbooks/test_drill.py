"""The drill against a mesh of real processes: over and back, measured, and home again whatever happens."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.system.support.playbooks import Finished, Playbooks, active, passive, state_of

from omnirelay.demo.ledger import judge
from omnirelay.demo.load import Load
from omnirelay.demo.mesh import CLIENT, LocalMesh
from omnirelay.demo.planned import GATE_WAITS, approve

pytestmark = pytest.mark.timeout(240)  # two failovers, and some tests start a mesh of their own

FQCN = "omnirelay.mesh.drill"
TICKET = {"mesh_change_ticket": "CHG-9", "mesh_reason": "quarterly"}


def drill(playbooks: Playbooks, *arguments: str, **variables: Any) -> Finished:
    """The second person approves both ways."""
    reports = playbooks.directory / "drills"
    reports.mkdir(exist_ok=True)
    given = {**TICKET, "mesh_drill_directory": str(reports), "mesh_approval_mode": "api", **variables}
    with playbooks.start(FQCN, *arguments, **given) as running:
        for line in running:
            if waiting := GATE_WAITS.match(line):
                approve(playbooks.mesh, waiting[1])
        return running.finish()


def reports(playbooks: Playbooks) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((playbooks.directory / "drills").glob("drill-*.json"))]


def test_a_drill_goes_over_and_back_and_the_next_one_shows_the_trend(playbooks: Playbooks) -> None:
    mesh, home, target = playbooks.mesh, active(playbooks.mesh), passive(playbooks.mesh)
    first = drill(playbooks, mesh_target=target)
    assert first.status == 0, first.output
    assert active(mesh) == home
    (report,) = reports(playbooks)
    assert [leg["mode"] for leg in report["legs"]] == ["planned", "failback"]
    assert [(leg["source"], leg["target"]) for leg in report["legs"]] == [(home, target), (target, home)]
    assert report["passed"] is True
    assert {(each["name"], each["met"]) for each in report["objectives"]} == {
        ("outage_seconds", True), ("loss_records", True), ("lag_seconds", True),
    }  # fmt: skip
    assert [sample["moment"] for sample in report["samples"]] == ["before", "between", "after"]
    text = (playbooks.directory / f"drills/drill-{report['drill_id']}.md").read_text()
    assert f"# Drill {report['drill_id']}: passed" in text

    elsewhere = Playbooks(playbooks.directory / "elsewhere", mesh)  # as a controller whose files do not last
    elsewhere.directory.mkdir()
    second = drill(elsewhere, mesh_target=target, mesh_slo_outage_seconds=0)
    assert second.status != 0
    assert "outage_seconds of planned" in second.output
    assert "The mesh is in steady state" in second.output
    assert active(mesh) == home
    (missed,) = reports(elsewhere)
    assert missed["passed"] is False
    assert [row["failover_id"] for row in missed["trend"]] == [report["drill_id"], missed["drill_id"]]
    assert missed["median_outage_seconds"] == report["legs"][0]["outage_seconds"]


def test_check_mode_shows_the_plan_and_changes_nothing(playbooks: Playbooks) -> None:
    before, fault = state_of(playbooks.mesh), playbooks.directory / "fault"
    done = drill(
        playbooks,
        "--check",
        mesh_target=passive(playbooks.mesh),
        mesh_drill_fault=["touch", str(fault)],
        mesh_drill_mend=["true"],
    )
    assert done.status == 0, done.output
    assert f"{active(playbooks.mesh)} -> {passive(playbooks.mesh)}" in done.output
    assert state_of(playbooks.mesh) == before
    assert not fault.exists()


@pytest.mark.parametrize(
    ("given", "against"),
    [({}, ""), ({"mesh_target": "nowhere"}, "nowhere")],
    ids=["sound", "target"],
)
def test_check_mode_of_an_emergency_foresees_it_although_its_source_lives(
    playbooks: Playbooks, given: dict[str, Any], against: str
) -> None:
    """The fault is not made, so the source never went: the check mode of a drill that would have passed was red."""
    before, fault = state_of(playbooks.mesh), playbooks.directory / "fault"
    asked = {
        "mesh_target": passive(playbooks.mesh),
        "mesh_drill_mode": "emergency",
        "mesh_accept_data_loss": 100,
        "mesh_divergence_resolution": "discard",
        "mesh_drill_fault": ["touch", str(fault)],
        "mesh_drill_mend": ["true"],
    }
    done = drill(playbooks, "--check", **{**asked, **given})
    if against:
        assert done.status != 0, done.output
        assert against in done.output
    else:
        assert done.status == 0, done.output
        assert "Nothing but a source that lives speaks against the emergency" in done.output
    assert state_of(playbooks.mesh) == before
    assert not fault.exists()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "mesh_target"),
        ({"mesh_target": "eu-west", "mesh_drill_fault": ["true"]}, "mesh_drill_mend"),
        ({"mesh_target": "eu-west", "mesh_drill_mode": "emergency"}, "takes the active cluster away"),
    ],
)
def test_a_drill_that_says_too_little_begins_nothing(playbooks: Playbooks, given: dict[str, Any], why: str) -> None:
    before = state_of(playbooks.mesh)
    done = drill(playbooks, **given)
    assert done.status != 0
    assert why in done.output
    assert state_of(playbooks.mesh) == before


@pytest.mark.parametrize("arguments", [(), ("--check",)], ids=["run", "check"])
def test_a_report_that_cannot_be_saved_is_refused_before_anything_begins(
    playbooks: Playbooks, arguments: tuple[str, ...]
) -> None:
    before = state_of(playbooks.mesh)
    in_the_way = playbooks.directory / "in-the-way"
    in_the_way.write_text("a file, not a directory")
    done = drill(playbooks, *arguments, mesh_target=passive(playbooks.mesh), mesh_drill_directory=str(in_the_way))
    assert done.status != 0
    assert "invalid_argument" in done.output
    assert "Steady state before" not in done.output, "it was found too late"
    assert state_of(playbooks.mesh) == before


def test_an_earlier_report_that_cannot_be_read_is_found_before_anything_begins(playbooks: Playbooks) -> None:
    """It is wanted for the trend, when everything has moved and the verdict is due."""
    before = state_of(playbooks.mesh)
    reports = playbooks.directory / "drills"
    reports.mkdir()
    (reports / "drill-fo-20261123-120813-7f3a.json").write_text('{"half')
    done = drill(playbooks, mesh_target=passive(playbooks.mesh))
    assert done.status != 0
    assert "Steady state before" not in done.output, "it was found too late"
    assert state_of(playbooks.mesh) == before


def test_a_report_that_cannot_be_saved_any_more_hides_no_verdict_and_a_long_problem_is_no_obstacle(
    playbooks: Playbooks,
) -> None:
    """Its directory goes after the first look; nobody approves, and what mends says more than a record can hold."""
    mesh, home = playbooks.mesh, active(playbooks.mesh)
    reports = playbooks.directory / "new"
    given = {
        **TICKET,
        "mesh_target": passive(mesh),
        "mesh_approval_mode": "api",
        "mesh_approval_timeout": 1,
        "mesh_drill_fault": ["true"],
        "mesh_drill_mend": [sys.executable, "-c", "import sys; sys.exit('x' * 3000)"],
    }
    with playbooks.start(FQCN, mesh_drill_directory=str(reports), **given) as running:
        running.until("Steady state before")
        reports.rmdir()
        done = running.finish()
    assert done.status != 0
    assert "The mesh is in steady state" in done.output[done.output.rindex("fatal: ") :], done.output
    assert "Keep why it was not saved" in done.output
    with mesh.control() as client:
        newest = max(client.failovers(), key=lambda failover: failover["created_at"])
    assert (newest["state"], len(newest["problem"]), active(mesh)) == ("aborted", 2000, home)


def test_a_failover_that_a_fault_keeps_from_happening_is_undone_mended_and_reported(
    own_mesh: LocalMesh, tmp_path: Path
) -> None:
    """The target stands still: the drain cannot reach the barrier, or the plan is refused."""
    playbooks = Playbooks(tmp_path, own_mesh, clusters=["us-east", "ap-south"])
    target = own_mesh.members["eu-west"].process
    assert target is not None
    done = drill(
        playbooks,
        mesh_target="eu-west",
        mesh_limits={"drain_timeout_seconds": 2},
        mesh_drill_fault=["kill", "-STOP", str(target.pid)],
        mesh_drill_mend=["kill", "-CONT", str(target.pid)],
    )
    assert done.status != 0
    assert "The mesh is in steady state" in done.output, done.output
    assert active(own_mesh) == "us-east"
    (report,) = reports(playbooks)
    assert report["passed"] is False
    assert report["problems"]
    assert [sample["steady"] for sample in report["samples"]] == [True, True]


def test_an_emergency_is_drilled_against_a_dead_active_and_goes_home(own_mesh: LocalMesh, tmp_path: Path) -> None:
    playbooks = Playbooks(tmp_path, own_mesh)
    source = own_mesh.members["us-east"]
    assert source.process is not None
    restart = [sys.executable, "-c", RESTART, str(source.config), str(tmp_path / "restarted.pid"), str(source.log)]
    endpoints = {member.cluster: member.grpc for member in own_mesh.members.values()}
    try:
        with Load(endpoints, own_mesh.credentials(CLIENT), rate=100, seed=1) as load:
            load.wait_flowing(30)
            done = drill(
                playbooks,
                mesh_target="eu-west",
                mesh_drill_mode="emergency",
                mesh_accept_data_loss=100_000,
                mesh_divergence_resolution="discard",
                mesh_slo_outage_seconds=60,
                mesh_slo_loss_records=100_000,
                mesh_drill_settle_timeout=60,
                mesh_drill_fault=["kill", "-9", str(source.process.pid)],
                mesh_drill_mend=restart,
            )
            assert done.status == 0, done.output
            verdict = judge(load.finish())
        assert active(own_mesh) == "us-east"
        (report,) = reports(playbooks)
        assert [leg["mode"] for leg in report["legs"]] == ["emergency", "failback"]
        assert 0 < report["legs"][0]["outage_seconds"] < 60
        assert (verdict.lost, verdict.duplicated, verdict.consistent) == (0, 0, True)
    finally:
        stop(tmp_path / "restarted.pid")


RESTART = """
import pathlib, subprocess, sys
config, pid, log = sys.argv[1:]
if not pathlib.Path(pid).exists():
    with open(log, "ab") as out:
        command = [sys.executable, "-m", "omnirelay.cli", "replicator", "run", "--config", config]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    pathlib.Path(pid).write_text(str(process.pid))
"""


def stop(pid: Path) -> None:
    import os
    import signal

    if pid.exists():
        os.kill(int(pid.read_text()), signal.SIGKILL)
