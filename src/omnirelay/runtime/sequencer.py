"""The one place where batches join this cluster's log: admits, numbers, chains, applies, and keeps the picture true.

Decisions are synchronous: between looking at the picture and queueing the batch nothing else runs, so what is queued
after a namespace was closed comes after its barrier. The disk follows in groups; when a commit fails, everything
queued fails with it, and the picture is loaded again before anything new is admitted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from omnirelay.errors import (
    CorruptLog,
    IllegalOrigin,
    OmniRelayError,
    Overloaded,
    PositionMismatch,
    StorageUnavailable,
)
from omnirelay.model.batch import Batch, BatchHeader, BatchKind, chain_digest
from omnirelay.model.log_state import Seed
from omnirelay.model.routing import Ownership, Route
from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.clock import Clock
from omnirelay.ports.log import EpochGuard, LogStore
from omnirelay.replication import admission
from omnirelay.replication.admission import Duplicate
from omnirelay.replication.lag import CommitHistory
from omnirelay.replication.picture import LogPicture
from omnirelay.replication.receiver import Decision, receive
from omnirelay.runtime.signal import Signal
from omnirelay.telemetry.histogram import COMMIT_SECONDS, Histogram

_log = logging.getLogger(__name__)

QUEUE_BYTES = 32 * 1024 * 1024
"""Bytes handed to the log and not yet durable; beyond it publishers wait."""
ROOM_TIMEOUT_SECONDS = 10.0
RELOAD_SECONDS = 0.25
REMEMBERED_SECONDS = 10.0
"""How long a disk that refused counts as refusing when nobody has tried again; whoever is owed a write tries sooner."""


@dataclass(frozen=True, slots=True)
class Queued:
    """A batch on its way to the disk. `durable` ends once it is there, or raises why it will not be: StorageUnavailable
    also for what was queued behind an append that failed, whatever failed that. Cancelling it takes nothing back."""

    batch: Batch
    durable: asyncio.Future[None]


class Sequencer:
    """`encode_header` makes the bytes that are stored and chained; `control_records` the record set of a barrier or
    canary, from its subject."""

    def __init__(
        self,
        log: LogStore,
        origin: str,
        clock: Clock,
        encode_header: Callable[[BatchHeader], bytes],
        control_records: Callable[[str], bytes],
    ) -> None:
        self.log = log
        self.origin = origin
        self._clock = clock
        self._encode_header = encode_header
        self._control_records = control_records
        self._picture: LogPicture | None = None
        self._installed: Mapping[str, Route] = {}
        self._queued: set[asyncio.Future[None]] = set()
        self._queued_bytes = 0
        self._problem = ""
        self._refusals: dict[str, tuple[str, float]] = {}
        """Origin → why its last append found the log damaged or its disk full, and when. The log can be read all the
        while, so loading it again proves nothing: only an append does."""
        self._moved = Signal()
        self._held: frozenset[str] = frozenset()
        self.history = CommitHistory(0, 0)
        self.commit_seconds = Histogram(COMMIT_SECONDS)
        self.admitted_records = 0
        self.duplicate_batches = 0
        self.losses = 0
        """How often something failed that was queued, and everything behind it with it."""

    async def start(self) -> None:
        self._take(LogPicture(await self.log.load()))
        head = self.picture.head(self.origin)
        self.history = CommitHistory(head.sequence, head.size)

    @property
    def problem(self) -> str:
        """Why appends fail at the moment; empty when they do not."""
        now = self._clock.monotonic()
        refused = [why for why, at in self._refusals.values() if now - at < REMEMBERED_SECONDS]
        return "; ".join(dict.fromkeys(why for why in (self._problem, *refused) if why))

    @property
    def picture(self) -> LogPicture:
        """Raises StorageUnavailable while the log is being loaded again after a failed commit."""
        if self._picture is None:
            reason = self._problem or "the log is being read"
            raise StorageUnavailable(f"the log takes no writes: {reason}", reason=reason)
        return self._picture

    def _take(self, picture: LogPicture) -> None:
        self._picture, self._installed = picture, picture.routes

    def routes(self) -> Mapping[str, Route]:
        """The installed epoch histories, also while the log refuses appends or is read again: a full disk stops no
        reader, and who is not active says so rather than that its log is busy."""
        return self._installed

    # --- own origin --------------------------------------------------------------------------------------------

    async def room(self, size: int) -> None:
        """Waits until `size` bytes may be queued. Raises Overloaded when the disk takes nothing for a while."""
        while self._queued_bytes and self._queued_bytes + size > QUEUE_BYTES:
            if not await self._moved.wait_beyond(self._moved.version, ROOM_TIMEOUT_SECONDS):
                raise Overloaded(f"{self._queued_bytes} bytes wait for the disk")

    def publish(
        self, ownership: Ownership, namespace: str, producer_id: str, producer_sequence: int, records: bytes, count: int
    ) -> Queued | Duplicate:
        """Admits a producer's batch under `ownership`. Raises ProducerGap, StorageUnavailable."""
        header = admission.admit(
            self.picture, ownership, namespace, producer_id, producer_sequence, count, self._clock.wall_ms()
        )
        if isinstance(header, Duplicate):
            self.duplicate_batches += 1
            return header
        self.admitted_records += count
        return self._append_own(header, records)

    def control(self, ownership: Ownership, namespace: str, kind: BatchKind, subject: str) -> Queued:
        """Appends a barrier or canary."""
        now = self._clock.wall_ms()
        header = admission.control_header(self.picture, ownership, namespace, kind, subject, now)
        return self._append_own(header, self._control_records(subject))

    def _append_own(self, header: BatchHeader, records: bytes) -> Queued:
        encoded = self._encode_header(header)
        digest = chain_digest(self.picture.head(header.origin).digest, encoded, records)
        return self._append(Batch(header, encoded, records, digest), EpochGuard(header.namespace, header.epoch))

    # --- other origins -----------------------------------------------------------------------------------------

    def apply(self, batch: Batch) -> tuple[Decision, Queued | None]:
        """Decides on a replicated batch and queues it if it is to be stored."""
        decision = receive(self.picture, batch)
        if decision in (Decision.APPLY, Decision.FENCED):
            return decision, self._append(batch, None)
        return decision, None

    async def sow(self, seed: Seed) -> None:
        """Takes a seed of another origin, with nothing of it on its way. Raises PositionMismatch where it is not behind
        the seed, and IllegalOrigin for the own log, which no seed may stand for."""
        if seed.origin == self.origin:
            raise IllegalOrigin(f"{self.origin} is written here", origin=self.origin, epoch=0, namespace="")
        await self.settled()
        await self.log.sow(seed)
        await self._reload()

    def hold(self, origins: frozenset[str]) -> None:
        """Applies nothing of these origins until they are released, by not naming them again."""
        if origins != self._held:
            self._held = origins
            self._moved.fire()

    async def released(self, origin: str) -> None:
        """Returns once the origin may be applied."""
        while origin in self._held:
            await self._moved.wait_beyond(self._moved.version)

    def queued_vector(self) -> VersionVector:
        """What is durable here or on its way to the disk."""
        return self._picture.vector if self._picture is not None else self.log_vector()

    def log_vector(self) -> VersionVector:
        """What is durable here."""
        return VersionVector({origin: head.sequence for origin, head in self.log.heads.items()})

    # --- epochs ------------------------------------------------------------------------------------------------

    async def install(self, routes: Mapping[str, Route]) -> None:
        """Makes newer epoch histories durable before they are used (I2)."""
        known = self.picture.routes
        newer = {n: r for n, r in routes.items() if n not in known or len(r.history) > len(known[n].history)}
        if not newer:
            return
        await self.log.install(newer)
        if self._picture is not None and not self._picture.install(newer):
            # The log has rebuilt producers' marks: take them from there, with nothing in flight.
            await self._reload()
        self._moved.fire()

    async def settled(self, seconds: float | None = None) -> bool:
        """Returns once nothing that was queued before the call is still on its way; False when `seconds` were not
        enough for that."""
        if not self._queued:
            return True
        _, waiting = await asyncio.wait(self._queued, timeout=seconds)
        return not waiting

    async def durable(self, losses: int) -> None:
        """Returns once everything that the picture showed is durable. `losses`: as they were when it was looked at.

        Raises StorageUnavailable where anything was lost since. It may have been another's; but that the log has come
        to the same position again would prove nothing, for others' batches may have taken it.
        """
        await self.settled()
        if self.losses != losses:
            raise StorageUnavailable("the disk failed while the batch was on its way", reason="the last commit failed")

    # --- the queue ---------------------------------------------------------------------------------------------

    def _append(self, batch: Batch, guard: EpochGuard | None) -> Queued:
        queued_at = self._clock.monotonic()
        written = asyncio.ensure_future(self.log.append(batch, guard))
        durable = asyncio.get_running_loop().create_future()
        self.picture.queued(batch)
        self._queued.add(written)
        self._queued_bytes += batch.size
        written.add_done_callback(lambda done: self._finished(batch, queued_at, done, durable))
        return Queued(batch, durable)

    def _finished(
        self, batch: Batch, queued_at: float, done: asyncio.Future[None], durable: asyncio.Future[None]
    ) -> None:
        self._queued.discard(done)
        self._queued_bytes -= batch.size
        error = None if done.cancelled() else done.exception()
        if done.cancelled() or error is not None:
            if isinstance(error, StorageUnavailable | CorruptLog):
                self._refusals[batch.header.origin] = (error.message, self._clock.monotonic())
            self._lost(error)
            self._fail(durable, error)
            self._moved.fire()
            return
        if not durable.done():
            durable.set_result(None)
        self._refusals.pop(batch.header.origin, None)
        self.commit_seconds.observe(self._clock.monotonic() - queued_at)
        if batch.header.origin == self.origin:
            head = self.log.heads[self.origin]
            self.history.committed(head.sequence, head.size, self._clock.monotonic())
        self._moved.fire()

    def _fail(self, durable: asyncio.Future[None], error: BaseException | None) -> None:
        if durable.done():
            return
        if error is None:
            durable.cancel()
            return
        if isinstance(error, PositionMismatch):
            # The batch was numbered after one that failed, or after a picture that is not true any more: both pass.
            reason = self._problem or error.message
            error = StorageUnavailable(f"an append before it failed: {reason}", reason=reason)
        durable.set_exception(error)
        durable.exception()  # whoever waited may have gone

    def _lost(self, error: BaseException | None) -> None:
        self.losses += 1
        if self._picture is None:
            return
        self._picture = None
        self._problem = error.message if isinstance(error, OmniRelayError) else str(error)
        _log.error("the log refused an append: %s", self._problem)
        self._reloading = asyncio.ensure_future(self._reload())

    async def _reload(self) -> None:
        """Loads the picture again once nothing is in flight; tries until the log answers."""
        self._picture = None
        await self.settled()
        while True:
            try:
                self._take(LogPicture(await self.log.load()))
            except OmniRelayError as error:
                self._problem = error.message
                await asyncio.sleep(RELOAD_SECONDS)
            else:
                self._problem = ""
                self._moved.fire()
                return
