"""The log of a cluster: its own origin's batches and every other origin's, append-only.

The store is deliberately plain: who may append what is decided before (omnirelay.replication); the store guards
position, epoch and durability in one transaction (I2, I3, I4), so that it can also be a replicated log service.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from omnirelay.model.batch import Batch
from omnirelay.model.log_state import Head, LogState, ProducerMark, Producers, Seed, SeedMark
from omnirelay.model.routing import Route
from omnirelay.model.version_vector import VersionVector

__all__ = ["EpochGuard", "Head", "LogState", "LogStore", "ProducerMark", "Producers", "Retention", "Seed", "SeedMark"]


@dataclass(frozen=True, slots=True)
class EpochGuard:
    """Makes an append conditional: the namespace's installed epoch is still this one."""

    namespace: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Retention:
    """What may be dropped. A batch goes when it is older than `max_age_ms` or the log is larger than `max_bytes`,
    and every cursor that counts has passed it, or `cap_bytes` is exceeded."""

    now_ms: int
    max_age_ms: int
    max_bytes: int
    cap_bytes: int
    peers: Collection[str] | None = None
    """Whose cursors count: one that left the mesh is waited for no longer. All, where it is None."""
    keep_from: Mapping[str, int] = field(default_factory=dict)
    """Origin → first sequence that stays whatever the cap: a fenced record that nobody has decided about (I7)."""

    def passed(self, cursors: Mapping[str, VersionVector], origin: str, sequence: int) -> bool:
        """Whether every cursor that counts has passed the place."""
        counted = (vector for peer, vector in cursors.items() if self.peers is None or peer in self.peers)
        return all(vector[origin] >= sequence for vector in counted)


class LogStore(Protocol):
    """One process holds the log; opening it twice raises DataDirInUse.

    Raises StorageUnavailable when the disk refuses (the log stays open and later calls may succeed), CorruptLog
    when a stored row does not prove itself.
    """

    @property
    def incarnation(self) -> int:
        """1, or more after the log was rebuilt."""
        ...

    @property
    def heads(self) -> Mapping[str, Head]:
        """Origin → end of its log here, as of the last commit. Cheap; a new mapping after each commit."""
        ...

    async def load(self) -> LogState:
        """Everything the log holds durably, for whoever keeps a picture of it in memory."""
        ...

    def append(self, batch: Batch, guard: EpochGuard | None = None) -> Awaitable[None]:
        """Queues the batch at the call, in call order; the awaitable ends once it is durable. Appends that wait
        together share a commit. Whoever calls bounds what is queued.

        Raises PositionMismatch unless the batch follows its origin's head (sequence and chain), EpochMoved when the
        guard fails. A refused or failed append stores nothing, and every append of the same origin that was queued
        behind it, before its failure was told, fails too. Cancelling the awaitable does not take the batch back.
        """
        ...

    async def install(self, routes: Mapping[str, Route]) -> None:
        """Makes epoch histories durable (I2). A history may only grow; one whose epoch is
        not beyond that of the installed one is ignored. Where a new cut fences batches, the producers' marks of that
        epoch are rebuilt from what stays valid. Marks outlive the batches that retention drops, unless the cut lies
        before what was dropped: a producer whose last dropped batch it fences has no mark but from retained ones."""
        ...

    async def read(self, origin: str, after: int, max_bytes: int) -> Sequence[Batch]:
        """Consecutive batches of an origin beginning with the one that holds `after + 1`; empty at the head. At least
        one batch if there is one, then as many as fit. Ends before a row that does not prove itself; CorruptLog is
        raised by the read that begins with it. Raises ResumePointDeleted if `after + 1` is no longer retained."""
        ...

    async def read_namespace(
        self, namespace: str, epoch: int, origin: str, after: int, upto: int, max_bytes: int
    ) -> Sequence[Batch]:
        """Batches of one namespace and epoch (of any kind) whose last sequence is > `after` and first <= `upto`, in
        sequence order, limited as in `read`. Raises CorruptLog as there, ResumePointDeleted if retention dropped a
        batch of this namespace and epoch beyond `after`."""
        ...

    async def dropped_end(self, namespace: str, epoch: int, origin: str) -> int:
        """The last sequence of this namespace and epoch that retention dropped; 0 when it has dropped nothing of it."""
        ...

    async def digest_at(self, origin: str, sequence: int) -> bytes | None:
        """The chain digest after `sequence`, if that is 0, the end of a retained batch, or the end of the last one
        dropped. Raises CorruptLog."""
        ...

    async def backlog_bytes(self, origin: str, after: int) -> int:
        """Bytes of the origin's batches that end beyond `after`; from 0 on, dropped ones included. Raises
        ResumePointDeleted for another place below what is retained: what is unknown is not guessed."""
        ...

    async def record_cursor(self, peer: str, vector: VersionVector) -> None:
        """Remembers what a peer holds; need not be durable at once."""
        ...

    async def rebuilt(self, incarnation: int) -> None:
        """Goes on under a higher incarnation, once it is known that the log lost what this cluster wrote. Raises
        Conflict unless it is higher."""
        ...

    async def retain(self, retention: Retention) -> Mapping[str, int]:
        """Drops what may go. Returns origin → new oldest sequence for those that changed."""
        ...

    async def seed_of(self, origin: str) -> Seed | None:
        """What stands for the origin's dropped batches; None while nothing of it was dropped."""
        ...

    async def sow(self, seed: Seed) -> None:
        """Takes the seed in place of everything that is held of its origin, which ends before its floor: that was
        dropped elsewhere, and is dropped here. Raises PositionMismatch where the log reaches the floor or more."""
        ...

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Calls `changed` on the event loop after each commit; returns what ends that."""
        ...

    async def close(self) -> None:
        """Finishes what is queued, then releases the log."""
        ...
