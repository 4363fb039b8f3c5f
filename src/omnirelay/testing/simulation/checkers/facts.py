"""What is so: read from the disks and from the coordination store themselves, step by step."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from omnirelay.failover.divergence import Decision
from omnirelay.failover.record import Failover, Mode
from omnirelay.model.batch import Batch, BatchKind
from omnirelay.model.position import Cursor
from omnirelay.model.routing import Ownership, Route, RoutingDocument
from omnirelay.ports.coordination import Change, Entry
from omnirelay.runtime.documents import DIVERGENCES, FAILOVERS, LEASES, REPORTS, ROUTING, ROUTING_DOCUMENT
from omnirelay.testing.simulation.cluster import Cluster
from omnirelay.testing.simulation.store import SimulatedStore
from omnirelay.testing.simulation.workload import SimulatedProducer


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

History = Sequence[Ownership]
"""A namespace's ownerships, oldest first. What it makes valid is worked out here by the definition, and not by the
product's own functions: the checkers must not share their mistakes."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What a producer was told."""

    sent: Sent
    life: int
    """Of the producer, see `SimulatedProducer`."""
    remote_copies: int
    """Other clusters that were said to hold it."""


def place(batch: Batch) -> Cursor:
    return Cursor(batch.header.epoch, batch.header.last_sequence)


def is_valid(history: History, at: Cursor) -> bool:
    return all(at <= ownership.cut for ownership in history if ownership.epoch > at.epoch)


def payload(batch: Batch) -> bytes:
    """What a producer offered, also where it was replayed with its provenance."""
    return batch.records.split(b"|")[0]


def _is_mark(entry: Entry) -> bool:
    """Keeps others from a claim that was taken away."""
    return LEASES.decode(entry.value).revoked


