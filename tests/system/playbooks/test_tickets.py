"""The shipped playbooks with a change ticket in ServiceNow, as it answers on loopback."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.system.support.modules import Modules
from tests.system.support.playbooks import FQCN, Finished, Playbooks, active, passive
from tests.system.support.ticket_systems import Fault, ServiceNowServer
from tests.system.support.waiting import until

from omnirelay.demo.mesh import APPROVER, LocalMesh
from omnirelay.errors import PreflightFailed

pytestmark = pytest.mark.timeout(180)  # whole playbooks

PEM = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")


@pytest.fixture(scope="module")
def servicenow() -> Iterator[ServiceNowServer]:
    server = ServiceNowServer()
    with server.running():
        yield server


@pytest.fixture(scope="module")
def mesh(servicenow: ServiceNowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    """Every cluster has the ticket source; tests leave the mesh serving, whoever is active by then."""
    directory = tmp_path_factory.mktemp("tickets")
    section = {**servicenow.settings(directory), "poll": "100ms", "retries": 0}
    with LocalMesh(directory / "m", settings={"tickets": section}) as started:
        yield started


def newest(mesh: LocalMesh) -> dict[str, Any]:
    with mesh.control() as client:
        return max(client.failovers(), key=lambda failover: failover["created_at"])


def told(servicenow: ServiceNowServer, number: str, text: str) -> str:
    """The note that says this, once it is there."""
    return until(lambda: next((note for note in servicenow.notes(number) if text in note), ""), f"{text!r} in {number}")


def assert_whole(servicenow: ServiceNowServer, number: str, failover: dict[str, Any], notes: Sequence[str]) -> None:
    """The ticket has these notes once each, plan hash and both reports, whose digests the last note names."""
    held = servicenow.notes(number)
    markers = [f"[omnirelay {failover['id']} {note}]" for note in notes]
    assert [note.splitlines()[-1] for note in held] == markers
    assert failover["plan"]["hash"] in held[0]
    documents = servicenow.documents(number)
    assert sorted(Path(name).suffix for name in documents) == [".json", ".md"]
    for name, content in documents.items():
        assert f"Attached: {name}, sha256:{hashlib.sha256(content).hexdigest()}" in held[-1]
    (report,) = [json.loads(content) for name, content in documents.items() if name.endswith(".json")]
    assert (report["failover_id"], report["state"]) == (failover["id"], failover["state"])


def assert_no_secret(servicenow: ServiceNowServer, mesh: LocalMesh, number: str, run: Finished) -> None:
    """Neither in the ticket, nor in what the run printed, nor in any replicator's log."""
    ticket = [note.encode() for note in servicenow.notes(number)] + list(servicenow.documents(number).values())
    logs = [member.log.read_bytes() for member in mesh.members.values()]
    for text in [*ticket, *logs, run.output.encode()]:
        assert servicenow.secret.encode() not in text
        assert not PEM.search(text)


