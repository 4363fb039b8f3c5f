"""A failover as tables: the plan that is approved, the checks, the journal, the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omnirelay.cli.output import Table


def plan_tables(failover: dict[str, Any]) -> list[Table]:
    """What a person reads before saying yes."""
    plan = failover["plan"]
    facts = [
        ("target", failover["target"]),
        ("source", failover["source"]),
        ("namespaces", failover["namespaces"]),
        ("reason", failover.get("reason") or "-"),
        ("change ticket", failover.get("change_ticket") or "-"),
        ("predicted loss", _records(plan.get("predicted_loss_records"))),
        ("predicted outage", seconds(plan.get("predicted_outage_seconds"))),
        ("approvals", f"{failover.get('approvals_required', 1)} required, not by {failover.get('requested_by')}"),
        ("plan", plan["hash"]),
        ("valid until", plan["expires_at"]),
    ]
    routing = [
        (change["namespace"], f"{change['source']} -> {change['target']}", _epochs(change))
        for change in plan["routing"]
    ]
    steps = [(step["name"], step["effect"], step["undo"]) for step in plan["steps"]]
    return [
        Table((), facts, f"Plan of a {failover['mode']} failover {failover.get('id') or '(dry run)'}"),
        Table(("namespace", "ownership", "epoch"), routing, "Routing"),
        Table(("step", "effect", "undo"), steps, "Steps"),
        checks_table(failover.get("checks", [])),
    ]


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
        Table((), state, "State"),
    ]


def result_table(failover: dict[str, Any]) -> Table:
    epochs = [f"{change['namespace']} {_epochs(change)}" for change in failover["plan"]["routing"]]
    rows = [
        ("failover", failover["id"]),
        ("state", failover["state"]),
        ("active", failover["target"]),
        ("epochs", epochs),
        ("measured outage", seconds(failover.get("measured_outage_seconds"))),
        ("report", f"omnirelay mesh failovers report {failover['id']}"),
    ]
    return Table((), rows)


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
