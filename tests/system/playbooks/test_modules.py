"""Every module against a mesh of real processes: what check mode reports is what the real run then reports, a second
run changes nothing, and what happened is read back through the API by other means."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.system.support.disasters import DisasterLoad, promote, unresolved
from tests.system.support.modules import Modules
from tests.system.support.playbooks import BIN, CHECKOUT, Playbooks, active, passive, state_of
from tests.system.support.waiting import until

from omnirelay.demo.mesh import APPROVER, LocalMesh

pytestmark = pytest.mark.timeout(300)  # dozens of processes, each of which starts Ansible

TICKET = "CHG-7"
OWNERS = ["sre@example.com"]
STEPS = {"drain": "drained", "promote": "promoted", "verify": "verified", "complete": "completed"}
TAIL = 50


@pytest.fixture
def modules(playbooks: Playbooks) -> Modules:
    return Modules(playbooks)


def failover_of(mesh: LocalMesh, failover_id: str) -> Callable[[], dict[str, Any]]:
    def read() -> dict[str, Any]:
        with mesh.control() as client:
            record = client.failover(failover_id).body
        return {name: record[name] for name in ("state", "approvals", "journal", "problem")}

    return read


def test_no_module_is_left_out() -> None:
    """What needs a ticket system or a controller is tested beside others of its kind."""
    places = ("test_modules.py", "test_tickets.py", "test_awx.py")
    tested = "".join(Path(__file__).with_name(name).read_text() for name in places)
    for path in (CHECKOUT / "plugins/modules").glob("[a-z]*.py"):
        assert f'"{path.stem}"' in tested, path.stem


# --- reading ------------------------------------------------------------------------------------------------------


def test_reading_shows_what_the_api_shows(modules: Modules) -> None:
    mesh = modules.playbooks.mesh

    def read() -> object:
        return state_of(mesh)

    routing = modules.unchanged("routing_info", read)
    with mesh.control() as client:
        said = client.routing().body
        entries = client.audit(limit=1000)["entries"]
        ids = [cluster["cluster_id"] for cluster in client.clusters()["clusters"]]
        open_ = client.failovers(open_only=True)
    assert {name: routing[name] for name in ("version", "namespaces")} == {
        name: said[name] for name in ("version", "namespaces")
    }
    assert modules.unchanged("routing_info", read, namespace="default")["namespaces"] == said["namespaces"]
    assert modules.done("routing_info", namespace="nowhere")["namespaces"] == {}
    assert modules.unchanged("audit_info", read)["entries"] == entries
    created = modules.done("audit_info", action="cluster.create", subject="clusters/us-east")["entries"]
    assert created == [e for e in entries if (e["action"], e["subject"]) == ("cluster.create", "clusters/us-east")]
    assert len(created) == 1
    assert [each["cluster_id"] for each in modules.unchanged("cluster_info", read)["clusters"]] == ids
    assert [each["cluster_id"] for each in modules.unchanged("replication_info", read)["replication"]] == ids
    assert modules.unchanged("failover_info", read, open=True)["failovers"] == open_
    assert modules.unchanged("divergence_info", read)["divergences"] == []


# --- clusters -----------------------------------------------------------------------------------------------------

MARS = {
    "cluster_id": "mars",
    "region": "sol-4",
    "endpoints": {"grpc": "127.0.0.1:9", "control": "https://127.0.0.1:9"},
    "owners": OWNERS,
    "change_ticket": TICKET,
}


def test_a_cluster_is_made_changed_and_removed(modules: Modules) -> None:
    mesh = modules.playbooks.mesh

    def descriptors() -> dict[str, Any]:
        with mesh.control() as client:
            clusters = client.clusters()["clusters"]
        wanted = ("region", "owners", "change_ticket", "annotations", "maintenance", "state", "priority")
        return {each["cluster_id"]: {name: each[name] for name in wanted} for each in clusters}

    made = modules.change("cluster", descriptors, **MARS, annotations={"rack": "7"})
    assert descriptors()["mars"]["annotations"] == {"rack": "7"}
    changed = modules.change(
        "cluster", descriptors, cluster_id="mars", owners=OWNERS, change_ticket="CHG-8", maintenance=True
    )
    assert (
        descriptors()["mars"] | {"maintenance": True, "state": "maintenance", "region": "sol-4"}
        == descriptors()["mars"]
    )
    late = modules.run("cluster", **MARS, priority=5, etag=made["etag"])
    assert (late["failed"], late["error"]["code"]) == (True, "etag_mismatch")
    with mesh.control() as client:
        assert client.cluster("mars").etag == changed["etag"]
    refused = [
        modules.run("cluster", check=check, cluster_id=active(mesh), state="absent", change_ticket=TICKET)
        for check in (True, False)
    ]
    assert [result["error"]["code"] for result in refused] == ["cluster_in_use"] * 2
    modules.change("cluster", descriptors, cluster_id="mars", state="absent", change_ticket="CHG-9")
    assert "mars" not in descriptors()
    mesh.wait_level()
    with mesh.control() as client:
        done = [e for e in client.audit(limit=1000)["entries"] if e["subject"] == "clusters/mars"]
    assert [(e["action"], e["change_ticket"]) for e in done] == [
        ("cluster.create", TICKET),
        ("cluster.update", "CHG-8"),
        ("cluster.delete", "CHG-9"),
    ]


def test_a_new_namespace_is_given_to_a_cluster(own_mesh: LocalMesh, tmp_path: Path) -> None:
    modules = Modules(Playbooks(tmp_path, own_mesh))

    def owners() -> dict[str, str]:
        with own_mesh.control() as client:
            routes = client.routing().body["namespaces"]
        return {name: route["active"] for name, route in routes.items()}

    given = {"cluster_id": "eu-west", "owners": OWNERS, "change_ticket": TICKET, "namespaces": ["orders"]}
    modules.change("cluster", owners, **given)
    assert owners() == {"default": "us-east", "orders": "eu-west"}


# --- a failover, step by step -------------------------------------------------------------------------------------


def test_a_failover_from_its_plan_to_its_report(modules: Modules, tmp_path: Path) -> None:
    mesh = modules.playbooks.mesh
    source, target = active(mesh), passive(mesh)

    def failovers() -> list[str]:
        with mesh.control() as client:
            return sorted(each["id"] for each in client.failovers())

    plan = {
        "target": target,
        "change_ticket": TICKET,
        "reason": "step by step",
        "limits": {"drain_timeout_seconds": 200},  # check mode and a second run come in between
    }
    made = modules.change("failover", failovers, **plan)
    failover_id = made["failover"]["id"]
    read = failover_of(mesh, failover_id)
    assert read()["state"] == "awaiting_approval"

    asked = modules.done("approval", check=True, failover_id=failover_id)
    assert (asked["approved"], asked["would_wait"]) == (False, True)
    waiting = modules.done("failover_wait", check=True, failover_id=failover_id)
    assert (waiting["would_wait"], waiting["remaining"][-1]) == (True, "completed")
    late = modules.run("failover_wait", failover_id=failover_id, wait_timeout=1)
    assert late["error"]["code"] == "step_incomplete"
    assert late["error"]["details"]["remaining"][0] == "approved"
    modules.change("failover_approval", read, operator=APPROVER, failover_id=failover_id, state="approved")
    assert modules.unchanged("approval", read, failover_id=failover_id)["approved"]

    modules.unchanged("failover_step", read, failover_id=failover_id, step="preflight")
    for step, state in (
        ("drain", "drained"),
        ("promote", "promoted"),
        ("verify", "verified"),
        ("complete", "completed"),
    ):
        modules.change("failover_step", read, failover_id=failover_id, step=step)
        assert read()["state"] == state
        assert active(mesh) == (target if state in ("promoted", "verified", "completed") else source)
    assert modules.unchanged("failover_wait", read, failover_id=failover_id)["reached"]

    report = tmp_path / "report.json"
    modules.change("failover_report", report.exists, failover_id=failover_id, dest=str(report))
    assert json.loads(report.read_text())["state"] == "completed"
    refused = [modules.run("failover", check=c, state="absent", failover_id=failover_id) for c in (True, False)]
    assert [result["error"]["code"] for result in refused] == ["illegal_transition"] * 2


def test_a_plan_is_withdrawn(modules: Modules) -> None:
    mesh = modules.playbooks.mesh
    plan = {"target": passive(mesh), "change_ticket": TICKET, "reason": "withdrawn"}
    failover_id = modules.done("failover", **plan)["failover"]["id"]
    read = failover_of(mesh, failover_id)
    modules.change("failover", read, state="absent", failover_id=failover_id, reason="postponed")
    assert (read()["state"], read()["problem"]) == ("aborted", "postponed")
    modules.unchanged("failover", read, state="absent", failover_id="fo-20000101-000000-0000")


# --- what diverged ------------------------------------------------------------------------------------------------


@pytest.fixture
def diverged(own_mesh: LocalMesh) -> Iterator[tuple[str, str]]:
    """An emergency that cut off what nobody will send again: the cluster that is active now, the divergence's id."""
    with DisasterLoad(own_mesh) as load, load.doomed("doomed") as dead:
        dead.flowing()
        for cluster in ("eu-west", "ap-south"):
            own_mesh.pause(cluster)
        begun = len(dead.ledger.promised)
        until(lambda: len(dead.ledger.promised) >= begun + TAIL, "there is something to lose")
        own_mesh.kill("us-east")
        dead.kill()
        for cluster in ("eu-west", "ap-south"):
            own_mesh.resume(cluster)
        promote(own_mesh, "eu-west")
        own_mesh.start("us-east")
        (found,) = until(lambda: unresolved(own_mesh, "eu-west"), "the tail came back")
        own_mesh.wait_level()
        yield "eu-west", found["id"]


