"""`omnirelay mesh audit`."""

from __future__ import annotations

import json
import re
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
@click.option("--subject", help="Only about this resource, as in failovers/ID.")
@click.option("--action", help="Only this, as in failover.promote.")
@click.option("--actor", help="Only by this principal.")
@click.option("--change-ticket", help="Only under this ticket.")
@click.option("--outcome", type=click.Choice(["done", "refused"]), help="Only what was done, or what was refused.")
@connected
def list_(session: Session, after: int, limit: int | None, copy: Path | None, **asked: str | None) -> None:
    """List the audit entries, oldest first."""
    wanted = {name: value for name, value in asked.items() if value is not None}
    if copy is not None and wanted:
        raise click.UsageError("--copy is for the whole chain: with some entries left out it proves nothing")
    entries = islice(session.client.audit_entries(after, wanted), limit)
    if copy is not None:
        with copy.open("w", encoding="ascii", newline="\n") as file:
            count = sum(bool(file.write(_canonical(entry) + "\n")) for entry in entries)
        session.output.note(f"{count} entries written to {copy}")
        return
    found = list(entries)
    session.output.show({"entries": found}, lambda: [_table(found)])


@audit.command
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--head", metavar="NUMBER:DIGEST", help="What the last entry must be, known from elsewhere.")
def verify(file: Path, head: str | None) -> None:
    """Check a copy of the audit chain offline; names the first broken entry.

    A copy whose end was cut off is a chain all the same: only --head shows that nothing is missing there.
    """
    from omnirelay.failover.audit_chain import verify_copy

    number, digest = _head(head)

    with file.open("rb") as lines:
        count = 0

        def counted() -> Any:
            nonlocal count
            for line in lines:
                count += 1
                yield line

        broken = verify_copy(counted(), digest)
    if count == 0:
        raise AuditBroken(f"{file} holds no entry, so there is nothing that it proves", number=1)
    if broken is not None:
        raise AuditBroken(f"entry {broken.number} of {file} is broken: {broken.reason}", number=broken.number)
    if number not in (None, count):
        raise AuditBroken(f"{file} ends at entry {count}, and the head is entry {number}", number=count + 1)
    click.echo(f"{count} entries verified" + ("" if digest else "; that none is missing at the end takes --head"))


def _head(text: str | None) -> tuple[int | None, str | None]:
    """Of `NUMBER:DIGEST`, or of a digest alone."""
    if text is None:
        return None, None
    number, colon, digest = text.rpartition(":")
    if not re.fullmatch("[0-9a-f]{64}", digest) or (colon and not number.isdecimal()):
        raise click.UsageError(f"--head {text!r} is not NUMBER:DIGEST with a digest of 64 hexadecimal characters")
    return int(number) if colon else None, digest


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
