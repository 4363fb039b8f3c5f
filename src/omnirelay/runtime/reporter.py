"""Writes this cluster's own report to the coordination store, tied to its lease, so that it ends with the process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from omnirelay import __version__
from omnirelay.errors import OmniRelayError
from omnirelay.failover.divergence import Decision, Divergence, fenced_epochs
from omnirelay.failover.evidence import FRESH_SECONDS, ClusterReport, PeerReport
from omnirelay.failover.record import State
from omnirelay.model.ids import cluster_of
from omnirelay.model.log_state import Head
from omnirelay.model.routing import Route
from omnirelay.ports.clock import Clock
from omnirelay.ports.coordination import CoordinationStore, Put
from omnirelay.ports.streams import ProtocolVersion
from omnirelay.runtime.documents import REPORTS
from omnirelay.runtime.links import Links
from omnirelay.runtime.ownership import Ownerships
from omnirelay.runtime.readers import Readers
from omnirelay.runtime.sequencer import Sequencer
from omnirelay.runtime.signal import first_of
from omnirelay.runtime.view import MeshView

_log = logging.getLogger(__name__)

INTERVAL_SECONDS = 1.0
SILENT_SECONDS = 5.0
"""Where a peer's report is so much newer than the link's last word, it tells how fast the peer writes."""
LOG_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Host:
    """What the machine says."""

    disk_free_bytes: int
    disk_total_bytes: int
    certificate_expires_ms: int


@dataclass(frozen=True, slots=True)
class _LogSeen:
    """The log at one moment, the epoch histories and decisions by which it was judged then, and the revision of the
    coordination store that was seen by then."""

    heads: Mapping[str, Head]
    routes: Mapping[str, Route]
    decisions: Mapping[str, Decision]
    revision: int

    def diverged_as(self, earlier: _LogSeen) -> bool:
        """Whether nothing more can be fenced and open than was then: no epoch has ended since, no log has grown of
        which one had, nothing was decided."""
        ended = {origin for route in self.routes.values() for _, origin, _ in fenced_epochs(route)}
        judged = (self.routes, self.decisions) == (earlier.routes, earlier.decisions)
        return judged and all(self.heads.get(origin) == earlier.heads.get(origin) for origin in ended)


@dataclass(frozen=True, slots=True)
class _Found:
    """What a look at what diverged has found, and the log from before it."""

    log: _LogSeen
    diverged: Mapping[str, int] | None


class Reporter:
    def __init__(
        self,
        cluster: str,
        store: CoordinationStore,
        view: MeshView,
        sequencer: Sequencer,
        ownerships: Ownerships,
        links: Links,
        clock: Clock,
        protocol: ProtocolVersion,
        host: Callable[[], Host],
        unresolved: Callable[[], Awaitable[Sequence[Divergence]]],
        readers: Readers,
        audit_problem: Callable[[], str],
        ticket_source: str = "",
    ) -> None:
        self._audit_problem = audit_problem
        self._readers = readers
        self._ticket_source = ticket_source
        self._unresolved = unresolved
        self._cluster = cluster
        self._store = store
        self._view = view
        self._sequencer = sequencer
        self._ownerships = ownerships
        self._links = links
        self._clock = clock
        self._protocol = protocol
        self._host = host
        self._looking = False
        self._found: _Found | None = None

    async def run(self) -> None:
        """Once a second, and at once when what this cluster admits changes or a target gathers, until cancelled."""
        async with asyncio.TaskGroup() as looks:
            while True:
                seen, asked = self._ownerships.changed.version, self._asked()
                lease = self._ownerships.lease_id()
                try:
                    if lease:
                        value = REPORTS.encode(await self._report(looks))
                        await self._store.transact([], [Put(REPORTS.key(self._cluster), value, lease)])
                except OmniRelayError as error:
                    _log.debug("the report was not written: %s", error.message)
                await self._next(seen, asked)

    async def _report(self, looks: asyncio.TaskGroup) -> ClusterReport:
        """A look at what diverged gets one interval. If it takes longer, as the first one of a long log may, it goes on
        beside the reports: a cluster that is silent counts as gone."""
        # What is told of the log is from before the look: the other way round a record that came in between would be
        # told to be here, and not to be open.
        heads, routes = dict(self._sequencer.log.heads), dict(self._sequencer.routes())
        log = _LogSeen(heads, routes, self._view.divergences, self._view.revision)
        if not self._looking:
            self._looking = True
            await asyncio.wait({looks.create_task(self._look(log))}, timeout=INTERVAL_SECONDS)
        found = self._found
        holds = found is not None and (found.log is log or log.diverged_as(found.log))
        return self.report(log, found.diverged if found is not None and holds else None)

    async def _look(self, log: _LogSeen) -> None:
        try:
            self._found = _Found(log, await self._diverged())
        finally:
            self._looking = False

    def _asked(self) -> set[tuple[str, bool]]:
        """Emergencies whose targets wait for what every cluster holds now that the source is barred, or has stopped:
        it has said so, or its claims are gone."""
        failovers, claimed = self._view.failovers.values(), self._view.leases.keys()
        barred = {(f.id, f.demoted) for f in failovers if f.state is State.GATHERING}
        fencing = [f for f in failovers if f.state is State.FENCING]
        return barred | {(f.id, True) for f in fencing if f.demoted or not claimed & {*f.request.namespaces}}

    async def _next(self, seen: int, asked: set[tuple[str, bool]]) -> None:
        end = self._clock.monotonic() + INTERVAL_SECONDS
        while self._ownerships.changed.version == seen and self._asked() <= asked:
            left = end - self._clock.monotonic()
            if left <= 0:
                return
            looked = self._view.changed.version
            await first_of(self._ownerships.changed.wait_beyond(seen), self._view.changed.wait_beyond(looked, left))

    async def _diverged(self) -> dict[str, int] | None:
        """namespace → fenced records that nobody has decided about; their clusters' links are marked too. None while
        the log does not answer: the cluster goes on reporting, and its problems say so."""
        try:
            unresolved = await self._unresolved()
        except OmniRelayError as error:
            _log.warning("what diverged is not known: %s", error.message)
            return None
        self._links.fenced = {cluster_of(divergence.origin) for divergence in unresolved}
        counts: dict[str, int] = {}
        for divergence in unresolved:
            counts[divergence.namespace] = counts.get(divergence.namespace, 0) + divergence.unresolved
        return counts

    def report(self, log: _LogSeen, diverged: Mapping[str, int] | None) -> ClusterReport:
        heads = log.heads
        host = self._host()
        peers = set(self._view.clusters) - {self._cluster}
        routing = self._view.routing
        behind, late = self._readers.behind(routing.routes)
        return ClusterReport(
            cluster=self._cluster,
            origin=self._sequencer.origin,
            version=__version__,
            protocol=str(self._protocol),
            log_format=LOG_FORMAT,
            at_ms=self._clock.wall_ms(),
            vector={origin: head.sequence for origin, head in heads.items()},
            sizes={origin: head.size for origin, head in heads.items()},
            digests={origin: head.digest.hex() for origin, head in heads.items()},
            peers={peer: self._peer(peer) for peer in sorted(peers)},
            admits=self._ownerships.admitting(),
            disk_free_bytes=host.disk_free_bytes,
            disk_total_bytes=host.disk_total_bytes,
            certificate_expires_ms=host.certificate_expires_ms,
            diverged=diverged,
            ticket_source=self._ticket_source,
            problems=tuple(self.problems()),
            deleted=tuple(sorted(self._links.deleted())),
            revision=log.revision,
            routing_version=routing.version,
            readers=self._readers.counts(),
            readers_behind=behind,
            late=late,
            unclaimed_seconds=self._view.unclaimed_seconds(),
        )

    def _peer(self, peer: str) -> PeerReport:
        """With what the peer said of its own log in its last report, which ends when the peer does."""
        seen, last, silent = self._links.report(peer), self._view.last_report(peer), self._links.silent_seconds(peer)
        if last is None:
            return replace(seen, silent_seconds=silent)
        told, age = last.report, last.age_seconds
        head = told.vector.get(told.origin, 0)
        if head > (seen.heard or 0):
            rate = seen.heard_rate
            ahead_seconds = silent - age if silent is not None and age is not None else 0.0
            if rate is not None and seen.heard is not None and ahead_seconds >= SILENT_SECONDS:
                rate = max(rate, (head - seen.heard) / ahead_seconds)
            seen = replace(seen, heard=head, heard_bytes=told.sizes.get(told.origin), heard_rate=rate)
        return replace(seen, silent_seconds=min((s for s in (silent, age) if s is not None), default=None))

    def problems(self) -> list[str]:
        """What keeps this cluster from doing its part; empty when nothing does."""
        found = []
        if self._sequencer.problem:
            found.append(f"log: {self._sequencer.problem}")
        if gone := sorted(self._links.deleted()):
            command = f"omnirelay mesh clusters reseed {self._cluster}"
            found.append(f"retention has dropped where {', '.join(gone)} would go on here: {command}")
        rebuilt = self._ownerships.rebuilt()
        if rebuilt is not None:
            found.append(f"log: {rebuilt.message}")
        if problem := self._audit_problem():
            found.append(f"copy of the audit chain: {problem}")
        return found

    def unready(self) -> list[str]:
        """Why this replicator is not ready: its problems, and whatever keeps it from seeing the mesh as it is or the
        mesh from knowing that it lives. Needs neither a namespace nor another cluster."""
        found = self.problems()
        if not self._view.loaded.is_set():
            return [*found, "the mesh's state has not been read yet"]
        silence = self._view.silence_seconds
        silent = silence is None or silence > FRESH_SECONDS
        if silent:
            found.append(f"the coordination store has been silent for {silence or 0.0:.1f} s")
        if not self._ownerships.lease_remaining():
            found.append("it holds no lease of the coordination store")
        elif not silent:
            # Written every second and seen as everything else is: when it comes back, the view is not stale either.
            age = self._view.report_age(self._cluster)
            if age is None:
                found.append("its own report has not been seen in the coordination store yet")
            elif age > FRESH_SECONDS:
                found.append(f"its own report was seen in the coordination store {age:.1f} s ago for the last time")
        return found