def test_what_diverged_is_replayed(own_mesh: LocalMesh, diverged: tuple[str, str], tmp_path: Path) -> None:
    at, divergence_id = diverged
    modules = Modules(Playbooks(tmp_path, own_mesh, clusters=[at]))

    def read() -> dict[str, Any]:
        with own_mesh.control(clusters=[at]) as client:
            found = client.divergence(divergence_id)["divergence"]
        return {name: found[name] for name in ("resolution", "unresolved", "replayed", "decided_by")}

    shown = modules.unchanged("divergence_info", read, divergence_id=divergence_id, details=True)
    assert shown["divergences"][0]["unresolved"] == read()["unresolved"] > 0
    modules.change("divergence", read, divergence_id=divergence_id, resolution="replay", reason="system test")
    assert (read()["resolution"], read()["unresolved"]) == ("replayed", 0)


# --- inventory, evidence, what a controller counts, and how long it takes -----------------------------------------


def test_the_inventory_has_the_clusters_as_hosts(playbooks: Playbooks) -> None:
    mesh = playbooks.mesh
    source = playbooks.directory / "mesh.yml"
    source.write_text("plugin: omnirelay.mesh.mesh\n")
    with playbooks.started([str(BIN / "ansible-inventory"), "-i", str(source), "--list"]) as running:
        done = running.finish()
    assert done.status == 0, done.output
    shown = json.loads(done.output[done.output.index("{") :])
    assert shown["state_active"]["hosts"] == [active(mesh)]
    assert sorted(shown["_meta"]["hostvars"]) == sorted(mesh.clusters)
    assert shown["region_us_east_1"]["hosts"] == ["us-east"]


