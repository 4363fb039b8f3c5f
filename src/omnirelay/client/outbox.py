"""What a producer may still have to send, and what to do with it: pure, no connection in sight.

The idea: a batch stays here from the moment the application hands it over until it is *remote*, that is, until it
survives the loss of the cluster that acknowledged it. A batch gets its producer sequence when it is first sent and
keeps it for ever, so all batches are one row of numbers, in three parts:

    kept (a cluster holds them)  |  in flight (sent on this connection)  |  waiting

When a connection opens, the cluster tells the last sequence that it holds. There the row is cut anew: everything up to
it is kept, everything after it waits and is sent again, in order, before anything new. That includes what another
cluster had acknowledged, for after an emergency failover the new active may lack it. The cluster drops what it had
already, so no record is doubled whichever acknowledgement was lost (I5).

The application is told of a batch once, when the batch is as durable as it asked for. With `local` that is before the
batch is remote, so what is kept has a bound of its own: beyond it the oldest go, and are at risk until they are remote.

One clock bounds the patience: the time since the application was last told anything while something waits. It makes no
difference whether the connection is gone, refused or silent, which is why there is no separate "parked" state.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal, TypeAlias

from omnirelay.client.errors import AcknowledgedMissing, ProducerIdInUse
from omnirelay.errors import ConfigInvalid, Overloaded, Unreachable
from omnirelay.model.position import Position

MIB = 1 << 20

Durability: TypeAlias = Literal["local", "remote"]
"""On the disk of the active cluster; on those of so many other clusters too."""


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """What is in flight is sent and not acknowledged. What is buffered is everything that the application has not been
    told of; what is kept comes on top."""

    buffered_batches: int = 4096
    buffered_bytes: int = 64 * MIB
    in_flight_batches: int = 256
    in_flight_bytes: int = 16 * MIB
    kept_batches: int = 4096
    """Told to the application as locally durable, and not remote yet; 0 keeps nothing."""
    kept_bytes: int = 64 * MIB
    park_timeout_seconds: float = 30.0
    """Longest time without an acknowledgement, whatever the reason, before the application is told."""
    stall_timeout_seconds: float = 5.0
    """Longest time that an open connection may leave batches unacknowledged before another is tried."""

    def __post_init__(self) -> None:
        if min(self.buffered_batches, self.buffered_bytes, self.in_flight_batches, self.in_flight_bytes) < 1:
            raise ConfigInvalid("the outbox's limits of batches and bytes must be positive")
        if min(self.kept_batches, self.kept_bytes) < 0:
            raise ConfigInvalid("kept_batches and kept_bytes must not be negative")
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
    durability: Durability = "local"
    """What is known at this moment."""


@dataclass(slots=True, eq=False)
class Entry:
    """A batch that is not remote. The outbox alone changes it."""

    records: bytes
    count: int
    offered_at: float
    sequence: int = 0
    """0 until it is first sent."""
    again: bool = False
    """An earlier connection may have committed it."""
    result: PublishResult | None = None
    """What a cluster last acknowledged it with."""


@dataclass(slots=True)
class _Volume:
    batches: int = 0
    bytes: int = 0

    def add(self, entry: Entry) -> None:
        self.batches += 1
        self.bytes += len(entry.records)

    def remove(self, entry: Entry) -> None:
        self.batches -= 1
        self.bytes -= len(entry.records)

    def within(self, batches: int, size: int) -> bool:
        return self.batches <= batches and self.bytes <= size


@dataclass(frozen=True, slots=True)
class Opened:
    """What a cluster says when it admits the producer."""

    cluster: str
    epoch: int
    last_producer_sequence: int


class Outbox:
    """Times are seconds of one monotonic clock, given by the caller. Results come out once each, in the order of the
    offers."""

    def __init__(self, producer_id: str, limits: OutboxLimits, durability: Durability = "local") -> None:
        """`durability`: what the application waits for."""
        self._producer_id = producer_id
        self._limits = limits
        self._local = durability == "local"
        self._waiting: deque[Entry] = deque()
        self._in_flight: deque[Entry] = deque()
        self._kept: deque[Entry] = deque()
        self._untold = _Volume()
        self._told = _Volume()
        """Told, and not remote: kept for their own sake, or on their way to a cluster that lacks them."""
        self._sent = _Volume()
        self._next_sequence: int | None = None
        self._sent_to = 0
        self._held_to = 0
        """The last batch that the cluster of this connection is known to hold."""
        self._remote_to = 0
        self._dropped_to = 0
        """The last batch that had to go before it was remote."""
        self._acknowledged_at = 0.0
        self._told_at = 0.0
        self._opened_at: float | None = None

    def __len__(self) -> int:
        """Batches that the application has not been told of."""
        return self._untold.batches

    @property
    def connected(self) -> bool:
        return self._opened_at is not None

    @property
    def unacknowledged(self) -> tuple[int, int] | None:
        """First and last producer sequence that was sent and that the application has not been told of."""
        sequences = [entry.sequence for entry in self._row if entry.sequence and not self._is_told(entry)]
        return (sequences[0], sequences[-1]) if sequences else None

    @property
    def resends_to(self) -> int:
        """The last batch that ever left, which is the last that may be sent again; 0 before the first."""
        return self._sent_to

    @property
    def unsent(self) -> int:
        """Batches that never left."""
        return sum(not entry.sequence for entry in self._waiting)

    @property
    def kept(self) -> int:
        """Batches that some cluster has acknowledged and that are not remote, as far as this process still has them."""
        return sum(entry.result is not None for entry in self._row)

    @property
    def at_risk(self) -> int:
        """Batches that were told to be locally durable, are not known to be remote and are not kept any more: should
        the active be lost now, they are lost with it."""
        return max(0, self._dropped_to - self._remote_to)

    def has_room(self, size: int) -> bool:
        """An empty outbox has room for any batch."""
        if not len(self):
            return True
        return self._untold.within(self._limits.buffered_batches - 1, self._limits.buffered_bytes - size)

    def offer(self, records: bytes, count: int, now: float) -> None:
        """Takes a batch over. Raises Overloaded, and takes nothing, when there is no room."""
        if not self.has_room(len(records)):
            raise Overloaded(
                f"{len(self)} batches ({self._untold.bytes} bytes) of producer {self._producer_id} wait for "
                "acknowledgement",
                batches=len(self),
                bytes=self._untold.bytes,
            )
        entry = Entry(records, count, now)
        self._waiting.append(entry)
        self._untold.add(entry)

    # --- connections -------------------------------------------------------------------------------------------

    def opened(self, by: Opened, now: float) -> list[PublishResult]:
        """A cluster admits the producer. Returns what turns out to be committed already; the rest is due again.

        Raises AcknowledgedMissing when the cluster lacks what was acknowledged and is not kept any more,
        ProducerIdInUse when it has what was never sent from here: going on would double or lose records.
        """
        last = by.last_producer_sequence
        if self._next_sequence is None:
            self._next_sequence = last + 1
            # What an earlier process sent was that one's to keep.
            self._remote_to = self._dropped_to = last
        if last >= self._next_sequence:
            raise self._in_use(by.cluster, last)
        first = next((entry.sequence for entry in self._row if entry.sequence), self._next_sequence)
        if last + 1 < first:
            raise self._missing(by, first)
        while self._kept and self._kept[-1].sequence > last:
            entry = self._kept.pop()
            entry.again = True
            self._waiting.appendleft(entry)
        results = []
        while self._waiting and 0 < self._waiting[0].sequence <= last:
            entry = self._waiting.popleft()
            found = PublishResult(entry.sequence, entry.count, by.cluster, by.epoch, duplicate=True)
            results += self._held(entry, entry.result or found, now)
        self._held_to = last
        self._opened_at = now
        return results

    def disconnected(self) -> None:
        """What was in flight is in doubt: it goes back to the front, in order, and keeps its sequences."""
        for entry in self._in_flight:
            entry.again = True
        self._waiting.extendleft(reversed(self._in_flight))
        self._in_flight.clear()
        self._sent = _Volume()
        self._opened_at = None

    def take(self) -> Entry | None:
        """The next batch to send, if one waits and may be in flight."""
        if self._next_sequence is None or self._opened_at is None or not self._waiting:
            return None
        entry, limits = self._waiting[0], self._limits
        within = self._sent.within(limits.in_flight_batches - 1, limits.in_flight_bytes - len(entry.records))
        if self._in_flight and not within:
            return None
        self._waiting.popleft()
        if not entry.sequence:
            entry.sequence = self._sent_to = self._next_sequence
            self._next_sequence += 1
        self._in_flight.append(entry)
        self._sent.add(entry)
        return entry

    # --- what clusters say -------------------------------------------------------------------------------------

    def acknowledged(self, result: PublishResult, now: float) -> list[PublishResult]:
        """The oldest batch in flight is locally durable. Returns what to tell the application. Raises Unreachable when
        the acknowledgement is for another one, ProducerIdInUse when the cluster had a batch of that number that this
        process never sent."""
        due = self._in_flight[0].sequence if self._in_flight else None
        if result.producer_sequence != due:
            raise Unreachable(f"{result.cluster} acknowledged batch {result.producer_sequence} where {due} was due")
        if result.duplicate and not self._in_flight[0].again:
            raise self._in_use(result.cluster, due)
        entry = self._in_flight.popleft()
        self._sent.remove(entry)
        self._held_to = due
        return self._held(entry, replace(result, count=entry.count), now)

    def remote(self, upto: int, now: float) -> list[PublishResult]:
        """Every batch up to this one is remote. Returns what to tell the application. Raises Unreachable when the
        cluster speaks of batches that it has not acknowledged."""
        if upto > self._held_to:
            raise Unreachable(f"batch {upto} is reported remote where {self._held_to} is the last acknowledged one")
        self._remote_to = max(self._remote_to, upto)
        results = []
        while self._kept and self._kept[0].sequence <= upto:
            entry = self._kept.popleft()
            if self._local:
                self._told.remove(entry)
            elif entry.result is not None:
                self._untold.remove(entry)
                self._told_at = now
                results.append(replace(entry.result, durability="remote"))
        return results

    def _held(self, entry: Entry, result: PublishResult, now: float) -> list[PublishResult]:
        """The cluster of this connection has the batch."""
        news = self._local and entry.result is None
        entry.result = result
        self._kept.append(entry)
        self._acknowledged_at = now
        if self._local:
            self._told_at = now
        if not news:
            return []
        self._untold.remove(entry)
        self._told.add(entry)
        while self._kept and not self._told.within(self._limits.kept_batches, self._limits.kept_bytes):
            dropped = self._kept.popleft()
            self._told.remove(dropped)
            self._dropped_to = dropped.sequence
        return [result]

    # --- patience ----------------------------------------------------------------------------------------------

    @property
    def expires_at(self) -> float | None:
        """When the application must be told that it is told nothing; None while nothing waits."""
        if not len(self):
            return None
        oldest = next(entry for entry in self._row if not self._is_told(entry))
        return max(oldest.offered_at, self._told_at) + self._limits.park_timeout_seconds

    @property
    def stalls_at(self) -> float | None:
        """When the open connection is to be given up; None while nothing is in flight."""
        if self._opened_at is None or not self._in_flight:
            return None
        since = max(self._in_flight[0].offered_at, self._acknowledged_at, self._opened_at)
        return since + self._limits.stall_timeout_seconds

    @property
    def _row(self) -> chain[Entry]:
        """All batches, by their sequences; those that have none come last."""
        return chain(self._kept, self._in_flight, self._waiting)

    def _is_told(self, entry: Entry) -> bool:
        return self._local and entry.result is not None

    def _in_use(self, cluster: str, sequence: int) -> ProducerIdInUse:
        return ProducerIdInUse(
            f"{cluster} holds batch {sequence} of producer {self._producer_id}, which another process sent",
            producer_id=self._producer_id,
            sequence=sequence,
        )

    def _missing(self, by: Opened, first: int) -> AcknowledgedMissing:
        last = by.last_producer_sequence
        at_risk = max(0, min(first - 1, self._dropped_to) - max(last, self._remote_to))
        return AcknowledgedMissing(
            f"{by.cluster} (epoch {by.epoch}) holds producer {self._producer_id} up to {last}; batches {last + 1} to "
            f"{first - 1} were acknowledged and are not kept any more ({at_risk} of them had never been remote)",
            producer_id=self._producer_id,
            last_producer_sequence=last,
            missing=first - 1 - last,
            at_risk=at_risk,
            kept=self.kept,
        )
