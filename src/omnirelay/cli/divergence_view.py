"""What diverged as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omnirelay.cli.output import Table


def list_table(divergences: Sequence[dict[str, Any]]) -> Table:
    columns = ("id", "origin", "sequences", "records", "superseded", "replayed", "open", "decision", "by", "at")
    rows = [
        (
            each["id"],
            each["origin"],
            f"{each['first_sequence']} to {each['last_sequence']}",
            each["records"],
            each["superseded"],
            each["replayed"],
            each["unresolved"],
            each["resolution"] or "-",
            each["decided_by"],
            each["decided_at"],
        )
        for each in divergences
    ]
    return Table(columns, rows, "Divergence")


def detail_tables(detail: dict[str, Any]) -> list[Table]:
    """The divergence, its ranges, and the diff per key."""
    id = detail["divergence"]["id"]
    keys = [(entry["key"], entry["fenced_records"], entry["written_since"]) for entry in detail["keys"]]
    return [
        list_table([detail["divergence"]]),
        ranges_table(detail["ranges"], f"Fenced ranges of {id}"),
        Table(("key", "fenced records", "written since"), keys, f"Open records of {id}, by key"),
    ]


def ranges_table(ranges: Sequence[dict[str, Any]], title: str) -> Table:
    rows = [
        (
            entry["namespace"],
            entry["origin"],
            entry["epoch"],
            f"{entry['first']} to {entry['last']}",
            entry["records"] if entry["exact"] else f"<= {entry['records']}",
            entry["grade"],
        )
        for entry in ranges
    ]
    return Table(("namespace", "origin", "epoch", "sequences", "records", "grade"), rows, title)
