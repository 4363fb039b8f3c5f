"""What is kept in the coordination store: which keys, and their values as JSON of the model's dataclasses."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import TypeAdapter

from omnirelay.failover.divergence import Decision
from omnirelay.failover.dossier import Dossier
from omnirelay.failover.evidence import ClusterReport, LeaseClaim
from omnirelay.failover.rebuild import Rebuild
from omnirelay.failover.record import Failover
from omnirelay.failover.reseed import Reseed
from omnirelay.model.descriptor import ClusterDescriptor
from omnirelay.model.routing import RoutingDocument

MESH = "mesh/"
"""Everything a replicator watches."""
ROUTING = "mesh/routing"
AUDIT_HEAD = "audit/head"
AUDIT_ENTRIES = "audit/entries/"
"""Entries and head are in the chain's own canonical form (omnirelay.failover.audit_chain), and so are their copies."""

T = TypeVar("T")


class Document(Generic[T]):
    """One kind of value: its keys begin with `prefix`, its JSON follows the dataclass."""

    def __init__(self, prefix: str, type_: type[T]) -> None:
        self.prefix = prefix
        self._adapter: TypeAdapter[T] = TypeAdapter(type_)

    def key(self, name: str) -> str:
        return self.prefix + name

    def name(self, key: str) -> str:
        return key.removeprefix(self.prefix)

    def encode(self, value: T) -> bytes:
        return self._adapter.dump_json(value)

    def decode(self, value: bytes) -> T:
        return self._adapter.validate_json(value)


CLUSTERS = Document("mesh/clusters/", ClusterDescriptor)
ROUTING_DOCUMENT = Document(ROUTING, RoutingDocument)
LEASES = Document("mesh/leases/", LeaseClaim)
LOCKS = Document("mesh/locks/", str)
DIVERGENCES = Document("mesh/divergences/", Decision)
REBUILDS = Document("mesh/rebuilds/", Rebuild)
RESEEDS = Document("mesh/reseeds/", Reseed)
REPORTS = Document("mesh/reports/", ClusterReport)
FAILOVERS = Document("mesh/failovers/", Failover)
TICKETS = Document("mesh/tickets/", Dossier)
"""By failover."""


def audit_key(number: int) -> str:
    """Numbers are padded so that key order is chain order."""
    return f"{AUDIT_ENTRIES}{number:012d}"
