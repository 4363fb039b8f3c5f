"""`omnirelay mesh audit`."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import click

from omnirelay.cli.output import Table
from omnirelay.cli.session import Session, connected
from omnirelay.errors import HistoryDiverged


@click.group
def audit() -> None:
    """Who did what; check a copy offline."""


@audit.command("list")
@click.option("--after", default=0, show_default=True, help="Only entries beyond this number.")
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
@click.option(
    "--copy", type=click.Path(dir_okay=False, path_type=Path), help="Write a copy for `audit verify` instead."
)
@connected
def list_(session: Session, after: int, limit: int | None, copy: Path | None) -> None:
    """List the audit entries, oldest first."""
    entries = islice(session.client.audit_entries(after), limit)
    if copy is not None:
        with copy.open("w", encoding="ascii", newline="\n") as file:
            count = sum(bool(file.write(_canonical(entry) + "\n")) for entry in entries)
        session.output.note(f"{count} entries written to {copy}")
        return
    found = list(entries)
    session.output.show({"entries": found}, lambda: [_table(found)])


@audit.command
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--head", metavar="DIGEST", help="The digest that the last entry must have.")
def verify(file: Path, head: str | None) -> None:
    """Check a copy of the audit chain offline; names the first broken entry."""
    from omnirelay.failover.audit_chain import verify_copy

    with file.open("rb") as lines:
        count = 0

        def counted() -> Any:
            nonlocal count
            for line in lines:
                count += 1
                yield line

        broken = verify_copy(counted(), head)
    if broken is not None:
        raise AuditBroken(f"entry {broken.number} of {file} is broken: {broken.reason}", number=broken.number)
    click.echo(f"{count} entries verified")


class AuditBroken(HistoryDiverged):
    """A copy of the audit chain that is not what was written."""

    code, exit_code = "audit_broken", 3
    hint = "Entries before {number} are proven; compare with another cluster's copy."


def _canonical(entry: dict[str, Any]) -> str:
    """The form that the entry's digest covers."""
    return json.dumps(entry, sort_keys=True, separators=(",", ":"))


def _table(entries: list[dict[str, Any]]) -> Table:
    columns = ("number", "at", "actor", "action", "subject", "outcome", "why")
    return Table(columns, [[entry.get(name) for name in columns] for entry in entries])
