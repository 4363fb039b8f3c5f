"""From a plan that was read to a failover that is done: what `promote`, `failback` and `failovers resume` share."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from omnirelay.cli.failover_view import result_tables
from omnirelay.cli.session import Session
from omnirelay.errors import Conflict

DEFAULT_APPROVAL_TIMEOUT_SECONDS = 900.0

approval_timeout = click.option(
    "--approval-timeout",
    default=DEFAULT_APPROVAL_TIMEOUT_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for an approval.",
)


def on_terminal() -> bool:
    return sys.stdin.isatty()


def ask_for(what: str, name: str) -> None:
    """Raises UsageError unless the name is typed."""
    typed = click.prompt(f"Type {what} ({name}) to go on", default="", show_default=False, err=True)
    if typed.strip() != name:
        raise click.UsageError(f"{typed.strip()!r} is not {name!r}; nothing was done")


def begin(session: Session, request: dict[str, Any], predicted: dict[str, Any]) -> dict[str, Any]:
    """Stores the plan. Raises Conflict when it is no longer the one that was read."""
    failover = session.client.plan_failover(request)
    if failover["plan"]["routing"] != predicted["plan"]["routing"]:
        session.client.step(failover["id"], "abort", reason="the mesh changed while the plan was read")
        raise Conflict("ownership changed while the plan was read; nothing was done")
    return failover


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
    session.output.show(done, lambda: result_tables(done))


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
