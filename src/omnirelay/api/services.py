"""What the API serves: everything that the routes call, handed in by whoever starts the replicator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from omnirelay.failover.evidence import FRESH_SECONDS
from omnirelay.model.access import AccessPolicy
from omnirelay.runtime.audit import Auditor
from omnirelay.runtime.clusters import Clusters
from omnirelay.runtime.divergences import Divergences
from omnirelay.runtime.failovers import Failovers
from omnirelay.runtime.rebuilding import Rebuilding
from omnirelay.runtime.reseeding import Reseeding
from omnirelay.runtime.tickets import TicketDesk
from omnirelay.runtime.view import MeshView


@dataclass(frozen=True, slots=True)
class Services:
    cluster: str
    """The cluster whose replicator answers."""
    version: str
    """Of the package."""
    protocol: str
    """`major.minor` of the wire."""
    view: MeshView
    failovers: Failovers
    tickets: TicketDesk
    clusters: Clusters
    divergences: Divergences
    rebuilding: Rebuilding
    reseeding: Reseeding
    auditor: Auditor
    access: AccessPolicy
    readiness: Callable[[], list[str]]
    """Reasons why this replicator is not ready; empty when it is."""
    metrics: Callable[[], bytes]
    """The Prometheus exposition."""

    @property
    def coordination_reachable(self) -> bool:
        """Whether the coordination store answered lately, so that what the view shows is current."""
        silence = self.view.silence_seconds
        return silence is not None and silence <= FRESH_SECONDS
