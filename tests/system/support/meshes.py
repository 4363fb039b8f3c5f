"""Meshes that differ from the plain one, and what one reads from a replicator's other pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests
from prometheus_client.parser import text_string_to_metric_families
from tests.system.support.proxy import Proxy

from omnirelay.client.credentials import Credentials
from omnirelay.demo.mesh import REQUESTER, LocalMesh


@dataclass
class ProxiedMesh(LocalMesh):
    """A mesh in which some clusters are reached by the others through a proxy only."""

    proxied: Sequence[str] = ()
    proxies: dict[str, Proxy] = field(default_factory=dict)
    """Cluster → what stands in front of its gRPC port. Its control API is reached directly."""

    def prepare(self) -> None:
        super().prepare()
        for cluster in self.proxied:
            self.proxies[cluster] = Proxy(self.members[cluster].grpc)

    def stop(self) -> None:
        super().stop()
        for proxy in self.proxies.values():
            proxy.close()

    def descriptor(self, cluster: str, namespaces: Sequence[str] = ()) -> dict[str, Any]:
        described = super().descriptor(cluster, namespaces)
        if cluster in self.proxies:
            described["endpoints"]["grpc"] = self.proxies[cluster].address
        return described

    def cut_off(self, cluster: str, receiver: str) -> None:
        """`receiver` cannot reach `cluster` any more, nor can its next process. What `cluster` receives is another
        connection, and stays."""
        others = [member.process for name, member in self.members.items() if name != receiver]
        self.proxies[cluster].admit_only([process.pid for process in others if process])

    def mend(self, cluster: str) -> None:
        self.proxies[cluster].admit_all()


@dataclass(frozen=True, slots=True)
class Scrape:
    """One reading of /metrics. What has no series is None: the unknown is not a number."""

    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float | None:
        wanted = set(labels.items())
        found = [value for (of, having), value in self.samples.items() if of == name and wanted <= having]
        assert len(found) <= 1, f"{name}{labels} names {len(found)} series"
        return found[0] if found else None

    def known_peer(self, peer: str) -> bool:
        return any(("peer", peer) in labels for _, labels in self.samples)

    def status(self, peer: str, direction: str) -> str:
        """The one status whose series is 1."""
        wanted = {("peer", peer), ("direction", direction)}
        current = [
            dict(labels)["status"]
            for (name, labels), value in self.samples.items()
            if name == "mesh_replication_status" and wanted <= labels and value == 1
        ]
        assert len(current) == 1, f"{peer} {direction} has the statuses {current}"
        return current[0]


class Pages:
    """A replicator's HTTPS pages, read by an operator with a connection that stays open."""

    def __init__(self, mesh: LocalMesh, cluster: str, name: str = REQUESTER) -> None:
        self._url = mesh.members[cluster].control_url
        self.session = session(mesh.credentials(name))

    def get(self, path: str) -> requests.Response:
        return self.session.get(self._url + path, timeout=20)

    def scrape(self) -> Scrape:
        response = self.get("/metrics")
        response.raise_for_status()
        samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(response.text)
            for sample in family.samples
        }
        return Scrape(samples)

    def close(self) -> None:
        self.session.close()


def session(credentials: Credentials) -> requests.Session:
    made = requests.Session()
    made.trust_env = False
    made.verify = str(credentials.ca)
    if credentials.cert is not None:
        made.cert = (str(credentials.cert), str(credentials.key))
    return made
