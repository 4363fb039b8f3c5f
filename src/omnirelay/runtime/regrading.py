"""Grades the manifests of emergencies again, as what was cut off arrives and is dealt with."""

from __future__ import annotations

import logging

from omnirelay.errors import OmniRelayError
from omnirelay.failover import emergency_workflow, loss
from omnirelay.failover.record import Failover, Mode
from omnirelay.runtime.acting import Acting
from omnirelay.runtime.divergences import Divergences

_log = logging.getLogger(__name__)


class Regrading:
    def __init__(self, acting: Acting, divergences: Divergences) -> None:
        self._acting = acting
        self._divergences = divergences
        self._due: dict[tuple[str, str], int] = {}
        """Failover and its source's log → where that ended when the source was back."""

    async def run(self) -> None:
        """The target of each emergency keeps its manifest true, until cancelled."""
        while True:
            seen = self._acting.view.changed.version
            for failover in list(self._acting.view.failovers.values()):
                try:
                    await self._look(failover)
                except OmniRelayError as error:
                    _log.warning("manifest of %s: %s", failover.id, error.message)
            await self._acting.view.changed.wait_beyond(seen)

    async def _look(self, failover: Failover) -> None:
        acting = self._acting
        if failover.request.mode is not Mode.EMERGENCY or failover.request.target != acting.cluster:
            return
        if not failover.routing_version or self._arriving(failover):
            return
        held = acting.sequencer.log_vector()
        manifest = loss.manifest(failover, acting.view.routing, held, await self._divergences.every())
        if manifest != failover.manifest:
            await acting.change(failover, lambda f: emergency_workflow.regrade(f, manifest, acting.now()), "regraded")

    def _arriving(self, failover: Failover) -> bool:
        """The old active is back, and not everything that it then held of its own log is here yet. What it writes
        since, for other namespaces, is not waited for."""
        report = self._acting.view.reports.get(failover.source)
        if report is None:
            return False
        due = self._due.setdefault((failover.id, report.origin), report.vector.get(report.origin, 0))
        return self._acting.sequencer.log_vector()[report.origin] < due
