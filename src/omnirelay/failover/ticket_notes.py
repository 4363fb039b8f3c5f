"""What is written into a change ticket: plain text, short enough for every ticket system."""

from __future__ import annotations

from collections.abc import Iterable

from omnirelay.failover.dossier import Posting
from omnirelay.failover.record import Approval, ApprovalSource, Failover, Mode, Verdict
from omnirelay.failover.refusal import Refusal
from omnirelay.failover.report import known, measured_loss_records, outage_text, timings
from omnirelay.model.ticket import TicketNote

MOST_CHARACTERS = 3900
"""Of a note; ServiceNow's journal takes 4000."""
LONGEST_LINE = 300


def marker(failover_id: str, key: str) -> str:
    return f"[omnirelay {failover_id} {key}]"


def plan_note(failover: Failover) -> TicketNote:
    request, plan = failover.request, failover.plan
    moves = [f"{c.namespace}: epoch {c.epoch_before} → {c.epoch_after}" for c in plan.routing]
    passed = sum(check.status is Verdict.PASS for check in failover.checks)
    others = [f"  {c.status}: {c.id}: {c.observed}" for c in failover.checks if c.status is not Verdict.PASS]
    lines = [
        f"Plan of failover {failover.id}: {request.mode}, {failover.source} → {request.target}",
        f"Namespaces: {', '.join(moves)}",
        f"Reason: {request.reason or '-'}",
        f"Requested by: {failover.requested_by}",
        f"Predicted: {plan.predicted_outage_seconds:g} s without writes, {_predicted_loss(failover)}",
        f"Plan hash: {plan.hash}",
        f"Valid until: {plan.expires_at}",
        f"Checks: {passed} of {len(failover.checks)} pass",
        *others,
        *(f"Step {step.name}: {step.effect}" for step in plan.steps),
    ]
    if request.approval_source is ApprovalSource.TICKET:
        lines.append("Whoever approves this ticket after this note, and not in the same second, approves this plan.")
    return _note(failover.id, "plan", lines)


def approval_note(failover: Failover, number: int) -> TicketNote:
    return _note(failover.id, f"approval {number}", [_approval(failover.approvals[number - 1])])


def started_note(failover: Failover) -> TicketNote:
    if failover.request.mode is Mode.EMERGENCY:
        what = f"{failover.request.target} takes over from {failover.source} since {failover.gather_started_at}."
    else:
        what = (
            f"{failover.source} takes no more writes since {failover.drain_started_at}, until it has moved or resumes."
        )
    return _note(failover.id, "started", [f"Failover {failover.id} has started.", what])


def end_note(failover: Failover, key: str, audit: tuple[int, int] | None, documents: Iterable[Posting]) -> TicketNote:
    """How it ended, or that it needs somebody: timeline, what was measured, and digests of the reports."""
    plan = failover.plan
    loss = measured_loss_records(failover)
    lines = [
        f"Failover {failover.id} is {failover.state}: {failover.source} → {failover.request.target}",
        *([f"Because: {failover.problem}"] if failover.problem else []),
        f"Outage: {outage_text(failover)}, {plan.predicted_outage_seconds:g} s predicted",
        f"Loss: {known(loss, 'records')} measured, {_predicted_loss(failover)} predicted",
        f"Plan hash: {plan.hash}",
        *(_approval(approval) for approval in failover.approvals),
        "Timeline:",
        f"  planned: {failover.created_at}",
        *(f"  {name.removesuffix('_at').replace('_', ' ')}: {at}" for name, at in timings(failover).items() if at),
        f"  {failover.state}: {failover.journal[-1].at}",
        f"Audit: {f'entries {audit[0]} to {audit[1]}' if audit else 'no entries'}",
        *(f"Attached: {document.name}, sha256:{document.sha256}" for document in documents),
    ]
    return _note(failover.id, key, lines)


def refusal_note(refusal: Refusal) -> TicketNote:
    request = refusal.request
    failed = [check for check in refusal.checks if check.status is Verdict.FAIL]
    lines = [
        f"Refused by its preflight: {request.mode}, {refusal.source} → {request.target}. Nothing has begun.",
        f"Namespaces: {', '.join(request.namespaces)}",
        f"Reason: {request.reason or '-'}",
        f"Requested by: {refusal.requested_by}",
        f"Refused at: {refusal.at}",
        *([f"Run: {refusal.run_url}"] if is_address(refusal.run_url) else []),
        f"Digest of the checks: {refusal.digest}",
        f"Checks: {len(failed)} of {len(refusal.checks)} fail",
    ]
    for check in failed:
        required = f" (required: {check.limit})" if check.limit else ""
        lines += [f"  {check.id}: {check.observed}{required}", *([f"    {check.hint}"] if check.hint else [])]
    return _note(refusal.id, "refused", lines, "The run's output has all of it.")


def is_address(run_url: str) -> bool:
    """Whether people can be sent there: whoever plans may write anything."""
    return run_url.startswith(("https://", "http://"))


def link_title(failover: Failover) -> str:
    return f"Failover {failover.id}: {failover.source} → {failover.request.target}"


def _approval(approval: Approval) -> str:
    done = {"approve": "approved", "deny": "denied"}[approval.decision]
    comment = f": {approval.comment}" if approval.comment else ""
    return f"{approval.principal} {done} {approval.plan_hash} at {approval.at} ({approval.via}){comment}"


def _predicted_loss(failover: Failover) -> str:
    if not all(prediction.bounded for prediction in failover.plan.loss):
        return "nobody knows how many records"
    return f"{failover.plan.predicted_loss_records} records"


def _note(failover_id: str, key: str, lines: Iterable[str], elsewhere: str = "The report has all of it.") -> TicketNote:
    sign = marker(failover_id, key)
    text = "\n".join(" ".join(line.splitlines())[:LONGEST_LINE] for line in lines)
    most = MOST_CHARACTERS - len(sign) - 2
    if len(text) > most:
        more = f"\n… {elsewhere}"
        text = text[: most - len(more)] + more
    return TicketNote(sign, f"{text}\n\n{sign}")
