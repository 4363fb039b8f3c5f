"""What producers were promised and what consumers got, kept outside the mesh, and the verdict on the two.

A record is known by its producer, its serial number and a checksum of what it holds, so a record that arrives with
other content is not the one that was promised. What a fence took back was not delivered. Nothing here asks the mesh:
every figure of a report comes from these books. Times are seconds of one monotonic clock, given by the caller.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from math import inf
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
    """A producer learnt at `at` that `marks` are durable, committed in `epoch`."""

    at: float
    marks: Sequence[Mark]
    epoch: int = 0


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
        self.sendings: dict[str, list[tuple[float, Sequence[Mark]]]] = {producer: [] for producer in self.sent}
        """When which records were handed over."""
        self.acknowledgements: dict[str, list[Acknowledgement]] = {producer: [] for producer in self.sent}
        self.killed: dict[str, float] = {}
        """Producers that were killed, and when."""
        self.received: dict[str, list[Mark]] = {cluster: [] for cluster in clusters}
        self.taken_back: set[Mark] = set()
        self.acknowledged = 0
        """Records."""
        self.held: dict[str, set[Mark]] = {cluster: set() for cluster in self.received}
        """What each cluster has delivered and not taken back."""
        self._places: dict[str, list[Cursor]] = {cluster: [] for cluster in self.received}

    def send(self, producer: str, records: Iterable[Record], at: float = 0.0) -> list[Mark]:
        """The records that are handed to a producer, and what to acknowledge them by."""
        marks = [mark(record) for record in records]
        self.sent[producer] += marks
        self.sendings[producer].append((at, marks))
        return marks

    def acknowledge(self, producer: str, marks: Sequence[Mark], at: float, epoch: int = 0) -> None:
        self.acknowledgements[producer].append(Acknowledgement(at, marks, epoch))
        self.acknowledged += len(marks)

    def kill(self, producer: str, at: float) -> None:
        """The producer is gone, with everything that it had not been told of."""
        self.killed.setdefault(producer, at)

    def deliver(self, cluster: str, first: Cursor, records: Sequence[Record]) -> None:
        """Consecutive records that the consumer at `cluster` got, the first of them at `first`."""
        for index, record in enumerate(records):
            got = mark(record)
            self.received[cluster].append(got)
            self._places[cluster].append(Cursor(first.epoch, first.sequence + index))
            self.held[cluster].add(got)

    def take_back(self, cluster: str, cut: Cursor) -> None:
        """The consumer at `cluster` is told that what it got beyond `cut` is not valid."""
        places, received = self._places[cluster], self.received[cluster]
        while places and places[-1] > cut:
            places.pop()
            got = received.pop()
            self.taken_back.add(got)
            self.held[cluster].discard(got)

    def handed_over(self, before: float) -> set[Mark]:
        """Every record that was handed to a producer before that moment."""
        return {
            sent for sendings in self.sendings.values() for at, marks in list(sendings) if at < before for sent in marks
        }

    def promised(self, producers: Iterable[str] | None = None) -> set[Mark]:
        """Every record that was acknowledged to these producers (all by default)."""
        return {
            promise
            for producer in (self.acknowledgements if producers is None else producers)
            for acknowledgement in list(self.acknowledgements[producer])
            for promise in acknowledgement.marks
        }

    def all_delivered(self, clusters: Iterable[str] | None = None) -> bool:
        """Whether these clusters (all by default) have delivered the last record that is due of each producer, so that
        nothing more is to come: of a producer that was killed the last that was acknowledged, else the last."""
        return all(
            last in self.held[cluster]
            for producer in self.sent
            if (last := self._last_due(producer)) is not None
            for cluster in (self.received if clusters is None else clusters)
        )

    def _last_due(self, producer: str) -> Mark | None:
        if producer not in self.killed:
            return self.sent[producer][-1] if self.sent[producer] else None
        acknowledged = [each for each in self.acknowledgements[producer] if each.marks]
        return acknowledged[-1].marks[-1] if acknowledged else None

    def accepted_at(self, epoch: int) -> float | None:
        """When a producer first learnt that a write is durable in `epoch`."""
        return min(
            (each.at for told in self.acknowledgements.values() for each in list(told) if each.epoch == epoch),
            default=None,
        )

    def outage(self, begin: float, end: float) -> float:
        """The longest time that any producer went without an acknowledgement, of the time between the two moments.
        Those that were killed by then wait for nothing."""
        return max(
            longest_gap([each.at for each in acknowledgements], begin, end)
            for producer, acknowledgements in self.acknowledgements.items()
            if self.killed.get(producer, inf) > end
        )


def longest_gap(times: Sequence[float], begin: float, end: float) -> float:
    """The longest gap between ascending `times` that reaches into begin…end, in its whole length. What never came
    after the last time counts up to `end`: silence is no way to look good."""
    before = [time for time in times if time <= begin][-1:] or [begin]
    after = [time for time in times if time >= end][:1] or [end]
    points = before + [time for time in times if begin < time < end] + after
    return max(later - earlier for earlier, later in pairwise(points))


def judge(ledger: Ledger, begin: float = -inf, end: float = inf) -> Verdict:
    """On the records that were handed over between the two moments; so each record counts in one stretch only."""
    everything = {sent for marks in ledger.sent.values() for sent in marks}
    meant = {
        sent for sendings in ledger.sendings.values() for at, marks in sendings if begin <= at < end for sent in marks
    }
    promised = ledger.promised() & meant
    lost: set[Mark] = set()
    duplicated: set[Mark] = set()
    reordered: set[Mark] = set()
    deliveries = [[got for got in received if got in meant] for received in ledger.received.values()]
    for received in deliveries:
        counts = Counter(received)
        lost |= promised - counts.keys()
        duplicated |= {got for got, times in counts.items() if times > 1}
        reordered |= _out_of_order(received)
    known = everything.issuperset(chain(*ledger.received.values()))
    return Verdict(
        acknowledged=len(promised),
        lost=len(lost),
        duplicated=len(duplicated),
        reordered=len(reordered),
        fenced=len(ledger.taken_back & meant),
        consistent=all(each == deliveries[0] for each in deliveries) and known,
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
