"""A rolling upgrade of a mesh of real processes, under load, where a command stands in for systemd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.support.deployments import Deployment
from tests.system.support.playbooks import active
from tests.system.support.waiting import until

from omnirelay import __version__
from omnirelay.client.control import ControlClient
from omnirelay.demo.ledger import judge
from omnirelay.demo.load import Load
from omnirelay.demo.mesh import CLIENT, LocalMesh

pytestmark = pytest.mark.timeout(900)  # a playbook that restarts three processes, twice


@pytest.fixture
def deployment(own_mesh: LocalMesh, tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(own_mesh, tmp_path)
    yield made
    made.stop()


def test_it_rolls_under_load_and_what_runs_already_is_left_alone(deployment: Deployment) -> None:
    """That the passive come first, and the active only when told, is seen where runbooks/deploy.md is run."""
    mesh, before = deployment.mesh, deployment.processes()
    endpoints = {member.cluster: member.grpc for member in mesh.members.values()}
    with Load(endpoints, mesh.credentials(CLIENT), rate=100, seed=1) as load:
        load.wait_flowing(30)
        told = deployment.run(level="debug", mesh_deploy_active=True)
        assert told.status == 0, told.output
        after = deployment.processes()
        assert all(after[name] != before[name] for name in mesh.clusters)

        again = deployment.run_as_job(mesh_log_level="debug")
        assert again.status == 0, again.output
        assert "PLAY [Roll]" in again.output
        assert deployment.processes() == after
        verdict = judge(load.finish())
    assert active(mesh) == "us-east"
    assert verdict.acknowledged > 0
    assert (verdict.lost, verdict.duplicated, verdict.reordered, verdict.consistent) == (0, 0, 0, True)


def test_nobody_is_restarted_while_another_is_away(deployment: Deployment) -> None:
    """The first cluster is as well as before; the second is away."""
    before = deployment.processes()
    deployment.mesh.pause("eu-west")
    with deployment.mesh.control() as client:
        until(lambda: "eu-west" in not_ready(client), "the mesh has noticed")
    # What a refused run has left to do is not done in its end either.
    done = deployment.run("--force-handlers", level="debug", mesh_settle_timeout=8, mesh_deploy_active=True)
    assert done.status != 0
    assert "not restarted while the mesh is not level" in done.output, done.output
    assert all(member.running for member in deployment.mesh.members.values())
    assert deployment.processes() == before
    deployment.mesh.resume("eu-west")


def test_a_restart_that_a_failed_run_has_left_passes_the_gate_and_is_made_by_the_same_command(
    deployment: Deployment,
) -> None:
    """Its configuration is in place by then: nothing differs any more."""
    mesh, before = deployment.mesh, deployment.processes()
    died = deployment.run(level="debug", replicator_restart=["false"])
    assert died.status != 0
    assert deployment.processes() == before

    mesh.pause("eu-west")
    with mesh.control() as client:
        until(lambda: "eu-west" in not_ready(client), "the mesh has noticed")
    foreseen = deployment.run("--check", level="debug", mesh_settle_timeout=1)
    assert "ap-south is not restarted while the mesh is not level" in foreseen.output, foreseen.output
    mesh.resume("eu-west")

    again = deployment.run(level="debug", mesh_deploy_active=True)
    assert again.status == 0, again.output
    after = deployment.processes()
    assert all(after[name] != before[name] for name in mesh.clusters)


def test_the_release_is_whole_before_the_gate_is_judged(deployment: Deployment) -> None:
    """An installation takes minutes, and what the gate has found would be old after it."""
    before = deployment.processes()
    deployment.add_release("9.9.9", says=__version__)
    done = deployment.run(level="debug", replicator_version="9.9.9")
    assert done.status != 0
    assert f"is version {__version__}, not 9.9.9" in done.output, done.output
    assert "Wait until all clusters are level" not in done.output
    assert deployment.processes() == before


def not_ready(client: ControlClient) -> set[str]:
    return {each["cluster_id"] for each in client.clusters()["clusters"] if not each["ready"]}


@pytest.mark.parametrize("limit", ["eu-west", "localhost,eu-west"])
def test_a_limit_is_refused_because_the_order_and_the_gate_are_the_playbooks(
    deployment: Deployment, limit: str
) -> None:
    before = deployment.processes()
    done = deployment.run("--limit", limit, level="debug")
    assert done.status != 0
    assert "runs as a whole" in done.output
    assert deployment.processes() == before


def test_a_group_without_hosts_is_an_error(deployment: Deployment) -> None:
    done = deployment.run(level="debug", mesh_hosts="nobody")
    assert done.status != 0
    assert "has no host in the group nobody" in done.output
