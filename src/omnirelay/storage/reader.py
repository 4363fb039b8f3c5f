"""Reading the log without disturbing who writes it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from omnirelay.errors import CorruptLog, ResumePointDeleted
from omnirelay.model.batch import Batch, BatchHeader
from omnirelay.ports.log import Head, LogState, ProducerMark, Seed, SeedMark
from omnirelay.storage.database import unreadable
from omnirelay.storage.rows import (
    Batches,
    select_cursors,
    select_floors,
    select_head,
    select_producers,
    select_routes,
)
from omnirelay.storage.statements import SQL
from omnirelay.storage.tail import fitting


class Reader:
    """Blocking reads on a connection of their own, for the reader thread alone. Each sees one commit.

    All raise CorruptLog or StorageUnavailable when the disk does not give what was written.
    """

    def __init__(self, connection: sqlite3.Connection, decode_header: Callable[[bytes], BatchHeader]) -> None:
        self._connection = connection
        self._batches = Batches(connection, decode_header)

    def close(self) -> None:
        self._connection.close()

    def load(self) -> LogState:
        with self._snapshot():
            floors = select_floors(self._connection)
            return LogState(
                heads={origin: select_head(self._connection, origin) or floor for origin, floor in floors.items()},
                routes=select_routes(self._connection),
                producers=select_producers(self._connection),
                cursors=select_cursors(self._connection),
                oldest={origin: floor.sequence + 1 for origin, floor in floors.items()},
            )

    def read(self, origin: str, after: int, max_bytes: int) -> list[Batch]:
        with self._snapshot(origin, after + 1):
            floor = self._floor(origin)
            if after < floor.sequence:
                raise _deleted(origin, floor)
            return fitting(_sound(self._batches.after(origin, after)), max_bytes)

    def read_namespace(
        self, namespace: str, epoch: int, origin: str, after: int, upto: int, max_bytes: int
    ) -> list[Batch]:
        with self._snapshot(origin, after + 1):
            if self._dropped_end(namespace, epoch, origin) > after:
                raise _deleted(origin, self._floor(origin))
            return fitting(_sound(self._batches.of_namespace(namespace, epoch, origin, after, upto)), max_bytes)

    def dropped_end(self, namespace: str, epoch: int, origin: str) -> int:
        with self._snapshot(origin):
            return self._dropped_end(namespace, epoch, origin)

    def digest_at(self, origin: str, sequence: int) -> bytes | None:
        with self._snapshot(origin, sequence):
            floor = self._floor(origin)
            if sequence <= floor.sequence:
                return floor.digest if sequence == floor.sequence else None
            holder = next(self._batches.after(origin, sequence - 1), None)
            return holder.digest if holder and holder.header.last_sequence == sequence else None

    def size_until(self, origin: str, sequence: int) -> int:
        """Bytes of the origin's batches that end at or before the sequence, dropped ones included."""
        with self._snapshot(origin, sequence):
            floor = self._floor(origin)
            if sequence == 0:
                return 0
            if sequence < floor.sequence:
                raise _deleted(origin, floor)
            row = self._connection.execute(SQL["batch_size_until"], (origin, sequence)).fetchone()
            return int(row[0]) if row else floor.size

    def seed_of(self, origin: str) -> Seed | None:
        with self._snapshot(origin):
            floor = self._floor(origin)
            if floor.sequence == 0:
                return None
            dropped = tuple(self._connection.execute(SQL["dropped_select"], (origin,)))
            rows = self._connection.execute(SQL["dropped_mark_select"], (origin,))
            marks = tuple(SeedMark(name, epoch, producer, ProducerMark(*mark)) for name, epoch, producer, *mark in rows)
            return Seed(origin, floor, dropped, marks)

    @contextmanager
    def _snapshot(self, origin: str = "", sequence: int = 0) -> Iterator[None]:
        try:
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise unreadable(error, origin, sequence) from error

    def _dropped_end(self, namespace: str, epoch: int, origin: str) -> int:
        row = self._connection.execute(SQL["dropped_of"], (namespace, epoch, origin)).fetchone()
        return int(row[0]) if row else 0

    def _floor(self, origin: str) -> Head:
        row = self._connection.execute(SQL["floor_of"], (origin,)).fetchone()
        return Head(*row) if row else Head()


def _sound(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Ends before a damaged row; the damage is raised once nothing sound stands before it."""
    found = False
    try:
        for batch in batches:
            found = True
            yield batch
    except CorruptLog:
        if not found:
            raise


def _deleted(origin: str, floor: Head) -> ResumePointDeleted:
    oldest = floor.sequence + 1
    return ResumePointDeleted(f"retention keeps {origin} from {oldest} on", origin=origin, oldest=oldest)
