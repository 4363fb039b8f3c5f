"""The evidence of a failover: what happened when, told from its journal, and the same as Markdown for a ticket."""

from __future__ import annotations

from collections.abc import Sequence

from omnirelay.failover.outage import Basis, last_entry, measured_outage
from omnirelay.failover.record import Failover, Grade, JournalEntry, LossRange, Mode
from omnirelay.model.readers import Acknowledgement

DRAIN_MOMENTS = {
    "drain_started_at": ("drain", "started"),
    "write_closed_at": ("drain", "closed"),
    "barrier_reached_at": ("drain", "reached"),
}
EMERGENCY_MOMENTS = {
    "gather_started_at": ("gather", "started"),
    "gathered_at": ("gather", "gathered"),
    "fenced_at": ("fence", "fenced"),
}
LATER_MOMENTS = {
    "promoted_at": ("promote", "promoted"),
    "write_opened_at": ("promote", "opened"),
    "verified_at": ("verify", "verified"),
    "completed_at": ("complete", "completed"),
}
"""Name in the report → step and event in the journal; the last such entry counts."""


def timings(failover: Failover) -> dict[str, str | None]:
    """When each thing that belongs to its mode happened; None for what has not."""
    first = EMERGENCY_MOMENTS if failover.request.mode is Mode.EMERGENCY else DRAIN_MOMENTS
    return {name: _last(failover.journal, *moment) for name, moment in (first | LATER_MOMENTS).items()}


def measured_loss_records(failover: Failover) -> int | None:
    """What the target lacked of the barriers when it was promoted, or what the manifest of an emergency names as
    gone or not recovered yet; None while it is not promoted."""
    if failover.request.mode is Mode.EMERGENCY:
        return _gone(failover.manifest) if failover.routing_version else None
    if failover.token is None or not failover.routing_version:
        return None
    barriers = failover.token.barriers
    return sum(max(0, barrier.sequence - failover.reached.get(name, 0)) for name, barrier in barriers.items())


def _gone(manifest: tuple[LossRange, ...]) -> int:
    """What is presumed lost of one log is presumed so for each of its namespaces, and is still lost only once."""
    exact = sum(r.records for r in manifest if r.exact and r.grade not in (Grade.SUPERSEDED, Grade.RECOVERED))
    ends: dict[str, int] = {}
    for range_ in sorted((r for r in manifest if not r.exact), key=lambda r: (r.origin, r.first)):
        after = max(range_.first - 1, ends.get(range_.origin, 0))
        exact += max(0, range_.last - after)
        ends[range_.origin] = max(after, range_.last)
    return exact


def markdown(failover: Failover, audit: tuple[int, int] | None, noticed: Acknowledgement | None) -> str:
    """The report as a person reads it."""
    request, loss = failover.request, measured_loss_records(failover)
    facts = [
        ("State", failover.state + (f" ({failover.problem})" if failover.problem else "")),
        ("Namespaces", ", ".join(request.namespaces)),
        ("Reason", request.reason),
        ("Change ticket", request.change_ticket),
        ("Requested by", f"{failover.requested_by} at {failover.created_at}"),
        ("Run", failover.run_url or "not given"),
        ("Plan", failover.plan.hash),
        ("Outage", f"{outage_text(failover)}, {failover.plan.predicted_outage_seconds:g} s predicted"),
        ("Loss", f"{known(loss, 'records')} measured, {failover.plan.predicted_loss_records} records predicted"),
        *([("Readers", _noticed(noticed))] if noticed else []),
        ("Audit", f"entries {audit[0]} to {audit[1]}" if audit else "no entries"),
    ]
    changes = [
        (c.namespace, c.source, c.target, str(c.epoch_before), str(c.epoch_after)) for c in failover.plan.routing
    ]
    moments = [(name.removesuffix("_at").replace("_", " "), at or "—") for name, at in timings(failover).items()]
    approvals = [(a.principal, a.decision, a.at, a.comment) for a in failover.approvals]
    checks = [(c.id, c.status, c.observed, c.limit) for c in failover.checks]
    journal = [(e.at, e.step, e.event, e.actor) for e in failover.journal]
    sections = [
        f"# Failover {failover.id}\n\n{request.mode.capitalize()}, {failover.source} → {request.target}.\n",
        _table(("", ""), facts),
        "## Ownership\n\n" + _table(("namespace", "from", "to", "epoch before", "epoch after"), changes),
        *([_manifest(failover)] if request.mode is Mode.EMERGENCY else []),
        "## Timings\n\n" + _table(("moment", "at"), moments),
        *([_late(noticed)] if noticed and noticed.late else []),
        "## Approvals\n\n" + _table(("principal", "decision", "at", "comment"), approvals),
        "## Checks\n\n" + _table(("check", "status", "observed", "limit"), checks),
        "## Journal\n\n" + _table(("at", "step", "event", "by"), journal),
    ]
    return "\n".join(sections)


def _noticed(noticed: Acknowledgement) -> str:
    told = noticed.readers - noticed.readers_behind
    facts = [f"{told} of {noticed.readers} have acknowledged routing version {noticed.routing_version}"]
    facts += [f"{cluster} shows an older one" for cluster in noticed.clusters_behind]
    facts += [f"who reads at {cluster} is unknown" for cluster in noticed.clusters_unknown]
    return "; ".join(facts)


def _late(noticed: Acknowledgement) -> str:
    rows = [
        (late.cluster, r.namespace, r.consumer or "unnamed", r.principal, str(r.epoch))
        for late in noticed.late
        for r in (late.reader,)
    ]
    head = ("reads at", "namespace", "consumer", "principal", "epoch acknowledged")
    return "## Readers that have not acknowledged the routing\n\n" + _table(head, rows)


def _manifest(failover: Failover) -> str:
    rows = [
        (
            r.namespace,
            r.origin,
            str(r.epoch),
            f"{r.first} to {r.last}",
            str(r.records),
            r.grade,
            "yes" if r.exact else "no",
        )
        for r in failover.manifest
    ]
    head = ("namespace", "origin", "epoch", "sequences", "records", "grade", "exact")
    return "## Loss manifest\n\n" + _table(head, rows)


_BASES = {
    Basis.SOURCE_CLOSED: "",
    Basis.SOURCE_BARRED: " since the source was barred",
    Basis.SOURCE_LAST_HEARD: " at the most, since the source was last heard of; it never said when it stopped",
}


def outage_text(failover: Failover) -> str:
    outage = measured_outage(failover)
    if outage is None:
        return "unknown measured" if failover.routing_version else "unknown measured (not over)"
    return f"{outage.seconds:g} s measured{_BASES[outage.basis]}"


def _last(journal: Sequence[JournalEntry], step: str, event: str) -> str | None:
    entry = last_entry(journal, step, event)
    return entry.at if entry else None


def known(figure: float | None, unit: str) -> str:
    """For people: what is not known is called so."""
    return "unknown" if figure is None else f"{figure:g} {unit}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "None.\n"
    lines = [head, ["---"] * len(head), *([_cell(text) for text in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cell(text: str) -> str:
    """Text that people typed cannot break out of its cell, nor be taken for HTML."""
    for plain, escaped in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("\r", " "), ("\n", " ")):
        text = text.replace(plain, escaped)
    return text
