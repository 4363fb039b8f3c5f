"""I6: every reader is given the same records in the same order, and all of them."""

from __future__ import annotations

from collections import defaultdict

from omnirelay.model.batch import Batch
from omnirelay.model.position import START, Cursor
from omnirelay.ports.streams import FenceNotice
from omnirelay.testing.simulation.checkers.base import Checker, Fail
from omnirelay.testing.simulation.checkers.facts import Facts
from omnirelay.testing.simulation.workload import SimulatedConsumer


class DeliveryChecker(Checker):
    def __init__(self, facts: Facts, fail: Fail) -> None:
        super().__init__(facts, fail)
        self._given: dict[SimulatedConsumer, list[Batch]] = defaultdict(list)

    def delivered(self, consumer: SimulatedConsumer, batch: Batch) -> None:
        given = self._given[consumer]
        at = _end(given[-1]) if given else START
        header = batch.header
        if _end(batch) <= at:
            self.fail("I6", f"{consumer.name} is given {_end(batch)} after {at}")
        due = self._due_after(consumer.namespace, at, header.epoch)
        if due is None or due.digest != batch.digest:
            self.fail("I6", f"{consumer.name} is given {_end(batch)} after {at}; {due and _end(due)} is next")
        given.append(batch)

    def _due_after(self, namespace: str, at: Cursor, upto: int) -> Batch | None:
        """The next data batch of the order, through epochs that are over, up to epoch `upto`."""
        route = self.facts.route(namespace)
        for ownership in route.history if route else ():
            if at.epoch <= ownership.epoch <= upto:
                after = at.sequence if ownership.epoch == at.epoch else 0
                due = self.facts.next_after(namespace, ownership.epoch, after)
                if due is not None and (ownership.epoch == upto or self.facts.is_valid(due)):
                    return due
        return None

    def fenced(self, consumer: SimulatedConsumer, notice: FenceNotice) -> None:
        route = self.facts.route(consumer.namespace)
        if route is None or not any(o.cut == notice.cut and o.epoch == notice.epoch for o in route.history):
            self.fail("I6", f"{consumer.name} is told of a cut {notice.cut} by epoch {notice.epoch} that there is not")
        given = self._given[consumer]
        while given and _end(given[-1]) > notice.cut:
            given.pop()

    def at_end(self) -> None:
        for consumer, given in self._given.items():
            order = self.facts.valid_order(consumer.namespace)
            if [batch.digest for batch in given] != [batch.digest for batch in order]:
                self.fail("I6", f"{consumer.name} has {len(given)} batches, the order has {len(order)}")


def _end(batch: Batch) -> Cursor:
    return Cursor(batch.header.epoch, batch.header.last_sequence)
