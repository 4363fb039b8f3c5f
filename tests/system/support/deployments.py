"""The clusters of a mesh as hosts of an inventory, where a command stands in for systemd."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import sysconfig
from pathlib import Path
from typing import Any

import yaml
from tests.system.support.playbooks import CHECKOUT, Finished, Playbooks

from omnirelay import __version__
from omnirelay.demo.mesh import LocalMesh

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
        release = self._release(__version__)
        for part in ("bin", "lib", "pyvenv.cfg"):  # the environment that the tests run in
            (release / part).symlink_to(Path(sys.prefix) / part)
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
            "mesh_log_level": "info",
        }
        self.inventory = directory / "inventory.yml"
        self.inventory.write_text(yaml.safe_dump({"replicators": {"hosts": hosts, "vars": variables}}))

    def _release(self, version: str) -> Path:
        """An environment where the role looks for it, marked as whole."""
        release = self.prefix / "opt/omnirelay/releases" / version
        release.mkdir(parents=True)
        (release / "installed").touch()
        return release

    def add_release(self, version: str, says: str | None = None) -> None:
        """Another release beside the tests' own: the same code, which says of itself that it is this version, or
        another one. What the package needs, it finds where the tests find it."""
        release = self._release(version)
        for part in ("bin", "pyvenv.cfg"):
            (release / part).symlink_to(Path(sys.prefix) / part)
        packages = Path(sysconfig.get_path("purelib"))
        own = release / packages.relative_to(sys.prefix)
        shutil.copytree(CHECKOUT / "src/omnirelay", own / "omnirelay", ignore=shutil.ignore_patterns("__pycache__"))
        (own / "needed.pth").write_text(f"{packages}\n")
        init = own / "omnirelay/__init__.py"
        init.write_text(re.sub(r'(?<=^__version__ = ").*(?="$)', says or version, init.read_text(), flags=re.MULTILINE))

    def run(self, *arguments: str, level: str, **variables: Any) -> Finished:
        return self.playbooks.run(FQCN, "-i", str(self.inventory), *arguments, mesh_log_level=level, **variables)

    def run_as_job(self, **variables: Any) -> Finished:
        """The wrapper, through ansible-runner: as a controller does it."""
        job = self.playbooks.directory / "job"
        for folder in ("project", "env", "inventory"):
            (job / folder).mkdir(parents=True)
        (job / "env/extravars").write_text(json.dumps(variables))
        (job / "project/deploy.yml").symlink_to(CHECKOUT / "runbooks/deploy.yml")
        (job / "inventory/hosts.yml").symlink_to(self.inventory)
        command = [str(self.playbooks.bin / "ansible-runner"), "run", str(job), "--playbook", "deploy.yml"]
        with self.playbooks.started(command) as running:
            return running.finish()

    def processes(self) -> dict[str, int]:
        return {cluster: int((self.prefix / f"{cluster}.pid").read_text()) for cluster in self.mesh.clusters}

    def stop(self) -> None:
        first = {member.process.pid for member in self.mesh.members.values() if member.process}
        for process in set(self.processes().values()) - first:
            os.kill(process, signal.SIGCONT)
            os.kill(process, signal.SIGKILL)