def test_a_run_leaves_its_evidence_and_no_secret(playbooks: Playbooks, monkeypatch: pytest.MonkeyPatch) -> None:
    record = playbooks.directory / "runs.jsonl"
    secret = "hunter2-in-a-variable"
    run = playbooks.directory / "run.yml"
    run.write_text(NOISY)
    environment = {"ANSIBLE_CALLBACKS_ENABLED": "omnirelay.mesh.failover_evidence", "OMNIRELAY_EVIDENCE": str(record)}
    extended = Playbooks.environment
    monkeypatch.setattr(Playbooks, "environment", lambda self: extended(self) | environment)
    done = playbooks.run(run, target=passive(playbooks.mesh), password=secret)
    assert done.status == 0, done.output
    assert secret in done.output, "the test would prove nothing if the run did not show it"
    entries = [json.loads(line) for line in record.read_text().splitlines()]
    assert [entry["event"] for entry in entries] == ["run_started", *["task"] * 4, "run_ended"]
    planned, refused = entries[1], entries[3]
    assert planned["result"]["failover"]["target"] == passive(playbooks.mesh)
    assert (refused["status"], refused["result"]["error"]["code"]) == ("failed", "not_found")
    assert secret not in record.read_text()
    verified = playbooks.directory / "verify.yml"
    verified.write_text(VERIFY)
    assert "WHOLE True" in playbooks.run(verified, record=str(record)).output
    record.write_text(record.read_text().replace('"status":"failed"', '"status":"ok"'))
    assert "WHOLE False" in playbooks.run(verified, record=str(record)).output