def test_a_run_that_its_ticket_approves_is_in_the_ticket_from_plan_to_digest(
    playbooks: Playbooks, servicenow: ServiceNowServer
) -> None:
    mesh, target = playbooks.mesh, passive(playbooks.mesh)
    servicenow.open("CHG-100", approved=None)

    def approve_in_the_ticket(failover_id: str) -> None:
        told(servicenow, "CHG-100", "Plan hash")
        servicenow.ahead_ms += 2000  # the table's times have whole seconds
        servicenow.decide("CHG-100", "jane")

    report = playbooks.directory / "report.json"
    done = playbooks.run_deciding(
        FQCN,
        decide=approve_in_the_ticket,
        mesh_target=target,
        mesh_change_ticket="CHG-100",
        mesh_approval_source="ticket",
        mesh_reason="system test",
        mesh_run_url="https://awx.example/#/jobs/7",
        mesh_report_json=str(report),
    )
    assert done.status == 0, done.output
    assert active(mesh) == target
    failover = newest(mesh)
    assert [(a["principal"], a["via"], a["ticket"]) for a in failover["approvals"]] == [
        ("servicenow/jane", "ticket", "CHG-100")
    ]
    assert_whole(servicenow, "CHG-100", failover, ["plan", "link", "approval 1", "started", "finished"])
    plan, link, approval, _, finished = servicenow.notes("CHG-100")
    assert "whoever approves this ticket after this note" in plan.lower()
    assert "https://awx.example/#/jobs/7" in link
    assert "servicenow/jane approved" in approval
    assert re.search(r"Outage: [0-9.]+ s measured", finished)
    assert "Loss: 0 records measured" in finished
    assert "servicenow/jane approved" in finished
    for moment in ("drain started", "write closed", "promoted", "write opened", "verified", "completed"):
        assert re.search(rf"^  {moment}: 20", finished, re.MULTILINE), moment
    documents = servicenow.documents("CHG-100")
    assert report.read_bytes() in documents.values(), "its digest is the one that the ticket names"
    assert failover["ticket"]["pending"] == []
    assert failover["ticket"]["url"].startswith(servicenow.url)
    assert_no_secret(servicenow, mesh, "CHG-100", done)
    # Asked for again, nothing is posted twice.
    modules = Modules(playbooks)
    asked = modules.unchanged("failover_ticket", lambda: servicenow.notes("CHG-100"), failover_id=failover["id"])
    assert asked["ticket"]["pending"] == []


def test_a_run_that_fails_is_in_its_ticket_too(playbooks: Playbooks, servicenow: ServiceNowServer) -> None:
    mesh = playbooks.mesh
    source = active(mesh)
    servicenow.open("CHG-200")

    def deny(failover_id: str) -> None:
        with mesh.control(APPROVER) as client:
            plan = client.failover(failover_id).body["plan"]
            client.decide(failover_id, "deny", plan_hash=plan["hash"], comment="not today")

    done = playbooks.run_deciding(FQCN, decide=deny, mesh_target=passive(mesh), mesh_change_ticket="CHG-200")
    assert done.status != 0
    assert active(mesh) == source
    assert_whole(servicenow, "CHG-200", newest(mesh), ["plan", "link", "approval 1", "finished"])
    assert "is denied" in servicenow.notes("CHG-200")[-1]
    assert "not today" in servicenow.notes("CHG-200")[-1]
    assert_no_secret(servicenow, mesh, "CHG-200", done)


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"approved": None}, "Get it approved"), ({"ends_ms": 1}, "Its window is over"), ({"state": "Closed"}, "is open")],
    ids=["not approved", "outside of its window", "closed"],
)
def test_a_ticket_that_does_not_allow_it_ends_the_run_before_anything_is_begun(
    playbooks: Playbooks, servicenow: ServiceNowServer, fields: dict[str, Any], said: str
) -> None:
    servicenow.open("CHG-300", **fields)
    before = newest_id(playbooks.mesh)
    done = playbooks.run(FQCN, mesh_target=passive(playbooks.mesh), mesh_change_ticket="CHG-300")
    assert done.status != 0
    assert "change_ticket: CHG-300" in done.output
    assert said in done.output
    assert newest_id(playbooks.mesh) == before


def test_a_run_that_its_preflight_refuses_is_in_its_ticket_and_its_rehearsal_is_not(
    playbooks: Playbooks, servicenow: ServiceNowServer
) -> None:
    mesh = playbooks.mesh
    servicenow.open("CHG-350", ends_ms=1)
    url = "https://awx.example/#/jobs/350"
    before = newest_id(mesh)
    asked = {"mesh_target": passive(mesh), "mesh_change_ticket": "CHG-350", "mesh_run_url": url}
    assert playbooks.run(FQCN, "--check", mesh_reason="rehearsal", **asked).status != 0
    done = playbooks.run(FQCN, mesh_reason="for real", **asked)
    assert done.status != 0
    note = told(servicenow, "CHG-350", "Refused by its preflight")
    for part in ("Reason: for real", "operator/alice", f"Run: {url}", "Its window is over"):
        assert part in note
    assert re.search(r"^Digest of the checks: sha256:[0-9a-f]{64}$", note, re.MULTILINE)
    assert servicenow.notes("CHG-350") == [note]
    assert newest_id(mesh) == before
    assert_no_secret(servicenow, mesh, "CHG-350", done)


