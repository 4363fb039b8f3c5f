"""What commands print: results on stdout as table, JSON or YAML; progress and errors on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import click

from omnirelay.errors import OmniRelayError

OUTPUT_KEY = "omnirelay.output"
"""Where the chosen format is kept in click's context, for errors."""
FORMATS = ("table", "json", "yaml")
UNKNOWN = "unknown"
NOTHING = "-"

Cell: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class Table:
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    format: str = "table"

    def show(self, data: Any, tables: Callable[[], Sequence[Table]]) -> None:
        """`data` as it is for programs; `tables` for people."""
        if self.format == "json":
            click.echo(json.dumps(data, indent=2, ensure_ascii=False))
        elif self.format == "yaml":
            import yaml

            click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), nl=False)
        else:
            for table in tables():
                print_table(table)

    def before(self, tables: Callable[[], Sequence[Table]]) -> None:
        """What a person reads before deciding; programs get the result alone."""
        if self.format == "table":
            for table in tables():
                print_table(table)

    def note(self, text: str) -> None:
        """For the person who waits; programs read stdout."""
        click.echo(plain(text), err=True)


def text_of(cell: Cell) -> str:
    """What is not known says so: an empty cell or a zero would be read as good news."""
    if cell is None:
        return UNKNOWN
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return f"{cell:.3f}"
    if isinstance(cell, list | tuple):
        return ", ".join(text_of(part) for part in cell)
    return plain(str(cell)) or NOTHING


def plain(text: str) -> str:
    """Without control characters: what came from elsewhere must not steer the terminal."""
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)


def print_table(table: Table) -> None:
    rows = [[text_of(cell) for cell in row] for row in table.rows]
    if sys.stdout.isatty():
        _print_rich(table, rows)
    else:
        _print_plain(table, rows)


def _print_plain(table: Table, rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns, nothing else: for logs, pipes and mails."""
    if table.title:
        click.echo(plain(table.title))
    lines = [[column.upper() for column in table.columns], *rows] if table.columns else rows
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))] if lines else []
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _print_rich(table: Table, rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(
        box=box.SIMPLE_HEAD, title=Text(plain(table.title)) if table.title else None, title_justify="left"
    )
    drawn.show_header = bool(table.columns)
    for column in table.columns or ("",) * (len(rows[0]) if rows else 0):
        drawn.add_column(column, overflow="fold")
    for row in rows:
        # The first column names things; what it says is no verdict.
        drawn.add_row(Text(row[0]), *(Text(cell, style=_STYLES.get(cell, "")) for cell in row[1:]))
    Console().print(drawn)


_STYLES = {
    "pass": "green",
    "warn": "yellow",
    "fail": "bold red",
    "streaming": "green",
    "catching_up": "yellow",
    "stalled": "red",
    "disconnected": "red",
    "fenced": "magenta",
    UNKNOWN: "dim",
    "active": "bold green",
    "completed": "green",
    "aborted": "red",
    "denied": "red",
}


def print_error(error: OmniRelayError, output: str) -> None:
    if output == "json":
        problem = {
            "code": error.code,
            "message": error.message,
            "retryable": error.retryable,
            "hint": error.operator_hint,
            "details": error.details,
        }
        click.echo(json.dumps({"error": problem}, default=str), err=True)
        return
    click.echo(f"error[{error.code}]: {plain(error.message)}", err=True)
    for check in _failed_checks(error):
        click.echo(
            plain(f"  {check.get('id')}: {check.get('observed')} (limit: {check.get('limit') or '-'})"), err=True
        )
        if check.get("hint"):
            click.echo(plain(f"    {check['hint']}"), err=True)
    click.echo(f"hint: {plain(error.operator_hint)}", err=True)


def _failed_checks(error: OmniRelayError) -> list[dict[str, Any]]:
    checks = error.details.get("checks")
    found = checks if isinstance(checks, list) else []
    return [check for check in found if isinstance(check, dict) and check.get("status") == "fail"]
