"""`omnirelay mesh clusters promote` and what it shares with `failovers resume`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from omnirelay.cli.failover_view import plan_tables, result_table
from omnirelay.cli.output import print_table
from omnirelay.cli.session import Session, connected
from omnirelay.errors import Conflict

DEFAULT_APPROVAL_TIMEOUT_SECONDS = 900.0

approval_timeout = click.option(
    "--approval-timeout",
    default=DEFAULT_APPROVAL_TIMEOUT_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for an approval.",
)


@click.command
@click.argument("target")
@click.option("--namespace", "namespaces", multiple=True, help="Which to move; repeat.  [default: all of the active]")
@click.option("--reason", default="", help="Why, for the audit trail.")
@click.option("--change-ticket", default="", help="The change that covers it.")
@click.option("--max-lag-seconds", type=click.FloatRange(0), help="Refuse when the target is further behind.")
@click.option("--drain-timeout-seconds", type=click.FloatRange(0, min_open=True), help="Undo the drain after this.")
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
    max_lag_seconds: float | None,
    drain_timeout_seconds: float | None,
    plan_only: bool,
    yes: bool,
    approval_timeout: float,
) -> None:
    """Make TARGET the active cluster: a planned failover, which loses nothing or undoes itself."""
    limits = {"max_lag_seconds": max_lag_seconds, "drain_timeout_seconds": drain_timeout_seconds}
    request: dict[str, Any] = {
        "mode": "planned",
        "target": target,
        "namespaces": list(namespaces),
        "reason": reason,
        "change_ticket": change_ticket,
        "limits": {name: value for name, value in limits.items() if value is not None},
    }
    if not plan_only and not yes and not _on_terminal():
        raise click.UsageError("without a terminal this needs --yes (or --plan)")
    predicted = session.client.plan_failover({**request, "dry_run": True})
    if plan_only:
        session.output.show(predicted, lambda: plan_tables(predicted))
        return
    if session.output.format == "table":
        for table in plan_tables(predicted):
            print_table(table)
    if not yes:
        _ask_for(target)
    failover = session.client.plan_failover(request)
    if failover["plan"]["hash"] != predicted["plan"]["hash"]:
        session.client.step(failover["id"], "abort", reason="the mesh changed while the plan was read")
        raise Conflict("ownership changed while the plan was read; nothing was done")
    drive(session, failover, approval_timeout)


def drive(session: Session, failover: dict[str, Any], approval_timeout_seconds: float) -> None:
    """Carries the failover on, telling on stderr what happens, and shows the result."""
    from omnirelay.cli.drive import Driver

    failover_id = failover["id"]
    session.output.note(f"failover {failover_id}")
    try:
        with _progress(session) as say:
            done = Driver(session.client, say, approval_timeout_seconds, time.monotonic, time.sleep).run(failover)
    except KeyboardInterrupt:
        session.output.note(
            f"interrupted; {failover_id} is kept as it stands.\n"
            f"  go on:  omnirelay mesh failovers resume {failover_id}\n"
            f"  undo:   omnirelay mesh failovers abort {failover_id}"
        )
        raise
    session.output.show(done, lambda: [result_table(done)])


@contextmanager
def _progress(session: Session) -> Iterator[Any]:
    """A clock that runs on a terminal; elsewhere lines only."""
    if not sys.stderr.isatty():
        yield session.output.note
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task("failover")
        yield lambda line: console.print(Text(line))


def _ask_for(target: str) -> None:
    typed = click.prompt(f"Type the target's name ({target}) to go on", default="", show_default=False, err=True)
    if typed.strip() != target:
        raise click.UsageError(f"{typed.strip()!r} is not {target!r}; nothing was done")


def _on_terminal() -> bool:
    return sys.stdin.isatty()
