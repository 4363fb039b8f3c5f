"""`omnirelay mesh routing`."""

from __future__ import annotations

from typing import Any

import click

from omnirelay.cli.output import Table
from omnirelay.cli.session import Session, connected


@click.group
def routing() -> None:
    """Which cluster is active for which namespace."""


@routing.command
@click.option("--namespace", default="", help="Only this one.")
@connected
def show(session: Session, namespace: str) -> None:
    """Show the routing document with its epochs and fence cuts."""
    document = session.client.routing(namespace).body
    session.output.show(document, lambda: [_current(document), _history(document)])


def _current(document: dict[str, Any]) -> Table:
    rows = [
        (name, route.get("active"), route.get("epoch"), route.get("endpoint"))
        for name, route in sorted(document["namespaces"].items())
    ]
    return Table(("namespace", "active", "epoch", "endpoint"), rows, f"Routing version {document['version']}")


def _history(document: dict[str, Any]) -> Table:
    rows = [
        (name, past["epoch"], past["origin"], f"({past['cut']['epoch']}, {past['cut']['sequence']})")
        for name, route in sorted(document["namespaces"].items())
        for past in route.get("history", [])
    ]
    return Table(("namespace", "epoch", "origin", "fence cut"), rows, "History")
