"""What this replicator knows of the mesh: a watched copy of the coordination state.

It never goes back, may be behind, and says for how long it has not heard: decisions that must not be wrong are made
again inside a transaction.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import TypeVar

from omnirelay.errors import CoordinationUnavailable
from omnirelay.failover.divergence import Decision
from omnirelay.failover.dossier import Dossier
from omnirelay.failover.evidence import FRESH_SECONDS, ClusterReport, Evidence, LastReport, LeaseClaim
from omnirelay.failover.rebuild import Rebuild
from omnirelay.failover.record import Failover
from omnirelay.failover.reseed import Reseed
from omnirelay.model.descriptor import ClusterDescriptor
from omnirelay.model.routing import RoutingDocument
from omnirelay.ports.clock import Clock
from omnirelay.ports.coordination import Change, CoordinationStore, Entry, WatchCompacted
from omnirelay.runtime.documents import (
    CLUSTERS,
    DIVERGENCES,
    FAILOVERS,
    LEASES,
    LOCKS,
    MESH,
    REBUILDS,
    REPORTS,
    RESEEDS,
    ROUTING,
    ROUTING_DOCUMENT,
    TICKETS,
)
from omnirelay.runtime.signal import Signal

_log = logging.getLogger(__name__)
V = TypeVar("V")

RETRY_SECONDS = 0.25
LOOK_SECONDS = 1.0
"""Somebody waits for an answer meanwhile: shorter than clients wait for the answer to their opening."""


class MeshView:
    """Fields are replaced, never changed in place, so a reader may keep what it took."""

    def __init__(self, store: CoordinationStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.changed = Signal()
        self.loaded = asyncio.Event()
        self.revision = 0
        self.routing = RoutingDocument()
        self.routing_revision = 0
        self.clusters: dict[str, ClusterDescriptor] = {}
        self.cluster_revisions: dict[str, int] = {}
        self.reports: dict[str, ClusterReport] = {}
        self.leases: dict[str, LeaseClaim] = {}
        self.lease_revisions: dict[str, int] = {}
        self.locks: dict[str, str] = {}
        self.lock_revisions: dict[str, int] = {}
        self.failovers: dict[str, Failover] = {}
        self.failover_revisions: dict[str, int] = {}
        self.tickets: dict[str, Dossier] = {}
        """Failover → what its change ticket holds."""
        self._revisions: dict[str, int] = {}
        """Of every key that is shown. Reading a key again that has not changed is no news: a report keeps its age."""
        self.divergences: dict[str, Decision] = {}
        self.divergence_revisions: dict[str, int] = {}
        self.rebuilds: dict[str, Rebuild] = {}
        self.rebuild_revisions: dict[str, int] = {}
        self.reseeds: dict[str, Reseed] = {}
        self.reseed_revisions: dict[str, int] = {}
        self._reported_at: dict[str, float] = {}
        self._last_reports: dict[str, tuple[ClusterReport, float | None]] = {}
        """Cluster → its newest report that was ever seen, and when it came, monotonic seconds; None for one that was
        there before. A report ends with its cluster; what it said does not."""
        self._heard: dict[str, int] = {}
        """Origin → highest sequence that any report told of."""
        self._back_at = 0.0
        """When the store last answered again after a silence, monotonic seconds."""
        self._claimed_at: dict[str, float] = {}
        """Namespace → when it was last seen to be claimed, monotonic seconds."""
        self._loaded_at = 0.0
        self._answered_at: float | None = None

    @property
    def silence_seconds(self) -> float | None:
        """Since the store last answered anything; None if it never did."""
        return None if self._answered_at is None else self._clock.monotonic() - self._answered_at

    def answered(self) -> None:
        """Somebody else heard from the store, for instance a lease renewal."""
        now = self._clock.monotonic()
        if self._answered_at is None or now - self._answered_at > FRESH_SECONDS:
            self._back_at = now
        self._answered_at = now

    async def run(self) -> None:
        """Follows the store until cancelled."""
        while True:
            try:
                revision = await self.refresh()
                async for changes in self._store.watch(MESH, revision + 1):
                    self._apply(changes)
            except WatchCompacted:
                continue
            except CoordinationUnavailable as error:
                _log.warning("coordination store does not answer: %s", error.message)
                await asyncio.sleep(RETRY_SECONDS)

    async def refresh(self) -> int:
        """Reads everything again. Returns the revision that the view then shows."""
        snapshot = await self._store.list(MESH)
        if snapshot.revision >= self.revision:
            for key in self._revisions.keys() - {entry.key for entry in snapshot.entries}:
                self._set(key, None)
            for entry in snapshot.entries:
                if self._revisions.get(entry.key) != entry.revision:
                    self._set(entry.key, entry)
            self._moved(snapshot.revision)
        if not self.loaded.is_set():
            self._loaded_at = self._clock.monotonic()
            self.loaded.set()
        return snapshot.revision

    async def look_again(self) -> None:
        """Reads everything once more before somebody is told that something is not there, or still so: it may have been
        made, or moved, through another cluster just now. Raises CoordinationUnavailable, soon."""
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self.refresh()
        except TimeoutError as error:
            raise CoordinationUnavailable(f"the coordination store took more than {LOOK_SECONDS:g} s") from error

    def evidence(self) -> Evidence:
        now = self._clock.monotonic()
        return Evidence(
            now_ms=self._clock.wall_ms(),
            routing=self.routing,
            clusters=dict(self.clusters),
            reports=dict(self.reports),
            report_age_seconds={cluster: now - at for cluster, at in self._reported_at.items()},
            leases=dict(self.leases),
            locks=dict(self.locks),
            failovers=dict(self.failovers),
            coordination_lag_seconds=self.silence_seconds,
            last_reports={name: last for name in self._last_reports if (last := self.last_report(name)) is not None},
            unclaimed_seconds=self._unclaimed_by_anybody(),
            heard=dict(self._heard),
        )

    def unclaimed_seconds(self) -> dict[str, float]:
        """Namespace → for how long this process has known that nobody claims it."""
        now, routes = self._clock.monotonic(), self.routing.routes
        return {name: now - self._claimed_at.get(name, self._loaded_at) for name in routes if name not in self.leases}

    def _unclaimed_by_anybody(self) -> dict[str, float]:
        found = self.unclaimed_seconds()
        for cluster, report in self.reports.items():
            age = self.report_age(cluster) or 0.0
            for name in found.keys() & report.unclaimed_seconds.keys():
                found[name] = max(found[name], report.unclaimed_seconds[name] + age)
        return found

    def silence_of(self, cluster: str) -> float:
        """Seconds without a report of the cluster, while the store answered this one."""
        _, at = self._last_reports.get(cluster, (None, None))
        return self._clock.monotonic() - max(at or 0.0, self._loaded_at, self._back_at)

    def last_report(self, cluster: str) -> LastReport | None:
        """The newest report of the cluster that was ever seen."""
        if cluster not in self._last_reports:
            return None
        report, at = self._last_reports[cluster]
        return LastReport(report, self._clock.monotonic() - at if at is not None else None)

    def report_age(self, cluster: str) -> float | None:
        at = self._reported_at.get(cluster)
        return None if at is None else self._clock.monotonic() - at

    def _apply(self, changes: Iterable[Change]) -> None:
        revision = self.revision
        for change in changes:
            if change.revision > self.revision:
                self._set(change.key, change.entry)
            revision = max(revision, change.revision)
        self._moved(revision)

    def _moved(self, revision: int) -> None:
        self.answered()
        if revision > self.revision:  # nobody is woken for what was shown before: who then reads again would spin
            self.revision = revision
            self.changed.fire()

    def _set(self, key: str, entry: Entry | None) -> None:
        if entry is None:
            self._revisions.pop(key, None)
        else:
            self._revisions[key] = entry.revision
        if key == ROUTING:
            self.routing = ROUTING_DOCUMENT.decode(entry.value) if entry else RoutingDocument()
            self.routing_revision = entry.revision if entry else 0
        elif key.startswith(CLUSTERS.prefix):
            name = CLUSTERS.name(key)
            self.clusters = _with(self.clusters, name, CLUSTERS.decode(entry.value) if entry else None)
            self.cluster_revisions = _with(self.cluster_revisions, name, entry.revision if entry else None)
        elif key.startswith(REPORTS.prefix):
            cluster = REPORTS.name(key)
            report = REPORTS.decode(entry.value) if entry else None
            self.reports = _with(self.reports, cluster, report)
            if report is not None:
                came = self._clock.monotonic() if self.loaded.is_set() else None
                self._last_reports[cluster] = (report, came)
                for origin, sequence in report.vector.items():
                    self._heard[origin] = max(self._heard.get(origin, 0), sequence)
            self._reported_at = _with(self._reported_at, cluster, self._clock.monotonic() if entry else None)
        elif key.startswith(LEASES.prefix):
            name = LEASES.name(key)
            self._claimed_at[name] = self._clock.monotonic()
            self.leases = _with(self.leases, name, LEASES.decode(entry.value) if entry else None)
            self.lease_revisions = _with(self.lease_revisions, name, entry.revision if entry else None)
        elif key.startswith(LOCKS.prefix):
            name = LOCKS.name(key)
            self.locks = _with(self.locks, name, LOCKS.decode(entry.value) if entry else None)
            self.lock_revisions = _with(self.lock_revisions, name, entry.revision if entry else None)
        elif key.startswith(DIVERGENCES.prefix):
            name = DIVERGENCES.name(key)
            self.divergences = _with(self.divergences, name, DIVERGENCES.decode(entry.value) if entry else None)
            self.divergence_revisions = _with(self.divergence_revisions, name, entry.revision if entry else None)
        elif key.startswith(TICKETS.prefix):
            name = TICKETS.name(key)
            self.tickets = _with(self.tickets, name, TICKETS.decode(entry.value) if entry else None)
        elif key.startswith(REBUILDS.prefix):
            name = REBUILDS.name(key)
            self.rebuilds = _with(self.rebuilds, name, REBUILDS.decode(entry.value) if entry else None)
            self.rebuild_revisions = _with(self.rebuild_revisions, name, entry.revision if entry else None)
        elif key.startswith(RESEEDS.prefix):
            name = RESEEDS.name(key)
            self.reseeds = _with(self.reseeds, name, RESEEDS.decode(entry.value) if entry else None)
            self.reseed_revisions = _with(self.reseed_revisions, name, entry.revision if entry else None)
        elif key.startswith(FAILOVERS.prefix):
            name = FAILOVERS.name(key)
            self.failovers = _with(self.failovers, name, FAILOVERS.decode(entry.value) if entry else None)
            self.failover_revisions = _with(self.failover_revisions, name, entry.revision if entry else None)


def _with(values: dict[str, V], name: str, value: V | None) -> dict[str, V]:
    copy = {k: v for k, v in values.items() if k != name}
    if value is not None:
        copy[name] = value
    return copy
