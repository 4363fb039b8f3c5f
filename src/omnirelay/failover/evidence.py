"""What each cluster says of itself, and what a check is given to judge.

Every replicator keeps its own report in the coordination store, tied to its lease: a dead cluster's report goes away,
and any cluster can run a preflight without calling another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from omnirelay.failover.record import Failover
from omnirelay.failover.ticket_check import NOT_ASKED, TicketReading
from omnirelay.model.descriptor import ClusterDescriptor
from omnirelay.model.lag import UNKNOWN, Lag, ReplicationStatus
from omnirelay.model.readers import ReaderBehind
from omnirelay.model.routing import RoutingDocument

FRESH_SECONDS = 4.0
"""A report older than this is no evidence; replicators report every second."""


@dataclass(frozen=True, slots=True)
class LinkReport:
    """One direction of a link."""

    status: ReplicationStatus = ReplicationStatus.UNKNOWN
    lag: Lag = UNKNOWN


@dataclass(frozen=True, slots=True)
class PeerReport:
    """A cluster's view of one peer: `outbound` is how far the peer is behind this cluster's log, `inbound` how far
    this cluster is behind the peer's."""

    outbound: LinkReport = LinkReport()
    inbound: LinkReport = LinkReport()
    last_contact_ms: int | None = None
    clock_skew_seconds: float | None = None
    digest_agrees: bool | None = None
    transport: str = ""
    heard: int | None = None
    """The peer's own log as this cluster last heard of it, from itself or by its report: its highest sequence, bytes,
    and records a second."""
    heard_bytes: int | None = None
    heard_rate: float | None = None
    silent_seconds: float | None = None
    """By this cluster's monotonic clock, since it last heard from the peer, or saw a new report of it."""
    acknowledged: Mapping[str, int] = field(default_factory=dict)
    """Origin → sequence that the peer holds."""
    retention_used: float | None = None
    """Share of this cluster's retention cap that is held back for the peer; from 1 on it may have to be re-seeded."""


@dataclass(frozen=True, slots=True)
class ClusterReport:
    cluster: str
    origin: str
    version: str
    protocol: str
    """`major.minor`"""
    log_format: int
    at_ms: int
    """Wall clock of the cluster that reports."""
    vector: Mapping[str, int]
    sizes: Mapping[str, int]
    """Origin → bytes of all its batches up to the vector."""
    digests: Mapping[str, str]
    """Origin → chain digest (hex) at the vector."""
    peers: Mapping[str, PeerReport]
    admits: Mapping[str, int]
    """namespace → epoch, where this cluster admits writes."""
    disk_free_bytes: int
    disk_total_bytes: int
    certificate_expires_ms: int
    diverged: Mapping[str, int] | None = field(default_factory=dict)
    """namespace → fenced records held here that nobody has decided about; None while that is not known: the log
    does not answer, or has not been read that far."""
    ticket_source: str = ""
    """Which ticket system it reads; empty: none."""
    problems: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    """Origins of which nothing more comes here without a seed: retention has dropped where this cluster would go on."""
    revision: int = 0
    """Of the coordination store, which this cluster had seen when it looked at its vector."""
    routing_version: int = 0
    """Of the routing document that this cluster goes by."""
    readers: Mapping[str, int] = field(default_factory=dict)
    """Namespace → readers that this cluster serves."""
    readers_behind: Mapping[str, int] = field(default_factory=dict)
    """Namespace → those of them that have not acknowledged its current epoch."""
    late: tuple[ReaderBehind, ...] = ()
    """Who they are; not all where they are many."""
    unclaimed_seconds: Mapping[str, float] = field(default_factory=dict)
    """Namespace → for how long this cluster has known that nobody claims it."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Whether a cluster answers where its descriptor sends clients: "" where it does, else why not."""

    events: str = ""
    """Publishing and subscribing."""
    control: str = ""


@dataclass(frozen=True, slots=True)
class LeaseClaim:
    """Who holds the lease of a namespace."""

    cluster: str
    epoch: int
    revoked: bool = False
    """Taken away from the cluster: a mark that ends after the last moment at which it could have used its claim."""
    lasting: bool = False
    """A mark whose time has not begun: it ends only after another one, with a lease, has taken its place."""


@dataclass(frozen=True, slots=True)
class LastReport:
    """The newest report of a cluster that the observer ever saw."""

    report: ClusterReport
    age_seconds: float | None
    """None for one that was there when the observer began: how old that is, nobody knows."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything a preflight judges, as seen from one cluster at one time."""

    now_ms: int
    routing: RoutingDocument
    clusters: Mapping[str, ClusterDescriptor]
    reports: Mapping[str, ClusterReport]
    report_age_seconds: Mapping[str, float]
    """By the observer's monotonic clock, since the report last changed."""
    leases: Mapping[str, LeaseClaim]
    """Namespace → who claims it."""
    locks: Mapping[str, str]
    """namespace → failover that holds it"""
    failovers: Mapping[str, Failover]
    coordination_lag_seconds: float | None
    """Since the store last answered the observer; None if it never did."""
    probes: Mapping[str, Probe] = field(default_factory=dict)
    """What the observer found at clusters' endpoints a moment ago, where it has looked."""
    ticket: TicketReading = NOT_ASKED
    last_reports: Mapping[str, LastReport] = field(default_factory=dict)
    """Also of clusters whose lease, and report, have ended since."""
    unclaimed_seconds: Mapping[str, float] = field(default_factory=dict)
    """Namespace → for how long the observer, or a cluster that reports, has known that nobody claims it."""
    heard: Mapping[str, int] = field(default_factory=dict)
    """Origin → highest sequence that any report ever told the observer of."""

    def ticket_sources(self) -> dict[str, str]:
        """Cluster → ticket system, of those that have one, as far as they reported."""
        return {name: report.ticket_source for name, report in self.reports.items() if report.ticket_source}

    def fresh_report(self, cluster: str) -> ClusterReport | None:
        """The cluster's report, if it is recent enough to be evidence."""
        age = self.report_age_seconds.get(cluster)
        return self.reports.get(cluster) if age is not None and age <= FRESH_SECONDS else None
