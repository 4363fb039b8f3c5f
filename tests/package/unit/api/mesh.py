"""A mesh of three clusters in memory with the control API of one of them, and stand-ins for the replicators' agents."""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
from tests.package.unit.failover.disasters import a_survivor
from tests.package.unit.failover.support import NOW_MS, a_descriptor, a_report

from omnirelay.api import Services, create_app
from omnirelay.errors import OmniRelayError
from omnirelay.failover import emergency_workflow, workflow
from omnirelay.failover.approvals import ApprovalPolicy
from omnirelay.failover.evidence import ClusterReport, LeaseClaim, Probe
from omnirelay.failover.lease import Timing
from omnirelay.failover.record import Barrier, Canary, DemotionToken, Failover, State
from omnirelay.model.access import AccessPolicy, Scope
from omnirelay.model.position import Cursor
from omnirelay.model.routing import Ownership, Route, RoutingDocument
from omnirelay.model.times import rfc3339
from omnirelay.ports.coordination import Delete, Put
from omnirelay.runtime.audit import Actor, Auditor
from omnirelay.runtime.clusters import Clusters
from omnirelay.runtime.divergences import Divergences
from omnirelay.runtime.documents import CLUSTERS, LEASES, REPORTS, ROUTING, ROUTING_DOCUMENT
from omnirelay.runtime.failovers import Failovers
from omnirelay.runtime.links import Links
from omnirelay.runtime.planning import Planner
from omnirelay.runtime.rebuilding import Rebuilding
from omnirelay.runtime.reseeding import Reseeding
from omnirelay.runtime.sequencer import Sequencer
from omnirelay.runtime.ticket_reader import TicketReader
from omnirelay.runtime.tickets import TicketDesk, TicketDuty
from omnirelay.runtime.view import MeshView
from omnirelay.testing.memory_coordination import MemoryCoordination
from omnirelay.testing.memory_log import MemoryDisk, MemoryLog
from omnirelay.wire import codec

MEMBERS = ("ap-south", "eu-west", "us-east")
PEOPLE = {
    "alice": {Scope.OPERATE},
    "bob": {Scope.APPROVE},
    "carol": {Scope.APPROVE},
    "root": {Scope.ADMIN},
    "reader": {Scope.READ},
    "nobody": set(),
}
"""Name, which is also the token → scopes."""

PLAN = {"mode": "planned", "target": "eu-west", "reason": "drill", "change_ticket": "CHG-1"}


class LoopClock:
    """The event loop's time, plus what a test adds by hand."""

    def __init__(self) -> None:
        self.added = 0.0

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() + self.added

    def wall_ms(self) -> int:
        return NOW_MS + round(self.added * 1000)


class Answering:
    """Every endpoint answers."""

    async def probe(self, descriptor: object) -> Probe:
        return Probe()


class Mesh:
    def __init__(self, duty: TicketDuty | None = None, clock: LoopClock | None = None) -> None:
        self.clock = clock or LoopClock()
        self.memory = MemoryCoordination(self.clock)
        self.store = self.memory.client()
        self.view = MeshView(self.store, self.clock)
        self.auditor = Auditor(self.store, self.clock)
        numbers = itertools.count(1)
        self.failovers = Failovers(
            self.store,
            self.view,
            self.auditor,
            self.clock,
            Planner(self.view, self.clock, Timing(), Answering()),
            lambda _: f"fo-{next(numbers)}",
            lambda token, cluster: None,
            ApprovalPolicy(),
            TicketReader(duty.source if duty else None),
        )
        self.tickets = TicketDesk("us-east", duty, self.store, self.view, self.auditor, self.failovers, self.clock)
        self.clusters = Clusters(self.view, self.auditor)
        self.log = MemoryLog(MemoryDisk())
        self.sequencer = Sequencer(self.log, "us-east", self.clock, codec.encode_header, str.encode)
        self.divergences = Divergences(
            self.view,
            self.sequencer,
            self.auditor,
            self.clock,
            codec.with_provenance,
            codec.decode_record_set,
        )
        self.unready: list[str] = []
        self.policy = AccessPolicy(
            grants={f"token/{name}": frozenset(scopes) for name, scopes in PEOPLE.items()},
            tokens={hashlib.sha256(name.encode()).hexdigest(): f"token/{name}" for name in PEOPLE},
        )
        self.services = Services(
            cluster="us-east",
            version="1.0.0",
            protocol="1.1",
            view=self.view,
            failovers=self.failovers,
            tickets=self.tickets,
            clusters=self.clusters,
            divergences=self.divergences,
            rebuilding=Rebuilding("us-east", self.log, self.view, self.auditor, self.clock),
            reseeding=Reseeding(
                "us-east",
                self.sequencer,
                Links(self.sequencer, self.clock, Timing()),
                self.view,
                self.auditor,
                self.clock,
            ),
            auditor=self.auditor,
            access=self.policy,
            readiness=lambda: self.unready,
            metrics=lambda: b"mesh_up 1\n",
        )
        self.app = create_app(self.services)

    def client(self, name: str | None = None) -> httpx.AsyncClient:
        """As this person; None is a stranger."""
        headers = {"Authorization": f"Bearer {name}"} if name else {}
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="https://mesh.example", headers=headers
        )

    async def call(self, name: str | None, method: str, path: str, **options: object) -> httpx.Response:
        async with self.client(name) as client:
            return await client.request(method, path, **options)

    async def put(self, key: str, value: bytes) -> None:
        await self.store.transact([], [Put(key, value)])

    async def report(self, cluster: str, **changes: object) -> ClusterReport:
        peers = [name for name in MEMBERS if name != cluster]
        report = a_report(cluster, *peers, **changes)
        await self.put(REPORTS.key(cluster), REPORTS.encode(report))
        return report

    async def populate(self) -> None:
        """us-east owns `default` and `orders` in epoch 1; everybody reports and is level."""
        await self.sequencer.start()
        for name in MEMBERS:
            await self.put(CLUSTERS.key(name), CLUSTERS.encode(a_descriptor(name)))
            await self.report(name)
        await self.own({"default": "us-east", "orders": "us-east"})

    async def own(self, owners: dict[str, str]) -> None:
        routes = {name: Route(name, (Ownership(1, cluster, cluster),)) for name, cluster in owners.items()}
        await self.put(ROUTING, ROUTING_DOCUMENT.encode(RoutingDocument(1, routes)))
        for name, cluster in owners.items():
            await self.put(LEASES.key(name), LEASES.encode(LeaseClaim(cluster, 1)))
        await self.view.refresh()

    async def claim(self, namespace: str, cluster: str) -> None:
        """The lease that the owner takes in the current epoch."""
        epoch = self.view.routing.routes[namespace].epoch
        await self.put(LEASES.key(namespace), LEASES.encode(LeaseClaim(cluster, epoch)))

    async def strike(self) -> None:
        """us-east dies: its report and its leases end, and what the others heard of it last is 3 records ahead. This
        cluster has been started since, and knows of it by them alone."""
        gone = [Delete(REPORTS.key("us-east")), *(Delete(LEASES.key(name)) for name in self.view.routing.routes)]
        await self.store.transact([], gone)
        for name in ("eu-west", "ap-south"):
            await self.put(REPORTS.key(name), REPORTS.encode(a_survivor(name)))
        await self.view.refresh()
        self.view._last_reports.pop("us-east")

    async def planned(self, **changes: object) -> dict:
        answer = await self.call("alice", "POST", "/control/failovers", json={**PLAN, **changes})
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def approved(self, **changes: object) -> str:
        """The id of a new failover that bob has approved."""
        plan = await self.planned(**changes)
        decision = {"decision": "approve", "plan_hash": plan["plan"]["hash"]}
        answer = await self.call("bob", "POST", f"/control/failovers/{plan['id']}/approvals", json=decision)
        assert answer.json()["state"] == "approved", answer.text
        return plan["id"]

    async def step(self, failover_id: str, step: str, **query: object) -> httpx.Response:
        return await self.call("alice", "POST", f"/control/failovers/{failover_id}/{step}", params=query)

    async def state(self, failover_id: str) -> State:
        return (await self.failovers.load(failover_id))[0].state


