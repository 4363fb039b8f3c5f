"""Serves one producer: admits its batches while this cluster is active, acknowledges them in order once durable, and
tells what has become remote if the producer wants to know."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from omnirelay.errors import BadRequest, BatchTooLarge, NotActive, ProducerSuperseded, RpoExceeded, TooFewClusters
from omnirelay.model import ids
from omnirelay.model.position import Cursor, Position
from omnirelay.model.routing import Ownership
from omnirelay.ports.clock import Clock
from omnirelay.ports.streams import Duplex, ProducerBatch, PublishAck, PublishOpen, PublishOpened, PublishRemote
from omnirelay.replication.admission import Duplicate, check_epoch
from omnirelay.replication.durability import RemoteProgress, remote_end
from omnirelay.replication.rpo import RpoGuard, exposure_seconds
from omnirelay.runtime.links import Links
from omnirelay.runtime.ownership import Ownerships
from omnirelay.runtime.sequencer import Queued, Sequencer
from omnirelay.runtime.signal import Signal
from omnirelay.runtime.tasks import alongside

FromProducer = PublishOpen | ProducerBatch
ToProducer = PublishOpened | PublishAck | PublishRemote

WINDOW_BATCHES = 256
"""Batches of one producer that may wait for the disk; beyond it its stream is not read."""
STILL_SECONDS = 1.0
"""How often a producer with batches that are not remote is looked after while no peer tells anything: once this cluster
owns the namespace no more, its successor may lack them, and a producer that is idle would not find out."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A batch that is to be acknowledged; without `queued` it was sent before."""

    batch: ProducerBatch
    ownership: Ownership
    queued: Queued | None
    losses: int
    """Of the sequencer, when it was decided: the first sending may be on its way still."""
    position: Position | None
    end: Cursor
    """Where in the order everything that the producer sent up to this batch ends."""


@dataclass(frozen=True, slots=True)
class _Told:
    """A producer that has come in an epoch has been told where its numbers go on."""

    epoch: int
    resends_to: int
    """What it sends beyond is new in this epoch."""
    at: float
    """When it was told last, on the monotonic clock."""


