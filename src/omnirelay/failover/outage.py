"""How long no cluster admitted writes, as far as the clusters themselves can say.

Its ends are wall clocks of different clusters, so clock skew is in it; a producer's own figure is the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from omnirelay.failover.record import Failover, JournalEntry, Mode
from omnirelay.model.times import to_ms


class Basis(StrEnum):
    """Where the figure begins."""

    SOURCE_CLOSED = "source_closed"
    """The source closed, and signed that it did."""
    SOURCE_BARRED = "source_barred"
    """An emergency of a living source, which stopped when it was barred and confirmed that."""
    SOURCE_LAST_HEARD = "source_last_heard"
    """A source that never said when it stopped: from when any cluster last heard of it. It may have admitted writes a
    little longer, so the outage is this at the most."""


@dataclass(frozen=True, slots=True)
class Outage:
    seconds: float
    basis: Basis


def measured_outage(failover: Failover) -> Outage | None:
    """Until the last namespace has opened; None before, and where nobody ever heard of the source."""
    reopened = last_entry(failover.journal, "promote", "opened")
    began = _began(failover)
    if began is None or reopened is None or set(failover.opened) < set(failover.request.namespaces):
        return None
    at, basis = began
    return Outage(max(0, to_ms(reopened.at) - to_ms(at)) / 1000, basis)


def _began(failover: Failover) -> tuple[str, Basis] | None:
    if failover.request.mode is not Mode.EMERGENCY:
        closed = last_entry(failover.journal, "drain", "closed")
        return (closed.at, Basis.SOURCE_CLOSED) if closed else None
    started = last_entry(failover.journal, "gather", "started")
    if started is None:
        return None
    if failover.demoted:
        return started.at, Basis.SOURCE_BARRED
    heard = str(started.detail.get("source_last_heard") or "")
    return (heard, Basis.SOURCE_LAST_HEARD) if heard else None


def last_entry(journal: Sequence[JournalEntry], step: str, event: str) -> JournalEntry | None:
    return next((entry for entry in reversed(journal) if (entry.step, entry.event) == (step, event)), None)
