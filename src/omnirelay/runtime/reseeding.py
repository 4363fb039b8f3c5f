"""The way back for a cluster that fell behind retention: a seed of what it can never get, by an explicit command.

What lies before the seed is not held here any more, as it is nowhere else: it was dropped by retention while this
cluster was away. The seed's digest is proven by every batch behind it, and in the end against what other clusters say
of the same log; the producers' marks come with it, so that retried batches are known here too.
"""

from __future__ import annotations

import logging
from dataclasses import asdict

from omnirelay.errors import BadRequest, Conflict, NotFound, NothingToReseed, OmniRelayError
from omnirelay.failover.reseed import Reseed
from omnirelay.model.times import rfc3339
from omnirelay.ports.clock import Clock
from omnirelay.ports.coordination import Compare, Delete, Put
from omnirelay.runtime.audit import Actor, Auditor, Deed
from omnirelay.runtime.documents import RESEEDS
from omnirelay.runtime.links import Links
from omnirelay.runtime.sequencer import Sequencer
from omnirelay.runtime.view import MeshView

_log = logging.getLogger(__name__)

ATTEMPTS = 20


class Reseeding:
    def __init__(
        self, cluster: str, sequencer: Sequencer, links: Links, view: MeshView, auditor: Auditor, clock: Clock
    ) -> None:
        self._cluster = cluster
        self._sequencer = sequencer
        self._links = links
        self._view = view
        self._auditor = auditor
        self._clock = clock
        self._actor = Actor(f"cluster/{cluster}", "system")

    async def request(
        self, cluster: str, change_ticket: str, reason: str, actor: Actor, dry_run: bool = False
    ) -> Reseed:
        """Stores the intent, and answers it; the same again changes nothing. Raises BadRequest, NotFound, and
        NothingToReseed while the cluster reports of no log that it cannot go on with."""
        for name, text in (("change_ticket", change_ticket), ("reason", reason)):
            if not text.strip():
                raise BadRequest(f"{name} is required", path=name)
        for _ in range(ATTEMPTS):
            await self._view.refresh()
            known = self._view.reseeds.get(cluster)
            if known is not None:
                return known
            if cluster not in self._view.clusters:
                raise NotFound(f"there is no cluster {cluster!r}", kind="clusters", cluster=cluster)
            report = self._view.reports.get(cluster)
            if report is None or not report.deleted:
                raise NothingToReseed(f"{cluster} reports of no log that retention keeps from it", cluster=cluster)
            now = rfc3339(self._clock.wall_ms())
            reseed = Reseed(cluster, report.deleted, actor.principal, now, change_ticket, reason)
            if dry_run:
                return reseed
            key, deed = RESEEDS.key(cluster), _deed("cluster.reseed", reseed)
            if await self._auditor.commit([Compare(key, 0)], [Put(key, RESEEDS.encode(reseed))], actor, deed):
                await self._view.refresh()
                return reseed
        raise Conflict(f"the mesh around {cluster} was changed by others all the time", cluster=cluster)

    async def run(self) -> None:
        """Closes this cluster's own re-seed once everything is proven, until cancelled."""
        while True:
            seen = self._view.changed.version
            reseed = self._view.reseeds.get(self._cluster)
            if reseed is not None:
                try:
                    await self._close(reseed)
                except OmniRelayError as error:
                    _log.warning("the re-seed is not closed: %s", error.message)
            await self._view.changed.wait_beyond(seen, 1.0)

    async def _close(self, reseed: Reseed) -> None:
        proven = {origin: self._proven(origin) for origin in reseed.origins}
        if self._links.deleted() & set(reseed.origins) or not all(proven.values()):
            return
        key = RESEEDS.key(self._cluster)
        compares = [Compare(key, self._view.reseed_revisions[self._cluster])]
        await self._auditor.commit(compares, [Delete(key)], self._actor, _deed("cluster.reseeded", reseed, proven))
        _log.info("%s: re-seeded, and level with the others", ", ".join(reseed.origins))

    def _proven(self, origin: str) -> str:
        """Where this cluster and another one that reports hold the log to the same end with the same digest."""
        head = self._sequencer.log.heads.get(origin)
        if head is None:
            return ""
        for cluster, report in self._view.reports.items():
            same = report.vector.get(origin) == head.sequence and report.digests.get(origin) == head.digest.hex()
            if cluster != self._cluster and same:
                return f"{head.sequence} {head.digest.hex()}"
        return ""


def _deed(action: str, reseed: Reseed, proven: dict[str, str] | None = None) -> Deed:
    after = {**asdict(reseed), **({"proven": proven} if proven else {})}
    return Deed(action, f"clusters/{reseed.cluster}", reseed.reason, reseed.change_ticket, "", None, after)