class Publishing:
    """Shared by all producers; `serve` runs once per stream."""

    def __init__(
        self,
        cluster: str,
        sequencer: Sequencer,
        ownerships: Ownerships,
        links: Links,
        clock: Clock,
        others: Callable[[], Collection[str]],
        max_batch_bytes: int,
        guard: RpoGuard | None,
    ) -> None:
        """`others`: the other members of the mesh."""
        self._cluster = cluster
        self._sequencer = sequencer
        self._ownerships = ownerships
        self._links = links
        self._clock = clock
        self._others = others
        self._max_batch_bytes = max_batch_bytes
        self._guard = guard
        self._sessions: dict[tuple[str, str], _Session] = {}
        """Namespace and producer → its newest stream."""
        self._remote: dict[tuple[str, int], tuple[int, Cursor]] = {}
        """Namespace and copies → where what is remote ends, and as of which word of a peer; shared by all producers."""
        self._told: dict[tuple[str, str], _Told] = {}
        """By namespace and producer."""

    async def serve(self, stream: Duplex[FromProducer, ToProducer]) -> None:
        """Runs until the producer goes and everything it sent is answered. Raises typed errors that end the stream."""
        opening = await stream.receive()
        if not isinstance(opening, PublishOpen):
            raise BadRequest("the first message must be `open`")
        namespace, producer_id = ids.namespace(opening.namespace), ids.producer_id(opening.producer_id)
        try:
            await self._serve_opened(stream, opening, namespace, producer_id)
        except NotActive as refusal:
            raise await self._ownerships.told(namespace, refusal) from refusal

    async def _serve_opened(
        self, stream: Duplex[FromProducer, ToProducer], opening: PublishOpen, namespace: str, producer_id: str
    ) -> None:
        ownership = await self._ownerships.admit_or_await(namespace)
        check_epoch(ownership, opening.epoch)
        self._check_copies(opening.remote_copies)
        self._pause(namespace)
        session = _Session(namespace, producer_id, ownership.epoch, opening.remote_copies, opening.resends_to)
        with self._newest(session):
            await self._serve(stream, session)

    @contextmanager
    def _newest(self, session: _Session) -> Iterator[None]:
        """A producer that came back is served by its newest stream alone: of two that share an id neither could know
        whose batch an acknowledgement is for. The older one ends with ProducerSuperseded."""
        key = session.namespace, session.producer_id
        if key in self._sessions:
            self._sessions[key].supersede()
        self._sessions[key] = session
        try:
            yield
        finally:
            if self._sessions.get(key) is session:
                del self._sessions[key]

    async def _serve(self, stream: Duplex[FromProducer, ToProducer], session: _Session) -> None:
        self._ownerships.still(session.namespace, session.epoch)
        mark, losses = self._sequencer.picture.last_of(session.namespace, session.producer_id), self._sequencer.losses
        last = mark.producer_sequence if mark else 0
        session.require_newest()
        # From here on the numbers after `last` are the producer's: no replay takes one for anything else.
        self._note(session, last)
        # A number that is still on its way to the disk may yet be lost, so it must not be confirmed.
        await self._sequencer.durable(losses)
        self._ownerships.still(session.namespace, session.epoch)
        session.require_newest()
        await stream.send(PublishOpened(self._cluster, session.epoch, last, self._max_batch_bytes))
        if mark:
            session.remote.acknowledged(last, mark.end)
        loops = [self._admit(stream, session), self._acknowledge(stream, session), session.superseded()]
        if session.remote_copies:
            loops.append(self._follow_peers(stream, session))
        await alongside(*loops)

    def may_send(self, namespace: str, producer_id: str, number: int) -> bool:
        """Whether a producer that has come in this epoch may use the number for something new: it is told where its
        numbers go on, and what it may send again ends before."""
        told = self._told_now(namespace, producer_id)
        return told is not None and number > told.resends_to

    def told_seconds(self, namespace: str, producer_id: str) -> float | None:
        """Since the producer was last told where its numbers go on, in this epoch; None if it has not come."""
        told = self._told_now(namespace, producer_id)
        return self._clock.monotonic() - told.at if told else None

    def _told_now(self, namespace: str, producer_id: str) -> _Told | None:
        told = self._told.get((namespace, producer_id))
        return told if told and told.epoch == self._sequencer.picture.route(namespace).epoch else None

    def _note(self, session: _Session, last: int) -> None:
        """A producer that does not say what it may send again may have used any number for anything: what it was told
        to be the next one is new. One that comes back in the same epoch may send again what it sent here, too, and
        that is no number of the epoch before: the least that it ever said counts."""
        key = session.namespace, session.producer_id
        resends_to = last if session.resends_to is None else session.resends_to
        known = self._told_now(*key)
        if known is not None:
            resends_to = min(resends_to, known.resends_to)
        self._told[key] = _Told(session.epoch, resends_to, self._clock.monotonic())

    def _check_copies(self, copies: int) -> None:
        others = len(self._others())
        if copies > others:
            raise TooFewClusters(f"{copies} remote copies are asked for, the mesh has {others} others", others=others)

    async def _admit(self, stream: Duplex[FromProducer, ToProducer], session: _Session) -> None:
        while (message := await stream.receive()) is not None:
            if not isinstance(message, ProducerBatch):
                raise BadRequest("`open` may come only once")
            self._check(message)
            await self._hold_back(session)
            await session.room()
            await self._sequencer.room(len(message.records))
            session.add(self._decide(session, message))
        await session.answered()

    async def _hold_back(self, session: _Session) -> None:
        """What the RPO guard asks for. Raises RpoExceeded, once what was admitted before is answered."""
        try:
            pause = self._pause(session.namespace)
        except RpoExceeded:
            await session.answered()
            raise
        if pause:
            await asyncio.sleep(pause)

    def _pause(self, namespace: str) -> float:
        """Seconds to wait before the next batch. Raises RpoExceeded."""
        if self._guard is None:
            return 0.0
        standings = map(self._links.standing, self._others())
        return self._guard.delay(exposure_seconds(self._sequencer.picture.route(namespace), standings))

    def _check(self, batch: ProducerBatch) -> None:
        if len(batch.records) > self._max_batch_bytes:
            raise BatchTooLarge(
                f"the batch has {len(batch.records)} bytes of records", max_batch_bytes=self._max_batch_bytes
            )
        if batch.producer_sequence < 1:
            raise BadRequest("producer sequences count from 1")

    def _decide(self, session: _Session, batch: ProducerBatch) -> _Waiting:
        """Admission and queueing, with nothing in between: a drain that closes the namespace comes before or after."""
        session.require_newest()
        ownership, losses = self._ownerships.admit(session.namespace), self._sequencer.losses
        decided = self._sequencer.publish(
            ownership, session.namespace, session.producer_id, batch.producer_sequence, batch.records, batch.count
        )
        if isinstance(decided, Duplicate):
            return _Waiting(batch, ownership, None, losses, decided.position, decided.end)
        header = decided.batch.header
        position, end = Position(header.origin, header.first_sequence), Cursor(header.epoch, header.last_sequence)
        return _Waiting(batch, ownership, decided, losses, position, end)

    async def _acknowledge(self, stream: Duplex[FromProducer, ToProducer], session: _Session) -> None:
        async for waiting in session.waiting():
            if waiting.queued is not None:
                # Shielded: the batch belongs to the log, also when this producer goes away.
                await asyncio.shield(waiting.queued.durable)
            else:
                await self._sequencer.durable(waiting.losses)
            self._ownerships.still(session.namespace, waiting.ownership.epoch)
            session.require_newest()
            await stream.send(
                PublishAck(
                    waiting.batch.producer_sequence,
                    waiting.position,
                    waiting.batch.count,
                    waiting.ownership.epoch,
                    duplicate=waiting.queued is None,
                )
            )
            if session.remote_copies:
                session.remote.acknowledged(waiting.batch.producer_sequence, waiting.end)
                await self._tell_remote(stream, session)

    async def _follow_peers(self, stream: Duplex[FromProducer, ToProducer], session: _Session) -> None:
        while True:
            seen = self._links.acknowledged.version
            await self._tell_remote(stream, session)
            await self._links.acknowledged.wait_beyond(seen, STILL_SECONDS)

    async def _tell_remote(self, stream: Duplex[FromProducer, ToProducer], session: _Session) -> None:
        """Tells what has become remote since. Raises NotActive: what peers confirm after this cluster's lease may lie
        beyond a cut, and batches of an epoch that is over are somebody else's to judge."""
        if not session.remote:
            return
        self._ownerships.still(session.namespace, session.epoch)
        reached = session.remote.reached(self._remote_end(session.namespace, session.remote_copies))
        if reached:
            await stream.send(PublishRemote(reached))

    def _remote_end(self, namespace: str, copies: int) -> Cursor:
        """Computed once per word of a peer. A later ownership may fence a batch, but takes no copy of a valid one away:
        what was remote before is so still."""
        version = self._links.acknowledged.version
        known = self._remote.get((namespace, copies))
        if known is None or known[0] != version:
            route = self._sequencer.picture.route(namespace)
            known = version, remote_end(route, self._links.confirmations(self._others()), copies)
            self._remote[namespace, copies] = known
        return known[1]


