"""The collection's playbooks as users start them: by name, in a process of their own, without a terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnirelay.demo.mesh import REQUESTER, LocalMesh
from omnirelay.demo.planned import GATE_WAITS, approve

CHECKOUT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent
FQCN = "omnirelay.mesh.planned_failover"
PARTS = ("meta", "playbooks", "plugins", "roles")
"""What of the collection must do for everything to run: the rest may be deleted where it is installed."""
CORES = {"installed": BIN, "oldest": CHECKOUT / ".cache/environments/ansible-2.16/bin"}
"""The ansible-cores that the collection is tested with: whose commands, in which directory."""


@dataclass(frozen=True, slots=True)
class Finished:
    status: int
    output: str


@dataclass(frozen=True, slots=True)
class Running:
    """Iterate over it for its lines as they come."""

    process: subprocess.Popen[str]
    seen: list[str]

    def __iter__(self) -> Iterator[str]:
        for line in self.process.stdout:
            self.seen.append(line)
            yield line.rstrip("\n")

    def until(self, text: str) -> str:
        """Reads up to the first line that has this text."""
        for line in self:
            if text in line:
                return line
        raise AssertionError(f"it never said {text!r}:\n{''.join(self.seen)}")

    def kill(self) -> None:
        """SIGKILL for it and its workers."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def finish(self) -> Finished:
        for _ in self:
            pass
        return Finished(self.process.wait(), "".join(self.seen))


@dataclass(frozen=True, slots=True)
class Playbooks:
    """`directory`: where Ansible keeps what it keeps; `mesh`: which mesh the playbooks talk to."""

    directory: Path
    mesh: LocalMesh
    clusters: Sequence[str] = ()
    """Whose control APIs are given to the playbook; by default all."""
    bin: Path = BIN
    """Where the commands of the ansible-core are that runs them."""

    def environment(self) -> dict[str, str]:
        collection = self.directory / "collections/ansible_collections/omnirelay/mesh"
        if not collection.exists():
            collection.mkdir(parents=True)
            for part in PARTS:
                (collection / part).symlink_to(CHECKOUT / part)
        pki = self.mesh.pki
        own = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "OMNIRELAY_"))}
        return own | {
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "PWD": str(self.directory),
            "PYTHONUNBUFFERED": "1",
            "ANSIBLE_HOME": str(self.directory / "home"),
            "ANSIBLE_LOCAL_TEMP": str(self.directory / "tmp"),
            "ANSIBLE_REMOTE_TMP": str(self.directory / "tmp"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.directory / "collections"),
            "OMNIRELAY_ENDPOINT": ",".join(
                self.mesh.members[cluster].control_url for cluster in self.clusters or self.mesh.clusters
            ),
            "OMNIRELAY_CA": str(pki / "ca.crt"),
            "OMNIRELAY_CERT": str(pki / f"{REQUESTER}.crt"),
            "OMNIRELAY_KEY": str(pki / f"{REQUESTER}.key"),
        }

    @contextmanager
    def start(self, playbook: str | Path, *arguments: str, **variables: Any) -> Iterator[Running]:
        """As ansible-playbook; what still runs at the end of the block is killed."""
        with self.started(self.command(playbook, *arguments, **variables)) as running:
            yield running

    def command(self, playbook: str | Path, *arguments: str, **variables: Any) -> list[str]:
        return [str(self.bin / "ansible-playbook"), str(playbook), *arguments, "-e", json.dumps(variables)]

    @contextmanager
    def started(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[Running]:
        process = subprocess.Popen(
            command,
            cwd=self.directory,
            env=self.environment() if environment is None else environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        running = Running(process, [])
        try:
            yield running
        finally:
            if process.poll() is None:
                running.kill()
            process.stdout.close()

    def run(self, playbook: str | Path, *arguments: str, **variables: Any) -> Finished:
        with self.start(playbook, *arguments, **variables) as running:
            return running.finish()

    def run_deciding(
        self, playbook: str | Path, *arguments: str, decide: Callable[[str], object] | None = None, **variables: Any
    ) -> Finished:
        """`decide` is given the failover's id while the gate waits; by default the second person approves."""
        with self.start(playbook, *arguments, mesh_approval_mode="api", **variables) as running:
            return deciding(running, decide or (lambda failover_id: approve(self.mesh, failover_id)))


def deciding(running: Running, decide: Callable[[str], object]) -> Finished:
    """Each failover whose gate waits is decided about once."""
    decided = set()
    for line in running:
        if (waiting := GATE_WAITS.match(line)) and waiting[1] not in decided:
            decided.add(waiting[1])
            decide(waiting[1])
    return running.finish()


def state_of(mesh: LocalMesh) -> Mapping[str, Any]:
    """Everything that a run which changes nothing leaves as it was."""
    with mesh.control() as client:
        return {
            "routing": client.routing().body,
            "failovers": client.failovers(),
            "audit": client.audit(limit=1)["head"],
        }


def active(mesh: LocalMesh, namespace: str = "default") -> str:
    with mesh.control() as client:
        clusters = client.clusters()["clusters"]
    owners = [c["cluster_id"] for c in clusters for owned in c["namespaces"] if owned["namespace"] == namespace]
    (owner,) = owners
    return str(owner)


def passive(mesh: LocalMesh) -> str:
    """A cluster that can become active."""
    return next(cluster for cluster in mesh.clusters if cluster != active(mesh))
