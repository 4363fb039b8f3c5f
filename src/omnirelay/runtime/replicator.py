"""A replicator put together: the loops of one cluster over the ports it is given."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnirelay.errors import CoordinationUnavailable
from omnirelay.failover.approvals import NO_FLOOR, ApprovalPolicy
from omnirelay.failover.lease import Timing
from omnirelay.failover.record import DemotionToken
from omnirelay.model import ids
from omnirelay.model.batch import BatchHeader
from omnirelay.model.record import Record
from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.clock import Clock
from omnirelay.ports.coordination import CoordinationStore
from omnirelay.ports.log import LogStore
from omnirelay.ports.probing import EndpointProbe
from omnirelay.ports.streams import (
    AcknowledgeRequest,
    Duplex,
    FromReceiver,
    FromSender,
    PeerDialer,
    ProtocolVersion,
    SubscribeRequest,
)
from omnirelay.replication.rpo import RpoGuard
from omnirelay.runtime.acting import Acting
from omnirelay.runtime.agent import Agent
from omnirelay.runtime.audit import AuditMirror, Auditor
from omnirelay.runtime.clusters import Clusters
from omnirelay.runtime.delivering import Delivering, ToReader
from omnirelay.runtime.divergences import Divergences, WithProvenance
from omnirelay.runtime.failovers import Failovers
from omnirelay.runtime.inbound import Inbound
from omnirelay.runtime.links import Links
from omnirelay.runtime.outbound import Outbound
from omnirelay.runtime.ownership import Ownerships
from omnirelay.runtime.planning import Planner
from omnirelay.runtime.publishing import FromProducer, Publishing, ToProducer
from omnirelay.runtime.rebuilding import Rebuilding, Restart
from omnirelay.runtime.regrading import Regrading
from omnirelay.runtime.replay import Replay
from omnirelay.runtime.reporter import Host, Reporter
from omnirelay.runtime.reseeding import Reseeding
from omnirelay.runtime.retaining import Retaining, RetentionSettings
from omnirelay.runtime.sequencer import Sequencer
from omnirelay.runtime.ticket_reader import TicketReader
from omnirelay.runtime.tickets import TicketDesk, TicketDuty
from omnirelay.runtime.view import MeshView

READY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class World:
    """Everything outside that a replicator uses."""

    log: LogStore
    store: CoordinationStore
    dialer: PeerDialer
    clock: Clock
    encode_header: Callable[[BatchHeader], bytes]
    control_records: Callable[[str], bytes]
    with_provenance: WithProvenance
    decode_records: Callable[[bytes], Sequence[Record]]
    sign: Callable[[DemotionToken], DemotionToken]
    verify: Callable[[DemotionToken, str], None]
    """Raises TokenInvalid unless the named cluster has signed the token."""
    host: Callable[[], Host]
    new_id: Callable[[int], str]
    jitter: Callable[[], float] = random.random
    tickets: TicketDuty | None = None
    probe: EndpointProbe | None = None
    """None: nobody looks at endpoints, and the preflight says so."""


class Replicator:
    def __init__(
        self,
        cluster: str,
        world: World,
        timing: Timing,
        protocol: ProtocolVersion,
        retention: RetentionSettings,
        max_batch_bytes: int,
        audit_copy: Path,
        guard: RpoGuard | None = None,
        approvals: ApprovalPolicy = NO_FLOOR,
    ) -> None:
        self.cluster = cluster
        self.timing = timing
        self.protocol = protocol
        self._world = world
        origin = ids.origin_of(cluster, world.log.incarnation)
        clock, store = world.clock, world.store
        self.log = world.log
        self.view = MeshView(store, clock)
        self.auditor = Auditor(store, clock)
        self.sequencer = Sequencer(world.log, origin, clock, world.encode_header, world.control_records)
        self.ownerships = Ownerships(cluster, store, self.view, self.sequencer, clock, timing)
        self.links = Links(self.sequencer, clock, timing)
        planner = Planner(self.view, clock, timing, world.probe)
        reader = TicketReader(world.tickets.source if world.tickets else None)
        self.failovers = Failovers(
            store, self.view, self.auditor, clock, planner, world.new_id, world.verify, approvals, reader
        )
        self.tickets = TicketDesk(cluster, world.tickets, store, self.view, self.auditor, self.failovers, clock)
        self.clusters = Clusters(self.view, self.auditor)
        self.outbound = Outbound(
            cluster, self.sequencer, self.links, clock, timing, protocol, lambda peer: peer in self.view.clusters
        )
        self.publishing = Publishing(
            cluster, self.sequencer, self.ownerships, self.links, clock, self._others, max_batch_bytes, guard
        )
        self.delivering = Delivering(self.sequencer, world.log, lambda: self.view.routing.routes, self.view.look_again)
        self.divergences = Divergences(
            self.view, self.sequencer, self.auditor, clock, world.with_provenance, world.decode_records
        )
        self._replay = Replay(
            cluster,
            self.divergences,
            self.view,
            self.sequencer,
            self.ownerships,
            self.publishing,
            world.with_provenance,
        )
        acting = Acting(cluster, store, self.failovers, self.view, self.sequencer, self.ownerships, clock)
        self._agent = Agent(acting, timing, world.sign)
        self.regrading = Regrading(acting, self.divergences)
        self._mirror = AuditMirror(store, audit_copy)
        self.reporter = Reporter(
            cluster,
            store,
            self.view,
            self.sequencer,
            self.ownerships,
            self.links,
            clock,
            protocol,
            world.host,
            self.divergences.unresolved,
            self.delivering.readers,
            lambda: self._mirror.problem,
            world.tickets.source.system if world.tickets else "",
        )
        self.retaining = Retaining(world.log, self.links, clock, retention, self._awaited, self.divergences.kept)
        self.rebuilding = Rebuilding(cluster, world.log, self.view, self.auditor, clock)
        self.reseeding = Reseeding(cluster, self.sequencer, self.links, self.view, self.auditor, clock)
        self._inbound: dict[str, asyncio.Task[None]] = {}

    # --- what the transport serves -----------------------------------------------------------------------------

    async def replicate(self, stream: Duplex[FromReceiver, FromSender], cluster: str, transport: str) -> None:
        await self._ready()
        await self.outbound.serve(stream, cluster, transport)

    async def publish(self, stream: Duplex[FromProducer, ToProducer]) -> None:
        await self._ready()
        await self.publishing.serve(stream)

    async def subscribe(self, request: SubscribeRequest, principal: str = "") -> AsyncGenerator[ToReader, None]:
        await self._ready()
        return self.delivering.serve(request, principal)

    def acknowledge(self, request: AcknowledgeRequest, principal: str = "") -> None:
        self.delivering.readers.acknowledge(principal, request.consumer_id, request.namespace, request.epoch)

    @property
    def vector(self) -> VersionVector:
        return self.delivering.vector

    def _others(self) -> set[str]:
        return self.view.clusters.keys() - {self.cluster}

    def _awaited(self) -> set[str] | None:
        """For whom retention waits: the other members, of whom there may be none. None while this cluster does not see
        the mesh: it has not read it, or does not find itself in it."""
        seen = self.view.loaded.is_set() and self.cluster in self.view.clusters
        return self._others() if seen else None

    async def _ready(self) -> None:
        """Callers that come while the mesh's state is still being read wait for it, within bounds."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self.view.loaded.wait()
        except TimeoutError:
            raise CoordinationUnavailable("the mesh's state has not been read yet") from None

    # --- loops -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Runs all loops until cancelled. A loop that fails ends the replicator: half alive it would look well. Raises
        Restart when the log goes on under another name: then everything is to be put together again."""
        await self.sequencer.start()
        loops: list[Coroutine[Any, Any, None]] = [
            self.view.run(),
            self.ownerships.run_lease(),
            self._once_loaded(self.ownerships.run_claims),
            self._once_loaded(self._agent.run),
            self._once_loaded(self._replay.run),
            self._once_loaded(self.regrading.run),
            self._once_loaded(self.tickets.run),
            self._once_loaded(self.rebuilding.run),
            self._once_loaded(self.reseeding.run),
            self._once_loaded(self.reporter.run),
            self._once_loaded(self._follow_peers),
            self._mirror.run(),
            self.retaining.run(),
        ]
        try:
            async with asyncio.TaskGroup() as tasks:
                for loop in loops:
                    tasks.create_task(loop)
        except BaseExceptionGroup as group:
            restart, others = group.split(Restart)
            if restart is None or others is not None:
                raise
            raise restart.exceptions[0] from None

    async def release(self) -> None:
        """Ends this process's lease; call it once `run` has ended. First nothing more is acknowledged: from the lease's
        end on another may be promoted."""
        lease = self.ownerships.surrender()
        if lease:
            await self._world.store.revoke_lease(lease)

    async def _once_loaded(self, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Nothing acts on the mesh before it has seen it: an empty view would look like a mesh without failovers."""
        await self.view.loaded.wait()
        await loop()

    async def _follow_peers(self) -> None:
        """One receiving loop per other member."""
        try:
            while True:
                seen = self.view.changed.version
                members = self._others()
                for peer in sorted(members - set(self._inbound)):
                    self._inbound[peer] = asyncio.create_task(self._receive_from(peer).run())
                for peer in set(self._inbound) - members:
                    self._inbound.pop(peer).cancel()
                for peer, task in self._inbound.items():
                    if task.done():
                        raise RuntimeError(f"receiving from {peer} ended") from task.exception()
                await self.view.changed.wait_beyond(seen, 1.0)
        finally:
            for task in self._inbound.values():
                task.cancel()
            await asyncio.gather(*self._inbound.values(), return_exceptions=True)
            self._inbound.clear()

    def _receive_from(self, peer: str) -> Inbound:
        world = self._world
        return Inbound(
            self.cluster,
            peer,
            world.dialer,
            self.sequencer,
            self.view,
            self.links,
            world.clock,
            self.protocol,
            world.jitter,
        )
