"""The way back for a cluster that has lost its own log: under a new incarnation, by an explicit, audited command.

The command is an intent in the coordination store, written at any cluster; the replicator that has lost its log carries
it out and starts again under the new name. Whoever asks is refused while the cluster still owns something: what it owns
is written in the old log's name, so another cluster has to take it over first.
"""

from __future__ import annotations

import logging
from dataclasses import asdict

from omnirelay.errors import BadRequest, ClusterInUse, Conflict, LogNotLost, NotFound, OmniRelayError
from omnirelay.failover.modes import HOLDS_LOCK
from omnirelay.failover.rebuild import Rebuild, lost_log, next_incarnation
from omnirelay.model.ids import origin_of
from omnirelay.model.times import rfc3339
from omnirelay.ports.clock import Clock
from omnirelay.ports.coordination import Compare, Delete, Put
from omnirelay.ports.log import LogStore
from omnirelay.runtime.audit import Actor, Auditor, Deed
from omnirelay.runtime.documents import REBUILDS, ROUTING
from omnirelay.runtime.view import MeshView

_log = logging.getLogger(__name__)

ATTEMPTS = 20
BY_FORCE = " --emergency --break-glass REASON"
"""A cluster that has lost its log cannot drain, and yet lives."""


class Restart(Exception):
    """The replicator has a new origin: everything that knows the old one is to be made anew."""


class Rebuilding:
    def __init__(self, cluster: str, log: LogStore, view: MeshView, auditor: Auditor, clock: Clock) -> None:
        self._cluster = cluster
        self._store = log
        self._view = view
        self._auditor = auditor
        self._clock = clock
        self._actor = Actor(f"cluster/{cluster}", "system")

    # --- asking, at any cluster ----------------------------------------------------------------------------------

    async def request(
        self, cluster: str, change_ticket: str, reason: str, actor: Actor, dry_run: bool = False
    ) -> Rebuild:
        """Stores the intent, and answers it; the same again changes nothing.

        Raises BadRequest, NotFound, LogNotLost while nobody holds more of the cluster's log than it does itself,
        ClusterInUse while it owns namespaces or a failover moves something to or from it.
        """
        for name, text in (("change_ticket", change_ticket), ("reason", reason)):
            if not text.strip():
                raise BadRequest(f"{name} is required", path=name)
        for _ in range(ATTEMPTS):
            await self._view.refresh()
            known = self._view.rebuilds.get(cluster)
            if known is not None:
                return known
            rebuild = self._decide(cluster, change_ticket, reason, actor)
            if dry_run:
                return rebuild
            key = REBUILDS.key(cluster)
            compares = [Compare(key, 0), Compare(ROUTING, self._view.routing_revision)]
            if await self._auditor.commit(
                compares, [Put(key, REBUILDS.encode(rebuild))], actor, _deed("cluster.rebuild", rebuild)
            ):
                await self._view.refresh()
                return rebuild
        raise Conflict(f"the mesh around {cluster} was changed by others all the time", cluster=cluster)

    def _decide(self, cluster: str, change_ticket: str, reason: str, actor: Actor) -> Rebuild:
        view = self._view
        report = view.reports.get(cluster)
        if cluster not in view.clusters:
            raise NotFound(f"there is no cluster {cluster!r}", kind="clusters", cluster=cluster)
        if report is None:
            raise LogNotLost(f"{cluster} does not report, so nobody knows what it holds", cluster=cluster)
        held = report.vector.get(report.origin, 0)
        if lost_log(report.origin, held, view.reports.values()) is None:
            raise LogNotLost(f"nobody holds more of {report.origin} than {cluster} itself ({held})", cluster=cluster)
        owned = view.routing.owned_by(cluster)
        moved = [f for f in view.failovers.values() if f.state in HOLDS_LOCK]
        moved = [f for f in moved if cluster in (f.source, f.request.target)]
        names = ", ".join(owned or (name for failover in moved for name in failover.request.namespaces))
        if names:
            why = f"{cluster} owns {names}" if owned else f"failover {moved[0].id} moves {names}"
            raise ClusterInUse(
                f"{why}; its new log cannot go on with that", cluster=cluster, namespaces=names, how=BY_FORCE
            )
        number = next_incarnation(cluster, view.routing, view.reports)
        now = rfc3339(self._clock.wall_ms())
        return Rebuild(cluster, report.origin, number, actor.principal, now, change_ticket, reason)

    # --- carrying out, at the cluster itself -----------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled. Raises Restart once the log goes on under its new name."""
        while True:
            seen = self._view.changed.version
            rebuild = self._view.rebuilds.get(self._cluster)
            if rebuild is not None:
                try:
                    await self._carry_out(rebuild)
                except OmniRelayError as error:
                    _log.warning("the log is not rebuilt: %s", error.message)
            await self._view.changed.wait_beyond(seen, 1.0)

    async def _carry_out(self, rebuild: Rebuild) -> None:
        """Durable here first: a process that dies in between finds the number taken, and only tells."""
        restart = rebuild.incarnation > self._store.incarnation
        if restart:
            owned = self._view.routing.owned_by(self._cluster)
            if owned:
                names = ", ".join(owned)
                raise ClusterInUse(
                    f"{self._cluster} owns {names} again", cluster=self._cluster, namespaces=names, how=BY_FORCE
                )
            await self._store.rebuilt(rebuild.incarnation)
        key = REBUILDS.key(self._cluster)
        compares = [Compare(key, self._view.rebuild_revisions[self._cluster])]
        await self._auditor.commit(compares, [Delete(key)], self._actor, _deed("cluster.rebuilt", rebuild))
        _log.warning("%s is lost; this cluster goes on as %s", rebuild.origin, _name(rebuild))
        if restart:
            raise Restart(_name(rebuild))


def _name(rebuild: Rebuild) -> str:
    return origin_of(rebuild.cluster, rebuild.incarnation)


def _deed(action: str, rebuild: Rebuild) -> Deed:
    after = {**asdict(rebuild), "new_origin": _name(rebuild)}
    before = {"origin": rebuild.origin}
    return Deed(action, f"clusters/{rebuild.cluster}", rebuild.reason, rebuild.change_ticket, "", before, after)
