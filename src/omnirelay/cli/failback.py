"""`omnirelay mesh clusters failback`: a planned failover home, once nothing that diverged is forgotten."""

from __future__ import annotations

from typing import Any

import click

from omnirelay.cli.carry_out import approval_timeout, ask_for, begin, drive, on_terminal
from omnirelay.cli.divergence_view import detail_tables, list_table
from omnirelay.cli.failover_view import checks_table, plan_tables
from omnirelay.cli.output import Table
from omnirelay.cli.session import Session, connected
from omnirelay.errors import PreflightFailed


@click.command
@click.argument("failover_id")
@click.option("--reason", default="", help="Why, for the audit trail.")
@click.option("--change-ticket", default="", help="The change that covers it.")
@click.option(
    "--approval-source",
    type=click.Choice(["api", "ticket"]),
    default="api",
    help="ticket: the approval is read in the change ticket.  [default: api]",
)
@click.option("--max-lag-seconds", type=click.FloatRange(0), help="Refuse when the old active is further behind.")
@click.option("--drain-timeout-seconds", type=click.FloatRange(0, min_open=True), help="Undo the drain after this.")
@click.option("--plan", "plan_only", is_flag=True, help="Show the checks, what diverged and the plan; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
@approval_timeout
@connected
def failback(
    session: Session,
    failover_id: str,
    reason: str,
    change_ticket: str,
    approval_source: str,
    plan_only: bool,
    yes: bool,
    approval_timeout: float,
    **limits: float | None,
) -> None:
    """Make the source of the completed failover FAILOVER_ID active again.

    Refused until that cluster is back and level, and everything that diverged is discarded, exported or replayed.
    """
    request: dict[str, Any] = {
        "mode": "failback",
        "reverses": failover_id,
        "reason": reason,
        "change_ticket": change_ticket,
        "approval_source": approval_source,
        "limits": {name: value for name, value in limits.items() if value is not None},
    }
    if plan_only:
        _show(session, request)
        return
    if not yes and not on_terminal():
        raise click.UsageError("without a terminal this needs --yes (or --plan)")
    predicted = session.client.plan_failover({**request, "dry_run": True})
    session.output.before(lambda: plan_tables(predicted))
    if not yes:
        ask_for("the target's name", predicted["target"])
    drive(session, begin(session, request, predicted), approval_timeout)


def _show(session: Session, request: dict[str, Any]) -> None:
    """Checks and diff also, and above all, where the plan is refused; the refusal follows."""
    client = session.client
    moves = client.failover(request["reverses"]).body["namespaces"]
    plan: dict[str, Any] | None = None
    refusal: PreflightFailed | None = None
    try:
        plan = client.plan_failover({**request, "dry_run": True})
        checks = plan["checks"]
    except PreflightFailed as error:
        refusal, checks = error, error.details.get("checks", [])
    found = [each for each in client.divergences() if each["namespace"] in moves]
    details = [client.divergence(each["id"]) for each in found if each["unresolved"]]

    def tables() -> list[Table]:
        first = plan_tables(plan) if plan else [checks_table(checks)]
        return [*first, list_table(found), *(table for detail in details for table in detail_tables(detail)[1:])]

    session.output.show({"plan": plan, "checks": checks, "divergences": found, "diff": details}, tables)
    if refusal is not None:
        raise refusal
