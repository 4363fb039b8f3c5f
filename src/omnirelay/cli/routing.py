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


@routing.command
@click.option("--namespace", default="", help="Only of this one.")
@connected
def readers(session: Session, namespace: str) -> None:
    """Show which clusters and readers go by the routing as it is now, and who does not yet."""
    found = session.client.readers(namespace)
    session.output.show(found, lambda: [_noticed(found), _late(found)])


def _noticed(found: dict[str, Any]) -> Table:
    rows = [
        ("readers", found["readers"]),
        ("have not acknowledged", found["readers_behind"]),
        ("clusters behind", found["clusters_behind"] or "-"),
        ("clusters unknown", found["clusters_unknown"] or "-"),
    ]
    return Table((), rows, f"Routing version {found['routing_version']}")


def _late(found: dict[str, Any]) -> Table:
    names = ("cluster", "namespace", "consumer", "principal", "epoch")
    rows = [[late[name] or "-" if name == "consumer" else late[name] for name in names] for late in found["late"]]
    return Table(("reads at", *names[1:]), rows, "Readers that have not acknowledged it")


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
