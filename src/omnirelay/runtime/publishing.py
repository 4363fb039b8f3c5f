"""Serves one producer: admits its batches while this cluster is active, and acknowledges them in order once durable."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from omnirelay.errors import BadRequest, BatchTooLarge
from omnirelay.model import ids
from omnirelay.model.position import Position
from omnirelay.model.routing import Ownership
from omnirelay.ports.streams import Duplex, ProducerBatch, PublishAck, PublishOpen, PublishOpened
from omnirelay.replication.admission import Duplicate, check_epoch
from omnirelay.runtime.ownership import Ownerships
from omnirelay.runtime.sequencer import Queued, Sequencer
from omnirelay.runtime.signal import Signal
from omnirelay.runtime.tasks import alongside

FromProducer = PublishOpen | ProducerBatch
ToProducer = PublishOpened | PublishAck

WINDOW_BATCHES = 256
"""Batches of one producer that may wait for the disk; beyond it its stream is not read."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A batch that is to be acknowledged; without `queued` it was committed before."""

    batch: ProducerBatch
    ownership: Ownership
    queued: Queued | None
    position: Position | None


class Publishing:
    """Shared by all producers; `serve` runs once per stream."""

    def __init__(self, cluster: str, sequencer: Sequencer, ownerships: Ownerships, max_batch_bytes: int) -> None:
        self._cluster = cluster
        self._sequencer = sequencer
        self._ownerships = ownerships
        self._max_batch_bytes = max_batch_bytes

    async def serve(self, stream: Duplex[FromProducer, ToProducer]) -> None:
        """Runs until the producer goes and everything it sent is answered. Raises typed errors that end the stream."""
        opening = await stream.receive()
        if not isinstance(opening, PublishOpen):
            raise BadRequest("the first message must be `open`")
        namespace, producer_id = ids.namespace(opening.namespace), ids.producer_id(opening.producer_id)
        ownership = self._ownerships.admit(namespace)
        check_epoch(ownership, opening.epoch)
        # A number that is still on its way to the disk may yet be lost, so it must not be confirmed.
        await self._sequencer.settled()
        self._ownerships.still(namespace, ownership.epoch)
        mark = self._sequencer.picture.last_of(namespace, producer_id)
        last = mark.producer_sequence if mark else 0
        await stream.send(PublishOpened(self._cluster, ownership.epoch, last, self._max_batch_bytes))
        session = _Session(namespace, producer_id)
        await alongside(self._admit(stream, session), self._acknowledge(stream, session))

    async def _admit(self, stream: Duplex[FromProducer, ToProducer], session: _Session) -> None:
        while (message := await stream.receive()) is not None:
            if not isinstance(message, ProducerBatch):
                raise BadRequest("`open` may come only once")
            self._check(message)
            await session.room()
            await self._sequencer.room(len(message.records))
            session.add(self._decide(session, message))
        await session.answered()

    def _check(self, batch: ProducerBatch) -> None:
        if len(batch.records) > self._max_batch_bytes:
            raise BatchTooLarge(
                f"the batch has {len(batch.records)} bytes of records", max_batch_bytes=self._max_batch_bytes
            )
        if batch.producer_sequence < 1:
            raise BadRequest("producer sequences count from 1")

    def _decide(self, session: _Session, batch: ProducerBatch) -> _Waiting:
        """Admission and queueing, with nothing in between: a drain that closes the namespace comes before or after."""
        ownership = self._ownerships.admit(session.namespace)
        decided = self._sequencer.publish(
            ownership, session.namespace, session.producer_id, batch.producer_sequence, batch.records, batch.count
        )
        if isinstance(decided, Duplicate):
            return _Waiting(batch, ownership, None, decided.position)
        header = decided.batch.header
        return _Waiting(batch, ownership, decided, Position(header.origin, header.first_sequence))

    async def _acknowledge(self, stream: Duplex[FromProducer, ToProducer], session: _Session) -> None:
        async for waiting in session.waiting():
            if waiting.queued is not None:
                # Shielded: the batch belongs to the log, also when this producer goes away.
                await asyncio.shield(waiting.queued.durable)
            else:
                await self._sequencer.settled()
            self._ownerships.still(session.namespace, waiting.ownership.epoch)
            await stream.send(
                PublishAck(
                    waiting.batch.producer_sequence,
                    waiting.position,
                    waiting.batch.count,
                    waiting.ownership.epoch,
                    duplicate=waiting.queued is None,
                )
            )


class _Session:
    """What of one producer waits for its acknowledgement, in order and bounded."""

    def __init__(self, namespace: str, producer_id: str) -> None:
        self.namespace = namespace
        self.producer_id = producer_id
        self._queue: deque[_Waiting] = deque()
        self._moved = Signal()

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
