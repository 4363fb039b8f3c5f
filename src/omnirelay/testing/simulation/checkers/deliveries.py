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
        self._held: dict[tuple[str, str, FenceNotice], dict[str, int]] = {}
        """What a cluster held when it first told of a fence: what comes later it cannot have listed."""
        self._late: set[SimulatedConsumer] = set()
        """Of these what they have begins anywhere."""

    def delivers(self, cluster: Cluster, namespace: str, after: Cursor | None, epochs: int, message: ToReader) -> None:
        """The next valid batch of the order, by an epoch history that the cluster has made durable. A history that
        came while the reader was slow may not have been looked at yet: then a fence follows."""
        if isinstance(message, FenceNotice):
            heads = {origin: on_disk.head.sequence for origin, on_disk in cluster.disk.origins.items()}
            self._held.setdefault((cluster.name, namespace, message), heads)
        if not isinstance(message, Batch):
            return
        history = cluster.disk.routes[namespace].history
        for known in range(len(history), max(epochs, 1) - 1, -1):
            if after is None:
                if is_valid(history[:known], place(message)):
                    return
                continue
            due = self.facts.next_valid(namespace, history[:known], after)
            if due is not None and due.digest == message.digest:
                return
        due = None if after is None else self.facts.next_valid(namespace, history, after)
        self.fail("I6", f"{cluster.name} delivers {place(message)} of {namespace} after {after}; {_seen(due)} is next")

    def began_again(self, consumer: SimulatedConsumer) -> None:
        self._given.pop(consumer, None)
        self._withdrawn.pop(consumer, None)
        self._late.add(consumer)

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
        held = self._held[consumer.served_by, consumer.namespace, notice]
        for digest in undone - listed:
            batch = self.facts.by_digest[digest]
            if held.get(batch.header.origin, 0) >= batch.header.last_sequence:
                self.fail("I7", f"{consumer.name} is not told that {place(batch)}, which it was given, is fenced")

    def at_end(self) -> None:
        for consumer, given in self._given.items():
            order = self.facts.valid_order(consumer.namespace)
            if consumer in self._late:
                order = order[len(order) - len(given) :]
            if [batch.digest for batch in given] != [batch.digest for batch in order]:
                self.fail("I6", f"{consumer.name} has {len(given)} batches, the order has {len(order)}")


def _seen(batch: Batch | None) -> str:
    return str(place(batch)) if batch else "nothing"
