"""Every playbook that is shipped, started in every way there is, with each ansible-core that is supported.

A playbook without a row in PLAYBOOKS fails here, and so does one without its wrapper in runbooks/.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.system.support.playbooks import CHECKOUT, CORES, Finished, Playbooks, active, deciding, passive, state_of

from omnirelay.demo.mesh import LocalMesh
from omnirelay.demo.planned import approve

pytestmark = pytest.mark.timeout(180)

Variables = Mapping[str, Any]
TICKET = {"mesh_change_ticket": "CHG-7", "mesh_reason": "every playbook"}


# --- what each playbook is given --------------------------------------------------------------------------------------


def nothing(mesh: LocalMesh) -> Variables:
    return {}


def plan(mesh: LocalMesh) -> Variables:
    return {"mesh_target": passive(mesh), **TICKET}


def broken_glass(mesh: LocalMesh) -> Variables:
    return {**plan(mesh), "mesh_break_glass": True}


def open_failover(mesh: LocalMesh) -> Variables:
    """Of a plan that waits for its approval."""
    request = {"mode": "planned", "target": passive(mesh), "namespaces": [], "reason": "open", "change_ticket": "CHG-7"}
    with mesh.control() as client:
        return {"mesh_failover_id": client.plan_failover({**request, "limits": {}})["id"]}


def completed_failover(mesh: LocalMesh) -> Variables:
    """The last one that moved anything: going home from it is possible, for nobody has moved since."""
    with mesh.control() as client:
        done = [failover for failover in client.failovers() if failover["state"] == "completed"]
    last = max(done, key=lambda failover: failover["created_at"])
    return {"mesh_reverses": last["id"], **TICKET}


def alert(mesh: LocalMesh) -> Variables:
    """About the active cluster, with nothing open that somebody is at work on."""
    with mesh.control() as client:
        for failover in client.failovers():
            if failover["state"] in ("awaiting_approval", "approved"):
                client.step(failover["id"], "abort", reason="the next test begins")
    return {"mesh_alert_cluster": active(mesh), **TICKET}


PLAYBOOKS: Mapping[str, Callable[[LocalMesh], Variables]] = {
    "abort_failover": open_failover,
    "alert_response": alert,
    "drill": plan,
    "emergency_failover": broken_glass,
    "failback": completed_failover,
    "planned_failover": plan,
    "preflight": plan,
    "status": nothing,
}
WORKFLOW = frozenset({"planned_failover_execute", "planned_failover_finish", "planned_failover_prepare"})
ELSEWHERE = WORKFLOW | {"awx_approval", "awx_setup", "deploy"}
"""These need more than a mesh, or what a node before has handed on: test_workflow.py, test_awx.py and test_deploy.py
run them. What they do with `--limit nowhere` needs nothing, and is held here."""
READS = frozenset({"preflight", "status"})
"""These change nothing in a real run either."""


@pytest.fixture(scope="module")
def mesh(mesh: LocalMesh, tmp_path_factory: pytest.TempPathFactory) -> LocalMesh:
    """A mesh that was failed over once, so that there is something to go back from."""
    done = Playbooks(tmp_path_factory.mktemp("first"), mesh).run_deciding(named("planned_failover"), **plan(mesh))
    assert done.status == 0, done.output
    return mesh


def named(name: str) -> str:
    return f"omnirelay.mesh.{name}"


def wrapper(name: str) -> Path:
    return CHECKOUT / f"runbooks/{name}.yml"


def run(playbooks: Playbooks, playbook: str | Path, *arguments: str, **variables: Any) -> Finished:
    """A person approves as soon as the gate waits, if there is one."""
    mesh = playbooks.mesh
    with playbooks.start(playbook, *arguments, mesh_approval_mode="api", **variables) as running:
        return deciding(running, lambda failover_id: approve(mesh, failover_id))


def assert_it_did_what_it_is_for(name: str, mesh: LocalMesh, before: Mapping[str, Any], variables: Variables) -> None:
    """By the control plane's word, not the playbook's."""
    after = state_of(mesh)
    if name in READS:
        assert after == before
    elif name == "abort_failover":
        with mesh.control() as client:
            assert client.failover(variables["mesh_failover_id"]).body["state"] == "aborted"
    elif name == "alert_response":
        newest = max(after["failovers"], key=lambda failover: failover["created_at"])
        assert (newest["state"], after["routing"]) == ("awaiting_approval", before["routing"])
    else:
        assert after["routing"] != before["routing"]
        newest = max(after["failovers"], key=lambda failover: failover["created_at"])
        assert (newest["state"], active(mesh)) == ("completed", newest["target"])


@pytest.fixture(params=CORES)
def playbooks(request: pytest.FixtureRequest, mesh: LocalMesh, tmp_path: Path) -> Playbooks:
    return Playbooks(tmp_path, mesh, bin=CORES[request.param])


each = pytest.mark.parametrize("name", PLAYBOOKS)


def test_each_playbook_of_the_collection_has_a_row_here_and_a_wrapper() -> None:
    shipped = {path.stem for path in (CHECKOUT / "playbooks").glob("*.yml")}
    assert shipped == set(PLAYBOOKS) | ELSEWHERE
    wrappers = {path.stem: path.read_text() for path in (CHECKOUT / "runbooks").glob("*.yml")}
    assert set(wrappers) == shipped
    for name, text in wrappers.items():
        assert f"import_playbook: {named(name)}\n" in text


# --- the ways to start it ---------------------------------------------------------------------------------------------


@each
def test_by_name_or_wrapper_it_does_what_it_is_for(playbooks: Playbooks, name: str) -> None:
    """The installed ansible-core is given the name, the oldest the wrapper: each way to start it, and each core."""
    mesh = playbooks.mesh
    variables = PLAYBOOKS[name](mesh)
    before = state_of(mesh)
    playbook = named(name) if playbooks.bin == CORES["installed"] else wrapper(name)
    done = run(playbooks, playbook, **variables)
    assert done.status == 0, done.output
    assert_it_did_what_it_is_for(name, mesh, before, variables)


@each
def test_through_ansible_runner_it_does_what_it_is_for(playbooks: Playbooks, name: str) -> None:
    mesh = playbooks.mesh
    variables = PLAYBOOKS[name](mesh)
    before = state_of(mesh)
    job = playbooks.directory / "job"
    for folder in ("project", "env"):
        (job / folder).mkdir(parents=True)
    (job / "env/extravars").write_text(json.dumps(variables))
    (job / f"project/{name}.yml").symlink_to(wrapper(name))
    command = [str(playbooks.bin / "ansible-runner"), "run", str(job), "--playbook", f"{name}.yml", "--ident", "1"]
    with playbooks.started(command) as running:
        done = deciding(running, lambda failover_id: approve(mesh, failover_id))
    assert done.status == 0, done.output
    assert (job / "artifacts/1/status").read_text() == "successful"
    assert_it_did_what_it_is_for(name, mesh, before, variables)


@each
def test_in_check_mode_it_changes_nothing(playbooks: Playbooks, name: str) -> None:
    variables = PLAYBOOKS[name](playbooks.mesh)
    before = state_of(playbooks.mesh)
    done = playbooks.run(named(name), "--check", "--diff", **variables)
    assert done.status == 0, done.output
    assert state_of(playbooks.mesh) == before


@pytest.mark.parametrize("started_as", [named, wrapper], ids=["name", "wrapper"])
@pytest.mark.parametrize("name", sorted({*PLAYBOOKS, *ELSEWHERE}))
def test_limited_to_nowhere_it_is_not_green(
    playbooks: Playbooks, name: str, started_as: Callable[[str], str | Path]
) -> None:
    variables = PLAYBOOKS.get(name, nothing)(playbooks.mesh)
    before = state_of(playbooks.mesh)
    done = playbooks.run(started_as(name), "--limit", "nowhere", **variables)
    assert done.status != 0, done.output
    assert "runs as a whole" in done.output
    assert "TASK [" not in done.output
    assert state_of(playbooks.mesh) == before


@pytest.mark.parametrize("limit", ["localhost:!localhost", "localhost:&nowhere"])
def test_limited_to_a_pattern_that_names_the_host_and_excludes_it_is_not_green(
    playbooks: Playbooks, limit: str
) -> None:
    done = playbooks.run(named("status"), "--limit", limit)
    assert done.status != 0, done.output
    assert "runs as a whole" in done.output
