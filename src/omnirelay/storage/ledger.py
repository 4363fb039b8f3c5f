"""The writer's side of the log: every change, inside the transaction of its group.

A ledger is used by the writer thread alone. What it must know for each append (heads, routes) is mirrored in memory;
the mirror is changed along with the transaction, and read anew from the database when a transaction is abandoned.
Each operation refuses before it changes anything, so that a refusal leaves the rest of its group untouched.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress

from omnirelay.errors import CorruptLog, EpochMoved, PositionMismatch
from omnirelay.model.batch import Batch, BatchHeader, BatchKind, chain_digest
from omnirelay.model.position import Cursor
from omnirelay.model.routing import Ownership, Route
from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.log import EpochGuard, Head, Retention, Seed, SeedMark
from omnirelay.storage.database import unreadable
from omnirelay.storage.retention import Candidate, droppable
from omnirelay.storage.rows import Batches, select_floors, select_head, select_routes
from omnirelay.storage.statements import SQL

_DROP_AT_ONCE = 256
"""Batches of an origin that one retention step may drop, so that appends never wait long behind it."""


class Ledger:
    def __init__(self, connection: sqlite3.Connection, decode_header: Callable[[bytes], BatchHeader]) -> None:
        """Reads the mirror. Raises sqlite3.Error."""
        self._connection = connection
        self._batches = Batches(connection, decode_header)
        self.stale = True
        """The mirror may hold what was never committed."""
        self.heads: dict[str, Head] = {}
        self.floors: dict[str, Head] = {}
        self._routes: dict[str, Route] = {}
        self._corrupt: dict[str, CorruptLog] = {}
        self._recover()

    # --- the transaction ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        if self.stale:
            self._recover()
        self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Durable when it returns (I4): with synchronous=FULL the commit ends with an fsync of the WAL."""
        self._connection.execute("COMMIT")

    def abandon(self) -> None:
        """Undoes the transaction and the mirror. Never raises: a disk that refuses is met again at the next `begin`."""
        self.stale = True
        with suppress(sqlite3.Error):
            self._recover()

    def close(self) -> None:
        self._connection.close()

    def _recover(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self.floors = select_floors(self._connection)
        self.heads = {origin: select_head(self._connection, origin) or floor for origin, floor in self.floors.items()}
        self._corrupt = {origin: damage for origin in self.heads if (damage := self._damage_at_head(origin))}
        self._routes = select_routes(self._connection)
        self.stale = False

    def _damage_at_head(self, origin: str) -> CorruptLog | None:
        """A last row that does not prove itself bars its origin, and no other."""
        sequence = self.heads[origin].sequence
        try:
            next(self._batches.after(origin, sequence - 1), None)
        except CorruptLog as damage:
            return damage
        except sqlite3.DatabaseError as error:
            refused = unreadable(error, origin, sequence)
            if isinstance(refused, CorruptLog):
                return refused
            raise
        return None

    # --- what may change ---------------------------------------------------------------------------------------

    def append(self, batch: Batch, guard: EpochGuard | None) -> None:
        """Raises EpochMoved, PositionMismatch, CorruptLog."""
        header = batch.header
        if header.origin in self._corrupt:
            damage = self._corrupt[header.origin]
            raise CorruptLog(damage.message, **damage.details)
        self._check_epoch(guard)
        head = self.heads.get(header.origin, Head())
        if header.first_sequence != head.sequence + 1 or header.count < 1:  # I3
            raise _mismatch(header.origin, head, f"{header.first_sequence} does not follow {head.sequence}")
        if batch.digest != chain_digest(head.digest, batch.header_bytes, batch.records):
            raise _mismatch(header.origin, head, "the batch is not chained to it")
        after = Head(header.last_sequence, batch.digest, head.size + batch.size, header.commit_time_ms)
        self._insert(batch, after)
        self.heads[header.origin] = after

    def _check_epoch(self, guard: EpochGuard | None) -> None:
        """I2: nothing can move the epoch between this check and the commit, for only this thread changes it."""
        if guard is None:
            return
        route = self._routes.get(guard.namespace)
        if route is None or route.epoch != guard.epoch:
            epoch = route.epoch if route else 0
            raise EpochMoved(f"{guard.namespace} is at epoch {epoch}, not {guard.epoch}", epoch=epoch)

    def _insert(self, batch: Batch, after: Head) -> None:
        header = batch.header
        if header.origin not in self.floors:
            floor = Head()
            values = (header.origin, floor.sequence, floor.digest, floor.size, floor.commit_time_ms)
            self._connection.execute(SQL["floor_insert"], values)
            self.floors[header.origin] = floor
        self._connection.execute(SQL["batch_insert"], _batch_row(batch, after))
        if header.kind is BatchKind.DATA and self._is_valid(header.namespace, header.epoch, header.last_sequence):
            mark = (header.producer_id, header.producer_sequence, header.first_sequence, header.count)
            self._connection.execute(SQL["mark_put"], (header.namespace, header.epoch, *mark))

    def _is_valid(self, namespace: str, epoch: int, sequence: int) -> bool:
        route = self._routes.get(namespace)
        return route is None or route.is_valid(Cursor(epoch, sequence))

    def install(self, routes: Mapping[str, Route]) -> None:
        for namespace, route in routes.items():
            known = self._routes.get(namespace)
            if known and route.epoch <= known.epoch:
                continue
            self._connection.execute(SQL["ownership_clear"], (namespace,))
            self._connection.executemany(SQL["ownership_put"], [_ownership_row(namespace, o) for o in route.history])
            self._routes[namespace] = route
            self._rebuild_marks(route, known)

    def _rebuild_marks(self, route: Route, known: Route | None) -> None:
        epochs = [epoch for (epoch,) in self._connection.execute(SQL["mark_epochs"], (route.namespace,))]
        for epoch in epochs:
            valid_end = route.valid_end(epoch)
            if valid_end is None or (known and known.valid_end(epoch) == valid_end):
                continue
            place = {"namespace": route.namespace, "epoch": epoch, "valid_end": valid_end, "data": int(BatchKind.DATA)}
            for statement in ("mark_clear", "mark_restore", "mark_rebuild"):
                self._connection.execute(SQL[statement], place)

    def record_cursors(self, cursors: Mapping[str, VersionVector]) -> None:
        rows = [(peer, json.dumps(dict(vector))) for peer, vector in cursors.items()]
        self._connection.executemany(SQL["cursor_put"], rows)

    def retain(self, rule: Retention, cursors: Mapping[str, VersionVector]) -> dict[str, int]:
        """One step. Returns origin → new oldest sequence; empty when nothing more may go."""
        rows = {o: self._connection.execute(SQL["batch_oldest"], (o, _DROP_AT_ONCE)).fetchall() for o in self.floors}
        total = sum(head.size - self.floors[origin].size for origin, head in self.heads.items())
        oldest = {origin: _candidates(self.floors[origin], rows[origin]) for origin in rows}
        changed = {}
        for origin, count in droppable(oldest, total, cursors, rule).items():
            sequence, size, commit_time_ms, digest = rows[origin][count - 1]
            self._drop(origin, Head(sequence, digest, size, commit_time_ms))
            changed[origin] = sequence + 1
        return changed

    def _drop(self, origin: str, floor: Head) -> None:
        upto = (origin, floor.sequence)
        self._connection.execute(SQL["dropped_put"], upto)
        for row in self._connection.execute(SQL["data_until"], (*upto, int(BatchKind.DATA))).fetchall():
            namespace, epoch, _, _, first, count = row
            if self._is_valid(namespace, epoch, first + count - 1):
                self._connection.execute(SQL["dropped_mark_put"], row)
        self._connection.execute(SQL["batch_drop"], upto)
        values = (floor.sequence, floor.digest, floor.size, floor.commit_time_ms, origin)
        self._connection.execute(SQL["floor_raise"], values)
        self.floors[origin] = floor

    def sow(self, seed: Seed) -> None:
        """Raises PositionMismatch. A damaged log is mended by it: its damage is dropped with the rest."""
        origin, floor, head = seed.origin, seed.floor, self.heads.get(seed.origin, Head())
        if head.sequence >= floor.sequence:
            raise _mismatch(origin, head, f"a seed at {floor.sequence} is for who lacks that")
        if origin not in self.floors:
            self._connection.execute(SQL["floor_insert"], (origin, *_floor_row(floor)))
        self._connection.execute(SQL["batch_drop"], (origin, floor.sequence))
        self._connection.execute(SQL["floor_raise"], (*_floor_row(floor), origin))
        rows = [(namespace, epoch, origin, sequence) for namespace, epoch, sequence in seed.dropped]
        self._connection.executemany(SQL["dropped_sow"], rows)
        for row in (_mark_row(mark) for mark in seed.marks):
            self._connection.execute(SQL["dropped_mark_put"], row)
            if self._is_valid(row[0], row[1], row[4] + row[5] - 1):
                self._connection.execute(SQL["mark_put"], row)
        self.floors[origin] = self.heads[origin] = floor
        self._corrupt.pop(origin, None)

    def rebuilt(self, incarnation: int) -> None:
        self._connection.execute(SQL["log_rebuilt"], (incarnation,))


def _batch_row(batch: Batch, after: Head) -> tuple[str | int | bytes, ...]:
    h = batch.header
    return (
        h.origin, h.first_sequence, h.last_sequence, h.count, h.namespace, h.epoch, int(h.kind), h.producer_id,
        h.producer_sequence, h.commit_time_ms, after.size, batch.digest, batch.header_bytes, batch.records,
    )  # fmt: skip


def _floor_row(floor: Head) -> tuple[int, bytes, int, int]:
    return floor.sequence, floor.digest, floor.size, floor.commit_time_ms


def _mark_row(seed: SeedMark) -> tuple[str, int, str, int, int, int]:
    mark = seed.mark
    return seed.namespace, seed.epoch, seed.producer_id, mark.producer_sequence, mark.first_sequence, mark.count


def _ownership_row(namespace: str, o: Ownership) -> tuple[str | int, ...]:
    return (namespace, o.epoch, o.cluster, o.origin, o.cut.epoch, o.cut.sequence)


def _candidates(floor: Head, rows: list[tuple[int, int, int, bytes]]) -> list[Candidate]:
    candidates, before = [], floor.size
    for last_sequence, end_size, commit_time_ms, _ in rows:
        candidates.append(Candidate(last_sequence, end_size - before, commit_time_ms))
        before = end_size
    return candidates


def _mismatch(origin: str, head: Head, why: str) -> PositionMismatch:
    return PositionMismatch(f"{origin} ends at {head.sequence}: {why}", origin=origin, head=head.sequence)