@asynccontextmanager
async def running_mesh(duty: TicketDuty | None = None, clock: LoopClock | None = None) -> AsyncIterator[Mesh]:
    mesh = Mesh(duty, clock)
    await mesh.populate()
    async with background(mesh.view.run()):
        yield mesh


@asynccontextmanager
async def background(coroutine) -> AsyncIterator[None]:
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Agents:
    """What the agents of source and target do, as moves on the record. A test says which moves they make."""

    MOVES = ("demote", "reach", "gather", "fence", "open_writes", "write_canary", "see_canary")

    def __init__(self, mesh: Mesh, moves: tuple[str, ...] = MOVES) -> None:
        self._mesh = mesh
        self._moves = moves

    async def run(self) -> None:
        view = self._mesh.view
        while True:
            seen = view.changed.version
            for failover in list(view.failovers.values()):
                actor = Actor(f"cluster/{failover.source}", "system")
                with suppress(OmniRelayError):
                    if failover.state is State.FENCED:
                        await self._mesh.failovers.commit_promotion(failover.id, actor)
                    await self._mesh.failovers.mutate(failover.id, self._advance, actor, "failover.agent")
            await view.changed.wait_beyond(seen)

    def _advance(self, failover: Failover) -> Failover:
        for name in self._moves:
            failover = getattr(self, "_" + name)(failover)
        return failover

    def _now(self) -> str:
        return rfc3339(self._mesh.clock.wall_ms())

    def _demote(self, failover: Failover) -> Failover:
        barriers = {n: Barrier(failover.source, e, 40) for n, e in failover.expected_epochs.items()}
        token = DemotionToken(failover.id, failover.plan.hash, barriers, {failover.source: "ab" * 32}, self._now())
        return workflow.demote(failover, token, self._now())

    def _reach(self, failover: Failover) -> Failover:
        if failover.state is not State.DRAINING or failover.token is None:
            return failover
        reached = {n: barrier.sequence for n, barrier in failover.token.barriers.items()}
        return workflow.reach(failover, reached, failover.request.target, self._now())

    def _gather(self, failover: Failover) -> Failover:
        if failover.state is not State.GATHERING:
            return failover
        return emergency_workflow.gathered(failover, self._cuts(failover), self._now())

    def _fence(self, failover: Failover) -> Failover:
        if failover.state is not State.FENCING:
            return failover
        return emergency_workflow.fence(failover, self._cuts(failover), failover.request.target, self._now())

    def _cuts(self, failover: Failover) -> dict[str, Cursor]:
        return {name: Cursor(epoch, 40) for name, epoch in failover.expected_epochs.items()}

    def _open_writes(self, failover: Failover) -> Failover:
        for namespace in failover.request.namespaces:
            failover = workflow.open_writes(failover, [namespace], self._now())
        return failover

    def _write_canary(self, failover: Failover) -> Failover:
        for namespace in failover.opened:
            canary = Canary(failover.target_origin, 1, "cd" * 32, self._now())
            failover = workflow.write_canaries(failover, {namespace: canary}, self._now())
        return failover

    def _see_canary(self, failover: Failover) -> Failover:
        for namespace in failover.canaries:
            failover = workflow.see_canaries(failover, [namespace], "ap-south", self._now())
        return failover
