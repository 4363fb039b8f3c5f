"""Serves one receiver: sends what lies beyond its vector as far as its credit allows, and heartbeats."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from omnirelay.errors import (
    BadRequest,
    HistoryDiverged,
    NotAMember,
    PeerIdentityMismatch,
    ProtocolVersionUnsupported,
    ResumePointDeleted,
)
from omnirelay.failover.lease import Timing
from omnirelay.model.log_state import Seed
from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.clock import Clock
from omnirelay.ports.streams import (
    Accepted,
    Ack,
    Duplex,
    FromReceiver,
    FromSender,
    Heartbeat,
    Interest,
    Open,
    ProtocolVersion,
    SeedPart,
)
from omnirelay.replication.lag import skew_seconds
from omnirelay.replication.progress import PeerProgress
from omnirelay.runtime.links import Link, Links
from omnirelay.runtime.sequencer import Sequencer
from omnirelay.runtime.signal import Signal
from omnirelay.runtime.tasks import alongside

_log = logging.getLogger(__name__)

SEED_MARKS = 10_000
"""Producers' marks in one message."""
READ_BYTES = 4 * 1024 * 1024
"""What is read from the log at once for one peer."""


class Outbound:
    """Shared by all receivers; `serve` runs once per stream."""

    def __init__(
        self,
        cluster: str,
        sequencer: Sequencer,
        links: Links,
        clock: Clock,
        timing: Timing,
        protocol: ProtocolVersion,
        is_member: Callable[[str], bool],
    ) -> None:
        self._cluster = cluster
        self._sequencer = sequencer
        self._log_store = sequencer.log
        self._links = links
        self._clock = clock
        self._timing = timing
        self._protocol = protocol
        self._is_member = is_member

    async def serve(self, stream: Duplex[FromReceiver, FromSender], certificate_cluster: str, transport: str) -> None:
        """Runs until the receiver goes. Raises typed errors that end the stream."""
        opening = await stream.receive()
        if not isinstance(opening, Open):
            raise BadRequest("the first message must be `open`")
        protocol = self._check(opening, certificate_cluster)
        link = self._links.of(opening.cluster)
        await self._check_history(opening, link)
        await stream.send(Accepted(self._cluster, protocol, self._sequencer.origin))
        progress = PeerProgress(opening.applied, opening.credit_bytes, opening.origins)
        await self._remember(link, progress)
        link.sending, link.transport = True, transport
        moved = Signal()
        unlisten = self._log_store.listen(moved.fire)
        _log.info("%s receives from %s", opening.cluster, opening.applied)
        try:
            await alongside(
                self._read(stream, progress, link, moved),
                self._send(stream, progress, moved, frozenset(opening.seeds)),
                self._beat(stream),
            )
        finally:
            unlisten()
            link.sending = False

    def _check(self, opening: Open, certificate_cluster: str) -> ProtocolVersion:
        if opening.cluster != certificate_cluster:
            raise PeerIdentityMismatch(
                f"the certificate is of {certificate_cluster}, the stream says {opening.cluster}",
                certificate_cluster=certificate_cluster,
                cluster=opening.cluster,
            )
        if opening.cluster == self._cluster:
            raise PeerIdentityMismatch(
                f"the stream comes from {self._cluster}, which is this cluster",
                certificate_cluster=certificate_cluster,
                cluster="another cluster",
            )
        if not self._is_member(opening.cluster):
            raise NotAMember(f"{opening.cluster} is not known to {self._cluster} as a member", cluster=opening.cluster)
        if opening.protocol.major != self._protocol.major:
            raise ProtocolVersionUnsupported(
                f"{opening.cluster} speaks {opening.protocol}, {self._cluster} {self._protocol}",
                supported=str(self._protocol),
            )
        return min(opening.protocol, self._protocol)

    async def _check_history(self, opening: Open, link: Link) -> None:
        """Both must hold the same history up to where the receiver is, and nobody may be ahead of an origin itself."""
        heads = self._log_store.heads
        for origin, sequence in opening.applied.items():
            head = heads[origin].sequence if origin in heads else 0
            if sequence > head:
                if origin == self._sequencer.origin:
                    link.digest_agrees = False
                    raise self._diverged(
                        origin, sequence, f"{opening.cluster} holds more of {origin} than {self._cluster} itself"
                    )
                continue
            digest = await self._log_store.digest_at(origin, sequence)
            if digest is not None and origin in opening.digests and digest != opening.digests[origin]:
                link.digest_agrees = False
                raise self._diverged(
                    origin, sequence, f"{opening.cluster} and {self._cluster} hold different histories"
                )
        # From here on the receiver checks the chain on every batch, so equality carries on.
        link.digest_agrees = True

    def _diverged(self, origin: str, sequence: int, what: str) -> HistoryDiverged:
        return HistoryDiverged(f"{what} at {origin}:{sequence}", origin=origin, sequence=sequence)

    async def _remember(self, link: Link, progress: PeerProgress) -> None:
        """Takes over what the receiver holds, and learns the age and size of a backlog older than this process."""
        self._links.confirmed(link, progress.durable)
        origin, history = self._sequencer.origin, self._sequencer.history
        held = progress.durable[origin]
        if held < history.base:
            oldest = await self._log_store.read(origin, held, 1)
            if oldest:
                behind = await self._log_store.backlog_bytes(origin, held)
                age = max(0.0, (self._clock.wall_ms() - oldest[0].header.commit_time_ms) / 1000)
                size = self._log_store.heads[origin].size - behind
                history.older(held, size, self._clock.monotonic() - age)

    async def _read(
        self, stream: Duplex[FromReceiver, FromSender], progress: PeerProgress, link: Link, moved: Signal
    ) -> None:
        while (message := await stream.receive()) is not None:
            if isinstance(message, Ack):
                progress.acknowledged(message.durable, message.credit_bytes)
                self._links.confirmed(link, progress.durable)
                await self._log_store.record_cursor(link.peer, progress.durable)
                if message.clock is not None:
                    link.skew_seconds = skew_seconds(
                        message.clock.heartbeat_sent_ms,
                        message.clock.received_ms,
                        message.clock.sent_ms,
                        self._clock.wall_ms(),
                    )
            elif isinstance(message, Interest):
                progress.interest(message.origins)
            else:
                raise BadRequest("`open` may come only once")
            moved.fire()

    async def _send(
        self,
        stream: Duplex[FromReceiver, FromSender],
        progress: PeerProgress,
        moved: Signal,
        seeds: frozenset[str],
    ) -> None:
        while True:
            seen = moved.version
            heads = VersionVector({origin: head.sequence for origin, head in self._log_store.heads.items()})
            wanted = progress.next_read(heads)
            if wanted is None:
                await moved.wait_beyond(seen)
                continue
            origin, after, credit = wanted
            try:
                batches = await self._log_store.read(origin, after, min(credit, READ_BYTES))
            except ResumePointDeleted:
                if origin not in seeds:
                    raise
                await self._seed(stream, progress, origin)
                continue
            for batch in batches:
                if not progress.due(batch):
                    break
                progress.sent(batch)
                await stream.send(batch)

    async def _seed(self, stream: Duplex[FromReceiver, FromSender], progress: PeerProgress, origin: str) -> None:
        """In parts, so that no number of producers is too large for a message."""
        seed = await self._log_store.seed_of(origin)
        if seed is None:
            return
        _log.info("a seed of %s at %d is sent", origin, seed.floor.sequence)
        for start in range(0, max(1, len(seed.marks)), SEED_MARKS):
            end = start + SEED_MARKS
            part = Seed(origin, seed.floor, seed.dropped if start == 0 else (), seed.marks[start:end])
            await stream.send(SeedPart(part, end >= len(seed.marks)))
        progress.seeded(origin, seed.floor.sequence)

    async def _beat(self, stream: Duplex[FromReceiver, FromSender]) -> None:
        while True:
            heads = self._log_store.heads
            own = heads.get(self._sequencer.origin)
            vector = VersionVector({origin: head.sequence for origin, head in heads.items()})
            await stream.send(Heartbeat(vector, own.size if own else 0, self._clock.wall_ms()))
            await asyncio.sleep(self._timing.heartbeat)
