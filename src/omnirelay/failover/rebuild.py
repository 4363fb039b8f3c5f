"""A cluster that has lost its own log comes back under a new incarnation: when it must, and under which number.

Its old sequences are in others' logs and in the routing's history for good, so it can never go on under the old name;
under the new one it begins from nothing, and gets its old log back from its peers as one of many.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from omnirelay.failover.evidence import ClusterReport
from omnirelay.model.ids import cluster_of, incarnation_of
from omnirelay.model.routing import RoutingDocument


@dataclass(frozen=True, slots=True)
class Rebuild:
    """The intent, as it is stored until the cluster has carried it out."""

    cluster: str
    origin: str
    """The log that was lost."""
    incarnation: int
    """The one to begin."""
    by: str
    at: str
    change_ticket: str
    reason: str


@dataclass(frozen=True, slots=True)
class LostLog:
    """Somebody holds more of a cluster's log than the cluster itself."""

    origin: str
    held: int
    """By the cluster itself."""
    holder: str
    known: int
    """By the holder."""


def lost_log(origin: str, held: int, reports: Iterable[ClusterReport]) -> LostLog | None:
    """None while nobody holds more of the origin than `held`."""
    holder = max(reports, key=lambda report: report.vector.get(origin, 0), default=None)
    known = holder.vector.get(origin, 0) if holder else 0
    return LostLog(origin, held, holder.cluster, known) if holder and known > held else None


def next_incarnation(cluster: str, routing: RoutingDocument, reports: Mapping[str, ClusterReport]) -> int:
    """One that nobody in the mesh has ever heard of."""
    heard = {origin for report in reports.values() for origin in (report.origin, *report.vector)}
    heard |= {ownership.origin for route in routing.routes.values() for ownership in route.history}
    return 1 + max((incarnation_of(origin) for origin in heard if cluster_of(origin) == cluster), default=1)
