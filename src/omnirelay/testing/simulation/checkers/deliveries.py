"""I6, I7: every reader is given the same records in the same order, all of them, and is told which were taken back."""

from __future__ import annotations

from collections import defaultdict

from omnirelay.model.batch import Batch
from omnirelay.model.position import Cursor
from omnirelay.ports.streams import FenceNotice
from omnirelay.runtime.delivering import ToReader
from omnirelay.testing.simulation.checkers.base import Checker, Fail
from omnirelay.testing.simulation.checkers.facts import Facts, is_valid, place
from omnirelay.testing.simulation.cluster import Cluster
from omnirelay.testing.simulation.workload import SimulatedConsumer


class DeliveryChecker(Checker):
    def __init__(self, facts: Facts, fail: Fail) -> None:
        super().__init__(facts, fail)
        self._given: dict[SimulatedConsumer, list[Batch]] = defaultdict(list)
        self._withdrawn: dict[SimulatedConsumer, list[Batch]] = defaultdict(list)

    def delivers(self, cluster: Cluster, namespace: str, after: Cursor, epochs: int, message: ToReader) -> None:
        """The next valid batch of the order, by an epoch history that the cluster has made durable. A history that
        came while the reader was slow may not have been looked at yet: then a fence follows."""
        if not isinstance(message, Batch):
            return
        history = cluster.disk.routes[namespace].history
        for known in range(len(history), max(epochs, 1) - 1, -1):
            due = self.facts.next_valid(namespace, history[:known], after)
            if due is not None and due.digest == message.digest:
                return
        due = self.facts.next_valid(namespace, history, after)
        self.fail("I6", f"{cluster.name} delivers {place(message)} of {namespace} after {after}; {_seen(due)} is next")

    def delivered(self, consumer: SimulatedConsumer, batch: Batch) -> None:
        given = self._given[consumer]
        if given and place(batch) <= place(given[-1]):
            self.fail("I6", f"{consumer.name} is given {place(batch)} after {place(given[-1])}")
        given.append(batch)

    def withdrawn(self, consumer: SimulatedConsumer, batch: Batch) -> None:
        self._withdrawn[consumer].append(batch)

    def fenced(self, consumer: SimulatedConsumer, notice: FenceNotice) -> None:
        """Whoever was given what is not valid any more is told the cut, and these records, as far as the cluster that
        tells it holds them."""
        history = self.facts.history(consumer.namespace)
        if not any(o.cut == notice.cut and o.epoch == notice.epoch for o in history):
            self.fail("I6", f"{consumer.name} is told of a cut {notice.cut} by epoch {notice.epoch} that there is not")
        given, undone = self._given[consumer], set()
        while given and place(given[-1]) > notice.cut:
            batch = given.pop()
            undone.add(batch.digest)
            if is_valid(history, place(batch)):
                self.fail("I6", f"{consumer.name} has {place(batch)} taken back, which is valid")
        listed = {batch.digest for batch in self._withdrawn.pop(consumer, ())}
        server = self.facts.clusters[consumer.served_by]
        for digest in undone - listed:
            batch = self.facts.by_digest[digest]
            if self.facts.holds(server, batch):
                self.fail("I7", f"{consumer.name} is not told that {place(batch)}, which it was given, is fenced")

    def at_end(self) -> None:
        for consumer, given in self._given.items():
            order = self.facts.valid_order(consumer.namespace)
            if [batch.digest for batch in given] != [batch.digest for batch in order]:
                self.fail("I6", f"{consumer.name} has {len(given)} batches, the order has {len(order)}")


def _seen(batch: Batch | None) -> str:
    return str(place(batch)) if batch else "nothing"