def newest_id(mesh: LocalMesh) -> str:
    with mesh.control() as client:
        return max((failover["id"] for failover in client.failovers()), default="")


def test_a_ticket_system_that_goes_down_neither_fails_nor_holds_up_the_run_and_is_told_later(
    playbooks: Playbooks, servicenow: ServiceNowServer
) -> None:
    mesh, target = playbooks.mesh, passive(playbooks.mesh)
    servicenow.open("CHG-400")
    secret = servicenow.secret

    def approve_and_take_the_system_down(failover_id: str) -> None:
        told(servicenow, "CHG-400", "Plan hash")
        with mesh.control(APPROVER) as client:
            plan = client.failover(failover_id).body["plan"]
            servicenow.faults.extend([Fault(503)] * 10_000)
            client.decide(failover_id, "approve", plan_hash=plan["hash"])

    done = playbooks.run_deciding(
        FQCN, decide=approve_and_take_the_system_down, mesh_target=target, mesh_change_ticket="CHG-400"
    )
    assert done.status == 0, done.output
    assert active(mesh) == target
    assert "Change ticket CHG-400 lacks" in done.output
    failover = newest(mesh)
    assert "finished" in failover["ticket"]["pending"]
    assert "503" in failover["ticket"]["problem"]

    servicenow.faults.clear()
    servicenow.secret = "renewed"  # and meanwhile the credential has expired
    with mesh.control() as client:
        client.post_to_ticket(failover["id"])
        until(lambda: "credential" in client.failover(failover["id"]).body["ticket"]["hint"], "the hint at the file")
        servicenow.secret = secret
        client.post_to_ticket(failover["id"])
        until(lambda: not client.failover(failover["id"]).body["ticket"]["pending"], "a ticket that has everything")
    notes = ["plan", "link", "approval 1", "started", "finished"]
    assert_whole(servicenow, "CHG-400", failover, notes)


def foreseeable(mesh: LocalMesh, target: str) -> bool:
    """Whether the loss of an emergency would be known, if its source were gone."""
    request = {"mode": "emergency", "target": target, "namespaces": [], "accept_data_loss": 100_000, "dry_run": True}
    with mesh.control() as client, pytest.raises(PreflightFailed) as refused:
        client.plan_failover({**request, "reason": "foreseen", "change_ticket": "CHG-1", "limits": {}})
    verdicts = {check["id"]: check["status"] for check in refused.value.details["checks"]}
    return verdicts["loss_accepted"] == "pass"


def test_an_emergency_is_warned_goes_on_and_is_in_its_ticket(tmp_path: Path, servicenow: ServiceNowServer) -> None:
    servicenow.open("CHG-500", approved=None)
    section = {**servicenow.settings(tmp_path), "poll": "100ms", "retries": 0}
    with LocalMesh(tmp_path / "m", settings={"tickets": section}) as mesh:
        source = active(mesh)
        alive = [cluster for cluster in mesh.clusters if cluster != source]
        until(lambda: foreseeable(mesh, alive[0]), "the source was heard of for long enough to tell what may be lost")
        mesh.kill(source)
        playbooks = Playbooks(tmp_path, mesh, alive)
        done = playbooks.run(
            "omnirelay.mesh.emergency_failover",
            mesh_target=alive[0],
            mesh_accept_data_loss=100_000,
            mesh_reason=f"{source} is gone",
            mesh_change_ticket="CHG-500",
        )
        assert done.status == 0, done.output
        assert re.search(r"check warn +change_ticket: CHG-500: Authorize, pending", done.output)
        with mesh.control(clusters=alive) as client:
            (failover,) = client.failovers()
        assert failover["state"] == "completed"
        assert_whole(servicenow, "CHG-500", failover, ["plan", "link", "started", "finished"])
        assert "warn: change_ticket" in servicenow.notes("CHG-500")[0]
        assert_no_secret(servicenow, mesh, "CHG-500", done)
