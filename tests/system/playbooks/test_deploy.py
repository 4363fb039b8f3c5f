"""A rolling upgrade of a mesh of real processes, under load, where a command stands in for systemd."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.system.support.playbooks import Finished, Playbooks, active

from omnirelay import __version__
from omnirelay.demo.ledger import judge
from omnirelay.demo.load import Load
from omnirelay.demo.mesh import CLIENT, LocalMesh

pytestmark = pytest.mark.timeout(900)  # up to four runs of a playbook that restarts three processes

FQCN = "omnirelay.mesh.deploy"
RESTART = """
import os, pathlib, signal, subprocess, sys, time
name, prefix = sys.argv[1], pathlib.Path(sys.argv[2])
pid = prefix / f"{name}.pid"
old = int(pid.read_text())
os.kill(old, signal.SIGTERM)
end = time.monotonic() + 20
while os.path.exists(f"/proc/{old}") and open(f"/proc/{old}/stat").read().split()[2] != "Z":
    assert time.monotonic() < end, "it does not stop"
    time.sleep(0.01)
config = prefix / f"etc/omnirelay/{name}/replicator.yaml"
command = [str(prefix / f"opt/omnirelay/clusters/{name}/bin/python"), "-m", "omnirelay.cli", "replicator", "run"]
with open(prefix / f"{name}.log", "ab") as out:
    process = subprocess.Popen([*command, "--config", str(config)], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                               start_new_session=True)
pid.write_text(str(process.pid))
"""


class Deployment:
    """The mesh's clusters as hosts of an inventory. They were started by hand; what is deployed takes their place."""

    def __init__(self, mesh: LocalMesh, directory: Path) -> None:
        self.mesh = mesh
        self.playbooks = Playbooks(directory, mesh)
        self.prefix = directory / "root"
        release = self.prefix / "opt/omnirelay/releases" / __version__
        release.mkdir(parents=True)
        for part in ("bin", "lib", "pyvenv.cfg"):  # the environment that the tests run in
            (release / part).symlink_to(Path(sys.prefix) / part)
        (release / "installed").touch()
        hosts = {}
        for cluster, member in mesh.members.items():
            assert member.process is not None
            (self.prefix / f"{cluster}.pid").write_text(str(member.process.pid))
            settings = yaml.safe_load(member.config.read_text())
            hosts[cluster] = {
                "ansible_connection": "local",
                "replicator_listen_grpc": settings["listen"]["grpc"],
                "replicator_listen_control": settings["listen"]["control"],
                "replicator_ca": str(mesh.pki / "ca.crt"),
                "replicator_certificate": str(mesh.pki / f"{cluster}.crt"),
                "replicator_key": str(mesh.pki / f"{cluster}.key"),
                "replicator_restart": [sys.executable, "-c", RESTART, cluster, str(self.prefix)],
                "mesh_settings": {name: settings[name] for name in ("data_dir", "coordination", "access")},
            }
        variables = {
            "ansible_python_interpreter": sys.executable,
            "replicator_prefix": str(self.prefix),
            "replicator_version": __version__,
            "replicator_settings": "{{ mesh_settings | combine({'log_level': mesh_log_level}) }}",
            "mesh_become": False,
        }
        self.inventory = directory / "inventory.yml"
        self.inventory.write_text(yaml.safe_dump({"replicators": {"hosts": hosts, "vars": variables}}))

    def run(self, *arguments: str, level: str, **variables: Any) -> Finished:
        return self.playbooks.run(FQCN, "-i", str(self.inventory), *arguments, mesh_log_level=level, **variables)

    def processes(self) -> dict[str, int]:
        return {cluster: int((self.prefix / f"{cluster}.pid").read_text()) for cluster in self.mesh.clusters}

    def stop(self) -> None:
        first = {member.process.pid for member in self.mesh.members.values() if member.process}
        for process in set(self.processes().values()) - first:
            os.kill(process, signal.SIGCONT)
            os.kill(process, signal.SIGKILL)


@pytest.fixture
def deployment(own_mesh: LocalMesh, tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(own_mesh, tmp_path)
    yield made
    made.stop()


def test_it_rolls_passive_clusters_first_and_the_active_one_only_when_told(deployment: Deployment) -> None:
    mesh, before = deployment.mesh, deployment.processes()
    endpoints = {member.cluster: member.grpc for member in mesh.members.values()}
    with Load(endpoints, mesh.credentials(CLIENT), rate=100, seed=1) as load:
        load.wait_flowing(30)
        foreseen = deployment.run("--check", level="debug", mesh_deploy_active=True)
        assert foreseen.status == 0, foreseen.output
        assert deployment.processes() == before

        held = deployment.run(level="debug")
        assert held.status != 0
        assert "us-east is active for default" in held.output, held.output
        passive = deployment.processes()
        assert {name for name in passive if passive[name] != before[name]} == {"eu-west", "ap-south"}

        told = deployment.run(level="debug", mesh_deploy_active=True)
        assert told.status == 0, told.output
        after = deployment.processes()
        assert {name for name in after if after[name] != passive[name]} == {"us-east"}

        again = deployment.run(level="debug")
        assert again.status == 0, again.output
        assert deployment.processes() == after
        verdict = judge(load.finish())
    assert active(mesh) == "us-east"
    assert verdict.acknowledged > 0
    assert (verdict.lost, verdict.duplicated, verdict.reordered, verdict.consistent) == (0, 0, 0, True)


def test_nobody_is_restarted_while_another_is_away(deployment: Deployment) -> None:
    before = deployment.processes()
    deployment.mesh.pause("ap-south")
    done = deployment.run(level="debug", mesh_settle_timeout=8, mesh_deploy_active=True)
    assert done.status != 0
    assert "not touched while the mesh is not level" in done.output, done.output
    assert deployment.processes() == before
    deployment.mesh.resume("ap-south")


def test_a_limit_is_refused_because_the_order_and_the_gate_are_the_playbooks(deployment: Deployment) -> None:
    before = deployment.processes()
    done = deployment.run("--limit", "eu-west", level="debug")
    assert done.status != 0
    assert "runs as a whole" in done.output
    assert deployment.processes() == before


def test_a_group_without_hosts_is_an_error(deployment: Deployment) -> None:
    done = deployment.run(level="debug", mesh_hosts="nobody")
    assert done.status != 0
    assert "has no host in the group nobody" in done.output
