"""What producers were promised and what consumers got, kept outside the mesh, and the verdict on the two.

A record is known by its producer, its serial number and a checksum of what it holds, so a record that arrives with
other content is not the one that was promised. Nothing here asks the mesh: every figure of a report comes from these
books. Times are seconds of one monotonic clock, given by the caller.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import NamedTuple

from omnirelay.demo.workload import identity
from omnirelay.model.position import Cursor
from omnirelay.model.record import Record


class Mark(NamedTuple):
    """What a record is recognised by."""

    producer: str
    serial: int
    checksum: int


def mark(record: Record) -> Mark:
    """Raises ValueError for a record that no workload made."""
    producer, serial = identity(record)
    return Mark(producer, serial, zlib.crc32(record.value, zlib.crc32(record.key)))


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A producer learnt at `at` that `marks` are durable."""

    at: float
    marks: Sequence[Mark]


@dataclass(frozen=True, slots=True)
class Verdict:
    acknowledged: int
    lost: int
    """Acknowledged records that some cluster did not deliver."""
    duplicated: int
    """Records that some cluster delivered more than once."""
    reordered: int
    """Records that some cluster delivered after a later one of the same producer."""
    fenced: int
    """Records that some cluster delivered and took back."""
    consistent: bool
    """Every cluster delivered the same records in the same order, and none that nobody sent."""


class Ledger:
    """Written by one thread; others may read its counts meanwhile."""

    def __init__(self, producers: Iterable[str], clusters: Iterable[str]) -> None:
        self.sent: dict[str, list[Mark]] = {producer: [] for producer in producers}
        self.acknowledgements: dict[str, list[Acknowledgement]] = {producer: [] for producer in self.sent}
        self.received: dict[str, list[Mark]] = {cluster: [] for cluster in clusters}
        self.taken_back: set[Mark] = set()
        self.acknowledged = 0
        """Records."""
        self._places: dict[str, list[Cursor]] = {cluster: [] for cluster in self.received}
        self._furthest: dict[tuple[str, str], int] = {}

    def send(self, producer: str, records: Iterable[Record]) -> list[Mark]:
        """The records that are handed to a producer, and what to acknowledge them by."""
        marks = [mark(record) for record in records]
        self.sent[producer] += marks
        return marks

    def acknowledge(self, producer: str, marks: Sequence[Mark], at: float) -> None:
        self.acknowledgements[producer].append(Acknowledgement(at, marks))
        self.acknowledged += len(marks)

    def deliver(self, cluster: str, first: Cursor, records: Sequence[Record]) -> None:
        """Consecutive records that the consumer at `cluster` got, the first of them at `first`."""
        for index, record in enumerate(records):
            got = mark(record)
            self.received[cluster].append(got)
            self._places[cluster].append(Cursor(first.epoch, first.sequence + index))
            seen = (cluster, got.producer)
            self._furthest[seen] = max(got.serial, self._furthest.get(seen, -1))

    def take_back(self, cluster: str, cut: Cursor) -> None:
        """The consumer at `cluster` is told that what it got beyond `cut` is not valid."""
        places, received = self._places[cluster], self.received[cluster]
        while places and places[-1] > cut:
            places.pop()
            self.taken_back.add(received.pop())

    def all_delivered(self) -> bool:
        """Whether every cluster has delivered each producer's last record, so that nothing more is to come."""
        return all(
            self._furthest.get((cluster, producer), -1) == len(sent) - 1
            for cluster in self.received
            for producer, sent in self.sent.items()
        )

    def outage(self, begin: float, end: float) -> float:
        """The longest time that any producer went without an acknowledgement, of the time between the two moments."""
        return max(
            longest_gap([each.at for each in acknowledgements], begin, end)
            for acknowledgements in self.acknowledgements.values()
        )


def longest_gap(times: Sequence[float], begin: float, end: float) -> float:
    """The longest gap between ascending `times` that reaches into begin…end, in its whole length. What never came
    after the last time counts up to `end`: silence is no way to look good."""
    before = [time for time in times if time <= begin][-1:] or [begin]
    after = [time for time in times if time >= end][:1] or [end]
    points = before + [time for time in times if begin < time < end] + after
    return max(later - earlier for earlier, later in pairwise(points))


def judge(ledger: Ledger) -> Verdict:
    promised = {
        promise
        for acknowledgements in ledger.acknowledgements.values()
        for acknowledgement in acknowledgements
        for promise in acknowledgement.marks
    }
    sent = {sent for marks in ledger.sent.values() for sent in marks}
    lost: set[Mark] = set()
    duplicated: set[Mark] = set()
    reordered: set[Mark] = set()
    for received in ledger.received.values():
        counts = Counter(received)
        lost |= promised - counts.keys()
        duplicated |= {got for got, times in counts.items() if times > 1}
        reordered |= _out_of_order(received)
    deliveries = list(ledger.received.values())
    return Verdict(
        acknowledged=ledger.acknowledged,
        lost=len(lost),
        duplicated=len(duplicated),
        reordered=len(reordered),
        fenced=len(ledger.taken_back),
        consistent=all(each == deliveries[0] for each in deliveries) and sent.issuperset(chain(*deliveries)),
    )


def _out_of_order(received: Iterable[Mark]) -> set[Mark]:
    """Marks whose first delivery came after that of a later record of the same producer."""
    furthest: dict[str, int] = {}
    seen: set[Mark] = set()
    late: set[Mark] = set()
    for got in received:
        if got not in seen and got.serial < furthest.get(got.producer, -1):
            late.add(got)
        seen.add(got)
        furthest[got.producer] = max(got.serial, furthest.get(got.producer, -1))
    return late
