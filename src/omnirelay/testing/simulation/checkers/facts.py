"""What is so: read from the disks and from the coordination store themselves, step by step."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omnirelay.failover.record import Failover
from omnirelay.model.batch import Batch, BatchKind
from omnirelay.model.position import Cursor
from omnirelay.model.routing import Route, RoutingDocument
from omnirelay.ports.coordination import Change
from omnirelay.runtime.documents import FAILOVERS, LEASES, ROUTING, ROUTING_DOCUMENT
from omnirelay.testing.simulation.cluster import Cluster
from omnirelay.testing.simulation.store import SimulatedStore


@dataclass(frozen=True, slots=True)
class Held:
    """A batch, as it was found on a disk."""

    batch: Batch
    first_seen: bool
    """On no disk before this one."""

    @property
    def end(self) -> Cursor:
        return Cursor(self.batch.header.epoch, self.batch.header.last_sequence)

    @property
    def is_data(self) -> bool:
        return self.batch.header.kind is BatchKind.DATA


Sent = tuple[str, str, int]
"""Namespace, producer, producer sequence."""


class Facts:
    def __init__(self, clusters: Mapping[str, Cluster], store: SimulatedStore) -> None:
        self.clusters = clusters
        self.store = store
        self.routing = RoutingDocument()
        self.failovers: dict[str, Failover] = {}
        self._revision = store.revision
        self._seen: dict[tuple[str, str], int] = defaultdict(int)
        self.batches: dict[tuple[str, int], Batch] = {}
        """(origin, first sequence) → the batch, once any disk holds it."""
        self.order: dict[tuple[str, int], list[Batch]] = defaultdict(list)
        """(namespace, epoch) → its data batches, as their origin numbered them."""
        self.attempts: dict[Sent, list[Held]] = defaultdict(list)
        """Every batch under a producer's number."""
        self.on_disk: dict[str, set[Sent]] = defaultdict(set)
        """Cluster → what of the producers its disk holds, in whichever epoch."""
        self.acknowledged: dict[bytes, Sent] = {}
        """Payload → the number under which its producer was told that it is durable."""

    def route(self, namespace: str) -> Route | None:
        return self.routing.routes.get(namespace)

    def is_valid(self, batch: Batch) -> bool:
        route = self.route(batch.header.namespace)
        return route is not None and route.is_valid(Cursor(batch.header.epoch, batch.header.last_sequence))

    def valid_order(self, namespace: str) -> list[Batch]:
        """The namespace's valid data batches in their one order."""
        route = self.route(namespace)
        epochs = [o.epoch for o in route.history] if route else []
        return [batch for epoch in epochs for batch in self.order[namespace, epoch] if self.is_valid(batch)]

    def next_after(self, namespace: str, epoch: int, sequence: int) -> Batch | None:
        """The first data batch of the epoch that ends beyond the sequence."""
        batches = self.order[namespace, epoch]
        at = bisect_right(batches, sequence, key=lambda batch: batch.header.last_sequence)
        return batches[at] if at < len(batches) else None

    def leases_stand(self, cluster: Cluster) -> bool:
        """Whether the store still honours a lease that it gave to the cluster's present process."""
        return cluster.client is not None and any(self.store.stands(lease) for lease in cluster.client.leases[-2:])

    def holds_lease(self, cluster: Cluster, namespace: str) -> bool:
        """Whether the store has the namespace in the name of the cluster's present process."""
        entry = self.store.get(LEASES.key(namespace))
        client = cluster.client
        return (
            entry is not None and client is not None and entry.lease in client.leases and self.store.stands(entry.lease)
        )

    # --- how they come to be known -----------------------------------------------------------------------------

    def new_changes(self) -> Sequence[Sequence[Change]]:
        """What the store did since the last call, one element per revision."""
        if self.store.revision == self._revision:
            return ()
        page = self.store.changes_from("", self._revision + 1)
        self._revision = self.store.revision
        return page.elements

    def take_changes(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.key == ROUTING and change.entry:
                self.routing = ROUTING_DOCUMENT.decode(change.entry.value)
            elif change.key.startswith(FAILOVERS.prefix) and change.entry:
                self.failovers[FAILOVERS.name(change.key)] = FAILOVERS.decode(change.entry.value)

    def new_batches(self, cluster: Cluster) -> list[Held]:
        """What the cluster's disk has got since the last call."""
        found = []
        for origin, on_disk in cluster.disk.origins.items():
            seen = self._seen[cluster.name, origin]
            if len(on_disk.batches) != seen:
                self._seen[cluster.name, origin] = len(on_disk.batches)
                for batch in on_disk.batches[seen:]:
                    key = (origin, batch.header.first_sequence)
                    found.append(Held(batch, key not in self.batches))
                    self.batches.setdefault(key, batch)
        return found

    def take_batch(self, cluster: Cluster, held: Held) -> None:
        header = held.batch.header
        if not held.is_data:
            return
        sent = (header.namespace, header.producer_id, header.producer_sequence)
        self.on_disk[cluster.name].add(sent)
        if held.first_seen:
            self.order[header.namespace, header.epoch].append(held.batch)
            self.attempts[sent].append(held)
