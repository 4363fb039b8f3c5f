"""What a replicator shows of itself in its metrics, read when it is asked (telemetry.metrics.Observed)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from omnirelay.failover.evidence import PeerReport
from omnirelay.failover.outage import measured_outage
from omnirelay.failover.record import Failover, Mode
from omnirelay.model.descriptor import ClusterState
from omnirelay.model.times import to_ms
from omnirelay.runtime.clusters import derived_state
from omnirelay.runtime.replicator import Replicator
from omnirelay.telemetry.histogram import STEP_SECONDS, Histogram

_STEPS = {
    "drain": ("started", "reached"),
    "promote": ("promoted", "opened"),
    "verify": ("started", "verified"),
}
"""Step → the journal events that begin and end it."""


class Observation:
    """Satisfies `Observed`. `certificate_expiry_ms` reads the certificate in use."""

    def __init__(self, replicator: Replicator, certificate_expiry_ms: Callable[[], int]) -> None:
        self._replicator = replicator
        self._certificate_expiry_ms = certificate_expiry_ms

    @property
    def cluster(self) -> str:
        return self._replicator.cluster

    @property
    def state(self) -> ClusterState | None:
        descriptor = self._replicator.view.clusters.get(self.cluster)
        return derived_state(self._replicator.view, descriptor) if descriptor else None

    @property
    def peers(self) -> Mapping[str, PeerReport]:
        members = sorted(set(self._replicator.view.clusters) - {self.cluster})
        return {peer: self._replicator.links.report(peer) for peer in members}

    @property
    def applied(self) -> Mapping[str, int]:
        return {origin: head.sequence for origin, head in self._replicator.log.heads.items()}

    @property
    def heads(self) -> Mapping[str, int]:
        heads = dict(self.applied)
        for report in self._replicator.view.reports.values():
            for origin, sequence in report.vector.items():
                heads[origin] = max(heads.get(origin, 0), sequence)
        return heads

    @property
    def epochs(self) -> Mapping[str, int]:
        return {name: route.epoch for name, route in self._replicator.view.routing.routes.items()}

    @property
    def leases(self) -> Mapping[str, float]:
        left = self._replicator.ownerships.lease_remaining()
        return dict.fromkeys(self._replicator.view.routing.owned_by(self.cluster), left)

    @property
    def readers(self) -> Mapping[str, int]:
        return self._replicator.delivering.readers.counts()

    @property
    def readers_behind(self) -> Mapping[str, int]:
        return self._replicator.delivering.readers.behind(self._replicator.view.routing.routes)[0]

    @property
    def failovers(self) -> Sequence[Failover]:
        return self._replicator.failovers.all()

    @property
    def step_seconds(self) -> Mapping[tuple[Mode, str], Histogram]:
        steps: dict[tuple[Mode, str], Histogram] = {}
        for failover in self.failovers:
            for step, seconds in _durations(failover):
                steps.setdefault((failover.request.mode, step), Histogram(STEP_SECONDS)).observe(seconds)
        return steps

    @property
    def write_outages(self) -> Mapping[Mode, float]:
        outages: dict[Mode, float] = {}
        for failover in reversed(self.failovers):
            outage = measured_outage(failover)
            if outage is not None:
                outages[failover.request.mode] = outage.seconds
        return outages

    @property
    def retention_used(self) -> Mapping[str, float]:
        return {peer: r.retention_used for peer, r in self.peers.items() if r.retention_used is not None}

    @property
    def certificate_expiries_ms(self) -> Mapping[str, int]:
        return {"cluster": self._certificate_expiry_ms()}

    @property
    def commit_seconds(self) -> Histogram:
        return self._replicator.sequencer.commit_seconds

    @property
    def admitted_records(self) -> int:
        return self._replicator.sequencer.admitted_records

    @property
    def duplicates(self) -> int:
        return self._replicator.links.counters.duplicates + self._replicator.sequencer.duplicate_batches

    @property
    def gaps(self) -> int:
        return self._replicator.links.counters.gaps

    @property
    def fenced_records(self) -> int:
        return self._replicator.links.counters.fenced_records

    @property
    def corrupt_batches(self) -> int:
        return self._replicator.links.counters.corrupt_batches

    @property
    def audit_entries(self) -> int:
        return self._replicator.auditor.entries_written


def _durations(failover: Failover) -> list[tuple[str, float]]:
    found = []
    for step, (first, last) in _STEPS.items():
        began, ended = _at(failover, step, first), _at(failover, step, last)
        if began is not None and ended is not None:
            found.append((step, (ended - began) / 1000))
    return found


def _at(failover: Failover, step: str, event: str) -> int | None:
    """When the event happened last, milliseconds since the Unix epoch."""
    times = [to_ms(entry.at) for entry in failover.journal if (entry.step, entry.event) == (step, event)]
    return times[-1] if times else None
