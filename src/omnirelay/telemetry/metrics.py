"""Metrics in the Prometheus text format, computed when they are asked for.

Nothing is kept here between two scrapes: every figure is read from the replicator at the scrape, so a lag goes on
growing while nothing happens, and a peer that has left leaves no series behind. What is unknown has no series; it
is never 0. Of the link's status exactly one value is 1 for each peer and direction, `unknown` included, so an alert
on an unknown lag has something to look at.

Two directions of a link are told apart by the label `direction`: `outbound` is how far the peer is behind this
cluster's log, by this cluster's clock alone; `inbound` is how far this cluster is behind the peer's log, which goes
on growing while the peer is silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from omnirelay.failover.evidence import LinkReport, PeerReport
from omnirelay.failover.record import Failover, Mode
from omnirelay.model.descriptor import ClusterState
from omnirelay.model.lag import ReplicationStatus
from omnirelay.telemetry.histogram import Histogram

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

NEWEST_FAILOVERS = 20
"""As many failovers have series of their own; older ones are in the control API."""

_Row = tuple[Sequence[str], float]
"""Label values and the sample's value."""


class Observed(Protocol):
    """What a replicator shows of itself. Every member is as of now, by the replicator's own clocks."""

    @property
    def cluster(self) -> str: ...

    @property
    def state(self) -> ClusterState | None:
        """None until the coordination store has told."""
        ...

    @property
    def peers(self) -> Mapping[str, PeerReport]: ...

    @property
    def applied(self) -> Mapping[str, int]:
        """Origin → highest contiguous sequence held durably."""
        ...

    @property
    def heads(self) -> Mapping[str, int]:
        """Origin → highest sequence that anyone was heard to hold."""
        ...

    @property
    def epochs(self) -> Mapping[str, int]:
        """Namespace → current epoch, as this cluster knows it."""
        ...

    @property
    def leases(self) -> Mapping[str, float]:
        """Namespace → seconds until this cluster stops admitting writes unless its lease is renewed."""
        ...

    @property
    def readers(self) -> Mapping[str, int]:
        """Namespace → readers that this cluster serves."""
        ...

    @property
    def readers_behind(self) -> Mapping[str, int]:
        """Namespace → those of them that have not acknowledged its current epoch."""
        ...

    @property
    def failovers(self) -> Sequence[Failover]: ...

    @property
    def step_seconds(self) -> Mapping[tuple[Mode, str], Histogram]:
        """(mode, step) → durations of the steps that ended here."""
        ...

    @property
    def write_outages(self) -> Mapping[Mode, float]:
        """Mode → seconds without an active in the latest failover of that mode."""
        ...

    @property
    def retention_used(self) -> Mapping[str, float]:
        """Peer → share of the retention cap that is held back for it."""
        ...

    @property
    def certificate_expiries_ms(self) -> Mapping[str, int]:
        """Use → when that certificate ends, milliseconds since the Unix epoch."""
        ...

    @property
    def commit_seconds(self) -> Histogram: ...

    @property
    def admitted_records(self) -> int: ...

    @property
    def duplicates(self) -> int: ...

    @property
    def gaps(self) -> int: ...

    @property
    def fenced_records(self) -> int: ...

    @property
    def corrupt_batches(self) -> int: ...

    @property
    def audit_entries(self) -> int: ...


def render(observed: Observed) -> bytes:
    """All metrics, in the format that CONTENT_TYPE names."""
    registry = CollectorRegistry()
    registry.register(MeshCollector(observed))
    return generate_latest(registry)


class MeshCollector(Collector):
    """The metrics as a collector, for a registry that holds others too."""

    def __init__(self, observed: Observed) -> None:
        self._observed = observed

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read the replicator."""
        return ()

    def collect(self) -> Iterator[Metric]:
        of = _Families(self._observed.cluster)
        yield from _links(of, self._observed)
        yield from _log(of, self._observed)
        yield from _ownership(of, self._observed)
        yield from _failovers(of, self._observed)


class _Families:
    """Makes metric families whose every sample bears the exporter's cluster."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster

    def gauge(self, name: str, text: str, labels: Sequence[str], rows: Iterable[_Row]) -> Metric:
        family = GaugeMetricFamily(name, text, labels=("cluster", *labels))
        for values, value in rows:
            family.add_metric((self._cluster, *values), value)
        return family

    def counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(name, text, labels=("cluster",))
        family.add_metric((self._cluster,), value)
        return family

    def histogram(
        self, name: str, text: str, labels: Sequence[str], rows: Iterable[tuple[Sequence[str], Histogram]]
    ) -> Metric:
        family = HistogramMetricFamily(name, text, labels=("cluster", *labels))
        for values, histogram in rows:
            family.add_metric((self._cluster, *values), histogram.cumulative(), histogram.sum)
        return family


