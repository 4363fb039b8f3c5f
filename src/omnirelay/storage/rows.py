"""From rows to values. A batch is proven against the row before it, whoever reads it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import NamedTuple

from omnirelay.model.batch import Batch, BatchHeader, chain_digest
from omnirelay.model.position import Cursor
from omnirelay.model.routing import Ownership, Route
from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.log import Head, ProducerMark
from omnirelay.storage.database import corrupt
from omnirelay.storage.statements import SQL


class BatchRow(NamedTuple):
    first_sequence: int
    last_sequence: int
    digest: bytes
    header: bytes
    records: bytes
    previous: bytes | None
    """Digest of the row before, or of the floor; None where neither is there."""


class Batches:
    """Proven batches in sequence order, row by row. The iterators raise CorruptLog and sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection, decode_header: Callable[[bytes], BatchHeader]) -> None:
        self._connection = connection
        self._decode_header = decode_header

    def after(self, origin: str, after: int) -> Iterator[Batch]:
        return self._select("batch_read", origin, {"after": after})

    def of_namespace(self, namespace: str, epoch: int, origin: str, after: int, upto: int) -> Iterator[Batch]:
        place: dict[str, str | int] = {"namespace": namespace, "epoch": epoch, "after": after, "upto": upto}
        return self._select("batch_read_namespace", origin, place)

    def _select(self, statement: str, origin: str, place: Mapping[str, str | int]) -> Iterator[Batch]:
        # Closed at once, also on an error whose traceback lives on: an open cursor would keep its snapshot, and
        # with it the whole WAL.
        with closing(self._connection.execute(SQL[statement], {"origin": origin, **place})) as rows:
            for row in rows:
                yield self._proven(origin, BatchRow(*row))

    def _proven(self, origin: str, row: BatchRow) -> Batch:
        if row.previous is None:
            raise corrupt(origin, row.first_sequence, "the batch before it is missing")
        if chain_digest(row.previous, row.header, row.records) != row.digest:
            raise corrupt(origin, row.first_sequence, "its digest does not prove it")
        header = self._decode_header(row.header)
        if (header.origin, header.first_sequence, header.last_sequence) != (origin, *row[:2]):
            raise corrupt(origin, row.first_sequence, "its columns are not its header's")
        return Batch(header, row.header, row.records, row.digest)


def select_floors(connection: sqlite3.Connection) -> dict[str, Head]:
    """Origin → end of what retention dropped; every origin has one."""
    return {origin: Head(*row) for origin, *row in connection.execute(SQL["floor_select"])}


def select_head(connection: sqlite3.Connection, origin: str) -> Head | None:
    """The end of the origin's last row, unproven; None where no row is retained."""
    row = connection.execute(SQL["batch_last"], (origin,)).fetchone()
    return Head(*row) if row else None


def select_routes(connection: sqlite3.Connection) -> dict[str, Route]:
    histories: dict[str, list[Ownership]] = {}
    for namespace, epoch, cluster, origin, cut_epoch, cut_sequence in connection.execute(SQL["ownership_select"]):
        cut = Cursor(cut_epoch, cut_sequence)
        histories.setdefault(namespace, []).append(Ownership(epoch, cluster, origin, cut))
    return {namespace: Route(namespace, tuple(history)) for namespace, history in histories.items()}


def select_producers(connection: sqlite3.Connection) -> dict[str, dict[int, dict[str, ProducerMark]]]:
    producers: dict[str, dict[int, dict[str, ProducerMark]]] = {}
    for namespace, epoch, producer, *mark in connection.execute(SQL["mark_select"]):
        producers.setdefault(namespace, {}).setdefault(epoch, {})[producer] = ProducerMark(*mark)
    return producers


def select_cursors(connection: sqlite3.Connection) -> dict[str, VersionVector]:
    return {peer: VersionVector(json.loads(vector)) for peer, vector in connection.execute(SQL["cursor_select"])}
