"""What a replicator knows of its own log, in memory, one step ahead of the disk.

The log store commits in groups, so the next batch is decided while earlier ones are still being written. The
picture is therefore advanced when a batch is *queued* and thrown away (loaded again from the log) when a commit
fails. Rejected alternative: deciding inside the storage transaction, which would tie admission rules to one store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from omnirelay.errors import UnknownNamespace
from omnirelay.model.batch import Batch, BatchHeader, BatchKind
from omnirelay.model.log_state import Head, LogState, ProducerMark
from omnirelay.model.position import Cursor, Position
from omnirelay.model.routing import Route
from omnirelay.model.version_vector import VersionVector


@dataclass(frozen=True, slots=True)
class LastBatch:
    """Of a producer. `position` is its first record, in the log of whoever owned the namespace then."""

    producer_sequence: int
    position: Position | None
    end: Cursor
    """Of the batch, in the order: everything that the producer sent lies before."""


def route_of(routes: Mapping[str, Route], namespace: str) -> Route:
    """Raises UnknownNamespace."""
    try:
        return routes[namespace]
    except KeyError:
        known = ", ".join(sorted(routes)) or "none"
        raise UnknownNamespace(f"there is no namespace {namespace!r}", namespace=namespace, known=known) from None


class LogPicture:
    """Heads, epoch histories and producers' marks. Not thread-safe; one owner."""

    def __init__(self, state: LogState) -> None:
        self._heads = dict(state.heads)
        self._routes = dict(state.routes)
        self._producers = {
            namespace: {epoch: dict(marks) for epoch, marks in epochs.items()}
            for namespace, epochs in state.producers.items()
        }

    @property
    def routes(self) -> Mapping[str, Route]:
        return self._routes

    @property
    def vector(self) -> VersionVector:
        return VersionVector({origin: head.sequence for origin, head in self._heads.items()})

    def head(self, origin: str) -> Head:
        return self._heads.get(origin, Head())

    def route(self, namespace: str) -> Route:
        """Raises UnknownNamespace."""
        return route_of(self._routes, namespace)

    def last_of(self, namespace: str, producer_id: str) -> LastBatch | None:
        """The producer's last valid batch, whichever epoch it is in.

        A producer's numbers grow along the order, so the newest epoch that has the producer holds its maximum.
        """
        epochs = self._producers.get(namespace, {})
        for epoch in sorted(epochs, reverse=True):
            mark = epochs[epoch].get(producer_id)
            if mark is not None:
                owner = self._routes[namespace].ownership(epoch) if namespace in self._routes else None
                position = Position(owner.origin, mark.first_sequence) if owner else None
                end = Cursor(epoch, mark.first_sequence + mark.count - 1)
                return LastBatch(mark.producer_sequence, position, end)
        return None

    def install(self, routes: Mapping[str, Route]) -> bool:
        """Takes over histories that the log has made durable. False when they fence a batch that a producer's mark
        counts: the log has rebuilt its marks then, and this picture is to be loaded again."""
        self._routes.update(routes)
        return not any(self._fences_a_mark(route) for route in routes.values())

    def _fences_a_mark(self, route: Route) -> bool:
        return any(
            not route.is_valid(Cursor(epoch, mark.first_sequence + mark.count - 1))
            for epoch, marks in self._producers.get(route.namespace, {}).items()
            for mark in marks.values()
        )

    def queued(self, batch: Batch) -> None:
        """Advances by a batch that has been handed to the log."""
        header = batch.header
        head = self.head(header.origin)
        self._heads[header.origin] = Head(
            header.last_sequence, batch.digest, head.size + batch.size, header.commit_time_ms
        )
        if counts_for_producer(self._routes.get(header.namespace), header):
            marks = self._producers.setdefault(header.namespace, {}).setdefault(header.epoch, {})
            marks[header.producer_id] = ProducerMark(header.producer_sequence, header.first_sequence, header.count)


def counts_for_producer(route: Route | None, header: BatchHeader) -> bool:
    """Whether a batch moves its producer's mark: only valid data does."""
    if header.kind is not BatchKind.DATA or route is None:
        return False
    return route.is_valid(Cursor(header.epoch, header.last_sequence))
