"""Who has taken notice of the routing as it is now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from omnirelay.failover.evidence import Evidence
from omnirelay.failover.modes import is_open
from omnirelay.failover.record import Failover
from omnirelay.model.readers import Acknowledgement, Late


def noticed(failover: Failover, evidence: Evidence) -> Acknowledgement | None:
    """As its report tells it: while the failover goes on as it is now, and from then on as it was when it was
    completed, so that the report of what has ended is the same whenever it is read. None where nothing was kept."""
    return acknowledgement(evidence, failover.request.namespaces) if is_open(failover) else failover.noticed


def acknowledgement(evidence: Evidence, namespaces: Iterable[str]) -> Acknowledgement:
    names, version = set(namespaces), evidence.routing.version
    reports = {cluster: evidence.fresh_report(cluster) for cluster in sorted(evidence.clusters)}
    known = {cluster: report for cluster, report in reports.items() if report is not None}
    behind = [cluster for cluster, report in known.items() if report.routing_version < version]
    readers = {cluster: _sum(report.readers, names) for cluster, report in known.items()}
    late = {
        cluster: readers[cluster] if cluster in behind else _sum(report.readers_behind, names)
        for cluster, report in known.items()
    }
    listed = (Late(cluster, r) for cluster, report in known.items() for r in report.late if r.namespace in names)
    return Acknowledgement(
        routing_version=version,
        clusters_behind=tuple(behind),
        clusters_unknown=tuple(cluster for cluster, report in reports.items() if report is None),
        readers=sum(readers.values()),
        readers_behind=sum(late.values()),
        late=tuple(listed),
    )


def _sum(counts: Mapping[str, int], names: set[str]) -> int:
    return sum(count for name, count in counts.items() if name in names)
