"""SqliteLog: the log port on SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType
from typing import Self, TypeVar

from omnirelay.errors import Conflict, ShuttingDown
from omnirelay.model.batch import GENESIS_DIGEST, Batch, BatchHeader
from omnirelay.model.routing import Route
from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.log import EpochGuard, Head, LogState, Retention, Seed
from omnirelay.storage.database import DataDir, incarnation_of, open_reader, open_writer, unavailable
from omnirelay.storage.ledger import Ledger
from omnirelay.storage.reader import Reader
from omnirelay.storage.rows import select_cursors
from omnirelay.storage.tail import Tail, fitting
from omnirelay.storage.writer import Command, GroupWriter, Report

T = TypeVar("T")

TAIL_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Opened:
    directory: DataDir
    ledger: Ledger
    reader: Reader
    incarnation: int
    cursors: dict[str, VersionVector]


def _open(path: Path, cluster: str, incarnation: int, decode_header: Callable[[bytes], BatchHeader]) -> _Opened:
    """Blocking. Whatever fails, nothing stays open."""
    with ExitStack() as undo:
        directory = DataDir(path)
        undo.callback(directory.release)
        writer = open_writer(directory.database, cluster, incarnation)
        undo.callback(writer.close)
        try:
            reader = open_reader(directory.database)
            undo.callback(reader.close)
            opened = _Opened(
                directory,
                Ledger(writer, decode_header),
                Reader(reader, decode_header),
                incarnation_of(writer),
                select_cursors(writer),
            )
        except sqlite3.Error as error:
            raise unavailable(error) from error
        undo.pop_all()
        return opened


class SqliteLog:
    """`omnirelay.ports.log.LogStore` in a directory of its own.

    This is the event loop's side: it queues changes for the writer thread, sends reads to the reader thread, and
    keeps what the last report said (heads, tails). It belongs to the event loop that opened it.
    """

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        cluster: str,
        decode_header: Callable[[bytes], BatchHeader],
        incarnation: int = 1,
        tail_bytes: int = TAIL_BYTES,
    ) -> Self:
        """Opens the log in the directory `path`, or begins one.

        `incarnation` is that of a new log; a known log keeps its own unless this is higher. `tail_bytes` bounds the
        memory for the latest batches of each origin. Raises DataDirInUse, StorageUnavailable, and ConfigInvalid
        for another cluster's log or one written by a newer version.
        """
        reads = ThreadPoolExecutor(1, thread_name_prefix="omnirelay-log-reader")
        work = partial(_open, path, cluster, incarnation, decode_header)
        try:
            opened = await asyncio.get_running_loop().run_in_executor(reads, work)
        except BaseException:
            reads.shutdown(wait=False)
            raise
        return cls(opened, reads, tail_bytes)

    def __init__(self, opened: _Opened, reads: ThreadPoolExecutor, tail_bytes: int) -> None:
        """Use `open`."""
        self._loop = asyncio.get_running_loop()
        self._directory = opened.directory
        self._incarnation = opened.incarnation
        self._heads: Mapping[str, Head] = MappingProxyType(dict(opened.ledger.heads))
        self._cursors = opened.cursors
        self._unsaved_cursors: dict[str, VersionVector] = {}
        self._tails: dict[str, Tail] = {}
        self._tail_bytes = tail_bytes
        self._listeners: dict[object, Callable[[], None]] = {}
        self._last_report = 0
        self._closed = False
        self._reader = opened.reader
        self._reads = reads
        self._writer = GroupWriter(opened.ledger, self._report)

    @property
    def incarnation(self) -> int:
        return self._incarnation

    @property
    def heads(self) -> Mapping[str, Head]:
        return self._heads

    # --- changes: queued for the writer thread -------------------------------------------------------------------

    def append(self, batch: Batch, guard: EpochGuard | None = None) -> Awaitable[None]:
        return self._submit(partial(Ledger.append, batch=batch, guard=guard), batch)

    async def install(self, routes: Mapping[str, Route]) -> None:
        await self._submit(partial(Ledger.install, routes=dict(routes)))

    async def record_cursor(self, peer: str, vector: VersionVector) -> None:
        self._cursors[peer] = self._unsaved_cursors[peer] = vector

    async def retain(self, retention: Retention) -> Mapping[str, int]:
        changed: dict[str, int] = {}
        while step := await self._submit(partial(Ledger.retain, rule=retention, cursors=dict(self._cursors))):
            changed |= step
            for origin, oldest in step.items():
                if origin in self._tails:
                    self._tails[origin].drop(before=oldest)
        return changed

    async def seed_of(self, origin: str) -> Seed | None:
        self._check_open()
        return await self._read(partial(Reader.seed_of, origin=origin))

    async def sow(self, seed: Seed) -> None:
        await self._submit(partial(Ledger.sow, seed=seed))
        self._tails.pop(seed.origin, None)

    async def rebuilt(self, incarnation: int) -> None:
        """Goes on under a higher incarnation, once peers have proved that the log lost what this cluster wrote.

        Raises Conflict unless it is higher.
        """
        if incarnation <= self._incarnation:
            raise Conflict(f"incarnation {incarnation} is not above {self._incarnation}")
        await self._submit(partial(Ledger.rebuilt, incarnation=incarnation))
        self._incarnation = incarnation

    # --- reads: from the tails, or by the reader thread ----------------------------------------------------------

    async def load(self) -> LogState:
        self._check_open()
        state = await self._read(Reader.load)
        return replace(state, cursors={**state.cursors, **self._cursors})

    async def read(self, origin: str, after: int, max_bytes: int) -> Sequence[Batch]:
        self._check_open()
        if after >= self._end(origin):
            return []
        fresh = self._fresh(origin, after)
        if fresh is not None:
            return fitting(fresh, max_bytes)
        return await self._read(partial(Reader.read, origin=origin, after=after, max_bytes=max_bytes))

    async def read_namespace(
        self, namespace: str, epoch: int, origin: str, after: int, upto: int, max_bytes: int
    ) -> Sequence[Batch]:
        self._check_open()
        if after >= min(upto, self._end(origin)):
            return []
        fresh = self._fresh(origin, after)
        if fresh is not None:
            wanted = (
                batch
                for batch in takewhile(lambda batch: batch.header.first_sequence <= upto, fresh)
                if (batch.header.namespace, batch.header.epoch) == (namespace, epoch)
            )
            return fitting(wanted, max_bytes)
        return await self._read(
            partial(
                Reader.read_namespace,
                namespace=namespace, epoch=epoch, origin=origin, after=after, upto=upto, max_bytes=max_bytes,
            )
        )  # fmt: skip

    async def dropped_end(self, namespace: str, epoch: int, origin: str) -> int:
        self._check_open()
        return await self._read(partial(Reader.dropped_end, namespace=namespace, epoch=epoch, origin=origin))

    async def digest_at(self, origin: str, sequence: int) -> bytes | None:
        self._check_open()
        if sequence == 0:
            return GENESIS_DIGEST
        head = self._heads.get(origin, Head())
        if sequence >= head.sequence:
            return head.digest if sequence == head.sequence else None
        return await self._read(partial(Reader.digest_at, origin=origin, sequence=sequence))

    async def backlog_bytes(self, origin: str, after: int) -> int:
        self._check_open()
        head = self._heads.get(origin, Head())
        if after >= head.sequence:
            return 0
        return head.size - await self._read(partial(Reader.size_until, origin=origin, sequence=after))

    def _end(self, origin: str) -> int:
        return self._heads.get(origin, Head()).sequence

    def _fresh(self, origin: str, after: int) -> Iterator[Batch] | None:
        tail = self._tails.get(origin)
        return tail.after(after) if tail else None

    def _check_open(self) -> None:
        if self._closed:
            raise ShuttingDown("the log is closed")

    async def _read(self, work: Callable[[Reader], T]) -> T:
        return await self._loop.run_in_executor(self._reads, work, self._reader)

    # --- life ---------------------------------------------------------------------------------------------------

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        key = object()
        self._listeners[key] = changed

        def end() -> None:
            self._listeners.pop(key, None)

        return end

    async def close(self) -> None:
        if self._closed:
            return
        self._save_cursors()
        self._closed = True
        await self._loop.run_in_executor(self._reads, self._shut)
        self._reads.shutdown()

    def _shut(self) -> None:
        # The writer's connection goes last: it then moves the WAL into the database and removes it.
        self._reader.close()
        self._writer.stop()
        self._directory.release()

    def _submit(self, work: Callable[[Ledger], T], batch: Batch | None = None) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        if self._closed:
            future.set_exception(ShuttingDown("the log is closed"))
            return future
        self._save_cursors()
        self._writer.submit(Command(work, future, batch, self._last_report))
        return future

    def _save_cursors(self) -> None:
        """Cursors ride on the next commit: a stale one holds retention back and does no other harm."""
        if self._unsaved_cursors:
            work = partial(Ledger.record_cursors, cursors=self._unsaved_cursors)
            self._unsaved_cursors = {}
            self._writer.submit(Command(work, None, None, self._last_report))

    def _report(self, report: Report) -> None:
        """Called by the writer thread."""
        self._loop.call_soon_threadsafe(self._receive, report)

    def _receive(self, report: Report) -> None:
        self._last_report = report.number
        if report.heads is not None:
            self._heads = MappingProxyType(report.heads)
        for command, outcome in report.outcomes:
            failed = isinstance(outcome, Exception)
            if command.batch is not None and not failed:
                self._tails.setdefault(command.batch.header.origin, Tail(self._tail_bytes)).push(command.batch)
            if command.future is None or command.future.done():
                continue
            if failed:
                command.future.set_exception(outcome)
            else:
                command.future.set_result(outcome)
        if report.committed:
            for changed in list(self._listeners.values()):
                changed()
