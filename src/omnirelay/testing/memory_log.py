"""LogStore in memory: no thread, no file, no time, so that a run depends on its inputs alone.

It is written to be seen right rather than fast: what the SQLite log keeps up to date in indexes and marks is computed
here from the batches, each time, by its definition.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Self, TypeVar

from omnirelay.errors import (
    Conflict,
    CorruptLog,
    DataDirInUse,
    EpochMoved,
    OmniRelayError,
    PositionMismatch,
    ResumePointDeleted,
    ShuttingDown,
)
from omnirelay.model.batch import GENESIS_DIGEST, Batch, BatchHeader, BatchKind, chain_digest
from omnirelay.model.position import Cursor
from omnirelay.model.routing import Route
from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.log import EpochGuard, Head, LogState, ProducerMark, Retention, Seed, SeedMark
from omnirelay.testing.batches import head_after

T = TypeVar("T")


@dataclass(slots=True)
class OriginOnDisk:
    batches: list[Batch] = field(default_factory=list)
    """What is retained."""
    dropped: list[BatchHeader] = field(default_factory=list)
    marking: dict[tuple[str, int, str], BatchHeader] = field(default_factory=dict)
    """Namespace, epoch and producer → the last dropped data batch that was valid then."""
    head: Head = field(default_factory=Head)
    floor: Head = field(default_factory=Head)
    """End of the last batch dropped."""

    def drop(self, counts: Callable[[BatchHeader], bool]) -> BatchHeader:
        """Takes the oldest batch away; `counts` tells whether it counts for its producer."""
        batch = self.batches.pop(0)
        header = batch.header
        self.dropped.append(header)
        if counts(header):
            self.marking[header.namespace, header.epoch, header.producer_id] = header
        self.floor = head_after(self.floor, batch)
        return header


@dataclass(slots=True)
class MemoryDisk:
    """What outlives a MemoryLog: hand it to the next one."""

    incarnation: int = 0
    origins: dict[str, OriginOnDisk] = field(default_factory=dict)
    routes: dict[str, Route] = field(default_factory=dict)
    cursors: dict[str, VersionVector] = field(default_factory=dict)
    in_use: bool = False

    def damage(self, origin: str, sequence: int) -> None:
        """Alters the batch that holds the sequence behind the log's back."""
        batches = self.origins[origin].batches
        at = next(i for i, batch in enumerate(batches) if batch.header.last_sequence >= sequence)
        batches[at] = replace(batches[at], records=batches[at].records + b"!")


@dataclass(slots=True)
class _Command:
    work: Callable[[], Any]
    future: asyncio.Future[Any]
    origin: str | None


async def _at_once() -> None:
    pass


