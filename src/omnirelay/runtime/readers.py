"""Who reads here, and which epoch each has acknowledged: what an operator asks after a switch.

A reader is known by its principal and the name that it gives itself. Those of one principal that give none cannot be
told apart by an acknowledgement, so each of them counts as behind until it subscribes again with the epoch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from omnirelay.errors import BadRequest
from omnirelay.model import ids
from omnirelay.model.readers import ReaderBehind
from omnirelay.model.routing import Route

MOST_LISTED = 50
"""Readers that one cluster names in its report; beyond it they are counted only."""


@dataclass(slots=True, eq=False)
class Reader:
    """One subscription that is open."""

    principal: str
    consumer: str
    namespace: str
    epoch: int


class Readers:
    def __init__(self) -> None:
        self._open: set[Reader] = set()

    def join(self, principal: str, consumer: str, namespace: str, epoch: int) -> Reader:
        reader = Reader(principal, ids.consumer_id(consumer), namespace, epoch)
        self._open.add(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        self._open.discard(reader)

    def acknowledge(self, principal: str, consumer: str, namespace: str, epoch: int) -> None:
        """Of a reader that is not here any more it changes nothing. Raises BadRequest without a name."""
        if not consumer:
            raise BadRequest("an acknowledgement names its reader (consumer_id)", path="consumer_id")
        for reader in self._open:
            if (reader.principal, reader.consumer, reader.namespace) == (principal, consumer, namespace):
                reader.epoch = max(reader.epoch, epoch)

    def counts(self) -> dict[str, int]:
        """Namespace → subscriptions that are open."""
        return _count(reader.namespace for reader in self._open)

    def behind(self, routes: Mapping[str, Route]) -> tuple[dict[str, int], tuple[ReaderBehind, ...]]:
        """Namespace → how many have not acknowledged its current epoch, and who they are, up to MOST_LISTED."""
        late = [r for r in self._open if r.namespace in routes and r.epoch < routes[r.namespace].epoch]
        named = sorted(ReaderBehind(r.namespace, r.consumer, r.principal, r.epoch) for r in late)
        return _count(reader.namespace for reader in late), tuple(named[:MOST_LISTED])


def _count(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names))
