"""Refused plans whose change tickets are still to be told, and those that they were told of a moment ago.

In this process's memory only, bounded in number and time: a refusal changes nothing, so it is not worth a record.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable
from dataclasses import dataclass

from omnirelay.failover.dossier import pause_seconds
from omnirelay.failover.refusal import Refusal
from omnirelay.ports.clock import Clock

_log = logging.getLogger(__name__)

MOST = 200
MOST_PER_TICKET = 20
SETTLE_SECONDS = 10.0
"""A run that tries again every second may be let through by the next try: so long after its last one it is told of."""
LONGEST_SETTLE_SECONDS = 60.0
QUIET_SECONDS = 600.0
"""Without the same refusal for so long, the next one is told of again."""


@dataclass(slots=True)
class Waiting:
    """Times are the clock's monotonic seconds."""

    refusal: Refusal
    first_at: float
    last_at: float
    due_at: float
    settled: bool = False
    """The ticket holds it, or never will."""
    failed: int = 0
    """Attempts in a row."""


class Refusals:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[Hashable, Waiting] = {}

    def add(self, refusal: Refusal) -> None:
        """Never fails: what is too much is logged."""
        now = self._clock.monotonic()
        self._kept = {k: w for k, w in self._kept.items() if not w.settled or now - w.last_at < QUIET_SECONDS}
        same = self._kept.get(refusal.kind)
        if same is not None:
            same.last_at = now
            if not same.failed:
                same.due_at = min(now + SETTLE_SECONDS, same.first_at + LONGEST_SETTLE_SECONDS)
            return
        ticket = refusal.request.change_ticket
        of_ticket = sum(waiting.refusal.request.change_ticket == ticket for waiting in self._kept.values())
        if len(self._kept) >= MOST or of_ticket >= MOST_PER_TICKET:
            _log.warning("ticket %s of a refused plan: it is not noted, there are too many", ticket)
            return
        self._kept[refusal.kind] = Waiting(refusal, now, now, now + SETTLE_SECONDS)

    def due(self) -> Waiting | None:
        """The one that has waited longest."""
        now = self._clock.monotonic()
        ready = (waiting for waiting in self._kept.values() if not waiting.settled and waiting.due_at <= now)
        return min(ready, key=lambda waiting: waiting.due_at, default=None)

    def put_off(self, waiting: Waiting, asked_for: float | None, give_up_seconds: float) -> None:
        """After an attempt that failed; `asked_for` is the patience that the ticket system wants, in seconds."""
        now = self._clock.monotonic()
        waiting.due_at = now + pause_seconds(waiting.failed, asked_for)
        waiting.failed += 1
        waiting.settled = now - waiting.first_at > give_up_seconds