NOISY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - omnirelay.mesh.failover: {target: "{{ target }}", change_ticket: CHG-7, reason: "{{ password }}"}
      check_mode: true
    - name: Say {{ password }}
      ansible.builtin.debug: {msg: "{{ password }}"}
    - omnirelay.mesh.failover_step: {failover_id: "{{ password }}", step: drain}
      ignore_errors: true
    - ansible.builtin.command: echo {{ password }}
      no_log: true
"""

VERIFY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.debug:
        msg: "WHOLE {{ (lookup('ansible.builtin.file', record) | omnirelay.mesh.broken_evidence) is none }}"
"""


def test_what_a_controller_counts_is_in_the_results(modules: Modules) -> None:
    mesh = modules.playbooks.mesh
    queries = yaml.safe_load((CHECKOUT / "extensions/audit/event_query.yml").read_text())
    step = {"failover": {"source": "us-east", "target": "eu-west"}}
    described = {"cluster_id": "eu-west", "owners": OWNERS, "change_ticket": TICKET}
    results = {
        "omnirelay.mesh.cluster_info": modules.done("cluster_info"),
        "omnirelay.mesh.cluster": modules.done("cluster", **described),
        "omnirelay.mesh.failover_step": step,
    }
    assert queries.keys() == results.keys()
    counted = {}
    for name, result in results.items():
        command = ["jq", "--compact-output", queries[name]["query"]]
        found = subprocess.run(command, input=json.dumps(result), capture_output=True, text=True, check=True).stdout
        nodes = [json.loads(line) for line in found.splitlines()]
        assert all(node["canonical_facts"] == {"cluster_id": node["name"]} for node in nodes)
        counted[name] = sorted(node["name"] for node in nodes)
    assert list(counted.values()) == [sorted(mesh.clusters), ["eu-west"], ["eu-west", "us-east"]]


CALLS = 10

MEASURE = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.set_fact: {begun: "{{ now(utc=true).timestamp() }}"}
    - omnirelay.mesh.cluster_info:
      loop: "{{ range(calls) | list }}"
      loop_control: {label: ""}
    - ansible.builtin.debug: {msg: "SECONDS {{ now(utc=true).timestamp() - (begun | float) }}"}
"""


@pytest.mark.parametrize("way", ["in process", "as a module process"])
def test_one_call_takes_a_fraction_of_a_second(playbooks: Playbooks, way: str) -> None:
    """The figure is printed and not judged: it is the machine's as much as ours. The design asks for 0.7 s."""
    if way == "as a module process":
        without_actions(playbooks)
    measure = playbooks.directory / "measure.yml"
    measure.write_text(MEASURE)
    begun = time.monotonic()
    done = playbooks.run(measure, calls=CALLS)
    assert done.status == 0, done.output
    seconds = float(done.output.partition("SECONDS ")[2].split('"')[0]) / CALLS
    assert 0 < seconds < time.monotonic() - begun
    print(f"one call of cluster_info {way}: {seconds:.2f} s")


def without_actions(playbooks: Playbooks) -> None:
    """The collection without what runs its modules in the controller's own process."""
    root = playbooks.directory / "collections/ansible_collections/omnirelay/mesh"
    (root / "plugins").mkdir(parents=True)
    for name in ("galaxy.yml", "meta", "plugins/modules", "plugins/module_utils", "plugins/doc_fragments"):
        (root / name).symlink_to(CHECKOUT / name)
