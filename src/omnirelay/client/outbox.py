"""What a producer has not had acknowledged yet, and what to do with it: pure, no connection in sight.

The idea: a batch stays here from the moment the application hands it over until a cluster says that it is durable. A
batch gets its producer sequence when it is first sent and keeps it for ever. When a connection opens, the cluster tells
the last sequence that it holds: everything up to there is done, everything after it is sent again, in order, before
anything new. The cluster drops what it had already, so no record is doubled whichever acknowledgement was lost (I5).

One clock bounds the patience: the time since anything was last acknowledged while something waits. It makes no
difference whether the connection is gone, refused or silent, which is why there is no separate "parked" state.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from omnirelay.client.errors import AcknowledgedMissing, ProducerIdInUse
from omnirelay.errors import ConfigInvalid, Overloaded, Unreachable
from omnirelay.model.position import Position

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """What is in flight is sent and not acknowledged; what is buffered includes that."""

    buffered_batches: int = 4096
    buffered_bytes: int = 64 * MIB
    in_flight_batches: int = 256
    in_flight_bytes: int = 16 * MIB
    park_timeout_seconds: float = 30.0
    """Longest time without an acknowledgement, whatever the reason, before the application is told."""
    stall_timeout_seconds: float = 5.0
    """Longest time that an open connection may leave batches unacknowledged before another is tried."""

    def __post_init__(self) -> None:
        if min(self.buffered_batches, self.buffered_bytes, self.in_flight_batches, self.in_flight_bytes) < 1:
            raise ConfigInvalid("the outbox's limits of batches and bytes must be positive")
        if not 0 < self.stall_timeout_seconds < self.park_timeout_seconds:
            raise ConfigInvalid(
                f"stall_timeout_seconds ({self.stall_timeout_seconds}) must be positive and less than "
                f"park_timeout_seconds ({self.park_timeout_seconds})"
            )


@dataclass(frozen=True, slots=True)
class PublishResult:
    """A batch is durable."""

    producer_sequence: int
    count: int
    cluster: str
    """The cluster that said so."""
    epoch: int
    """The epoch that it was committed in; for a batch found on reopening, the epoch of the cluster that has it."""
    position: Position | None = None
    """Of the first record. None where only the fact is known, not the place."""
    duplicate: bool = False
    """It had been committed before this connection; the acknowledgement had been lost."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A batch that waits. `sequence` is 0 until it is first sent; `again` says that an earlier connection may have
    committed it."""

    records: bytes
    count: int
    offered_at: float
    sequence: int = 0
    again: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """What a cluster says when it admits the producer."""

    cluster: str
    epoch: int
    last_producer_sequence: int


class Outbox:
    """Times are seconds of one monotonic clock, given by the caller. Results come out in the order of the offers."""

    def __init__(self, producer_id: str, limits: OutboxLimits) -> None:
        self._producer_id = producer_id
        self._limits = limits
        self._waiting: deque[Entry] = deque()
        self._in_flight: deque[Entry] = deque()
        self._bytes = 0
        self._in_flight_bytes = 0
        self._next_sequence: int | None = None
        self._progress_at = 0.0
        self._opened_at: float | None = None

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_flight)

    @property
    def unacknowledged(self) -> tuple[int, int] | None:
        """First and last producer sequence that was sent and not acknowledged."""
        sequences = [entry.sequence for entry in (*self._in_flight, *self._waiting) if entry.sequence]
        return (sequences[0], sequences[-1]) if sequences else None

    @property
    def unsent(self) -> int:
        """Batches that never left."""
        return sum(not entry.sequence for entry in self._waiting)

    def has_room(self, size: int) -> bool:
        """An empty outbox has room for any batch."""
        if not len(self):
            return True
        return len(self) < self._limits.buffered_batches and self._bytes + size <= self._limits.buffered_bytes

    def offer(self, records: bytes, count: int, now: float) -> None:
        """Takes a batch over. Raises Overloaded, and takes nothing, when there is no room."""
        if not self.has_room(len(records)):
            raise Overloaded(
                f"{len(self)} batches ({self._bytes} bytes) of producer {self._producer_id} wait for acknowledgement",
                batches=len(self),
                bytes=self._bytes,
            )
        self._waiting.append(Entry(records, count, now))
        self._bytes += len(records)

    def opened(self, by: Opened, now: float) -> list[PublishResult]:
        """A cluster admits the producer. Returns what turns out to be committed already; the rest is due again.

        Raises AcknowledgedMissing when the cluster lacks what was acknowledged, ProducerIdInUse when it has what was
        never sent from here: going on would double or lose records.
        """
        last = by.last_producer_sequence
        if self._next_sequence is None:
            self._next_sequence = last + 1
        if last >= self._next_sequence:
            raise self._in_use(by.cluster, last)
        committed = []
        while self._waiting and 0 < self._waiting[0].sequence <= last:
            entry = self._waiting.popleft()
            self._bytes -= len(entry.records)
            committed.append(PublishResult(entry.sequence, entry.count, by.cluster, by.epoch, duplicate=True))
        due = self._waiting[0].sequence if self._waiting else 0
        if last + 1 < (due or self._next_sequence):
            raise AcknowledgedMissing(
                f"{by.cluster} (epoch {by.epoch}) holds producer {self._producer_id} up to {last}; everything before "
                f"{due or self._next_sequence} was acknowledged",
                producer_id=self._producer_id,
                last_producer_sequence=last,
            )
        if committed:
            self._progress_at = now
        self._opened_at = now
        return committed

    def take(self) -> Entry | None:
        """The next batch to send, if one waits and may be in flight."""
        if self._next_sequence is None or self._opened_at is None or not self._waiting:
            return None
        entry = self._waiting[0]
        if self._in_flight and (
            len(self._in_flight) >= self._limits.in_flight_batches
            or self._in_flight_bytes + len(entry.records) > self._limits.in_flight_bytes
        ):
            return None
        self._waiting.popleft()
        if not entry.sequence:
            entry = replace(entry, sequence=self._next_sequence)
            self._next_sequence += 1
        self._in_flight.append(entry)
        self._in_flight_bytes += len(entry.records)
        return entry

    def acknowledged(self, result: PublishResult, now: float) -> PublishResult:
        """The oldest batch in flight is durable. Raises Unreachable when the acknowledgement is for another one,
        ProducerIdInUse when the cluster had a batch of that number that this process never sent."""
        due = self._in_flight[0].sequence if self._in_flight else None
        if result.producer_sequence != due:
            raise Unreachable(f"{result.cluster} acknowledged batch {result.producer_sequence} where {due} was due")
        if result.duplicate and not self._in_flight[0].again:
            raise self._in_use(result.cluster, due)
        entry = self._in_flight.popleft()
        self._in_flight_bytes -= len(entry.records)
        self._bytes -= len(entry.records)
        self._progress_at = now
        return replace(result, count=entry.count)

    def disconnected(self) -> None:
        """What was in flight is in doubt: it goes back to the front, in order, and keeps its sequences."""
        self._waiting.extendleft(replace(entry, again=True) for entry in reversed(self._in_flight))
        self._in_flight.clear()
        self._in_flight_bytes = 0
        self._opened_at = None

    @property
    def expires_at(self) -> float | None:
        """When the application must be told that nothing is acknowledged; None while nothing waits."""
        oldest = self._oldest
        return None if oldest is None else max(oldest.offered_at, self._progress_at) + self._limits.park_timeout_seconds

    @property
    def stalls_at(self) -> float | None:
        """When the open connection is to be given up; None while nothing is in flight."""
        if self._opened_at is None or not self._in_flight:
            return None
        since = max(self._in_flight[0].offered_at, self._progress_at, self._opened_at)
        return since + self._limits.stall_timeout_seconds

    def _in_use(self, cluster: str, sequence: int) -> ProducerIdInUse:
        return ProducerIdInUse(
            f"{cluster} holds batch {sequence} of producer {self._producer_id}, which another process sent",
            producer_id=self._producer_id,
            sequence=sequence,
        )

    @property
    def _oldest(self) -> Entry | None:
        return self._in_flight[0] if self._in_flight else (self._waiting[0] if self._waiting else None)
