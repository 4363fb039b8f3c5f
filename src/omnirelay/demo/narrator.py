"""Tells a person what happens: lines with the time since the start, a table at the end, colour only on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


class Narrator:
    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._begun = time.monotonic()

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._begun:6.1f} s  {text}", file=self._stream, flush=True)

    def table(self, title: str, rows: Sequence[tuple[str, str, str]]) -> None:
        """Rows of name, figure and remark."""
        if self._stream.isatty():
            drawn = Table(box=box.SIMPLE_HEAD, title=Text(title), title_justify="left", show_header=False)
            for whole in (True, True, False):
                drawn.add_column(no_wrap=whole)
            for row in rows:
                drawn.add_row(*(Text(cell) for cell in row))
            Console(file=self._stream).print(drawn)
            return
        names, figures = (max(len(row[column]) for row in rows) for column in (0, 1))
        lines = [title, *(f"  {name:{names}}  {figure:>{figures}}  {remark}".rstrip() for name, figure, remark in rows)]
        print("\n" + "\n".join(lines), file=self._stream, flush=True)


def describe(clusters: Sequence[dict[str, Any]]) -> str:
    """Who is active, in which epochs, and how far each other cluster is behind it, by the control API's words."""
    active = next((cluster for cluster in clusters if cluster["state"] == "active"), None)
    if active is None:
        return "nobody is active"
    lags = []
    for cluster in clusters:
        peer = next((peer for peer in cluster["peers"] if peer["peer"] == active["cluster_id"]), None)
        if peer is not None:
            lags.append(f"{cluster['cluster_id']} {_lag(peer['inbound'])}")
    epochs = ", ".join(f"{owned['namespace']} in epoch {owned['epoch']}" for owned in active["namespaces"])
    return f"{active['cluster_id']} active ({epochs}); lag: {', '.join(lags)}"


def _lag(inbound: dict[str, Any]) -> str:
    if inbound["lag_seconds"] is None or inbound["lag_records"] is None:
        return "unknown"
    return f"{inbound['lag_records']} records {inbound['lag_seconds']:.1f} s"