class _Session:
    """What of one producer waits for its acknowledgement, in order and bounded, and what waits to become remote."""

    def __init__(
        self, namespace: str, producer_id: str, epoch: int, remote_copies: int, resends_to: int | None
    ) -> None:
        self.resends_to = resends_to
        self.namespace = namespace
        self.producer_id = producer_id
        self.epoch = epoch
        """In which the stream was opened."""
        self.remote_copies = remote_copies
        self.remote = RemoteProgress()
        self._queue: deque[_Waiting] = deque()
        self._moved = Signal()
        self._superseded = asyncio.Event()

    def supersede(self) -> None:
        """The producer has opened a newer stream."""
        self._superseded.set()

    def require_newest(self) -> None:
        """Raises ProducerSuperseded."""
        if self._superseded.is_set():
            raise ProducerSuperseded(
                f"producer {self.producer_id} has opened a newer stream", producer_id=self.producer_id
            )

    async def superseded(self) -> None:
        """Raises ProducerSuperseded once it is."""
        await self._superseded.wait()
        self.require_newest()

    def add(self, waiting: _Waiting) -> None:
        self._queue.append(waiting)
        self._moved.fire()

    async def room(self) -> None:
        while len(self._queue) >= WINDOW_BATCHES:
            await self._moved.wait_beyond(self._moved.version)

    async def answered(self) -> None:
        while self._queue:
            await self._moved.wait_beyond(self._moved.version)

    async def waiting(self) -> AsyncIterator[_Waiting]:
        """Each element leaves the queue when the next one is asked for, that is, once it has been answered."""
        while True:
            while not self._queue:
                await self._moved.wait_beyond(self._moved.version)
            yield self._queue[0]
            self._queue.popleft()
            self._moved.fire()