class MemoryLog:
    """`omnirelay.ports.log.LogStore` on a MemoryDisk.

    Set `before_commit` to an async function to delay commits, or, where it raises StorageUnavailable, to fail them.
    """

    before_commit: Callable[[], Awaitable[None]]

    @classmethod
    async def open(cls, disk: MemoryDisk | None = None, *, incarnation: int = 1) -> Self:
        """Raises DataDirInUse."""
        disk = disk or MemoryDisk()
        if disk.in_use:
            raise DataDirInUse("the disk is in use by another log", path="memory")
        disk.in_use = True
        disk.incarnation = max(disk.incarnation, incarnation)
        return cls(disk)

    def __init__(self, disk: MemoryDisk) -> None:
        """Use `open`."""
        self.before_commit = _at_once
        self._disk = disk
        self._heads = self._present_heads()
        self._corrupt = {origin: damage for origin in disk.origins if (damage := self._damage_at_head(origin))}
        self._queue: list[_Command] = []
        self._group: list[_Command] = []
        """What is being committed."""
        self._committing: asyncio.Task[None] | None = None
        self._listeners: dict[object, Callable[[], None]] = {}
        self._closed = False

    @property
    def incarnation(self) -> int:
        return self._disk.incarnation

    @property
    def heads(self) -> Mapping[str, Head]:
        return self._heads

    # --- changes -----------------------------------------------------------------------------------------------

    def append(self, batch: Batch, guard: EpochGuard | None = None) -> Awaitable[None]:
        return self._submit(lambda: self._append(batch, guard), batch.header.origin)

    async def install(self, routes: Mapping[str, Route]) -> None:
        await self._submit(lambda: self._install(routes))

    async def record_cursor(self, peer: str, vector: VersionVector) -> None:
        self._disk.cursors[peer] = vector

    async def retain(self, retention: Retention) -> Mapping[str, int]:
        return await self._submit(lambda: self._retain(retention))

    async def seed_of(self, origin: str) -> Seed | None:
        self._check_open()
        on_disk = self._on_disk(origin)
        if on_disk.floor.sequence == 0:
            return None
        dropped: dict[tuple[str, int], int] = {}
        for h in on_disk.dropped:
            dropped[h.namespace, h.epoch] = h.last_sequence
        marks = (
            SeedMark(*key, ProducerMark(h.producer_sequence, h.first_sequence, h.count))
            for key, h in sorted(on_disk.marking.items())
            if h.namespace in self._disk.routes
        )
        return Seed(origin, on_disk.floor, tuple((*key, end) for key, end in sorted(dropped.items())), tuple(marks))

    async def sow(self, seed: Seed) -> None:
        await self._submit(lambda: self._sow(seed))

    def _sow(self, seed: Seed) -> None:
        head = self._head(seed.origin)
        if head.sequence >= seed.floor.sequence:
            raise _mismatch(seed.origin, head)

        def header(namespace: str, epoch: int, producer: str, mark: ProducerMark) -> BatchHeader:
            first, count, number = mark.first_sequence, mark.count, mark.producer_sequence
            return BatchHeader(seed.origin, first, count, namespace, epoch, 0, producer, number, VersionVector())

        dropped = [header(name, epoch, "", ProducerMark(0, end, 1)) for name, epoch, end in seed.dropped]
        marking = {
            (m.namespace, m.epoch, m.producer_id): header(m.namespace, m.epoch, m.producer_id, m.mark)
            for m in seed.marks
        }
        self._disk.origins[seed.origin] = OriginOnDisk([], dropped, marking, seed.floor, seed.floor)
        self._corrupt.pop(seed.origin, None)

    async def rebuilt(self, incarnation: int) -> None:
        """Goes on under a higher incarnation. Raises Conflict unless it is higher."""
        if incarnation <= self.incarnation:
            raise Conflict(f"incarnation {incarnation} is not above {self.incarnation}")

        def rebuild() -> None:
            self._disk.incarnation = incarnation

        await self._submit(rebuild)

    def _append(self, batch: Batch, guard: EpochGuard | None) -> None:
        header = batch.header
        if header.origin in self._corrupt:
            raise self._corrupt[header.origin]
        if guard is not None:
            route = self._disk.routes.get(guard.namespace)
            if route is None or route.epoch != guard.epoch:
                raise EpochMoved(f"{guard.namespace} is not at epoch {guard.epoch}", epoch=route.epoch if route else 0)
        head = self._head(header.origin)
        follows = header.count > 0 and header.first_sequence == head.sequence + 1
        if not follows or batch.digest != chain_digest(head.digest, batch.header_bytes, batch.records):
            raise _mismatch(header.origin, head)
        on_disk = self._disk.origins.setdefault(header.origin, OriginOnDisk())
        on_disk.batches.append(batch)
        on_disk.head = head_after(head, batch)

    def _install(self, routes: Mapping[str, Route]) -> None:
        for namespace, route in routes.items():
            known = self._disk.routes.get(namespace)
            if known is None or route.epoch > known.epoch:
                self._disk.routes[namespace] = route

    def _retain(self, rule: Retention) -> dict[str, int]:
        """One batch at a time, from the start each time."""
        origins = self._disk.origins
        changed: dict[str, int] = {}
        while True:
            total = sum(o.head.size - o.floor.size for o in origins.values())
            candidates = sorted(
                (o.batches[0].header.commit_time_ms, origin)
                for origin, o in origins.items()
                if o.batches and self._may_go(o.batches[0], total, rule)
            )
            if not candidates:
                return changed
            origin = candidates[0][1]
            changed[origin] = origins[origin].drop(self._counts).last_sequence + 1

    def _may_go(self, batch: Batch, total: int, rule: Retention) -> bool:
        header = batch.header
        due = rule.now_ms - header.commit_time_ms > rule.max_age_ms or total > rule.max_bytes
        passed = rule.passed(self._disk.cursors, header.origin, header.last_sequence)
        kept = header.origin in rule.keep_from and header.last_sequence >= rule.keep_from[header.origin]
        return not kept and ((due and passed) or total > rule.cap_bytes)

    # --- reads -------------------------------------------------------------------------------------------------

    async def load(self) -> LogState:
        self._check_open()
        origins = self._disk.origins
        return LogState(
            heads=dict(self._present_heads()),
            routes=dict(self._disk.routes),
            producers=self._producers(),
            cursors=dict(self._disk.cursors),
            oldest={origin: o.floor.sequence + 1 for origin, o in origins.items()},
        )

    async def read(self, origin: str, after: int, max_bytes: int) -> Sequence[Batch]:
        self._check_open()
        on_disk = self._on_disk(origin)
        if after < on_disk.floor.sequence:
            raise _deleted(origin, on_disk.floor)
        return self._take(origin, (b for b in on_disk.batches if b.header.last_sequence > after), max_bytes)

    async def read_namespace(
        self, namespace: str, epoch: int, origin: str, after: int, upto: int, max_bytes: int
    ) -> Sequence[Batch]:
        self._check_open()
        on_disk = self._on_disk(origin)

        def beyond(header: BatchHeader) -> bool:
            return (header.namespace, header.epoch) == (namespace, epoch) and header.last_sequence > after

        if after < upto and await self.dropped_end(namespace, epoch, origin) > after:
            raise _deleted(origin, on_disk.floor)
        wanted = (b for b in on_disk.batches if beyond(b.header) and b.header.first_sequence <= upto)
        return self._take(origin, wanted, max_bytes)

    async def dropped_end(self, namespace: str, epoch: int, origin: str) -> int:
        self._check_open()
        dropped = (h for h in self._on_disk(origin).dropped if (h.namespace, h.epoch) == (namespace, epoch))
        return max((h.last_sequence for h in dropped), default=0)

    async def digest_at(self, origin: str, sequence: int) -> bytes | None:
        self._check_open()
        floor = self._on_disk(origin).floor
        if sequence in (0, floor.sequence):
            return floor.digest if sequence else GENESIS_DIGEST
        ending = [b for b in self._on_disk(origin).batches if b.header.last_sequence == sequence]
        return self._take(origin, ending, 0)[0].digest if ending else None

    async def backlog_bytes(self, origin: str, after: int) -> int:
        self._check_open()
        on_disk = self._on_disk(origin)
        if after == 0:
            return on_disk.head.size
        if after < on_disk.floor.sequence:
            raise _deleted(origin, on_disk.floor)
        return sum(b.size for b in on_disk.batches if b.header.last_sequence > after)

    def _on_disk(self, origin: str) -> OriginOnDisk:
        return self._disk.origins.get(origin, OriginOnDisk())

    def _head(self, origin: str) -> Head:
        return self._on_disk(origin).head

    def _present_heads(self) -> Mapping[str, Head]:
        return MappingProxyType({origin: o.head for origin, o in self._disk.origins.items()})

    def _producers(self) -> dict[str, dict[int, dict[str, ProducerMark]]]:
        producers: dict[str, dict[int, dict[str, ProducerMark]]] = {}
        for on_disk in self._disk.origins.values():
            headers = [*on_disk.marking.values(), *(batch.header for batch in on_disk.batches)]
            for h in filter(self._counts, headers):
                marks = producers.setdefault(h.namespace, {}).setdefault(h.epoch, {})
                marks[h.producer_id] = ProducerMark(h.producer_sequence, h.first_sequence, h.count)
        return producers

    def _counts(self, header: BatchHeader) -> bool:
        """A valid data batch, as the installed histories have it."""
        route = self._disk.routes.get(header.namespace)
        valid = route is None or route.is_valid(Cursor(header.epoch, header.last_sequence))
        return valid and header.kind is BatchKind.DATA

    def _take(self, origin: str, batches: Iterable[Batch], max_bytes: int) -> list[Batch]:
        taken: list[Batch] = []
        for batch in batches:
            max_bytes -= batch.size
            if taken and max_bytes < 0:
                break
            damage = self._damage(origin, batch)
            if damage:
                if taken:
                    break
                raise damage
            taken.append(batch)
        return taken

    def _damage(self, origin: str, batch: Batch) -> CorruptLog | None:
        on_disk = self._disk.origins[origin]
        digests = {b.header.last_sequence: b.digest for b in on_disk.batches}
        first = batch.header.first_sequence
        previous = digests.get(first - 1, on_disk.floor.digest)
        if batch.digest == chain_digest(previous, batch.header_bytes, batch.records):
            return None
        return CorruptLog(f"the log of {origin} is damaged at {first}", origin=origin, sequence=first)

    def _damage_at_head(self, origin: str) -> CorruptLog | None:
        batches = self._disk.origins[origin].batches
        return self._damage(origin, batches[-1]) if batches else None

    # --- commits and life --------------------------------------------------------------------------------------

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        key = object()
        self._listeners[key] = changed

        def end() -> None:
            self._listeners.pop(key, None)

        return end

    async def close(self) -> None:
        self._closed = True
        if self._committing:
            await self._committing
        self._disk.in_use = False

    def crash(self, reached: int = 0) -> None:
        """A power cut: what is not committed is gone; whoever waits for it is cancelled. The disk is free at once.

        The first `reached` of what waits have come to the disk all the same, and nobody was told.
        """
        self._closed = True
        self._carry_out([*self._group, *self._queue][:reached])
        if self._committing:
            self._committing.cancel()
        for command in self._queue:
            command.future.cancel()
        self._disk.in_use = False

    @property
    def waiting(self) -> int:
        """Commands that are not committed yet."""
        return len(self._group) + len(self._queue)

    def _check_open(self) -> None:
        if self._closed:
            raise ShuttingDown("the log is closed")

    def _submit(self, work: Callable[[], T], origin: str | None = None) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self._closed:
            future.set_exception(ShuttingDown("the log is closed"))
            return future
        self._queue.append(_Command(work, future, origin))
        if self._committing is None:
            self._committing = loop.create_task(self._commit_queued())
        return future

    async def _commit_queued(self) -> None:
        while self._queue:
            group, self._queue = self._queue, []
            self._group = group
            try:
                await self.before_commit()
            except OmniRelayError as failure:
                outcomes: list[Any] = [failure] * len(group)
            except asyncio.CancelledError:
                for command in group:
                    command.future.cancel()
                raise
            else:
                outcomes = self._carry_out(group)
            self._group = []
            self._report(group, outcomes)
        self._committing = None

    def _carry_out(self, group: Sequence[_Command]) -> list[Any]:
        outcomes: list[Any] = []
        failed: set[str] = set()
        for command in group:
            try:
                if command.origin in failed:
                    raise _mismatch(str(command.origin), self._head(str(command.origin)))
                outcomes.append(command.work())
            except OmniRelayError as refusal:
                outcomes.append(refusal)
                failed |= {command.origin} if command.origin else set()
        return outcomes

    def _report(self, group: Sequence[_Command], outcomes: Sequence[Any]) -> None:
        self._heads = self._present_heads()
        failed = {c.origin for c, o in zip(group, outcomes, strict=True) if c.origin and isinstance(o, Exception)}
        behind = [command for command in self._queue if command.origin in failed]
        self._queue = [command for command in self._queue if command.origin not in failed]
        for command, outcome in zip(group, outcomes, strict=True):
            _resolve(command, outcome)
        for command in behind:
            _resolve(command, _mismatch(str(command.origin), self._head(str(command.origin))))
        if not all(isinstance(outcome, Exception) for outcome in outcomes):
            for changed in list(self._listeners.values()):
                changed()


def _resolve(command: _Command, outcome: Any) -> None:
    if command.future.done():
        return
    if isinstance(outcome, Exception):
        command.future.set_exception(outcome)
    else:
        command.future.set_result(outcome)


def _mismatch(origin: str, head: Head) -> PositionMismatch:
    return PositionMismatch(f"{origin} ends at {head.sequence}", origin=origin, head=head.sequence)


def _deleted(origin: str, floor: Head) -> ResumePointDeleted:
    oldest = floor.sequence + 1
    return ResumePointDeleted(f"retention keeps {origin} from {oldest} on", origin=origin, oldest=oldest)
