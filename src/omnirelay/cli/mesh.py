"""`omnirelay mesh`."""

from __future__ import annotations

import click

from omnirelay.cli.lazy import Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    lazy={
        "clusters": Lazy("omnirelay.cli.clusters:clusters", "The clusters, their replication, and promoting one."),
        "failovers": Lazy("omnirelay.cli.failovers:failovers", "Failovers: watch, approve, resume, abort, report."),
        "divergence": Lazy(
            "omnirelay.cli.divergence:divergence", "Fenced records: list, show, discard, export, replay."
        ),
        "routing": Lazy("omnirelay.cli.routing:routing", "Which cluster is active for which namespace."),
        "audit": Lazy("omnirelay.cli.audit:audit", "Who did what; check a copy offline."),
        "events": Lazy("omnirelay.cli.events:events", "Publish and read records as JSON lines."),
    },
)
def mesh() -> None:
    """Clusters, failovers, divergence, routing, audit and events of a running mesh."""
