"""What this replicator knows of each peer, gathered from both directions of replication. Measured when asked, so a
figure goes on growing while nothing happens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from omnirelay.failover.evidence import LinkReport, PeerReport
from omnirelay.failover.lease import Timing
from omnirelay.model.lag import UNKNOWN, Lag, ReplicationStatus
from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.clock import Clock
from omnirelay.replication.lag import InboundLag, status_of
from omnirelay.replication.rpo import Standing
from omnirelay.runtime.sequencer import Sequencer
from omnirelay.runtime.signal import Signal

CATCHING_UP_SECONDS = 1.0
"""A link that is further behind than this is catching up rather than streaming."""


@dataclass(slots=True)
class Counters:
    duplicates: int = 0
    gaps: int = 0
    fenced_records: int = 0
    corrupt_batches: int = 0
    refused_batches: int = 0


@dataclass(slots=True)
class Link:
    """One peer. Times are this process's monotonic seconds."""

    peer: str
    sending: bool = False
    """The peer's stream to us, on which we send, is open."""
    acknowledged: VersionVector | None = None
    """What the peer last confirmed; None if it never did."""
    acknowledged_at: float | None = None
    digest_agrees: bool | None = None
    receiving: bool = False
    """Our stream to the peer, on which we receive, is open."""
    inbound: InboundLag = field(default_factory=InboundLag)
    contact_ms: int | None = None
    skew_seconds: float | None = None
    transport: str = ""
    retention_used: float | None = None
    """Share of the retention cap that is held back for the peer; None if it never confirmed anything."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Origin → the first sequence of it that the peer still has, where that was beyond what comes next here."""
    problem: str = ""
    """Why the link is down or refused."""


class Links:
    def __init__(self, sequencer: Sequencer, clock: Clock, timing: Timing) -> None:
        self._sequencer = sequencer
        self._clock = clock
        self._timing = timing
        self.counters = Counters()
        self.acknowledged = Signal()
        """A peer has told what it holds."""
        self.fenced: set[str] = set()
        """Clusters whose own log holds fenced records that nobody has decided about."""
        self._links: dict[str, Link] = {}
        self._deleted: set[str] = set()

    def of(self, peer: str) -> Link:
        return self._links.setdefault(peer, Link(peer))

    def heard_from(self, link: Link) -> None:
        link.contact_ms = self._clock.wall_ms()

    def confirmed(self, link: Link, durable: VersionVector) -> None:
        """The peer says that it holds this much."""
        link.acknowledged = durable
        link.acknowledged_at = self._clock.monotonic()
        self.heard_from(link)
        self.acknowledged.fire()

    def confirmations(self, peers: Iterable[str]) -> list[VersionVector]:
        """What those of the peers hold that ever told."""
        links = [self.of(peer) for peer in peers]
        return [link.acknowledged for link in links if link.acknowledged is not None]

    def standing(self, peer: str) -> Standing:
        """How far the peer is behind this cluster's own log."""
        link, now = self.of(peer), self._clock.monotonic()
        if link.acknowledged is None or link.acknowledged_at is None:
            return Standing(None, None)
        lag = self._sequencer.history.measure(link.acknowledged[self._sequencer.origin], now)
        return Standing(link.acknowledged, lag.seconds, 0.0 if link.sending else now - link.acknowledged_at)

    def deleted(self) -> set[str]:
        """Origins whose resume point is gone at some peer, and that no link has brought further since."""
        return set(self._deleted)

    def dropped(self, link: Link, origin: str, oldest: int) -> None:
        """The peer has the origin from `oldest` on only: without a seed nothing more comes of it from there."""
        link.dropped[origin] = oldest
        self._deleted.add(origin)

    def out_of_reach(self, peer: str) -> set[str]:
        """Origins of which the peer has dropped what comes next here."""
        heads = self._sequencer.log.heads
        held = {origin: head.sequence for origin, head in heads.items()}
        return {origin for origin, oldest in self.of(peer).dropped.items() if held.get(origin, 0) + 1 < oldest}

    def brought(self, origin: str) -> None:
        """The origin goes on here, by a seed or by a peer that has dropped less."""
        self._deleted.discard(origin)

    def connected(self) -> dict[str, bool]:
        """Peer → whether we receive from it. A stream that stays open while nothing comes, not even a heartbeat, is of
        a peer that hangs, and as good as none."""
        stall = self._timing.stall_threshold
        return {
            peer: link.receiving and (silent := self.silent_seconds(peer)) is not None and silent <= stall
            for peer, link in self._links.items()
        }

    def silent_seconds(self, peer: str) -> float | None:
        """Since a word of the peer came; None if none ever did."""
        contact = self.of(peer).inbound.last_contact
        return None if contact is None else self._clock.monotonic() - contact

    def report(self, peer: str) -> PeerReport:
        link, now = self.of(peer), self._clock.monotonic()
        return PeerReport(
            outbound=self._outbound(link, now),
            inbound=self._inbound(link, now),
            last_contact_ms=link.contact_ms,
            clock_skew_seconds=link.skew_seconds,
            digest_agrees=link.digest_agrees,
            transport=link.transport,
            heard=link.inbound.head if link.inbound.last_contact is not None else None,
            heard_bytes=link.inbound.head_size if link.inbound.last_contact is not None else None,
            heard_rate=link.inbound.rate,
            acknowledged=dict(link.acknowledged or {}),
            retention_used=link.retention_used,
        )

    def _outbound(self, link: Link, now: float) -> LinkReport:
        if link.acknowledged is None:
            lag = UNKNOWN
        else:
            lag = self._sequencer.history.measure(link.acknowledged[self._sequencer.origin], now)
        silent = None if link.acknowledged_at is None else now - link.acknowledged_at
        return LinkReport(self._status(link.sending, link.acknowledged is not None, silent, lag), lag)

    def _inbound(self, link: Link, now: float) -> LinkReport:
        lag = link.inbound.measure(now, self._timing.stall_threshold)
        contact = link.inbound.last_contact
        silent = None if contact is None else now - contact
        status = self._status(link.receiving, contact is not None, silent, lag)
        if link.peer in self.fenced and status in (ReplicationStatus.STREAMING, ReplicationStatus.CATCHING_UP):
            status = ReplicationStatus.FENCED
        return LinkReport(status, lag)

    def _status(self, connected: bool, ever: bool, silent: float | None, lag: Lag) -> ReplicationStatus:
        return status_of(connected, ever, silent, self._timing.stall_threshold, lag, CATCHING_UP_SECONDS)
