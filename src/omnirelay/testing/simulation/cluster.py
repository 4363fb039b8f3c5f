"""One cluster of the simulated mesh: the real replicator as a process that can be paused, killed and started again."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from omnirelay.errors import OmniRelayError, TokenInvalid, Unreachable
from omnirelay.failover.lease import Timing
from omnirelay.failover.record import DemotionToken
from omnirelay.model.batch import Batch, BatchHeader
from omnirelay.model.position import Cursor
from omnirelay.ports.streams import FenceNotice, Progress, ProtocolVersion, PublishAck, PublishRemote, SubscribeRequest
from omnirelay.runtime.delivering import ToReader
from omnirelay.runtime.replicator import Replicator, World
from omnirelay.runtime.reporter import Host
from omnirelay.runtime.retaining import RetentionSettings
from omnirelay.testing.memory_coordination import Fault
from omnirelay.testing.simulation.clock import EPOCH_MS, VirtualClock
from omnirelay.testing.simulation.disk import USUAL_SECONDS, Disk, SimulatedLog
from omnirelay.testing.simulation.loop import Process, VirtualLoop
from omnirelay.testing.simulation.network import REPLICATE, Dialer, Network, Side
from omnirelay.testing.simulation.store import SimulatedClient, SimulatedStore
from omnirelay.wire.codec import encode_header

T = TypeVar("T")

TIMING = Timing()
PROTOCOL = ProtocolVersion(1, 1)
FOREVER_MS = EPOCH_MS + 10 * 365 * 86_400_000
RETENTION = RetentionSettings(2_000, 1 << 60, 1 << 60)
"""For as long as a peer lacks it everything is kept; what all have confirmed is old enough after two seconds. It comes
round in `trim` only."""
MAX_BATCH_BYTES = 1 << 20
MAX_DRIFT = 0.02
"""Of a process's monotonic clock; the lease's margin covers a lot more."""
STORE_SECONDS = 0.002
"""About what a request to the coordination store takes each way."""
CALL_SECONDS = 30.0
"""Longest time that a caller of the control API waits for an answer."""


class Witness(Protocol):
    """Hears of what happens at a cluster, at the very moment."""

    def admitted(self, cluster: Cluster, header: BatchHeader) -> None:
        """The replicator has decided to append a batch of its own."""
        ...

    def appended(self, cluster: Cluster, batch: Batch, installed: int | None) -> None:
        """The disk takes a batch; `installed` is the namespace's epoch on that disk."""
        ...

    def acknowledges(self, cluster: Cluster, namespace: str, producer: str, ack: PublishAck) -> None:
        """The replicator tells a producer that its batch is durable."""
        ...

    def tells_remote(self, cluster: Cluster, namespace: str, producer: str, upto: int, copies: int) -> None:
        """The replicator tells a producer that `copies` other clusters hold everything of it up to a number."""
        ...

    def delivers(self, cluster: Cluster, namespace: str, after: Cursor | None, epochs: int, message: ToReader) -> None:
        """The replicator hands a message to a reader that is at `after`, None where it named no place; when the reader
        last had to wait, or was told of a fence, `epochs` ownerships of the namespace were installed."""
        ...


