"""Preflight: every reason not to start, found before anything is touched.

A check that cannot know its answer fails (I13). Each check is a function from the evidence to one Check; the dry run,
the plan and the drain all call `preflight` (I14).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from omnirelay.failover.evidence import FRESH_SECONDS, Evidence, PeerReport
from omnirelay.failover.record import Check, Request, State, Verdict
from omnirelay.failover.ticket_check import change_ticket
from omnirelay.model.lag import ReplicationStatus
from omnirelay.model.times import rfc3339, to_ms

FLOWING = frozenset({ReplicationStatus.STREAMING, ReplicationStatus.CATCHING_UP})
"""A link with any other status proves nothing."""
SKEW_NORMAL_SECONDS = 0.25
DISK_LOW_RATIO = 0.05
DISK_WARN_RATIO = 0.15

_Check = Callable[[Evidence, Request, str], Check]


def preflight(evidence: Evidence, request: Request, source: str) -> tuple[Check, ...]:
    """All checks, in the order in which an operator would mend them."""
    return tuple(check(evidence, request, source) for check in _CHECKS)


def failed(checks: Sequence[Check]) -> list[str]:
    return [check.id for check in checks if check.status is Verdict.FAIL]


def _ok(id: str, observed: str, limit: str = "") -> Check:
    return Check(id, Verdict.PASS, observed, limit)


def _warn(id: str, observed: str, limit: str, hint: str) -> Check:
    return Check(id, Verdict.WARN, observed, limit, hint)


def _fail(id: str, observed: str, limit: str, hint: str) -> Check:
    return Check(id, Verdict.FAIL, observed, limit, hint)


def _peer(evidence: Evidence, cluster: str, peer: str) -> PeerReport | None:
    report = evidence.fresh_report(cluster)
    return report.peers.get(peer) if report else None


def coordination(evidence: Evidence, request: Request, source: str) -> Check:
    lag = evidence.coordination_lag_seconds
    if lag is None or lag > FRESH_SECONDS:
        seen = "no answer yet" if lag is None else f"last answer {lag:.1f} s ago"
        return _fail("coordination", seen, f"<= {FRESH_SECONDS:g} s", "Bring the coordination store back first.")
    return _ok("coordination", f"answered {lag:.1f} s ago", f"<= {FRESH_SECONDS:g} s")


def _alive(id: str, evidence: Evidence, cluster: str) -> Check:
    age = evidence.report_age_seconds.get(cluster)
    report = evidence.reports.get(cluster)
    limit = f"report <= {FRESH_SECONDS:g} s old"
    if report is None or age is None:
        return _fail(id, f"{cluster} does not report", limit, f"Start the replicator of {cluster}, or look at its log.")
    if age > FRESH_SECONDS:
        return _fail(id, f"{cluster} reported {age:.1f} s ago", limit, f"Look at the replicator of {cluster}.")
    if report.problems:
        return _fail(id, "; ".join(report.problems), "no problem reported", f"Mend {cluster}: see its /readyz.")
    return _ok(id, f"{cluster} reported {age:.1f} s ago", limit)


def _source_alive(evidence: Evidence, request: Request, source: str) -> Check:
    return _alive("source_alive", evidence, source)


def target_alive(evidence: Evidence, request: Request, source: str) -> Check:
    return _alive("target_alive", evidence, request.target)


def target_allowed(evidence: Evidence, request: Request, source: str) -> Check:
    descriptor = evidence.clusters.get(request.target)
    if descriptor is None:
        return _fail("target_allowed", f"{request.target} is not a member", "member", "omnirelay mesh clusters list")
    if descriptor.maintenance:
        return _fail(
            "target_allowed", f"{request.target} is in maintenance", "not in maintenance", "End its maintenance first."
        )
    return _ok("target_allowed", f"{request.target} is a member, not in maintenance")


def _source_owns(evidence: Evidence, request: Request, source: str) -> Check:
    id, limit = "source_owns", f"lease of {source} in the current epoch"
    for namespace in request.namespaces:
        route = evidence.routing.routes.get(namespace)
        claim = evidence.leases.get(namespace)
        if route is None or route.active != source:
            owner = route.active if route else "nobody"
            return _fail(id, f"{namespace} belongs to {owner}", limit, "Make a new plan.")
        if claim is None or claim.cluster != source or claim.epoch != route.epoch:
            held = f"{claim.cluster} in epoch {claim.epoch}" if claim else "nobody"
            return _fail(
                id, f"the lease of {namespace} is held by {held}", limit, f"Look at the replicator of {source}."
            )
    return _ok(id, f"{source} holds {', '.join(request.namespaces)}", limit)


def _lag(evidence: Evidence, request: Request, source: str) -> Check:
    id, limit = "target_lag", f"<= {request.limits.max_lag_seconds:g} s, known"
    peer = _peer(evidence, source, request.target)
    lag = peer.outbound.lag if peer else None
    if peer is None or lag is None or lag.seconds is None or lag.records is None:
        return _fail(id, "unknown", limit, f"Bring the stream from {source} to {request.target} up.")
    seen = f"{lag.seconds:.3f} s, {lag.records} records, {peer.outbound.status}"
    if peer.outbound.status not in FLOWING:
        return _fail(id, seen, limit, f"Bring the stream from {source} to {request.target} up.")
    if lag.seconds > request.limits.max_lag_seconds:
        return _fail(id, seen, limit, "Wait until the target has caught up: omnirelay mesh clusters replication status")
    return _ok(id, seen, limit)


def _digests(evidence: Evidence, request: Request, source: str) -> Check:
    peer = _peer(evidence, source, request.target)
    agrees = peer.digest_agrees if peer else None
    if agrees is None:
        return _fail("digests_agree", "unknown", "equal", f"Bring the stream from {source} to {request.target} up.")
    if not agrees:
        return _fail(
            "digests_agree", "the chain digests differ", "equal", "Stop: one of the logs was altered or rebuilt."
        )
    return _ok("digests_agree", "equal at the target's position", "equal")


def _reverse(evidence: Evidence, request: Request, source: str) -> Check:
    id, limit = "reverse_replication", f"{source} receives from {request.target}"
    peer = _peer(evidence, request.target, source)
    if peer is None or peer.outbound.status not in FLOWING:
        seen = str(peer.outbound.status) if peer else "unknown"
        return _fail(id, seen, limit, f"Bring the stream from {request.target} to {source} up: it is the way back.")
    return _ok(id, str(peer.outbound.status), limit)


def _skew(evidence: Evidence, request: Request, source: str) -> Check:
    id, limit = "clock_skew", f"<= {SKEW_NORMAL_SECONDS * 1000:g} ms"
    peer = _peer(evidence, source, request.target)
    skew = peer.clock_skew_seconds if peer else None
    if skew is None:
        return _warn(id, "unknown", limit, "It is measured by heartbeats; safety does not rest on it.")
    if abs(skew) > SKEW_NORMAL_SECONDS:
        return _warn(id, f"{skew * 1000:+.0f} ms", limit, "Look at time synchronisation; safety does not rest on it.")
    return _ok(id, f"{skew * 1000:+.0f} ms", limit)


def _versions(evidence: Evidence, request: Request, source: str) -> Check:
    id = "versions"
    here, there = evidence.fresh_report(source), evidence.fresh_report(request.target)
    if here is None or there is None:
        return _fail(id, "unknown", "same major, target's log format not older", "Both clusters must report.")
    seen = f"{source} {here.version} (protocol {here.protocol}), {request.target} {there.version} ({there.protocol})"
    if here.protocol.partition(".")[0] != there.protocol.partition(".")[0]:
        return _fail(id, seen, "same major protocol version", "Upgrade the older cluster first.")
    if there.log_format < here.log_format:
        return _fail(id, seen, "target's log format not older", f"Upgrade {request.target} first.")
    return _ok(id, seen)


def _certificates(evidence: Evidence, request: Request, source: str) -> Check:
    id = "certificates"
    horizon_ms = evidence.now_ms + int(request.limits.plan_valid_seconds * 1000)
    limit = f"valid beyond {rfc3339(horizon_ms)}"
    for cluster in (source, request.target):
        report = evidence.fresh_report(cluster)
        if report is None:
            return _fail(id, f"unknown for {cluster}", limit, f"{cluster} must report.")
        if report.certificate_expires_ms <= horizon_ms:
            expires = rfc3339(report.certificate_expires_ms)
            return _fail(id, f"{cluster}'s ends {expires}", limit, f"omnirelay pki issue --cluster {cluster}")
    return _ok(id, "both valid", limit)


def disk(evidence: Evidence, request: Request, source: str) -> Check:
    id, limit = "disk_headroom", f">= {DISK_WARN_RATIO:.0%} free on {request.target}"
    report = evidence.fresh_report(request.target)
    if report is None or report.disk_total_bytes <= 0:
        return _fail(id, "unknown", limit, f"{request.target} must report.")
    ratio = report.disk_free_bytes / report.disk_total_bytes
    if ratio < DISK_LOW_RATIO:
        return _fail(id, f"{ratio:.0%} free", limit, f"Free space on {request.target}.")
    if ratio < DISK_WARN_RATIO:
        return _warn(id, f"{ratio:.0%} free", limit, f"Free space on {request.target} soon.")
    return _ok(id, f"{ratio:.0%} free", limit)


def endpoints(evidence: Evidence, request: Request, source: str) -> Check:
    """Whether clients will find the target where routing is going to send them."""
    id, limit = "client_endpoints", f"{request.target} answers at its descriptor's endpoints"
    descriptor, probe = evidence.clusters.get(request.target), evidence.probes.get(request.target)
    if descriptor is None:
        return _ok(id, "no member, so there is nothing to probe", limit)
    if probe is None:
        return _warn(id, "not probed", limit, f"Look at them: omnirelay mesh clusters show {request.target}")
    at = descriptor.endpoints
    found = [("events", at.grpc, probe.events), ("control", at.control, probe.control)]
    silent = [f"{name} ({address}): {why}" for name, address, why in found if why]
    if silent:
        hint = f"Mend the network, or the descriptor: omnirelay mesh clusters show {request.target}"
        return _fail(id, "; ".join(silent), limit, hint)
    return _ok(id, "events and control answer", limit)


def no_other(evidence: Evidence, request: Request, source: str) -> Check:
    for namespace in request.namespaces:
        holder = evidence.locks.get(namespace)
        if holder is not None:
            return _fail("no_other_failover", f"{holder} holds {namespace}", "none", _way_out(evidence, holder))
    return _ok("no_other_failover", "none", "none")


def _way_out(evidence: Evidence, holder: str) -> str:
    other = evidence.failovers.get(holder)
    if other is None or not other.routing_version:
        return f"omnirelay mesh failovers show {holder}"
    return (
        f"omnirelay mesh failovers resume {holder}. If {other.request.target} is gone, too, that ends with a "
        f"verification that failed; then: omnirelay mesh failovers complete {holder} --reason REASON"
    )


def _cooldown(evidence: Evidence, request: Request, source: str) -> Check:
    id, least = "cooldown", request.limits.cooldown_seconds
    limit = f">= {least:g} s since the last move"
    moved = [
        to_ms(f.opened[namespace])
        for f in evidence.failovers.values()
        for namespace in request.namespaces
        if f.state is not State.ABORTED and namespace in f.opened
    ]
    if not moved:
        return _ok(id, "never moved", limit)
    since = (evidence.now_ms - max(moved)) / 1000
    if since < least:
        return _fail(id, f"moved {since:.0f} s ago", limit, f"Wait {least - since:.0f} s, or set another cooldown.")
    return _ok(id, f"moved {since:.0f} s ago", limit)


def _ticket(evidence: Evidence, request: Request, source: str) -> Check:
    return change_ticket(evidence.ticket, request, evidence.now_ms, evidence.ticket_sources())


_CHECKS: tuple[_Check, ...] = (
    coordination,
    _source_alive,
    target_alive,
    target_allowed,
    _source_owns,
    _lag,
    _digests,
    _reverse,
    _skew,
    _versions,
    _certificates,
    disk,
    endpoints,
    no_other,
    _cooldown,
    _ticket,
)
