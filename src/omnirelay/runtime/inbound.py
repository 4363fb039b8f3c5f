"""Receives from one peer: keeps a stream open, applies what comes, confirms what is durable."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import replace

from omnirelay.errors import (
    BadRequest,
    CorruptLog,
    IllegalOrigin,
    OmniRelayError,
    PositionMismatch,
    ResumePointDeleted,
    Unreachable,
)
from omnirelay.model.batch import Batch
from omnirelay.model.log_state import Seed
from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.clock import Clock
from omnirelay.ports.streams import (
    Accepted,
    Ack,
    ClockSample,
    Duplex,
    FromReceiver,
    FromSender,
    Heartbeat,
    Interest,
    Open,
    PeerDialer,
    ProtocolVersion,
    SeedPart,
)
from omnirelay.replication.interest import clusters_by_origin, interests
from omnirelay.replication.receiver import Decision
from omnirelay.runtime.links import Link, Links
from omnirelay.runtime.sequencer import Sequencer
from omnirelay.runtime.signal import Signal
from omnirelay.runtime.tasks import alongside
from omnirelay.runtime.view import MeshView

_log = logging.getLogger(__name__)

CREDIT_BYTES = 8 * 1024 * 1024
"""What one peer may have under way to us; bounds memory here and there."""
BACKOFF_SECONDS = 0.05
BACKOFF_MAX_SECONDS = 1.0
REFUSED_SECONDS = 5.0
"""After a peer sent something illegal or corrupt, or the histories differ."""
LEFT_OUT_SECONDS = 5.0
"""A peer that has more than it sends for this long has left something out."""
SKEW_SINCE_MINOR = 1


class Inbound:
    """One per peer. `jitter` gives a number in [0, 1)."""

    def __init__(
        self,
        cluster: str,
        peer: str,
        dialer: PeerDialer,
        sequencer: Sequencer,
        view: MeshView,
        links: Links,
        clock: Clock,
        protocol: ProtocolVersion,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._cluster = cluster
        self._peer = peer
        self._dialer = dialer
        self._sequencer = sequencer
        self._view = view
        self._links = links
        self._clock = clock
        self._protocol = protocol
        self._jitter = jitter

    async def run(self) -> None:
        """Keeps the stream up until cancelled, with jittered exponential backoff between attempts."""
        link = self._links.of(self._peer)
        attempt = 0
        while True:
            began = self._clock.monotonic()
            refused = False
            try:
                await self._connect(link)
                link.problem = "the peer ended the stream"
            except OmniRelayError as error:
                if error.message != link.problem:
                    _log.warning("%s: %s", self._peer, error.message)
                link.problem = error.message
                refused = not error.retryable and not self._dropped(link, error)
            lived = self._clock.monotonic() - began
            attempt = 0 if lived > BACKOFF_MAX_SECONDS else min(attempt + 1, 10)
            pause = REFUSED_SECONDS if refused else min(BACKOFF_SECONDS * 2**attempt, BACKOFF_MAX_SECONDS)
            await asyncio.sleep(pause * (0.5 + self._jitter() / 2))

    def _dropped(self, link: Link, error: OmniRelayError) -> bool:
        """Whether the next stream does without what ended this one."""
        if not isinstance(error, ResumePointDeleted):
            return False
        origin, oldest = str(error.details.get("origin", "")), str(error.details.get("oldest", ""))
        if not (origin and oldest.isdecimal()):
            return False
        self._links.dropped(link, origin, int(oldest))
        return True

    async def _connect(self, link: Link) -> None:
        descriptor = self._view.clusters.get(self._peer)
        if descriptor is None:
            raise Unreachable(f"{self._peer} is not a member at the moment")
        stream = await self._dialer.dial(self._peer, descriptor.endpoints.grpc)
        try:
            await self._follow(stream, link)
        finally:
            link.receiving = False
            await self._dialer.close_stream(stream)

    async def _follow(self, stream: Duplex[FromSender, FromReceiver], link: Link) -> None:
        # What is still on its way to the disk is not in the vector that we open with.
        await self._sequencer.settled()
        heads = self._sequencer.log.heads
        session = _Session(stream, link, self._wanted())
        await stream.send(
            Open(
                self._cluster,
                self._protocol,
                VersionVector({origin: head.sequence for origin, head in heads.items()}),
                {origin: head.digest for origin, head in heads.items()},
                CREDIT_BYTES,
                session.origins,
                self._seeds(),
            )
        )
        accepted = await stream.receive()
        if not isinstance(accepted, Accepted):
            raise Unreachable(f"{self._peer} did not accept the stream")
        if accepted.cluster != self._peer:
            raise IllegalOrigin(
                f"{self._peer} answers as {accepted.cluster}", origin=accepted.origin, epoch=0, namespace=""
            )
        session.protocol, session.origin = accepted.protocol, accepted.origin
        link.receiving, link.problem = True, ""
        unlisten = self._sequencer.log.listen(session.moved.fire)
        _log.info("receiving from %s, protocol %s", self._peer, accepted.protocol)
        try:
            await alongside(self._receive(session), self._acknowledge(session))
        finally:
            unlisten()

    async def _receive(self, session: _Session) -> None:
        while (message := await session.stream.receive()) is not None:
            await self._take(session, message)

    async def _take(self, session: _Session, message: FromSender) -> None:
        now = self._clock.monotonic()
        self._links.heard_from(session.link)
        if isinstance(message, Heartbeat):
            session.link.inbound.heard(message.head[session.origin], message.head_bytes, now)
            self._refuse_left_out(session, message.head, now)
            session.clock = (message.sent_ms, self._clock.wall_ms())
            session.beat = True
            session.moved.fire()
        elif isinstance(message, SeedPart):
            await self._sow(session, message)
        elif isinstance(message, Batch):
            session.lacking_since = None
            if message.header.origin == session.origin:
                session.link.inbound.arrived(message.header.last_sequence, message.size, now)
            await self._apply(session, message)
        else:
            raise BadRequest(f"{self._peer} sent `accepted` twice")

    def _seeds(self) -> tuple[str, ...]:
        """Origins that a person has decided to take a seed of (Reseeding)."""
        reseed = self._view.reseeds.get(self._cluster)
        return reseed.origins if reseed else ()

    async def _sow(self, session: _Session, part: SeedPart) -> None:
        seed = part.seed
        if seed.origin not in self._seeds():
            raise IllegalOrigin(
                f"{self._peer} sent a seed of {seed.origin}, which was not asked for",
                origin=seed.origin,
                epoch=0,
                namespace="",
            )
        known = session.sowing
        if known is not None and (known.origin, known.floor) == (seed.origin, seed.floor):
            seed = replace(known, marks=known.marks + seed.marks)
        session.sowing = seed
        if part.complete:
            session.sowing = None
            try:
                await self._sequencer.sow(seed)
            except PositionMismatch as error:
                _log.info("the seed of %s comes late: %s", self._peer, error.message)  # another peer's came first
            else:
                _log.warning("%s is taken up behind %d, by a seed of %s", seed.origin, seed.floor.sequence, self._peer)
            self._links.brought(seed.origin)

    def _refuse_left_out(self, session: _Session, head: VersionVector, now: float) -> None:
        """A batch left out at the end of a log is followed by nothing that would show the gap (I3): what a peer goes on
        announcing and does not send is asked for again, by another stream."""
        # What waits for a slow disk has come.
        taken = self._sequencer.queued_vector()
        lacks = [origin for origin in session.origins if head[origin] > taken[origin]]
        if not lacks:
            session.lacking_since = None
        elif session.lacking_since is None:
            session.lacking_since = now
        elif now - session.lacking_since > LEFT_OUT_SECONDS:
            self._links.counters.gaps += 1
            raise Unreachable(f"{self._peer} has {lacks[0]} up to {head[lacks[0]]} and does not send it")

    async def _apply(self, session: _Session, batch: Batch) -> None:
        await self._sequencer.released(batch.header.origin)
        decision, queued = self._sequencer.apply(batch)
        if decision is Decision.UNKNOWN_EPOCH:
            await self._view.refresh()
            await self._sequencer.install(self._view.routing.routes)
            await self._sequencer.released(batch.header.origin)
            decision, queued = self._sequencer.apply(batch)
        header, counters = batch.header, self._links.counters
        if decision is Decision.DUPLICATE:
            counters.duplicates += 1
            session.returned(batch.size)
        elif decision is Decision.FENCED:
            counters.fenced_records += header.count
        elif decision is Decision.GAP:
            counters.gaps += 1
            raise Unreachable(f"{self._peer} left a gap before {header.origin}:{header.first_sequence}")
        elif decision is Decision.UNKNOWN_EPOCH:
            raise Unreachable(f"epoch {header.epoch} of {header.namespace} is not in the coordination store yet")
        elif decision is Decision.CORRUPT:
            counters.corrupt_batches += 1
            raise CorruptLog(
                f"{self._peer} sent {header.origin}:{header.first_sequence} with a digest that does not prove it",
                origin=header.origin,
                sequence=header.first_sequence,
            )
        elif decision is Decision.ILLEGAL:
            counters.refused_batches += 1
            raise IllegalOrigin(
                f"{header.origin} did not own epoch {header.epoch} of {header.namespace}",
                origin=header.origin,
                epoch=header.epoch,
                namespace=header.namespace,
            )
        if queued is not None:
            self._links.brought(header.origin)
            queued.durable.add_done_callback(lambda done: session.settled(done, batch.size))

    async def _acknowledge(self, session: _Session) -> None:
        """One acknowledgement per commit at most: it says what is durable and gives back the credit."""
        confirmed = VersionVector()
        while True:
            seen = session.moved.version
            if session.failure is not None:
                raise session.failure
            heads = self._sequencer.log.heads
            durable = VersionVector({origin: head.sequence for origin, head in heads.items()})
            own = heads.get(session.origin)
            if own is not None:
                session.link.inbound.durable(own.sequence, own.size, self._clock.monotonic())
            wanted = self._wanted()
            if wanted != session.origins:
                session.origins = wanted
                await session.stream.send(Interest(wanted))
            if durable != confirmed or session.beat:
                credit, session.consumed, session.beat = session.consumed, 0, False
                await session.stream.send(Ack(durable, credit, session.sample(self._clock.wall_ms())))
                confirmed = durable
            await session.moved.wait_beyond(seen)

    def _wanted(self) -> tuple[str, ...]:
        """The origins to ask of this peer: its own and, while another's link is down, that one's too. What the peer
        has dropped ends a stream once; from then on it is asked for only with a seed, and the rest goes on."""
        held = set(self._sequencer.log.heads)
        owners = {o.origin for route in self._view.routing.routes.values() for o in route.history}
        origins = clusters_by_origin(held | owners | {r.origin for r in self._view.reports.values()} | {self._peer})
        connected = {**self._links.connected(), self._peer: True}
        seeds = set(self._seeds())
        dropped = {peer: self._links.out_of_reach(peer) - seeds for peer in connected}
        return interests(origins, connected, self._sequencer.origin, dropped).get(self._peer, ())


class _Session:
    """One stream's own state."""

    def __init__(self, stream: Duplex[FromSender, FromReceiver], link: Link, origins: tuple[str, ...]) -> None:
        self.stream = stream
        self.link = link
        self.origins = origins
        self.origin = ""
        self.protocol = ProtocolVersion(1, 0)
        self.moved = Signal()
        self.consumed = 0
        """Bytes dealt with since the last acknowledgement: credit to give back."""
        self.beat = False
        self.sowing: Seed | None = None
        """What has come of a seed so far."""
        self.lacking_since: float | None = None
        """Monotonic time since which the peer announces what has not come."""
        self.clock: tuple[int, int] | None = None
        self.failure: BaseException | None = None

    def settled(self, done: asyncio.Future[None], size: int) -> None:
        """Credit goes back when a batch is durable and not before: it bounds what waits for our disk."""
        if not done.cancelled() and done.exception() is not None and self.failure is None:
            self.failure = done.exception()  # the first: what follows fails because of it
        self.returned(size)

    def returned(self, size: int) -> None:
        self.consumed += size
        self.moved.fire()

    def sample(self, now_ms: int) -> ClockSample | None:
        if self.clock is None or self.protocol.minor < SKEW_SINCE_MINOR:
            return None
        (sent, received), self.clock = self.clock, None
        return ClockSample(sent, received, now_ms)
