"""`omnirelay mesh divergence`: what a failover fenced, and what is to become of it."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from omnirelay.cli.carry_out import ask_for, on_terminal
from omnirelay.cli.divergence_view import detail_tables, list_table
from omnirelay.cli.session import Session, connected
from omnirelay.errors import ConfigInvalid, Incomplete

POLL_SECONDS = 0.5

_reason = click.option("--reason", default="", help="Why, for the audit trail.")
_dry_run = click.option("--dry-run", is_flag=True, help="Say what would be, change nothing.")


class ReplayUnfinished(Incomplete):
    """The active cluster goes on publishing; nobody needs to ask again."""

    code = "replay_unfinished"
    hint = "It goes on by itself; see how far it is: omnirelay mesh divergence show {divergence_id}"


@click.group
def divergence() -> None:
    """Fenced records: list, show, discard, export, replay."""


@divergence.command("list")
@connected
def list_(session: Session) -> None:
    """List what was fenced, as far as the cluster that answers holds it."""
    found = session.client.divergences()
    session.output.show({"divergences": found}, lambda: [list_table(found)])


@divergence.command
@click.argument("divergence_id")
@connected
def show(session: Session, divergence_id: str) -> None:
    """Show fenced ranges, and per key how many records are open and how often the key was written since."""
    detail = session.client.divergence(divergence_id)
    session.output.show(detail, lambda: detail_tables(detail))


@divergence.command
@click.argument("divergence_id")
@click.option("--reason", required=True, help="Why, for the audit trail.")
@click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
@_dry_run
@connected
def discard(session: Session, divergence_id: str, reason: str, yes: bool, dry_run: bool) -> None:
    """Decide that the open records are not to be delivered. They stay in the log until retention."""
    if not (yes or dry_run):
        if not on_terminal():
            raise click.UsageError("without a terminal this needs --yes (or --dry-run)")
        session.output.before(lambda: detail_tables(session.client.divergence(divergence_id)))
        ask_for("the divergence's id", divergence_id)
    _show(session, session.client.discard(divergence_id, reason=reason, dry_run=dry_run))


@divergence.command
@click.argument("divergence_id")
@_reason
@click.option("--wait-timeout", default=60.0, show_default=True, metavar="SECONDS", help="How long to wait for it.")
@_dry_run
@connected
def replay(session: Session, divergence_id: str, reason: str, wait_timeout: float, dry_run: bool) -> None:
    """Have the active cluster publish the open records again, with headers that name where they come from."""
    found = session.client.replay(divergence_id, reason=reason, dry_run=dry_run)
    deadline = time.monotonic() + wait_timeout
    while (found["unresolved"] or found["resolution"] == "replaying") and not dry_run:
        if time.monotonic() >= deadline:
            raise ReplayUnfinished(
                f"{found['unresolved']} records of {divergence_id} are not replayed after {wait_timeout:g} s",
                divergence_id=divergence_id,
            )
        time.sleep(POLL_SECONDS)
        found = session.client.divergence(divergence_id)["divergence"]
    _show(session, found)


@divergence.command
@click.argument("divergence_id")
@click.option(
    "-f", "--file", "target", required=True, type=click.Path(dir_okay=False, allow_dash=True), help="- is stdout."
)
@_reason
@_dry_run
@connected
def export(session: Session, divergence_id: str, target: str, reason: str, dry_run: bool) -> None:
    """Write the fenced records as JSON lines, keys and values in base64; that decides about them.

    A file is there whole or not at all.
    """
    lines = session.client.export(divergence_id, reason=reason, dry_run=dry_run)
    if target == "-":
        count = sum(bool(sys.stdout.buffer.write(line)) for line in lines)
    else:
        count = _whole(Path(target), lambda write: sum(bool(write(line)) for line in lines))
    session.output.note(f"{count} records written to {'stdout' if target == '-' else target}")


def _whole(path: Path, fill: Callable[[Callable[[bytes], int]], int]) -> int:
    """Fills a file that takes the path's place once it is complete."""
    try:
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    except OSError as error:
        raise ConfigInvalid(f"{path} cannot be written: {error}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            count = fill(file.write)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    return count


def _show(session: Session, found: dict[str, Any]) -> None:
    session.output.show(found, lambda: [list_table([found])])
