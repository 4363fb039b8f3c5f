"""`omnirelay mesh failovers`."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from omnirelay.cli.carry_out import approval_timeout, drive
from omnirelay.cli.drive import FINAL_STATES
from omnirelay.cli.failover_view import failover_tables, list_table, plan_tables, ticket_tables
from omnirelay.cli.output import Table, print_table
from omnirelay.cli.session import Session, connected
from omnirelay.errors import TicketPending

TICKET_POLL_SECONDS = 0.2


@click.group
def failovers() -> None:
    """Failovers: watch, approve, resume, abort, complete, report."""


@failovers.command("list")
@click.option("--open", "open_only", is_flag=True, help="Only those that are not finished.")
@click.option("--state", default="", help="Only those in this state.")
@connected
def list_(session: Session, open_only: bool, state: str) -> None:
    """List failovers."""
    found = session.client.failovers(state=state, open_only=open_only)
    session.output.show({"failovers": found}, lambda: [list_table(found)])


@failovers.command
@click.argument("failover_id")
@connected
def show(session: Session, failover_id: str) -> None:
    """Show one failover: plan, checks, approvals, journal, and what is possible now."""
    failover = session.client.failover(failover_id).body
    session.output.show(failover, lambda: failover_tables(failover))


@failovers.command
@click.argument("failover_id")
@connected
def watch(session: Session, failover_id: str) -> None:
    """Print each change until the failover is finished."""
    seen = 0
    last = ""
    for failover in session.client.watch_failover(failover_id):
        journal = failover.get("journal", [])
        if session.output.format == "json":
            import json

            click.echo(json.dumps(failover))
        else:
            for entry in journal[seen:]:
                click.echo(f"{entry['at']}  {entry['step']}: {entry['event']}  ({entry['actor']})")
            if failover["state"] != last:
                click.echo(f"state: {failover['state']}")
        seen, last = len(journal), failover["state"]
        if last in FINAL_STATES:
            return


@failovers.command
@click.argument("failover_id")
@approval_timeout
@connected
def resume(session: Session, failover_id: str, approval_timeout: float) -> None:
    """Carry a failover on from wherever it stands, whoever began it."""
    drive(session, session.client.failover(failover_id).body, approval_timeout)


@failovers.command
@click.argument("failover_id")
@click.option("--comment", default="", help="For the audit trail.")
@click.option("--plan-hash", help="Approve only this plan.  [default: the one that is shown]")
@click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
@connected
def approve(session: Session, failover_id: str, comment: str, plan_hash: str | None, yes: bool) -> None:
    """Approve a failover that someone else asked for."""
    _decide(session, failover_id, "approve", comment, plan_hash, yes)


@failovers.command
@click.argument("failover_id")
@click.option("--comment", default="", help="For the audit trail.")
@connected
def deny(session: Session, failover_id: str, comment: str) -> None:
    """Deny a failover; it ends there."""
    _decide(session, failover_id, "deny", comment, None, True)


@failovers.command
@click.argument("failover_id")
@click.option("--reason", default="", help="For the audit trail.")
@connected
def abort(session: Session, failover_id: str, reason: str) -> None:
    """Undo a failover that has not been promoted yet: the source may admit writes again."""
    answer = session.client.step(failover_id, "abort", reason=reason)
    while not answer.done:
        answer = session.client.step(failover_id, "abort", reason=reason)
    _say_state(session, answer.failover)


@failovers.command
@click.argument("failover_id")
@click.option("--reason", required=True, help="Why nobody waits for it; stays in the record.")
@connected
def complete(session: Session, failover_id: str, reason: str) -> None:
    """Close a failover that could not be verified, for instance because its target is gone, too. Takes mesh.admin."""
    answer = session.client.step(failover_id, "complete", reason=reason)
    _say_state(session, answer.failover)


@failovers.command
@click.argument("failover_id")
@click.option("--markdown", is_flag=True, help="As a page to attach to the ticket.")
@connected
def report(session: Session, failover_id: str, markdown: bool) -> None:
    """Show the evidence: times, outage, loss, digests, approvals."""
    if markdown:
        click.echo(session.client.report_markdown(failover_id), nl=False)
        return
    evidence = session.client.report(failover_id)
    session.output.show(evidence, lambda: [Table((), _flat(evidence), f"Report of {failover_id}")])


@failovers.command
@click.argument("failover_id")
@click.option("--change-ticket", default="", help="Of a failover that has none yet: the one it gets.")
@click.option("--wait", "wait_seconds", type=click.FloatRange(0), default=15.0, show_default=True, help="Seconds.")
@connected
def ticket(session: Session, failover_id: str, change_ticket: str, wait_seconds: float) -> None:
    """Put into the change ticket what it lacks; 8 is the exit code while something is still pending."""
    failover = session.client.post_to_ticket(failover_id, change_ticket=change_ticket)
    ends_at = time.monotonic() + wait_seconds
    while (held := failover["ticket"]) and held["pending"] and not held["retry_at"] and time.monotonic() < ends_at:
        time.sleep(TICKET_POLL_SECONDS)
        failover = session.client.failover(failover_id).body
    session.output.show({"ticket": held}, lambda: ticket_tables(failover))
    if held and held["pending"]:
        why = held["problem"] or "it is still being posted"
        raise TicketPending(
            f"ticket {held['number']} lacks {', '.join(held['pending'])}: {why}", failover_id=failover_id
        )


def _decide(session: Session, failover_id: str, decision: str, comment: str, plan_hash: str | None, yes: bool) -> None:
    on_terminal = sys.stdin.isatty()
    failover = session.client.failover(failover_id).body
    if not yes:
        if not on_terminal:
            raise click.UsageError("without a terminal this needs --yes")
        for table in plan_tables(failover):
            print_table(table)
        if not click.confirm(f"Approve moving {', '.join(failover['namespaces'])} to {failover['target']}?", err=True):
            raise click.UsageError("not approved; nothing was done")
    decided = session.client.decide(
        failover_id,
        decision,
        plan_hash=plan_hash or failover["plan"]["hash"],
        comment=comment,
        via="terminal" if on_terminal else "api",
    )
    _say_state(session, decided)


def _say_state(session: Session, failover: dict[str, Any]) -> None:
    session.output.show(failover, lambda: [Table((), [("failover", failover["id"]), ("state", failover["state"])])])


def _flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """One row for each fact; lists of objects are counted, for they are in `failovers show`."""
    rows: list[tuple[str, Any]] = []
    for name, item in value.items():
        if isinstance(item, dict):
            rows += _flat(item, f"{prefix}{name}.")
        elif isinstance(item, list) and any(isinstance(part, dict) for part in item):
            rows.append((f"{prefix}{name}", f"{len(item)} entries"))
        else:
            rows.append((f"{prefix}{name}", item))
    return rows
