"""Where a reader stands in a namespace, and what an answer of the cluster means for it: pure.

A cluster sends whole batches, so the first one after a cursor may begin before it: what the reader has dealt with is
trimmed. The cursor only moves when the application takes a record, so a reader that starts again from a stored cursor
misses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from omnirelay.model import ids
from omnirelay.model.batch import Batch, BatchKind
from omnirelay.model.position import START, Cursor
from omnirelay.model.record import Record
from omnirelay.wire import codec


@dataclass(frozen=True, slots=True)
class Delivery:
    """One record with its place. Store `cursor` to go on after it."""

    record: Record
    cursor: Cursor
    origin: str
    """The log that it is in: cluster and incarnation."""
    epoch: int
    cluster: str
    """The cluster that committed it."""


@dataclass(frozen=True, slots=True)
class DeliveredBatch:
    """Consecutive records of one batch, without those that the reader has dealt with."""

    records: tuple[Record, ...]
    first: Cursor
    """Of the first record; the others follow without gaps."""
    origin: str
    producer_id: str
    producer_sequence: int
    commit_time_ms: int
    """When the origin admitted the batch, by its clock; milliseconds since the Unix epoch."""

    @property
    def last(self) -> Cursor:
        """Store it to go on after the batch."""
        return Cursor(self.first.epoch, self.first.sequence + len(self.records) - 1)

    def deliveries(self) -> list[Delivery]:
        epoch, sequence = self.first.epoch, self.first.sequence
        cluster = ids.cluster_of(self.origin)
        return [
            Delivery(record, Cursor(epoch, sequence + index), self.origin, epoch, cluster)
            for index, record in enumerate(self.records)
        ]


@dataclass(frozen=True, slots=True)
class Fence:
    """What was delivered beyond `cut` is not valid any more; reading goes on from there."""

    cut: Cursor
    epoch: int
    """The ownership that fenced it."""
    rolled_back: bool
    """Whether this reader had gone beyond the cut, so that it may have something to undo."""
    withdrawn: tuple[Delivery, ...] = ()
    """The records beyond the cut that this reader was given, in order, as far as the serving cluster holds them."""


class Reader:
    def __init__(self, cursor: Cursor | None = None) -> None:
        self.cursor = cursor
        """The last record that was dealt with; None before the first, when reading begins where it was asked to."""
        self._withdrawn: list[Delivery] = []

    def batch(self, batch: Batch) -> DeliveredBatch | None:
        """What of a batch is new and meant for readers. Raises MalformedBatch."""
        header = batch.header
        at = self.cursor or START
        if header.kind is not BatchKind.DATA or Cursor(header.epoch, header.last_sequence) <= at:
            return None
        skip = max(0, at.sequence - header.first_sequence + 1) if header.epoch == at.epoch else 0
        return DeliveredBatch(
            tuple(codec.decode_record_set(batch.records)[skip:]),
            Cursor(header.epoch, header.first_sequence + skip),
            header.origin,
            header.producer_id,
            header.producer_sequence,
            header.commit_time_ms,
        )

    def dealt_with(self, cursor: Cursor) -> None:
        """The application has everything up to here."""
        if self.cursor is None or cursor > self.cursor:
            self.cursor = cursor

    def withdraw(self, batch: Batch) -> None:
        """A batch that is not valid any more; of its records those count that this reader has dealt with."""
        at, header = self.cursor or START, batch.header
        whole = DeliveredBatch(
            tuple(codec.decode_record_set(batch.records)),
            Cursor(header.epoch, header.first_sequence),
            header.origin,
            header.producer_id,
            header.producer_sequence,
            header.commit_time_ms,
        )
        self._withdrawn += [each for each in whole.deliveries() if each.cursor <= at]

    def fence(self, cut: Cursor, epoch: int) -> Fence:
        rolled_back = self.cursor is not None and self.cursor > cut
        if rolled_back:
            self.cursor = cut
        withdrawn, self._withdrawn = self._withdrawn, []
        return Fence(cut, epoch, rolled_back, tuple(each for each in withdrawn if each.cursor > cut))
