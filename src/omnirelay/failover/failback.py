"""What a failback asks beyond a planned failover: that nothing which diverged is forgotten on the way home."""

from __future__ import annotations

from omnirelay.failover import preflight as planned
from omnirelay.failover.evidence import Evidence
from omnirelay.failover.record import Check, Request, Verdict


def preflight(evidence: Evidence, request: Request, source: str) -> tuple[Check, ...]:
    """The checks of a planned failover, and its own."""
    return (
        *planned.preflight(evidence, request, source),
        _tail_received(evidence, request, source),
        _divergence_resolved(evidence, request, source),
    )


def _tail_received(evidence: Evidence, request: Request, source: str) -> Check:
    """Everything that the old active wrote is here, so that what diverged is all known."""
    id, limit = "tail_received", f"{source} holds all of {request.target}'s own log"
    here, home = evidence.fresh_report(source), evidence.fresh_report(request.target)
    if here is None or home is None:
        return Check(id, Verdict.FAIL, "unknown", limit, "Both clusters must report.")
    has, written = here.vector.get(home.origin, 0), home.vector.get(home.origin, 0)
    if has < written:
        hint = "Wait: omnirelay mesh clusters replication status"
        return Check(id, Verdict.FAIL, f"{has} of {written}", limit, hint)
    return Check(id, Verdict.PASS, f"{has} of {written}", limit)


def _divergence_resolved(evidence: Evidence, request: Request, source: str) -> Check:
    id, limit = "divergence_resolved", "every fenced record discarded, exported, replayed or superseded"
    here = evidence.fresh_report(source)
    if here is None:
        return Check(id, Verdict.FAIL, "unknown", limit, f"{source} must report.")
    if here.diverged is None:
        return Check(id, Verdict.FAIL, "unknown", limit, f"Wait until {source} has read its log; then try again.")
    open_ = {name: count for name, count in here.diverged.items() if name in request.namespaces}
    if open_:
        seen = ", ".join(f"{count} records of {name}" for name, count in sorted(open_.items()))
        return Check(id, Verdict.FAIL, seen, limit, "omnirelay mesh divergence list")
    return Check(id, Verdict.PASS, "nothing is open", limit)