def _links(of: _Families, seen: Observed) -> Iterator[Metric]:
    peers = sorted(seen.peers.items())
    links = [link for peer, report in peers for link in _directions(peer, report)]
    directed = ("peer", "direction")
    yield of.gauge(
        "mesh_replication_lag_seconds",
        "Age of the oldest batch that is not yet durably applied; no series while unknown",
        directed,
        [(labels, link.lag.seconds) for labels, link in links if link.lag.seconds is not None],
    )
    yield of.gauge(
        "mesh_replication_lag_records",
        "Records that are not yet durably applied; no series while unknown",
        directed,
        [(labels, link.lag.records) for labels, link in links if link.lag.records is not None],
    )
    yield of.gauge(
        "mesh_replication_lag_bytes",
        "Bytes of batches that are not yet durably applied; no series while unknown",
        directed,
        [(labels, link.lag.size) for labels, link in links if link.lag.size is not None],
    )
    yield of.gauge(
        "mesh_replication_status",
        "Status of the link: exactly one value of the label status is 1 for each peer and direction",
        (*directed, "status"),
        [row for labels, link in links for row in _state_set(labels, ReplicationStatus, link.status)],
    )
    yield of.gauge(
        "mesh_replication_last_contact_timestamp_seconds",
        "When the peer was last heard, by this cluster's clock; no series while it never was",
        ("peer",),
        [((peer,), r.last_contact_ms / 1000) for peer, r in peers if r.last_contact_ms is not None],
    )
    yield of.gauge(
        "mesh_replication_clock_skew_seconds",
        "How far the peer's clock is ahead of this cluster's; no series while unknown",
        ("peer",),
        [((peer,), r.clock_skew_seconds) for peer, r in peers if r.clock_skew_seconds is not None],
    )
    yield of.gauge(
        "mesh_replication_transport",
        "1 for the transport that the link to the peer uses; no series without a link",
        ("peer", "transport"),
        [((peer, r.transport), 1) for peer, r in peers if r.transport],
    )
    yield of.counter("mesh_replication_duplicates_total", "Batches received again and passed over", seen.duplicates)
    yield of.counter("mesh_replication_gaps_total", "Batches received with an earlier one missing", seen.gaps)
    yield of.counter(
        "mesh_replication_fenced_records_total",
        "Records beyond a fence cut: kept, never delivered",
        seen.fenced_records,
    )
    yield of.counter(
        "mesh_replication_corrupt_batches_total",
        "Batches received whose chain digest was wrong",
        seen.corrupt_batches,
    )


def _log(of: _Families, seen: Observed) -> Iterator[Metric]:
    yield of.gauge(
        "mesh_replication_applied_sequence",
        "Highest contiguous sequence of the origin that this cluster holds durably",
        ("origin",),
        [((origin,), sequence) for origin, sequence in sorted(seen.applied.items())],
    )
    yield of.gauge(
        "mesh_replication_head_sequence",
        "Highest sequence of the origin that this cluster has heard of",
        ("origin",),
        [((origin,), sequence) for origin, sequence in sorted(seen.heads.items())],
    )
    yield of.counter(
        "mesh_log_admitted_records_total", "Records admitted from producers at this cluster", seen.admitted_records
    )
    yield of.histogram(
        "mesh_log_commit_seconds", "Time from queueing a batch until it is durable", (), [((), seen.commit_seconds)]
    )
    yield of.gauge(
        "mesh_log_retention_used_ratio",
        "Share of the retention cap that is held back for the peer; beyond 1 the peer must be re-seeded",
        ("peer",),
        [((peer,), ratio) for peer, ratio in sorted(seen.retention_used.items())],
    )


def _ownership(of: _Families, seen: Observed) -> Iterator[Metric]:
    yield of.gauge(
        "mesh_cluster_state",
        "State of this cluster: exactly one value of the label state is 1; no series while unknown",
        ("state",),
        _state_set((), ClusterState, seen.state) if seen.state is not None else (),
    )
    yield of.gauge(
        "mesh_namespace_epoch",
        "Current epoch of the namespace, as this cluster knows it",
        ("namespace",),
        [((namespace,), epoch) for namespace, epoch in sorted(seen.epochs.items())],
    )
    yield of.gauge(
        "mesh_routing_readers",
        "Readers of the namespace that this cluster serves",
        ("namespace",),
        [((namespace,), count) for namespace, count in sorted(seen.readers.items())],
    )
    yield of.gauge(
        "mesh_routing_readers_behind",
        "Readers that have not acknowledged the current epoch of the namespace",
        ("namespace",),
        [((namespace,), seen.readers_behind.get(namespace, 0)) for namespace in sorted(seen.readers)],
    )
    yield of.gauge(
        "mesh_lease_remaining_seconds",
        "Time until this cluster stops admitting writes unless it renews its lease; 0 once it has stopped",
        ("namespace",),
        [((namespace,), max(0.0, left)) for namespace, left in sorted(seen.leases.items())],
    )
    yield of.gauge(
        "mesh_certificate_expiry_timestamp_seconds",
        "When the certificate ends",
        ("use",),
        [((use,), at / 1000) for use, at in sorted(seen.certificate_expiries_ms.items())],
    )
    yield of.counter("mesh_audit_entries_total", "Audit entries written by this replicator", seen.audit_entries)


def _failovers(of: _Families, seen: Observed) -> Iterator[Metric]:
    newest = sorted(seen.failovers, key=lambda f: (f.created_at, f.id), reverse=True)[:NEWEST_FAILOVERS]
    yield of.gauge(
        "mesh_failover_state",
        f"State of the failover: exactly one value of the label state is 1; the newest {NEWEST_FAILOVERS} failovers",
        ("id", "mode", "state"),
        [row for f in newest for row in _state_set((f.id, f.request.mode), type(f.state), f.state)],
    )
    yield of.histogram(
        "mesh_failover_step_seconds",
        "How long a failover's step took",
        ("mode", "step"),
        [(of_step, seen.step_seconds[of_step]) for of_step in sorted(seen.step_seconds)],
    )
    yield of.gauge(
        "mesh_failover_write_outage_seconds",
        "How long no cluster admitted writes in the latest failover of the mode",
        ("mode",),
        [((mode,), seconds) for mode, seconds in sorted(seen.write_outages.items())],
    )


def _directions(peer: str, report: PeerReport) -> Iterator[tuple[tuple[str, str], LinkReport]]:
    yield (peer, "outbound"), report.outbound
    yield (peer, "inbound"), report.inbound


def _state_set(labels: Sequence[str], states: type[StrEnum], current: StrEnum) -> list[_Row]:
    return [((*labels, state), float(state is current)) for state in states]
