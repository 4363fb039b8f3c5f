"""I1, I2, I3, I5, I7: what is on the disks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from omnirelay.model.batch import GENESIS_DIGEST, Batch, chain_digest
from omnirelay.model.ids import cluster_of
from omnirelay.testing.simulation.checkers.base import Checker, Fail
from omnirelay.testing.simulation.checkers.facts import Facts, Held
from omnirelay.testing.simulation.cluster import Cluster


class LogChecker(Checker):
    def __init__(self, facts: Facts, fail: Fail) -> None:
        super().__init__(facts, fail)
        self._ends: dict[tuple[str, str], tuple[int, bytes]] = defaultdict(lambda: (0, GENESIS_DIGEST))

    def appended(self, cluster: Cluster, batch: Batch, installed: int | None) -> None:
        """I2, at the resource: what the disk knows of the epoch when it takes the batch."""
        header = batch.header
        own = cluster_of(header.origin) == cluster.name
        if installed is None or installed < header.epoch or (own and installed != header.epoch):
            self.fail("I2", f"{cluster.name}, with epoch {installed} installed, appends {_name(batch)}")

    def held(self, cluster: Cluster, held: Held) -> None:
        self._chained(cluster, held.batch)
        self._legal(cluster, held)
        if held.first_seen and held.is_data:
            self._once(held)

    def after_step(self, touched: Iterable[Cluster]) -> None:
        for cluster in touched:
            for origin, on_disk in cluster.disk.origins.items():
                if on_disk.head.sequence < self._ends[cluster.name, origin][0]:
                    self.fail("I7", f"{cluster.name} has lost the end of {origin}")

    def _chained(self, cluster: Cluster, batch: Batch) -> None:
        """I3: gapless and chained; and everybody's copy of an origin is the same."""
        header = batch.header
        end, digest = self._ends[cluster.name, header.origin]
        if header.first_sequence != end + 1:
            self.fail("I3", f"{cluster.name} holds {_name(batch)} after {end}")
        if batch.digest != chain_digest(digest, batch.header_bytes, batch.records):
            self.fail("I3", f"{cluster.name} holds {_name(batch)} with a digest that does not follow")
        if self.facts.batches[header.origin, header.first_sequence].digest != batch.digest:
            self.fail("I3", f"{cluster.name} holds another {_name(batch)} than others")
        self._ends[cluster.name, header.origin] = (header.last_sequence, batch.digest)

    def _legal(self, cluster: Cluster, held: Held) -> None:
        """I1: only an epoch's owner writes in it."""
        header = held.batch.header
        route = self.facts.route(header.namespace)
        owner = route.ownership(header.epoch) if route else None
        if owner is None or owner.origin != header.origin:
            self.fail("I1", f"{_name(held.batch)}, but {owner.origin if owner else 'nobody'} owns that epoch")
        if held.first_seen and cluster_of(header.origin) != cluster.name:
            self.fail("I1", f"{_name(held.batch)} is first seen at {cluster.name}")

    def _once(self, held: Held) -> None:
        """I5: valid once, and in the producer's order."""
        header = held.batch.header
        if not self.facts.is_valid(held.batch):
            return
        namespace, producer, number = header.namespace, header.producer_id, header.producer_sequence
        for other in self.facts.attempts[namespace, producer, number]:
            if self.facts.is_valid(other.batch):
                self.fail("I5", f"{_name(held.batch)} repeats {_name(other.batch)}, which is valid")
        if number <= 1:
            return
        before = self.facts.attempts[namespace, producer, number - 1]
        if not any(self.facts.is_valid(other.batch) for other in before):
            self.fail("I5", f"{_name(held.batch)} follows nothing valid")


def _name(batch: Batch) -> str:
    h = batch.header
    producer = f"{h.producer_id}#{h.producer_sequence}"
    return f"{h.origin}:{h.first_sequence}-{h.last_sequence} ({h.namespace}, epoch {h.epoch}, {h.kind.name} {producer})"
