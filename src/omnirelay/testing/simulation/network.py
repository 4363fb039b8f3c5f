"""Ordered streams between hosts, over links that misbehave.

A stream is like one of gRPC's: each direction is in order and bounded, the server's side ends with a typed error or
none, a client that goes away cancels the handler. What a cut link swallows is held back, as TCP would send it again,
until the link heals or the stream is given up; a stream that broke stays broken. On top of that a *leaky* link leaves
out a batch or sends it twice, which no TCP does but a faulty relay could: I3 must hold against it.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from omnirelay.errors import OmniRelayError, Unreachable
from omnirelay.model.batch import Batch
from omnirelay.ports.streams import Duplex, FromReceiver, FromSender
from omnirelay.runtime.signal import Signal
from omnirelay.testing.simulation.loop import WORLD, Process, VirtualLoop

In = TypeVar("In")
Out = TypeVar("Out")

WINDOW = 16
"""Messages of one direction that may be under way or unread; beyond it the sender waits."""
GIVEN_UP_SECONDS = 8.0
"""A stream over a cut link breaks after about this time."""
CONNECT_SECONDS = 2.0
"""A dial over a cut link fails after about this time."""

REPLICATE = "replicate"
"""The service between replicators."""

Service = Callable[[Any, str], Awaitable[None]]
"""Serves one stream (a `Duplex`) of the host that is named."""


@dataclass(frozen=True, slots=True)
class _End:
    error: OmniRelayError | None


class _Pipe:
    """One direction of a stream."""

    def __init__(self, network: Network, source: str, target: str, may_leak: bool) -> None:
        self._network = network
        self._may_leak = may_leak
        self.link = (source, target)
        self._arrives = 0.0
        self._held: deque[Any] = deque()
        self._inbox: deque[Any] = deque()
        self._under_way = 0
        self._moved = Signal()
        self.end: _End | None = None
        """Once it has arrived; what came before it can still be read."""

    async def send(self, message: Any) -> None:
        while self._under_way >= WINDOW and self.end is None:
            await self._moved.wait_beyond(self._moved.version)
        for _ in range(self._network.copies(message) if self._may_leak else 1):
            self._under_way += 1
            self.carry(message)

    def carry(self, item: Any) -> None:
        self._arrives = max(self._arrives, self._network.arrival(self.link))
        self._network.at(self._arrives, self._arrive, item)

    async def receive(self) -> Any:
        while not self._inbox:
            if self.end is not None:
                if self.end.error is not None:
                    raise self.end.error
                return None
            await self._moved.wait_beyond(self._moved.version)
        self._under_way -= 1
        message = self._inbox.popleft()
        self._moved.fire()
        return message

    def release(self) -> None:
        """The link has healed."""
        while self._held:
            self.carry(self._held.popleft())

    def snap(self, end: _End) -> None:
        """Nothing more arrives, and what has arrived unread is lost."""
        self._held.clear()
        self._inbox.clear()
        self.end = self.end or end
        self._moved.fire()

    def _arrive(self, item: Any) -> None:
        if self.end is not None:
            return
        if self._held or self._network.is_cut(self.link):
            self._held.append(item)
            return
        self._network.messages += 1
        if isinstance(item, _End):
            self.end = item
        else:
            self._inbox.append(item)
        self._moved.fire()


class Side(Generic[In, Out]):
    """One side of a stream, a `Duplex`."""

    def __init__(self, connection: Connection, incoming: _Pipe, outgoing: _Pipe) -> None:
        self.connection = connection
        self._incoming = incoming
        self._outgoing = outgoing

    async def receive(self) -> In | None:
        received: In | None = await self._incoming.receive()
        return received

    async def send(self, message: Out) -> None:
        if (end := self._incoming.end) is not None:
            raise end.error or Unreachable("the stream has ended")
        await self._outgoing.send(message)

    def close(self) -> None:
        """The client goes away."""
        self.connection.abandon()


class Connection:
    def __init__(self, network: Network, client: str, server: str, may_leak: bool) -> None:
        self._network = network
        self.hosts = frozenset((client, server))
        self._up = _Pipe(network, client, server, may_leak)
        self._down = _Pipe(network, server, client, may_leak)
        self.pipes = (self._up, self._down)
        self.client: Side[Any, Any] = Side(self, self._down, self._up)
        self.server: Side[Any, Any] = Side(self, self._up, self._down)
        self._handler: asyncio.Task[None] | None = None
        self._process: Process | None = None

    def serve(self, service: Service, caller: str, process: Process) -> None:
        self._process = process
        self._handler = self._network.loop.spawn(process, self._handle(service, caller))

    async def _handle(self, service: Service, caller: str) -> None:
        end = Unreachable("the handler was cancelled")
        try:
            await service(self.server, caller)
        except OmniRelayError as error:
            self._down.carry(_End(error))
        except asyncio.CancelledError:
            self._down.carry(_End(end))
        else:
            self._down.carry(_End(None))

    def abandon(self) -> None:
        self._down.snap(_End(Unreachable("the stream was closed here")))
        self._network.at(self._network.arrival(self._up.link), self.snap)

    def snap(self) -> None:
        """Breaks both directions at once."""
        for pipe in self.pipes:
            pipe.snap(_End(Unreachable("the connection broke")))
        if self._handler is not None:
            self._handler.cancel()
        self._network.connections.pop(self, None)


class Network:
    def __init__(self, loop: VirtualLoop, rng: random.Random) -> None:
        self.loop = loop
        self._rng = rng
        self._context = WORLD.context()
        self._listening: dict[tuple[str, str], tuple[Process, Service]] = {}
        self._cut: set[tuple[str, str]] = set()
        self._slow: dict[tuple[str, str], float] = {}
        self.connections: dict[Connection, None] = {}
        self.usual_delay = 0.005
        self.leaks = 0.0
        """Probability that a batch is left out, and as much again that it comes twice."""
        self.messages = 0

    # --- hosts ---------------------------------------------------------------------------------------------------

    def listen(self, host: str, name: str, process: Process, service: Service) -> None:
        self._listening[host, name] = (process, service)

    async def dial(self, client: str, server: str, name: str) -> Side[Any, Any]:
        """A stream to a service. Raises Unreachable."""
        there, back = (client, server), (server, client)
        await asyncio.sleep(self._delay(there) + self._delay(back))
        if self.is_cut(there) or self.is_cut(back):
            await asyncio.sleep(CONNECT_SECONDS * self._rng.random())
            raise Unreachable(f"{server} does not answer")
        process, service = self._listening.get((server, name), (WORLD, None))
        if service is None or process.killed:
            raise Unreachable(f"{server} refuses connections")
        connection = Connection(self, client, server, may_leak=name == REPLICATE)
        self.connections[connection] = None
        connection.serve(service, client, process)
        return connection.client

    def vanish(self, host: str, silently: bool) -> None:
        """The host's process has died: its kernel says so to the others, or its power is gone and they find out."""
        for key in [key for key in self._listening if key[0] == host]:
            del self._listening[key]
        for connection in list(self.connections):
            if host in connection.hosts:
                wait = GIVEN_UP_SECONDS if silently else 4 * self.usual_delay
                self.at(self.loop.time() + wait * self._rng.random(), connection.snap)

    # --- links ---------------------------------------------------------------------------------------------------

    def cut(self, source: str, target: str) -> None:
        """One way. Streams in either direction suffer, for they need both."""
        self._cut.add((source, target))
        for connection in self.connections:
            if connection.hosts == {source, target}:
                when = self.loop.time() + GIVEN_UP_SECONDS * (0.5 + self._rng.random())
                self.at(when, self._give_up, connection)

    def heal(self, source: str, target: str) -> None:
        self._cut.discard((source, target))
        for connection in self.connections:
            for pipe in connection.pipes:
                if pipe.link == (source, target):
                    pipe.release()

    def slow(self, source: str, target: str, delay: float | None) -> None:
        """The link takes about `delay` seconds; None makes it usual again."""
        if delay is None:
            self._slow.pop((source, target), None)
        else:
            self._slow[source, target] = delay

    def snap(self, one: str, other: str) -> None:
        """Breaks the streams between two hosts."""
        for connection in list(self.connections):
            if connection.hosts == {one, other}:
                connection.snap()

    def is_cut(self, link: tuple[str, str]) -> bool:
        return link in self._cut

    def copies(self, message: Any) -> int:
        """How many times a message is carried: a leaky link leaves out or repeats replicated batches."""
        if self.leaks and isinstance(message, Batch):
            drawn = self._rng.random()
            return 0 if drawn < self.leaks else 2 if drawn < 2 * self.leaks else 1
        return 1

    def arrival(self, link: tuple[str, str]) -> float:
        return self.loop.time() + self._delay(link)

    def at(self, when: float, callback: Callable[..., None], *args: Any) -> None:
        """A timer of the network, not of whichever process set it off."""
        self.loop.call_at(when, callback, *args, context=self._context)

    def _delay(self, link: tuple[str, str]) -> float:
        return self._rng.expovariate(1.0) * self._slow.get(link, self.usual_delay)

    def _give_up(self, connection: Connection) -> None:
        if connection in self.connections and any(self.is_cut(pipe.link) for pipe in connection.pipes):
            connection.snap()


class Dialer:
    """`omnirelay.ports.streams.PeerDialer` of one host."""

    def __init__(self, network: Network, host: str) -> None:
        self._network = network
        self._host = host

    async def dial(self, cluster: str, endpoint: str) -> Duplex[FromSender, FromReceiver]:
        return await self._network.dial(self._host, cluster, REPLICATE)

    async def close_stream(self, stream: Duplex[FromSender, FromReceiver]) -> None:
        assert isinstance(stream, Side)
        stream.close()
