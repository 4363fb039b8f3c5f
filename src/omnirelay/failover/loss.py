"""What an emergency would lose, as far as anyone knows, and what it did cut off.

Nothing can be known of what the source admitted after it was last heard. That part is bounded in time, by its lease
once that is gone, and estimated at the rate last seen; it is shown apart from what is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from omnirelay.errors import LossNotAccepted
from omnirelay.failover.evidence import ClusterReport, Evidence
from omnirelay.failover.record import Failover, Grade, LossPrediction, LossRange, Request
from omnirelay.model.position import START, Cursor
from omnirelay.model.routing import Route, RoutingDocument
from omnirelay.model.version_vector import VersionVector


def candidates(evidence: Evidence, source: str) -> dict[str, ClusterReport]:
    """The clusters that report now and could be promoted; never the source."""
    return {
        cluster: report
        for cluster in evidence.clusters
        if cluster != source
        and not evidence.clusters[cluster].maintenance
        and (report := evidence.fresh_report(cluster)) is not None
    }


def best_prefix(route: Route, reports: Mapping[str, ClusterReport]) -> tuple[Cursor, str]:
    """The longest unbroken prefix among the clusters, and who holds it: the first by name among equals, nobody ("") if
    there are none."""
    ends = {cluster: route.unbroken_prefix(VersionVector(report.vector)) for cluster, report in reports.items()}
    best = max(sorted(ends), key=lambda cluster: ends[cluster], default="")
    return ends.get(best, START), best


def predict(evidence: Evidence, request: Request, source: str, lease_ttl_seconds: float) -> tuple[LossPrediction, ...]:
    """One prediction for each log that the namespaces' current epochs are in."""
    origins = sorted({evidence.routing.routes[name].current.origin for name in request.namespaces})
    claimed = any(name in evidence.leases and evidence.leases[name].cluster == source for name in request.namespaces)
    return tuple(_predict(evidence, origin, source, claimed, lease_ttl_seconds) for origin in origins)


def _predict(evidence: Evidence, origin: str, source: str, claimed: bool, lease_ttl_seconds: float) -> LossPrediction:
    reports = candidates(evidence, source)
    witnesses = dict(reports)
    own = evidence.reports.get(source)
    if own is not None:
        witnesses[source] = own
    views = {cluster: report.peers[source] for cluster, report in reports.items() if source in report.peers}
    held = max((report.vector.get(origin, 0) for report in reports.values()), default=0)
    held_bytes = max((report.sizes.get(origin, 0) for report in reports.values()), default=0)
    heard = max(
        [held, *(report.vector.get(origin, 0) for report in witnesses.values())]
        + [view.heard or 0 for view in views.values()]
    )
    heard_bytes = max(
        [held_bytes, *(report.sizes.get(origin, 0) for report in witnesses.values())]
        + [view.heard_bytes or 0 for view in views.values()]
    )
    silence = min(
        (
            (reports[cluster].at_ms - view.last_contact_ms) / 1000 + evidence.report_age_seconds[cluster]
            for cluster, view in views.items()
            if view.last_contact_ms is not None
        ),
        default=lease_ttl_seconds,
    )
    # A source without a claim has stopped by its own clock, within one ttl of its last renewal.
    unheard = max(0.0, silence if claimed else min(silence, lease_ttl_seconds))
    rate = max((view.heard_rate for view in views.values()), default=0.0)
    return LossPrediction(
        origin=origin,
        held=held,
        heard=heard,
        known_records=heard - held,
        known_bytes=heard_bytes - held_bytes,
        unheard_seconds=round(unheard, 3),
        unheard_records=ceil(rate * unheard),
    )


def require_acceptance(request: Request, predictions: tuple[LossPrediction, ...]) -> None:
    """Raises LossNotAccepted unless the loss is accepted in writing or the glass is broken."""
    records = sum(prediction.records for prediction in predictions)
    if request.break_glass or (request.accept_data_loss is not None and request.accept_data_loss >= records):
        return
    accepted = "nothing" if request.accept_data_loss is None else f"{request.accept_data_loss} records"
    raise LossNotAccepted(
        f"up to {records} records may be lost, and {accepted} was accepted",
        predicted_loss_records=records,
        accepted=request.accept_data_loss,
        predictions=[
            {
                "origin": p.origin,
                "held": p.held,
                "heard": p.heard,
                "known_records": p.known_records,
                "known_bytes": p.known_bytes,
                "unheard_seconds": p.unheard_seconds,
                "unheard_records": p.unheard_records,
            }
            for p in predictions
        ],
    )


def first_manifest(failover: Failover, routing: RoutingDocument) -> tuple[LossRange, ...]:
    """What is known right after the promotion: from the cut to what had been heard. `routing` holds the new epoch."""
    heard = {prediction.origin: prediction.heard for prediction in failover.plan.loss}
    ranges = []
    for namespace, epoch in sorted(failover.expected_epochs.items()):
        ownership = routing.routes[namespace].ownership(epoch)
        cut = failover.cuts.get(namespace, START)
        if ownership is None:
            continue
        first = cut.sequence + 1 if cut.epoch == epoch else 1
        last = heard.get(ownership.origin, 0)
        if last >= first:
            ranges.append(
                LossRange(namespace, ownership.origin, epoch, first, last, last - first + 1, False, Grade.PRESUMED_LOST)
            )
    return tuple(ranges)
