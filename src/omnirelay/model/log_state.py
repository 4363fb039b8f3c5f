"""What a log holds: heads, producers' marks, epoch histories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from omnirelay.model.batch import GENESIS_DIGEST
from omnirelay.model.routing import Route
from omnirelay.model.version_vector import VersionVector


@dataclass(frozen=True, slots=True)
class Head:
    """The end of one origin's log here. The zero value is an origin of which nothing is held."""

    sequence: int = 0
    digest: bytes = GENESIS_DIGEST
    size: int = 0
    """Bytes of all batches of the origin so far, retained or not: differences of this are lag in bytes."""
    commit_time_ms: int = 0


@dataclass(frozen=True, slots=True)
class ProducerMark:
    """The last batch of a producer within one epoch of a namespace."""

    producer_sequence: int
    first_sequence: int
    count: int


Producers = Mapping[str, Mapping[int, Mapping[str, ProducerMark]]]
"""namespace → epoch → producer id → mark. Only valid batches count."""


@dataclass(frozen=True, slots=True)
class LogState:
    """What a log holds durably, as of one commit."""

    heads: Mapping[str, Head] = field(default_factory=dict)
    routes: Mapping[str, Route] = field(default_factory=dict)
    """The epoch history of each namespace, as installed."""
    producers: Producers = field(default_factory=dict)
    cursors: Mapping[str, VersionVector] = field(default_factory=dict)
    """Peer → what it has confirmed to hold; retention keeps what the slowest lacks."""
    oldest: Mapping[str, int] = field(default_factory=dict)
    """Origin → first sequence still retained."""

    @property
    def vector(self) -> VersionVector:
        return VersionVector({origin: head.sequence for origin, head in self.heads.items()})


@dataclass(frozen=True, slots=True)
class SeedMark:
    """The last dropped batch of a producer in one epoch, of those that were valid."""

    namespace: str
    epoch: int
    producer_id: str
    mark: ProducerMark


@dataclass(frozen=True, slots=True)
class Seed:
    """What of one origin's log remains of the batches that retention has dropped: enough to go on behind them."""

    origin: str
    floor: Head
    """End of the last batch dropped. Whatever follows proves its digest."""
    dropped: tuple[tuple[str, int, int], ...] = ()
    """Namespace, epoch, and the last sequence of them that was dropped."""
    marks: tuple[SeedMark, ...] = ()
