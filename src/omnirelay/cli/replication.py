"""`omnirelay mesh clusters replication`: how far every cluster is behind every other, as far as anyone knows."""

from __future__ import annotations

import time
from typing import Any

import click

from omnirelay.cli.output import UNKNOWN, Table
from omnirelay.cli.session import Session, connected

_WORST = ("streaming", "catching_up", "stalled", "disconnected", "fenced", UNKNOWN)


@click.group
def replication() -> None:
    """Lag and state of replication between clusters."""


@replication.command
@click.option("--watch", is_flag=True, help="Again and again, until interrupted.")
@click.option("--interval", default=2.0, show_default=True, metavar="SECONDS", help="Between two looks.")
@connected
def status(session: Session, watch: bool, interval: float) -> None:
    """Show each direction of replication as its sender and its receiver see it.

    What a cluster does not know, or cannot tell because it does not answer, is "unknown", never 0.
    """
    while True:
        links = links_of(session.client.clusters()["clusters"])
        session.output.show({"links": links}, lambda links=links: [links_table(links)])  # type: ignore[misc]
        if not watch:
            return
        time.sleep(interval)


def links_of(clusters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each ordered pair: the sender's `outbound` beside the receiver's `inbound`."""
    seen = {(c["cluster_id"], peer["peer"]): peer for c in clusters for peer in c.get("peers") or []}
    names = sorted(c["cluster_id"] for c in clusters)
    links = []
    for source in names:
        for target in names:
            if source == target:
                continue
            sender, receiver = seen.get((source, target), {}), seen.get((target, source), {})
            outbound, inbound = sender.get("outbound") or {}, receiver.get("inbound") or {}
            links.append(
                {
                    "source": source,
                    "target": target,
                    "mesh_replication_status": _worse(outbound.get("status"), inbound.get("status")),
                    "lag_records": outbound.get("lag_records"),
                    "lag_bytes": outbound.get("lag_bytes"),
                    "lag_seconds": outbound.get("lag_seconds"),
                    "receiver_lag_seconds": inbound.get("lag_seconds"),
                    "retention_used_ratio": sender.get("retention_used_ratio"),
                    "digest_agrees": receiver.get("digest_agrees"),
                    "last_contact": receiver.get("last_contact"),
                }
            )
    return links


def links_table(links: list[dict[str, Any]]) -> Table:
    figures = ("records", "bytes", "seconds", "seen by target", "retained")
    columns = ("link", "status", *figures, "digests agree", "last contact")
    rows = [
        (
            f"{link['source']} -> {link['target']}",
            link["mesh_replication_status"],
            link["lag_records"],
            link["lag_bytes"],
            link["lag_seconds"],
            link["receiver_lag_seconds"],
            _percent(link["retention_used_ratio"]),
            link["digest_agrees"],
            link["last_contact"],
        )
        for link in links
    ]
    return Table(columns, rows)


def _percent(ratio: float | None) -> str | None:
    return None if ratio is None else f"{ratio:.0%} of cap"


def _worse(*statuses: str | None) -> str:
    """The worst that either side says; a side that says nothing is the worst."""
    return max((status if status in _WORST else UNKNOWN for status in statuses), key=_WORST.index)
