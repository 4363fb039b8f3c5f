"""Writing a failover's journal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from omnirelay.errors import EpochMoved
from omnirelay.failover.record import Failover, JournalEntry
from omnirelay.model.routing import RoutingDocument


def logged(failover: Failover, now: str, step: str, event: str, actor: str, **detail: Any) -> Failover:
    """The failover with one more entry."""
    return replace(failover, journal=(*failover.journal, JournalEntry(now, step, event, actor, detail)))


def expect_epochs(failover: Failover, routing: RoutingDocument) -> None:
    """Raises EpochMoved unless ownership is as it was when the plan was made."""
    for namespace, epoch in failover.expected_epochs.items():
        route = routing.routes.get(namespace)
        if route is None or route.epoch != epoch or route.active != failover.source:
            now = f"epoch {route.epoch} at {route.active}" if route else "gone"
            raise EpochMoved(
                f"the plan expects {namespace} in epoch {epoch} at {failover.source}; it is {now}",
                failover_id=failover.id,
                namespace=namespace,
            )
