"""Who has taken notice of the routing as it is now: clusters, and the readers that each of them serves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from omnirelay.failover.evidence import Evidence, ReaderBehind


@dataclass(frozen=True, slots=True)
class Late:
    """A reader that has not acknowledged the current epoch, and where it reads."""

    cluster: str
    reader: ReaderBehind


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Of some namespaces, as far as the clusters have reported."""

    routing_version: int
    clusters_behind: tuple[str, ...]
    """They show an older document; what their readers know counts as nothing."""
    clusters_unknown: tuple[str, ...]
    """They do not report: who reads there is unknown."""
    readers: int
    readers_behind: int
    """How many have not acknowledged the current epoch; `late` names them, as far as clusters list them."""
    late: tuple[Late, ...]


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
