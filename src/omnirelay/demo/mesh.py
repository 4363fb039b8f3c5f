"""Starts, kills and stops a mesh of replicators on loopback, with an authority and certificates of its own."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from omnirelay import pki
from omnirelay.client.control import ControlClient
from omnirelay.client.credentials import Credentials
from omnirelay.errors import OmniRelayError, StorageUnavailable, Unreachable

REGIONS = {"us-east": "us-east-1", "eu-west": "eu-west-1", "ap-south": "ap-south-1"}
TRUST_DOMAIN = "omnirelay"
REQUESTER, APPROVER, CLIENT = "alice", "bob", "demo"
READY_SECONDS = 30.0
FIRST_PORT = 20_000
EPHEMERAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
DEFAULT_EPHEMERAL_PORT = 32_768


@dataclass(slots=True)
class Member:
    """One cluster of the mesh and the process that runs it."""

    cluster: str
    grpc: str
    control: str
    config: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def control_url(self) -> str:
        return f"https://{self.control}"


@dataclass(slots=True)
class LocalMesh:
    """Use as `with LocalMesh(directory) as mesh`: inside, every cluster serves and is a member; the first owns the
    namespaces. Everything lies below `directory`; leaving the block ends every process."""

    directory: Path
    clusters: Sequence[str] = tuple(REGIONS)
    namespaces: Sequence[str] = ("default",)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Merged into every replicator's configuration."""
    settings_of: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Merged into one replicator's configuration."""
    owners: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Cluster → namespaces it owns at first; by default the first cluster owns all."""
    members: dict[str, Member] = field(default_factory=dict)

    def __enter__(self) -> Self:
        try:
            self.prepare()
            for member in self.members.values():
                self.start(member.cluster, wait=False)
            for member in self.members.values():
                self.wait_ready(member.cluster)
            self.register()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- files -------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Authority, certificates, configuration files; nothing runs yet."""
        now = datetime.now(UTC)
        self.directory.mkdir(parents=True, exist_ok=True)
        pki.create_authority(self.pki, TRUST_DOMAIN, now=now)
        authority = pki.load_authority(self.pki)
        for name in (REQUESTER, APPROVER):
            pki.issue(authority, self.pki, pki.Kind.OPERATOR, name, now=now)
        pki.issue(authority, self.pki, pki.Kind.CLIENT, CLIENT, now=now)
        with _free_ports(2 * len(self.clusters)) as ports:
            for index, cluster in enumerate(self.clusters):
                pki.issue(authority, self.pki, pki.Kind.CLUSTER, cluster, now=now)
                grpc, control = (f"127.0.0.1:{port}" for port in ports[2 * index : 2 * index + 2])
                self.members[cluster] = Member(
                    cluster, grpc, control, self.directory / f"{cluster}.yaml", self.directory / f"{cluster}.log"
                )
                self.write_config(cluster)

    @property
    def pki(self) -> Path:
        return self.directory / "pki"

    def write_config(self, cluster: str) -> None:
        member = self.members[cluster]
        config: dict[str, Any] = {
            "cluster": cluster,
            "data_dir": str(self.directory / cluster),
            "tls": {
                "ca": str(self.pki / "ca.crt"),
                "certificate": str(self.pki / f"{cluster}.crt"),
                "key": str(self.pki / f"{cluster}.key"),
                "trust_domain": TRUST_DOMAIN,
            },
            "coordination": {"kind": "sqlite", "path": str(self.directory / "coordination.db")},
            "listen": {"grpc": member.grpc, "control": member.control},
            "access": [
                {"principal": f"operator/{REQUESTER}", "scopes": ["mesh.operate", "mesh.admin"]},
                {"principal": f"operator/{APPROVER}", "scopes": ["mesh.approve"]},
                {"principal": "client/*", "scopes": ["events.publish", "events.subscribe"]},
            ],
        }
        config = _merged(_merged(config, self.settings), self.settings_of.get(cluster, {}))
        member.config.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    def credentials(self, name: str) -> Credentials:
        return Credentials(self.pki / "ca.crt", self.pki / f"{name}.crt", self.pki / f"{name}.key")

    def control(self, name: str = REQUESTER, clusters: Sequence[str] = ()) -> ControlClient:
        """The control API as operator `name`, at the given clusters in turn (all by default)."""
        urls = [self.members[cluster].control_url for cluster in clusters or self.clusters]
        return ControlClient(urls, credentials=self.credentials(name))

    @property
    def endpoints(self) -> list[str]:
        """gRPC, in the order of the clusters."""
        return [member.grpc for member in self.members.values()]

    # --- processes ---------------------------------------------------------------------------------------------

    def start(self, cluster: str, *, wait: bool = True) -> None:
        member = self.members[cluster]
        if member.running:
            return
        command = [sys.executable, "-m", "omnirelay.cli", "replicator", "run", "--config", str(member.config)]
        with member.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches whoever started the mesh, who then stops it in order.
            member.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        if wait:
            self.wait_ready(cluster)

    def kill(self, cluster: str) -> None:
        """SIGKILL; returns once the process is gone."""
        process = self.members[cluster].process
        if process is not None:
            process.kill()
            process.wait()

    def pause(self, cluster: str) -> None:
        self._signal(cluster, signal.SIGSTOP)

    def resume(self, cluster: str) -> None:
        self._signal(cluster, signal.SIGCONT)

    def _signal(self, cluster: str, number: signal.Signals) -> None:
        process = self.members[cluster].process
        if process is not None:
            os.kill(process.pid, number)

    def stop(self) -> None:
        """SIGTERM to all, SIGKILL to those that do not go."""
        running = [member.process for member in self.members.values() if member.running and member.process]
        for process in running:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def wait_ready(self, cluster: str, seconds: float = READY_SECONDS) -> None:
        """Until the control API answers. Raises StorageUnavailable with the end of the log when the process is gone."""
        end = time.monotonic() + seconds
        member = self.members[cluster]
        with self.control(clusters=[cluster]) as client:
            while True:
                if not member.running:
                    raise StorageUnavailable(f"{cluster} did not start:\n{self.tail(cluster)}", reason="it ended")
                try:
                    client.version()
                except Unreachable:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.05)
                else:
                    return

    def tail(self, cluster: str, lines: int = 30) -> str:
        text = self.members[cluster].log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    # --- the mesh ----------------------------------------------------------------------------------------------

    def register(self) -> None:
        """Makes every cluster a member and waits until each receives from every other."""
        owners = self.owners or {self.clusters[0]: self.namespaces}
        with self.control() as client:
            for cluster in self.clusters:
                client.create_cluster(self.descriptor(cluster, owners.get(cluster, ())))
        self.wait_level()

    def descriptor(self, cluster: str, namespaces: Sequence[str] = ()) -> dict[str, Any]:
        member = self.members[cluster]
        return {
            "cluster_id": cluster,
            "region": REGIONS.get(cluster, cluster),
            "endpoints": {"grpc": member.grpc, "control": member.control_url},
            "owners": ["sre@example.com"],
            "change_ticket": "CHG-0",
            "namespaces": list(namespaces),
        }

    def wait_level(self, seconds: float = READY_SECONDS) -> None:
        """Until every cluster is ready for failover by the API's word, and each knows how far the others are behind."""
        end = time.monotonic() + seconds
        with self.control() as client:
            while True:
                shown: list[str] = []
                try:
                    clusters = client.clusters()["clusters"]
                    shown = [f"{c['cluster_id']}: {'; '.join(c['problems'])}" for c in clusters if not c["ready"]]
                    shown += [
                        f"{c['cluster_id']}: {p['peer']} unknown"
                        for c in clusters
                        for p in c["peers"]
                        if not p["digest_agrees"] or p["outbound"]["lag_seconds"] is None
                    ]
                    if not shown and len(clusters) == len(self.clusters):
                        return
                except OmniRelayError as error:
                    shown = [error.message]
                if time.monotonic() > end:
                    raise Unreachable("the mesh did not become ready: " + " | ".join(shown))
                time.sleep(0.05)

    def remove(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        known = merged.get(name)
        merged[name] = _merged(known, value) if isinstance(known, dict) and isinstance(value, Mapping) else value
    return merged


@contextmanager
def _free_ports(count: int) -> Iterator[list[int]]:
    """Ports that were free a moment ago; held until all are chosen, so that they differ. None of those from which the
    system serves outgoing connections: one could take the port of a replicator that is not up yet, or down."""
    ports = list(range(FIRST_PORT, _first_ephemeral_port())) or list(range(FIRST_PORT, 1 << 16))
    random.shuffle(ports)
    held: list[socket.socket] = []
    try:
        while len(held) < count:
            held.append(socket.socket())
            while not _binds(held[-1], ports.pop()):
                pass
        yield [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def _binds(to: socket.socket, port: int) -> bool:
    try:
        to.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


def _first_ephemeral_port() -> int:
    try:
        return int(EPHEMERAL_PORTS.read_text(encoding="ascii").split()[0])
    except OSError:
        return DEFAULT_EPHEMERAL_PORT