class Cluster:
    def __init__(
        self,
        name: str,
        loop: VirtualLoop,
        network: Network,
        store: SimulatedStore,
        witness: Witness,
        rng: random.Random,
    ) -> None:
        self.name = name
        self.disk = Disk(random.Random(rng.random()))
        self.clock = VirtualClock(loop.time, 1 + MAX_DRIFT * (2 * rng.random() - 1))
        self.store_delay = STORE_SECONDS
        self._loop = loop
        self._network = network
        self._store = store
        self._witness = witness
        self._rng = rng
        self._starts = 0
        self.process = Process(f"{name}/0")
        self.process.killed = True
        self.client: SimulatedClient | None = None
        self.log: SimulatedLog | None = None
        self.replicator: Replicator | None = None
        self._main_task: asyncio.Task[None] | None = None
        self.former: list[Process] = []
        self.able_since: float | None = None
        """Since when nothing has kept the process from acting on what the store says; None while something does."""
        self._hindrances: set[str] = {"down"}

    @property
    def up(self) -> bool:
        return not self.process.killed

    # --- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._starts += 1
        self.process = Process(f"{self.name}/{self._starts}")
        self.client = self._store.connect(lambda: self._rng.expovariate(1.0) * self.store_delay)
        self._main_task = self._loop.spawn(self.process, self._main(self.client))
        self._main_task.add_done_callback(self._ended)
        self._hinder("down", False)

    def kill(self, power_cut: bool = False) -> None:
        """kill -9, or the power goes: then nobody even closes the connections, and the disk has what it has."""
        if not self.up:
            return
        self._loop.kill(self.process)
        self.former.append(self.process)
        self._network.vanish(self.name, silently=power_cut)
        if self.client is not None:
            self._store.forget(self.client)
        if self.log is not None:
            self.log.lose_power(self._rng) if power_cut else self.log.crash()
        self.log = self.replicator = None
        self._hinder("down", True)
        self._hinder("paused", False)
        self._hinder("store", False)

    def stop(self) -> None:
        """As the daemon does on SIGTERM: streams end, loops end, the lease goes back, the log is closed."""
        if self.replicator is not None and self.log is not None:
            self._hinder("down", True)
            self._loop.spawn(self.process, self._stop(self.replicator, self.log))

    async def _stop(self, replicator: Replicator, log: SimulatedLog) -> None:
        self._network.vanish(self.name, silently=False)
        assert self._main_task is not None
        self._main_task.cancel()
        await asyncio.gather(self._main_task, return_exceptions=True)
        with suppress(OmniRelayError):
            await replicator.release()
        await log.close()
        self.kill()

    def pause(self, paused: bool) -> None:
        """The process stands still, or goes on: its machine swaps, migrates, is stopped by a debugger."""
        self.process.paused = paused
        self._hinder("paused", paused)

    def trim(self) -> None:
        """Retention comes round."""
        if self.replicator is not None:
            self._loop.spawn(self.process, self._trim(self.replicator))

    async def _trim(self, replicator: Replicator) -> None:
        with suppress(OmniRelayError):  # as its loop does: it comes round again
            await replicator.retaining.retain()

    def store_fault(self, fault: Fault | None) -> None:
        if self.client is not None:
            self.client.fault = fault
        self._hinder("store", fault is not None)

    def store_slow(self, delay: float | None) -> None:
        self.store_delay = STORE_SECONDS if delay is None else delay
        self._hinder("slow store", delay is not None)

    def disk_fault(self, full: bool = False, seconds: float = USUAL_SECONDS) -> None:
        self.disk.full, self.disk.seconds = full, seconds
        self._hinder("disk", full or seconds > USUAL_SECONDS)

    def _hinder(self, what: str, hindered: bool) -> None:
        if hindered:
            self._hindrances.add(what)
            self.able_since = None
        else:
            self._hindrances.discard(what)
            if not self._hindrances and self.able_since is None:
                self.able_since = self._loop.time()

    def _ended(self, main: asyncio.Task[None]) -> None:
        """A replicator's loops never end by themselves: whatever this is, it is a defect."""
        if not main.cancelled():
            self._loop.defects.append(f"{self.process.name} ended by itself: {main.exception()!r}")

    async def _main(self, client: SimulatedClient) -> None:
        self.log = await SimulatedLog.on(self.disk, lambda batch, epoch: self._witness.appended(self, batch, epoch))
        self.replicator = replicator = Replicator(
            self.name,
            self._world(self.log, client),
            TIMING,
            PROTOCOL,
            RETENTION,
            MAX_BATCH_BYTES,
            Path(os.devnull),
        )
        self._network.listen(self.name, REPLICATE, self.process, self._serve_peer)
        self._network.listen(self.name, "publish", self.process, self._serve_producer)
        self._network.listen(self.name, "subscribe", self.process, self._serve_reader)
        await replicator.run()

    def _world(self, log: SimulatedLog, client: SimulatedClient) -> World:
        return World(
            log=log,
            store=client,
            dialer=Dialer(self._network, self.name),
            clock=self.clock,
            encode_header=self._encode,
            control_records=str.encode,
            with_provenance=lambda records, header: records + f"|{header.origin}:{header.first_sequence}".encode(),
            decode_records=lambda records: (),
            sign=lambda token: replace(token, signature=_signature(self.name)),
            verify=_verify,
            host=self._host,
            new_id=lambda now_ms: f"fo-{now_ms}-{self._rng.getrandbits(32):08x}",
            jitter=self._rng.random,
        )

    def _encode(self, header: BatchHeader) -> bytes:
        """Asked for exactly once per own batch, when its admission is decided: a good place to look on from."""
        self._witness.admitted(self, header)
        return encode_header(header)

    def _host(self) -> Host:
        return Host(0 if self.disk.full else 50, disk_total_bytes=100, certificate_expires_ms=FOREVER_MS)

    # --- what others ask of it -------------------------------------------------------------------------------------

    async def call(self, caller: str, work: Callable[[Replicator], Coroutine[Any, Any, T]]) -> T:
        """A request to the control API: it is carried out in this process, also when the caller goes away.
        Raises Unreachable, and what `work` raises."""
        await asyncio.sleep(self._network.arrival((caller, self.name)) - self._loop.time())
        if self.replicator is None or self._network.is_cut((caller, self.name)):
            raise Unreachable(f"{self.name} does not answer")
        task = self._loop.spawn(self.process, work(self.replicator))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await asyncio.shield(task)
        except TimeoutError:
            raise Unreachable(f"{self.name} did not answer within {CALL_SECONDS:g} s") from None

    async def _serve_peer(self, stream: Side[Any, Any], caller: str) -> None:
        await self._running().replicate(stream, caller, "simulated")

    async def _serve_producer(self, stream: Side[Any, Any], caller: str) -> None:
        await self._running().publish(_Overheard(stream, self, self._witness))

    async def _serve_reader(self, stream: Side[Any, Any], caller: str) -> None:
        request = await stream.receive()
        assert isinstance(request, SubscribeRequest)
        at, epochs = request.after, self._epochs(request.namespace)
        async with aclosing(await self._running().subscribe(request)) as messages:
            async for message in messages:
                self._witness.delivers(self, request.namespace, at, epochs, message)
                if isinstance(message, Batch):
                    at = Cursor(message.header.epoch, message.header.last_sequence)
                elif isinstance(message, FenceNotice | Progress):
                    at = message.cut if isinstance(message, FenceNotice) else message.delivered
                    epochs = self._epochs(request.namespace)
                await stream.send(message)

    def _epochs(self, namespace: str) -> int:
        route = self.disk.routes.get(namespace)
        return len(route.history) if route else 0

    def _running(self) -> Replicator:
        if self.replicator is None:
            raise Unreachable(f"{self.name} is starting")
        return self.replicator


class _Overheard:
    """A producer's stream, on which the witness listens."""

    def __init__(self, stream: Side[Any, Any], cluster: Cluster, witness: Witness) -> None:
        self._stream = stream
        self._cluster = cluster
        self._witness = witness
        self._namespace = self._producer = ""
        self._copies = 0

    async def receive(self) -> Any:
        message = await self._stream.receive()
        if not self._producer and message is not None:
            self._namespace, self._producer = message.namespace, message.producer_id
            self._copies = message.remote_copies
        return message

    async def send(self, message: Any) -> None:
        if isinstance(message, PublishAck):
            self._witness.acknowledges(self._cluster, self._namespace, self._producer, message)
        elif isinstance(message, PublishRemote):
            upto = message.producer_sequence
            self._witness.tells_remote(self._cluster, self._namespace, self._producer, upto, self._copies)
        await self._stream.send(message)


def _signature(cluster: str) -> str:
    return f"signed by {cluster}"


def _verify(token: DemotionToken, cluster: str) -> None:
    if token.signature != _signature(cluster):
        raise TokenInvalid(f"the token is not signed by {cluster}", failover_id=token.failover_id)