class Facts:
    def __init__(self, clusters: Mapping[str, Cluster], store: SimulatedStore) -> None:
        self.clusters = clusters
        self.store = store
        self.producers: dict[str, SimulatedProducer] = {}
        """By name; for their lives and what they ask for, no more."""
        self.routing = RoutingDocument()
        self.failovers: dict[str, Failover] = {}
        self._revision = store.revision
        self._seen: dict[tuple[str, str], int] = defaultdict(int)
        self.batches: dict[tuple[str, int], Batch] = {}
        """(origin, first sequence) → the batch, once any disk holds it."""
        self.by_digest: dict[bytes, Batch] = {}
        self.order: dict[tuple[str, int], list[Batch]] = defaultdict(list)
        """(namespace, epoch) → its data batches, as their origin numbered them."""
        self.attempts: dict[Sent, list[Held]] = defaultdict(list)
        """Every batch under a producer's number."""
        self.on_disk: dict[str, set[Sent]] = defaultdict(set)
        """Cluster → what of the producers its disk holds, in whichever epoch."""
        self.acknowledged: dict[bytes, Acknowledged] = {}
        """By payload."""
        self.decisions: dict[str, Decision] = {}
        """About divergences, by id."""
        self.reported_at: dict[str, float] = {}
        """Cluster → when its last report was stored."""
        self._claiming: set[int] = set()
        """Leases under which somebody has claimed a namespace."""

    def route(self, namespace: str) -> Route | None:
        return self.routing.routes.get(namespace)

    def history(self, namespace: str) -> History:
        route = self.route(namespace)
        return route.history if route else ()

    def is_valid(self, batch: Batch) -> bool:
        history = self.history(batch.header.namespace)
        return bool(history) and is_valid(history, place(batch))

    def valid_order(self, namespace: str, history: History | None = None) -> list[Batch]:
        """The namespace's valid data batches in their one order."""
        history = self.history(namespace) if history is None else history
        return [b for o in history for b in self.order[namespace, o.epoch] if is_valid(history, place(b))]

    def next_valid(self, namespace: str, history: History, after: Cursor) -> Batch | None:
        """The first valid data batch of the order beyond a place."""
        for ownership in history:
            if ownership.epoch < after.epoch:
                continue
            batches = self.order[namespace, ownership.epoch]
            sequence = after.sequence if ownership.epoch == after.epoch else 0
            at = bisect_right(batches, sequence, key=lambda batch: batch.header.last_sequence)
            if at < len(batches) and is_valid(history, place(batches[at])):
                return batches[at]
        return None

    def missing_upto(self, cluster: Cluster, namespace: str, history: History, end: Cursor) -> Batch | None:
        """A valid data batch up to a place that the cluster's disk lacks."""
        for ownership in history:
            if ownership.epoch > end.epoch:
                break
            batches = self.order[namespace, ownership.epoch]
            at = bisect_right(batches, end, key=place)
            while at and not is_valid(history, place(batches[at - 1])):
                at -= 1
            if at and not self.holds(cluster, batches[at - 1]):
                return batches[at - 1]
        return None

    def dropped(self) -> Iterator[Batch]:
        """What retention has dropped somewhere."""
        for cluster in self.clusters.values():
            for origin, on_disk in cluster.disk.origins.items():
                yield from (self.batches[origin, header.first_sequence] for header in on_disk.dropped)

    def holds(self, cluster: Cluster, batch: Batch) -> bool:
        on_disk = cluster.disk.origins.get(batch.header.origin)
        return on_disk is not None and on_disk.head.sequence >= batch.header.last_sequence

    def cut_off(self, failover: Failover) -> dict[str, list[Batch]]:
        """Namespace → the data batches that an emergency fenced, and nothing before it had."""
        found: dict[str, list[Batch]] = {}
        for namespace, epoch in failover.expected_epochs.items():
            before = [o for o in self.history(namespace) if o.epoch <= epoch]
            cut = failover.cuts[namespace]
            found[namespace] = [b for b in self.valid_order(namespace, before) if place(b) > cut]
        return found

    @property
    def emergencies(self) -> list[Failover]:
        """Those that promoted."""
        return [f for f in self.failovers.values() if f.request.mode is Mode.EMERGENCY and f.routing_version]

    def leases_stand(self, cluster: Cluster) -> bool:
        """Whether the store still honours a lease under which the cluster's present process has claimed anything. The
        leases of the marks that it left on others' claims say nothing about its own."""
        leases = cluster.client.leases if cluster.client else ()
        return any(lease in self._claiming and self.store.stands(lease) for lease in leases)

    def holds_lease(self, cluster: Cluster, namespace: str) -> bool:
        """Whether the store has the namespace in the name of the cluster's present process, or keeps it from all others
        while a claim that was taken away may still be used."""
        entry, client = self.store.get(LEASES.key(namespace)), cluster.client
        if entry is None or client is None or not self.store.stands(entry.lease):
            return False
        claim = LEASES.decode(entry.value)
        return entry.lease in client.leases or (claim.revoked and claim.cluster == cluster.name)

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
            elif change.key.startswith(DIVERGENCES.prefix) and change.entry:
                self.decisions[DIVERGENCES.name(change.key)] = DIVERGENCES.decode(change.entry.value)
            elif change.key.startswith(REPORTS.prefix) and change.entry:
                self.reported_at[REPORTS.name(change.key)] = self.store.now
            elif change.key.startswith(LEASES.prefix) and change.entry and not _is_mark(change.entry):
                self._claiming.add(change.entry.lease)

    def new_batches(self, cluster: Cluster) -> list[Held]:
        """What the cluster's disk has got since the last call."""
        found = []
        for origin, on_disk in cluster.disk.origins.items():
            seen, dropped = self._seen[cluster.name, origin], len(on_disk.dropped)
            if dropped + len(on_disk.batches) != seen:
                self._seen[cluster.name, origin] = dropped + len(on_disk.batches)
                # What came and went in one step was held by every peer before.
                gone = [self.batches[origin, header.first_sequence] for header in on_disk.dropped[seen:]]
                for batch in gone + on_disk.batches[max(0, seen - dropped) :]:
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
            self.by_digest[held.batch.digest] = held.batch
            self.order[header.namespace, header.epoch].append(held.batch)
            self.attempts[sent].append(held)
