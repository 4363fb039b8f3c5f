"""Producers and consumers: the client's pure cores in a thin shell over simulated streams, and what they were told."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import Any, Protocol

from omnirelay.client.finder import Finder
from omnirelay.client.outbox import Durability, Opened, Outbox, OutboxLimits, PublishResult
from omnirelay.client.producer import OPEN_TIMEOUT_SECONDS, is_final
from omnirelay.client.reader import Reader
from omnirelay.errors import OmniRelayError, ResumePointDeleted, Unreachable
from omnirelay.model.batch import Batch
from omnirelay.model.position import START, Cursor
from omnirelay.ports.streams import (
    FenceNotice,
    ProducerBatch,
    Progress,
    PublishAck,
    PublishOpen,
    PublishOpened,
    PublishRemote,
    SubscribeRequest,
    Withdrawn,
)
from omnirelay.runtime.tasks import alongside
from omnirelay.testing.simulation.loop import Process, VirtualLoop
from omnirelay.testing.simulation.network import Network, Side

SILENCE_SECONDS = 10.0
"""After this long without a word a consumer asks another cluster."""
LIMITS = OutboxLimits(park_timeout_seconds=3600.0)
"""A simulated application is patient: what it may do when it gives up is its own affair."""


class Listener(Protocol):
    """Hears of what clients were told."""

    def told(self, producer: SimulatedProducer, payload: bytes, result: PublishResult) -> None:
        """A producer knows now that a batch is durable."""
        ...

    def broke(self, producer: SimulatedProducer, error: OmniRelayError) -> None:
        """A producer cannot go on; its application lets it forget everything and begins again."""
        ...

    def delivered(self, consumer: SimulatedConsumer, batch: Batch) -> None: ...

    def withdrawn(self, consumer: SimulatedConsumer, batch: Batch) -> None: ...

    def began_again(self, consumer: SimulatedConsumer) -> None:
        """It came too late for what follows its cursor; it forgets everything and reads what is retained."""
        ...

    def fenced(self, consumer: SimulatedConsumer, notice: FenceNotice) -> None: ...


class SimulatedProducer:
    """An application that offers batches whose payloads are unique in the run: `p1/17`. Killed and started again it
    keeps its id, and knows nothing else any more: that is another `life`. It waits for `durability`, and keeps what
    it has not heard of from `copies` other clusters."""

    def __init__(
        self,
        name: str,
        namespace: str,
        clusters: list[str],
        loop: VirtualLoop,
        network: Network,
        listener: Listener,
        rng: random.Random,
        durability: Durability,
        copies: int,
    ) -> None:
        self.name = name
        self.namespace = namespace
        self.durability = durability
        self.copies = copies
        self.life = 0
        self.first_number: int | None = None
        """Of this life; None before it is known."""
        self._loop = loop
        self._network = network
        self._listener = listener
        self._rng = rng
        self._clusters = clusters
        self._finder = Finder(clusters)
        self._outbox = Outbox(name, LIMITS, durability)
        self._payloads: deque[bytes] = deque()
        self._offered = 0
        self._work = asyncio.Event()
        self._process = Process(name)

    def start(self) -> None:
        self._begin()
        self._process = Process(self.name)
        self._loop.spawn(self._process, self.run())

    def _begin(self) -> None:
        """Another life."""
        self.life += 1
        self.first_number = None
        self._finder = Finder(self._clusters)
        self._outbox = Outbox(self.name, LIMITS, self.durability)
        self._payloads = deque()

    def kill(self) -> Process:
        """Returns what is dead now."""
        self._loop.kill(self._process)
        self._network.vanish(self.name, silently=False)
        return self._process

    @property
    def unacknowledged(self) -> int:
        return len(self._outbox)

    def offer(self) -> None:
        """Hands over one more batch, if there is room."""
        if self._process.killed or not self._outbox.has_room(64):
            return
        self._offered += 1
        payload = f"{self.name}/{self._offered}".encode()
        self._outbox.offer(payload, self._rng.choice((1, 1, 2, 5)), self._loop.time())
        self._payloads.append(payload)
        self._work.set()

    async def run(self) -> None:
        while True:
            try:
                await self._stream(self._finder.endpoint)
            except OmniRelayError as error:
                self._outbox.disconnected()
                if is_final(error):
                    self._listener.broke(self, error)
                    self._begin()
                await asyncio.sleep(self._finder.failed(error, self._rng.random()))

    async def _stream(self, cluster: str) -> None:
        stream = await self._network.dial(self.name, cluster, "publish")
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_SECONDS):
                await self._open(stream)
            await alongside(self._receive(stream, cluster), self._transmit(stream), self._watch_stall(cluster))
        except TimeoutError:
            raise Unreachable(f"{cluster} did not answer in time") from None
        finally:
            stream.close()

    async def _open(self, stream: Side[Any, Any]) -> None:
        resends_to = self._outbox.resends_to
        await stream.send(PublishOpen(self.namespace, self.name, self._finder.epoch, self.copies, resends_to))
        opened = await stream.receive()
        if not isinstance(opened, PublishOpened):
            raise Unreachable("the first answer was not `opened`")
        if opened.epoch < self._finder.epoch:
            raise Unreachable(f"{opened.cluster} is at epoch {opened.epoch}, {self._finder.epoch} is known")
        said = Opened(opened.cluster, opened.epoch, opened.last_producer_sequence)
        if self.first_number is None:
            self.first_number = said.last_producer_sequence + 1
        for result in self._outbox.opened(said, self._loop.time()):
            self._tell(result)
        self._finder.opened(opened.epoch)

    async def _transmit(self, stream: Side[Any, Any]) -> None:
        while True:
            while (entry := self._outbox.take()) is not None:
                await stream.send(ProducerBatch(entry.sequence, entry.records, entry.count))
            self._work.clear()
            await self._work.wait()

    async def _receive(self, stream: Side[Any, Any], cluster: str) -> None:
        while (message := await stream.receive()) is not None:
            for result in self._news(message, cluster):
                self._tell(result)
            self._work.set()
        raise Unreachable(f"{cluster} ended the stream")

    def _news(self, message: Any, cluster: str) -> list[PublishResult]:
        now = self._loop.time()
        if isinstance(message, PublishRemote):
            return self._outbox.remote(message.producer_sequence, now)
        assert isinstance(message, PublishAck)
        ack = message
        said = PublishResult(ack.producer_sequence, ack.count, cluster, ack.epoch, ack.position, ack.duplicate)
        return self._outbox.acknowledged(said, now)

    async def _watch_stall(self, cluster: str) -> None:
        while True:
            stalls_at = self._outbox.stalls_at
            now = self._loop.time()
            if stalls_at is not None and stalls_at <= now:
                raise Unreachable(f"{cluster} left batches unacknowledged")
            await asyncio.sleep(LIMITS.stall_timeout_seconds if stalls_at is None else stalls_at - now)

    def _tell(self, result: PublishResult) -> None:
        self._listener.told(self, self._payloads.popleft(), result)


class SimulatedConsumer:
    """Reads a namespace from its start; asks the next of its clusters when one fails it."""

    def __init__(
        self, name: str, namespace: str, clusters: list[str], network: Network, listener: Listener, rng: random.Random
    ) -> None:
        self.name = name
        self.namespace = namespace
        self._finder = Finder(clusters)
        self._network = network
        self._listener = listener
        self._rng = rng
        self.reader = Reader(START)
        self.served_by = ""

    async def run(self) -> None:
        while True:
            try:
                await self._stream(self._finder.endpoint)
            except ResumePointDeleted:
                self.reader = Reader()
                self._listener.began_again(self)
            except OmniRelayError as error:
                await asyncio.sleep(self._finder.failed(error, self._rng.random()))

    async def _stream(self, cluster: str) -> None:
        stream = await self._network.dial(self.name, cluster, "subscribe")
        self.served_by = cluster
        try:
            await stream.send(SubscribeRequest(self.namespace, self.reader.cursor, latest=False))
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    message = await stream.receive()
                if message is None:
                    raise Unreachable(f"{cluster} ended the stream")
                self._finder.opened(0)
                self._take(message)
        except TimeoutError:
            raise Unreachable(f"{cluster} was silent") from None
        finally:
            stream.close()

    def _take(self, message: Batch | Withdrawn | FenceNotice | Progress) -> None:
        if isinstance(message, Batch):
            self._listener.delivered(self, message)
            self.reader.dealt_with(Cursor(message.header.epoch, message.header.last_sequence))
        elif isinstance(message, Withdrawn):
            self._listener.withdrawn(self, message.batch)
        elif isinstance(message, FenceNotice):
            self._listener.fenced(self, message)
            self.reader.fence(message.cut, message.epoch)
        else:
            self.reader.dealt_with(message.delivered)
