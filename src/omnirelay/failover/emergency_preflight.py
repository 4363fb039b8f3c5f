"""Preflight of an emergency: is the source really gone, is the target the right one, is the loss accepted.

Fewer checks than a planned failover has, because less may be asked of a bad day; none of them waits for the source.
"""

from __future__ import annotations

from dataclasses import replace

from omnirelay.errors import LossNotAccepted
from omnirelay.failover import preflight as planned
from omnirelay.failover.evidence import Evidence
from omnirelay.failover.loss import best_prefix, in_reach, predict, require_acceptance
from omnirelay.failover.record import Check, Request, Verdict
from omnirelay.failover.ticket_check import change_ticket
from omnirelay.model.lag import ReplicationStatus
from omnirelay.model.version_vector import VersionVector

RECEIVING = frozenset({ReplicationStatus.STREAMING, ReplicationStatus.CATCHING_UP, ReplicationStatus.FENCED})
"""A link with one of these brings batches, whatever becomes of them."""

SILENT_SECONDS = 2.5
"""A cluster that reports every second and has been silent for so long is not heard of."""


def preflight(evidence: Evidence, request: Request, source: str, lease_ttl_seconds: float) -> tuple[Check, ...]:
    """All checks, in the order in which an operator would mend them."""
    return (
        planned.coordination(evidence, request, source),
        planned.target_alive(evidence, request, source),
        planned.target_allowed(evidence, request, source),
        _source_gone(evidence, request, source),
        _best_candidate(evidence, request, source),
        _loss_accepted(evidence, request, source, lease_ttl_seconds),
        planned.no_other(evidence, request, source),
        planned.disk(evidence, request, source),
        _endpoints(evidence, request, source),
        change_ticket(evidence.ticket, request, evidence.now_ms, evidence.ticket_sources()),
    )


def _source_gone(evidence: Evidence, request: Request, source: str) -> Check:
    """Two clusters and no third vote: a partition looks like death, so the evidence is spelt out for who decides."""
    id, limit = "source_gone", f"{source} is not heard of"
    seen = []
    report = evidence.reports.get(source)
    age = evidence.report_age_seconds.get(source, SILENT_SECONDS)
    if report is not None and age < SILENT_SECONDS and report.admits.keys() & set(request.namespaces):
        seen.append(f"it reported {age:.1f} s ago that it admits writes")
    for cluster, other in sorted(in_reach(evidence, source).items()):
        peer = other.peers.get(source)
        if peer is not None and peer.inbound.status in RECEIVING:
            seen.append(f"{cluster} receives from it")
    if not seen:
        claims = [n for n in request.namespaces if n in evidence.leases and evidence.leases[n].cluster == source]
        held = f"its lease of {', '.join(claims)} has not ended yet" if claims else "its lease has ended"
        return Check(id, Verdict.PASS, f"no report, no stream; {held}", limit)
    if request.break_glass:
        return Check(id, Verdict.WARN, "; ".join(seen), limit, "The glass is broken: it will be fenced all the same.")
    hint = f"It lives: omnirelay mesh clusters promote {request.target}; to distrust it, give --break-glass REASON."
    return Check(id, Verdict.FAIL, "; ".join(seen), limit, hint)


def _best_candidate(evidence: Evidence, request: Request, source: str) -> Check:
    """The target holds most, or receives from the cluster that does."""
    id, limit = "best_candidate", "holds the longest prefix, or can catch up to it"
    reports = in_reach(evidence, source)
    if request.target not in reports:
        return Check(id, Verdict.FAIL, f"what {request.target} holds is unknown", limit, "omnirelay mesh clusters list")
    target, behind = reports[request.target], []
    for namespace in request.namespaces:
        route = evidence.routing.routes[namespace]
        end, best = best_prefix(route, reports)
        mine = route.unbroken_prefix(VersionVector(target.vector))
        if mine >= end:
            continue
        seen = (
            f"{best} holds {namespace} up to {end.epoch}:{end.sequence}, "
            f"{request.target} up to {mine.epoch}:{mine.sequence}"
        )
        link = target.peers.get(best)
        if link is None or link.inbound.status not in RECEIVING:
            hint = f"omnirelay mesh clusters promote {best} --emergency"
            if evidence.clusters[best].maintenance:
                hint = f"Bring the link from {best} to {request.target} up; {best} itself is in maintenance."
            return Check(id, Verdict.FAIL, f"{seen} and does not receive from {best}", limit, hint)
        behind.append(seen)
    if behind:
        return Check(id, Verdict.PASS, f"{'; '.join(behind)}; it will catch up first", limit)
    return Check(id, Verdict.PASS, f"nobody in reach holds more than {request.target}", limit)


def _loss_accepted(evidence: Evidence, request: Request, source: str, lease_ttl_seconds: float) -> Check:
    predictions = predict(evidence, request, source, lease_ttl_seconds)
    records = sum(p.records for p in predictions)
    seconds = max((p.unheard_seconds for p in predictions), default=0.0)
    known = sum(p.known_records for p in predictions)
    in_all = f"{records} records in all" if all(p.bounded for p in predictions) else "nobody knows how many in all"
    seen = f"{known} records known, {seconds:.1f} s unheard, {in_all}"
    bound = "nothing accepted yet" if request.accept_data_loss is None else f"<= {request.accept_data_loss} records"
    accepted = "break-glass" if request.break_glass else bound
    try:
        require_acceptance(request, predictions)
    except LossNotAccepted as error:
        return Check("loss_accepted", Verdict.FAIL, seen, accepted, error.operator_hint)
    return Check("loss_accepted", Verdict.PASS, seen, accepted)


def _endpoints(evidence: Evidence, request: Request, source: str) -> Check:
    """Whoever looks may be cut off where clients are not, so on a bad day this warns and bars nothing."""
    check = planned.endpoints(evidence, request, source)
    return replace(check, status=Verdict.WARN) if check.status is Verdict.FAIL else check
