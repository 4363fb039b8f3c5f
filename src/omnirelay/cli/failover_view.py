"""A failover as tables: the plan that is approved, the checks, the journal, the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omnirelay.cli.divergence_view import ranges_table
from omnirelay.cli.output import Table

_MODES = {"planned": "a planned failover", "emergency": "an emergency failover", "failback": "a failback"}


def is_bounded(plan: dict[str, Any]) -> bool:
    """Whether anybody can say what would be lost."""
    return all(each.get("bounded", True) for each in plan.get("loss", []))


def plan_tables(failover: dict[str, Any]) -> list[Table]:
    """What a person reads before saying yes."""
    plan = failover["plan"]
    facts = [
        ("target", failover["target"]),
        ("source", failover["source"]),
        ("namespaces", failover["namespaces"]),
        ("reason", failover.get("reason") or "-"),
        ("change ticket", failover.get("change_ticket") or "-"),
        ("predicted loss", _records(plan.get("predicted_loss_records")) if is_bounded(plan) else None),
        ("predicted outage", seconds(plan.get("predicted_outage_seconds"))),
        *_answered_for(failover),
        ("plan", plan["hash"]),
        ("valid until", plan["expires_at"]),
    ]
    loss = [loss_table(plan["loss"])] if plan.get("loss") else []
    routing = [
        (change["namespace"], f"{change['source']} -> {change['target']}", _epochs(change))
        for change in plan["routing"]
    ]
    steps = [(step["name"], step["effect"], step["undo"]) for step in plan["steps"]]
    return [
        Table((), facts, f"Plan of {_MODES[failover['mode']]} {failover.get('id') or '(dry run)'}"),
        *loss,
        Table(("namespace", "ownership", "epoch"), routing, "Routing"),
        Table(("step", "effect", "undo"), steps, "Steps"),
        checks_table(failover.get("checks", [])),
    ]


def _answered_for(failover: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Who has to agree: others, or in an emergency whoever accepts the loss."""
    required = failover.get("approvals_required", 1)
    rows: list[tuple[str, str | None]] = []
    if failover["mode"] == "emergency":
        bound = failover.get("accept_data_loss")
        accepted = "nothing yet" if bound is None else f"up to {bound} records"
        rows.append(("accepted", "any loss: the glass is broken" if failover.get("break_glass") else accepted))
    if required or not rows:
        rows.append(("approvals", f"{required} required, not by {failover.get('requested_by')}"))
    return rows


def loss_table(predictions: Sequence[dict[str, Any]]) -> Table:
    """What is known apart from what can only be estimated; of a log that nobody has heard of, neither."""
    figures = ("heard", "known_records", "known_bytes", "unheard_records")
    rows = [
        (
            each["origin"],
            each["held"],
            f"{each['unheard_seconds']:.1f} s",
            *(each[name] if each.get("bounded", True) else None for name in figures),
        )
        for each in predictions
    ]
    columns = ("log of", "held", "unheard for", "heard of", "known records", "known bytes", "estimate")
    return Table(columns, rows, "Predicted loss")


def evidence_table(clusters: Sequence[dict[str, Any]], failover: dict[str, Any]) -> Table:
    """Who still hears the source, and what each holds of the logs that would end early."""
    source = failover["source"]
    origins = [each["origin"] for each in failover["plan"]["loss"]]
    rows = []
    for cluster in clusters:
        link: dict[str, Any] = next((peer for peer in cluster.get("peers") or [] if peer["peer"] == source), {})
        vector = cluster.get("vector")
        rows.append(
            (
                cluster["cluster_id"],
                cluster.get("state"),
                cluster.get("last_seen"),
                "-" if cluster["cluster_id"] == source else (link.get("inbound") or {}).get("status"),
                "-" if cluster["cluster_id"] == source else link.get("last_contact"),
                None if vector is None else [f"{origin}:{vector.get(origin, 0)}" for origin in origins],
            )
        )
    columns = ("cluster", "state", "reported", f"hears {source}", "last contact", "holds")
    return Table(columns, rows, f"Evidence: is {source} gone?")


def checks_table(checks: Sequence[dict[str, Any]]) -> Table:
    rows = [
        (check["id"], check["status"], check["observed"], check.get("limit") or "-", check.get("hint") or "-")
        for check in checks
    ]
    return Table(("check", "status", "observed", "limit", "hint"), rows, "Checks")


def failover_tables(failover: dict[str, Any]) -> list[Table]:
    approvals = [
        (entry["principal"], entry["decision"], entry["at"], entry.get("via"), entry.get("comment") or "-")
        for entry in failover.get("approvals", [])
    ]
    journal = [(entry["at"], entry["step"], entry["event"], entry["actor"]) for entry in failover.get("journal", [])]
    state = [
        ("state", failover["state"]),
        ("problem", failover.get("problem") or "-"),
        ("measured outage", seconds(failover.get("measured_outage_seconds"))),
        ("possible now", failover.get("next") or "-"),
    ]
    return [
        *plan_tables(failover),
        Table(("principal", "decision", "at", "via", "comment"), approvals, "Approvals"),
        Table(("at", "step", "event", "actor"), journal, "Journal"),
        *_manifest(failover),
        *ticket_tables(failover),
        Table((), state, "State"),
    ]


def ticket_tables(failover: dict[str, Any]) -> list[Table]:
    """What the change ticket holds and lacks; nothing where there is no ticket source."""
    ticket = failover.get("ticket")
    if not ticket:
        return []
    rows = [
        ("ticket", ticket["number"]),
        ("at", ticket["url"] or None),
        ("holds", [posting["key"] for posting in ticket["posted"]] or "-"),
        ("lacks", ticket["pending"] or "-"),
        ("because", ticket["problem"] or "-"),
        ("next", ticket["hint"] or "-"),
        ("next try", "none, it was given up" if ticket["gave_up"] else ticket["retry_at"] or "-"),
    ]
    return [Table((), rows, "Change ticket")]


def result_tables(failover: dict[str, Any]) -> list[Table]:
    epochs = [f"{change['namespace']} {_epochs(change)}" for change in failover["plan"]["routing"]]
    rows = [
        ("failover", failover["id"]),
        ("state", failover["state"]),
        ("active", failover["target"]),
        ("epochs", epochs),
        ("measured outage", seconds(failover.get("measured_outage_seconds"))),
        ("report", f"omnirelay mesh failovers report {failover['id']}"),
    ]
    return [Table((), rows), *_manifest(failover)]


def _manifest(failover: dict[str, Any]) -> list[Table]:
    """Of a promoted emergency, also where nothing was cut off."""
    if failover["mode"] != "emergency" or not failover.get("routing_version"):
        return []
    title = "Loss manifest" if failover["manifest"] else "Loss manifest: nothing was cut off"
    return [ranges_table(failover["manifest"], title)]


def list_table(failovers: Sequence[dict[str, Any]]) -> Table:
    rows = [
        (
            failover["id"],
            failover["mode"],
            failover["state"],
            f"{failover['source']} -> {failover['target']}",
            failover["namespaces"],
            failover.get("change_ticket") or "-",
            failover["created_at"],
            seconds(failover.get("measured_outage_seconds")) if failover["state"] == "completed" else "-",
        )
        for failover in failovers
    ]
    return Table(("id", "mode", "state", "move", "namespaces", "ticket", "created", "outage"), rows)


def seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f} s"


def _records(value: int | None) -> str | None:
    return None if value is None else f"{value} records"


def _epochs(change: dict[str, Any]) -> str:
    return f"{change['epoch_before']} -> {change['epoch_after']}"
