"""`omnirelay mesh clusters promote`."""

from __future__ import annotations

from typing import Any

import click

from omnirelay.cli.carry_out import approval_timeout, ask_for, begin, drive, on_terminal
from omnirelay.cli.failover_view import plan_tables
from omnirelay.cli.session import Session, connected

_PLANNED_ONLY = ("max_lag_seconds", "drain_timeout_seconds", "approval_source")
_EMERGENCY_ONLY = ("accept_data_loss", "break_glass", "gather_timeout_seconds")


@click.command
@click.argument("target")
@click.option("--namespace", "namespaces", multiple=True, help="Which to move; repeat.  [default: all of the active]")
@click.option("--reason", default="", help="Why, for the audit trail.")
@click.option("--change-ticket", default="", help="The change that covers it.")
@click.option(
    "--approval-source",
    type=click.Choice(["api", "ticket"]),
    help="ticket: the approval is read in the change ticket.  [default: api]",
)
@click.option("--max-lag-seconds", type=click.FloatRange(0), help="Refuse when the target is further behind.")
@click.option("--drain-timeout-seconds", type=click.FloatRange(0, min_open=True), help="Undo the drain after this.")
@click.option("--emergency", is_flag=True, help="The active is gone: go on without it, and without what only it has.")
@click.option(
    "--accept-data-loss", type=click.IntRange(0), metavar="RECORDS", help="How many records may be lost, in writing."
)
@click.option("--break-glass", metavar="REASON", help="Accept any loss and fence an active that lives; mesh.admin.")
@click.option("--gather-timeout-seconds", type=click.FloatRange(0, min_open=True), help="Give up catching up then.")
@click.option("--plan", "plan_only", is_flag=True, help="Show the plan, change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
@approval_timeout
@connected
def promote(
    session: Session,
    target: str,
    namespaces: tuple[str, ...],
    reason: str,
    change_ticket: str,
    emergency: bool,
    plan_only: bool,
    yes: bool,
    approval_timeout: float,
    **given: Any,
) -> None:
    """Make TARGET the active cluster.

    A planned failover loses nothing or undoes itself. With --emergency it goes on without an active that is gone: the
    evidence and the predicted loss are shown, and the loss must be accepted in writing.
    """
    _refuse_mixed(emergency, given)
    request: dict[str, Any] = {
        "mode": "emergency" if emergency else "planned",
        "target": target,
        "namespaces": list(namespaces),
        "reason": reason,
        "change_ticket": change_ticket,
        "limits": {name: v for name, v in given.items() if name.endswith("_seconds") and v is not None},
    }
    if given["approval_source"]:
        request["approval_source"] = given["approval_source"]
    if emergency:
        from omnirelay.cli.emergency import promote as promote_in_emergency

        promote_in_emergency(session, request, given["accept_data_loss"], given["break_glass"], plan_only, yes)
        return
    if not plan_only and not yes and not on_terminal():
        raise click.UsageError("without a terminal this needs --yes (or --plan)")
    predicted = session.client.plan_failover({**request, "dry_run": True})
    if plan_only:
        session.output.show(predicted, lambda: plan_tables(predicted))
        return
    session.output.before(lambda: plan_tables(predicted))
    if not yes:
        ask_for("the target's name", target)
    drive(session, begin(session, request, predicted), approval_timeout)


def _refuse_mixed(emergency: bool, given: dict[str, Any]) -> None:
    for name in _PLANNED_ONLY if emergency else _EMERGENCY_ONLY:
        if given[name] is not None:
            option = "--" + name.replace("_", "-")
            raise click.UsageError(f"{option} is for {'planned failovers' if emergency else '--emergency'} only")
