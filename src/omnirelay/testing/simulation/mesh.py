"""A whole mesh in one loop: clusters, clients, operators, nemesis, and the checkers that look on."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque

from omnirelay.client.outbox import Durability, PublishResult
from omnirelay.errors import OmniRelayError
from omnirelay.failover.modes import HOLDS_LOCK
from omnirelay.model.batch import Batch, BatchHeader
from omnirelay.model.descriptor import ClusterDescriptor, Endpoints
from omnirelay.model.position import Cursor
from omnirelay.model.routing import Ownership, Route, RoutingDocument
from omnirelay.ports.coordination import Put, Write
from omnirelay.ports.streams import FenceNotice, PublishAck
from omnirelay.runtime.delivering import ToReader
from omnirelay.runtime.documents import CLUSTERS, ROUTING, ROUTING_DOCUMENT
from omnirelay.testing.simulation.checkers import CHECKERS, Checker, Facts, Violation
from omnirelay.testing.simulation.checkers.emergencies import inexact, undecided
from omnirelay.testing.simulation.clock import VirtualClock
from omnirelay.testing.simulation.cluster import Cluster
from omnirelay.testing.simulation.faults import FAULTS, Trouble, Victims
from omnirelay.testing.simulation.loop import WORLD, Process, VirtualLoop, current_process
from omnirelay.testing.simulation.network import Network
from omnirelay.testing.simulation.operators import Mover, Operator, Rescuer, Settler
from omnirelay.testing.simulation.scenario import Scenario
from omnirelay.testing.simulation.store import SimulatedStore
from omnirelay.testing.simulation.workload import SimulatedConsumer, SimulatedProducer

NAMES = ("eu", "us", "ap", "sa", "af")
SPACES = ("default", "orders", "audit", "billing")
DURABILITIES: tuple[tuple[Durability, bool], ...] = (
    ("local", True),
    ("remote", False),
    ("remote", True),
    ("local", False),
)
"""What the producers wait for, in turn, and whether what they keep is kept for all other clusters or for one."""
WARM_UP_SECONDS = 3.0
LOOK_SECONDS = 0.5
TRACE_LINES = 40


class Mesh(logging.Handler):
    """One run. It is a log handler so that the product's own words come into the trace."""

    def __init__(self, scenario: Scenario, seed: int, loop: VirtualLoop) -> None:
        super().__init__()
        self.scenario = scenario
        self.loop = loop
        self.violation: Violation | None = None
        self.trace: deque[tuple[float, str, str | logging.LogRecord]] = deque(maxlen=TRACE_LINES)
        self.faults = 0
        self._rngs = random.Random(seed)
        self._clock = VirtualClock(loop.time)
        self.store = SimulatedStore(self._clock)
        self.network = Network(loop, self._rng())
        names, spaces = NAMES[: scenario.clusters], SPACES[: scenario.namespaces]
        self.clusters = {name: Cluster(name, loop, self.network, self.store, self, self._rng()) for name in names}
        self.facts = Facts(self.clusters, self.store)
        self.checkers: list[Checker] = [kind(self.facts, self.fail) for kind in CHECKERS]
        self.after_step_checkers = [c for c in self.checkers if type(c).after_step is not Checker.after_step]
        self.producers = [self._producer(i, spaces[i % len(spaces)]) for i in range(scenario.producers)]
        homes = {**{f"at-{name}": [name] for name in names}, "anywhere": list(names)}
        self.consumers = [
            SimulatedConsumer(f"reader-of-{space}-{home}", space, clusters, self.network, self, self._rng())
            for space in spaces
            for home, clusters in homes.items()
        ]
        self.facts.producers = {producer.name: producer for producer in self.producers}
        self.operators = [
            kind(f"{kind.__name__.lower()}-{i}", self.clusters, scenario.dithers, self._rng(), self._say, self)
            for kind, number in self._staff().items()
            for i in range(number)
        ]
        self._buried: list[Process] = []
        self._troubles: dict[Trouble, None] = {}
        self._nemesis: asyncio.Task[None] | None = None
        self._offering: asyncio.Task[None] | None = None

    @property
    def events(self) -> int:
        """Messages that arrived, commits, requests to the store, faults."""
        commits = sum(cluster.disk.commits for cluster in self.clusters.values())
        return self.network.messages + commits + self.store.requests + self.faults

    # --- the play --------------------------------------------------------------------------------------------------

    async def play(self) -> None:
        """Runs until the scenario is over and everything is level again, or a checker fails."""
        self._found()
        for cluster in self.clusters.values():
            cluster.start()
        for producer in self.producers:
            producer.start()
        for consumer in self.consumers:
            self.loop.spawn(Process(consumer.name), consumer.run())
        await asyncio.sleep(WARM_UP_SECONDS)
        for operator in self.operators:
            self.loop.spawn(Process(operator.name), operator.run(self.scenario.operator_seconds))
        self._offering = asyncio.create_task(self._offer())
        self._nemesis = asyncio.create_task(self._plague(self._rng()))
        while self.events < self.scenario.steps:  # noqa: ASYNC110  (virtual time costs nothing)
            await asyncio.sleep(LOOK_SECONDS)
        await self._settle()
        for checker in self.checkers:
            checker.at_end()

    def _found(self) -> None:
        """The mesh's first documents."""
        names = list(self.clusters)
        writes: list[Write] = [Put(CLUSTERS.key(name), CLUSTERS.encode(_descriptor(name))) for name in names]
        routes = {
            space: Route(space, (Ownership(1, names[i % len(names)], names[i % len(names)]),))
            for i, space in enumerate(SPACES[: self.scenario.namespaces])
        }
        writes.append(Put(ROUTING, ROUTING_DOCUMENT.encode(RoutingDocument(1, routes))))
        self.store.transact([], writes)

    async def _offer(self) -> None:
        """Each producer's application, at its own pace."""
        rng = self._rng()
        while True:
            await asyncio.sleep(rng.expovariate(1.0) * self.scenario.offer_seconds / len(self.producers))
            rng.choice(self.producers).offer()

    async def _plague(self, rng: random.Random) -> None:
        kinds, weights = list(self.scenario.faults), list(self.scenario.faults.values())
        while any(weights):
            await asyncio.sleep(rng.expovariate(1.0) * self.scenario.fault_seconds)
            (kind,) = rng.choices(kinds, weights)
            trouble = FAULTS[kind](Victims(self.clusters, self.network, self.producers, self._buried), rng)
            if trouble is not None:
                self.faults += 1
                self._say(trouble.what)
                self._troubles[trouble] = None
                self.loop.call_later(rng.expovariate(1.0) * self.scenario.lasting_seconds, self._end, trouble)

    def _end(self, trouble: Trouble) -> None:
        if trouble in self._troubles:
            del self._troubles[trouble]
            self._say(f"no longer: {trouble.what}")
            trouble.end()

    async def _settle(self) -> None:
        """Ends all trouble, lets nobody begin anything new, and waits until the mesh is level."""
        assert self._nemesis is not None
        assert self._offering is not None
        self._nemesis.cancel()
        self._offering.cancel()
        for trouble in list(self._troubles):
            self._end(trouble)
        for operator in self.operators:
            operator.retire()
        self._say("everything is healed")
        deadline = self.loop.time() + self.scenario.settle_seconds
        while (missing := self._unsettled()) and self.loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
        if missing:
            self.fail("I12", f"not level {self.scenario.settle_seconds:g} s after all was healed: {missing}")

    def _unsettled(self) -> str:
        """What is not level yet, by raw state; empty when all is."""
        held = [f.id for f in self.facts.failovers.values() if f.state in HOLDS_LOCK]
        if held:
            return f"{held[0]} is {self.facts.failovers[held[0]].state}"
        for producer in self.producers:
            if producer.unacknowledged:
                return f"{producer.name} has {producer.unacknowledged} batches unacknowledged"
        heads = {
            cluster.name: {origin: log.head.sequence for origin, log in cluster.disk.origins.items()}
            for cluster in self.clusters.values()
        }
        if any(head != heads[next(iter(heads))] for head in heads.values()):
            return f"logs differ: {heads}"
        if any(cluster.disk.routes != self.facts.routing.routes for cluster in self.clusters.values()):
            return "epoch histories differ"
        for failover in self.facts.emergencies:
            if why := inexact(self.facts, failover):
                return why
            if self.scenario.settlers and (records := undecided(failover)):
                return f"{records} records of {failover.id} wait for a decision"
        for consumer in self.consumers:
            order, at = self.facts.valid_order(consumer.namespace), consumer.reader.cursor
            if order and (at is None or at < Cursor(order[-1].header.epoch, order[-1].header.last_sequence)):
                return f"{consumer.name} is at {at}"
        return ""

    def _staff(self) -> dict[type[Operator], int]:
        return {Mover: self.scenario.operators, Rescuer: self.scenario.rescuers, Settler: self.scenario.settlers}

    # --- what is heard of ------------------------------------------------------------------------------------------

    def after_step(self, process: Process) -> None:
        for changes in self.facts.new_changes():
            for checker in self.checkers:
                checker.stored(changes)
            self.facts.take_changes(changes)
        touched = [c for c in self.clusters.values() if c.process is process or process is WORLD]
        for cluster in touched:
            for held in self.facts.new_batches(cluster):
                for checker in self.checkers:
                    checker.held(cluster, held)
                self.facts.take_batch(cluster, held)
        for checker in self.after_step_checkers:
            checker.after_step(touched)
        if self.loop.defects:
            self.fail("defect", self.loop.defects[0])

    def admitted(self, cluster: Cluster, header: BatchHeader) -> None:
        for checker in self.checkers:
            checker.admitted(cluster, header)

    def appended(self, cluster: Cluster, batch: Batch, installed: int | None) -> None:
        for checker in self.checkers:
            checker.appended(cluster, batch, installed)

    def acknowledges(self, cluster: Cluster, namespace: str, producer: str, ack: PublishAck) -> None:
        for checker in self.checkers:
            checker.acknowledges(cluster, namespace, producer, ack)

    def tells_remote(self, cluster: Cluster, namespace: str, producer: str, upto: int, copies: int) -> None:
        for checker in self.checkers:
            checker.tells_remote(cluster, namespace, producer, upto, copies)

    def delivers(self, cluster: Cluster, namespace: str, after: Cursor | None, epochs: int, message: ToReader) -> None:
        for checker in self.checkers:
            checker.delivers(cluster, namespace, after, epochs, message)

    def told(self, producer: SimulatedProducer, payload: bytes, result: PublishResult) -> None:
        for checker in self.checkers:
            checker.told(producer, payload, result)

    def broke(self, producer: SimulatedProducer, error: OmniRelayError) -> None:
        for checker in self.checkers:
            checker.broke(producer, error)

    def delivered(self, consumer: SimulatedConsumer, batch: Batch) -> None:
        for checker in self.checkers:
            checker.delivered(consumer, batch)

    def withdrawn(self, consumer: SimulatedConsumer, batch: Batch) -> None:
        for checker in self.checkers:
            checker.withdrawn(consumer, batch)

    def began_again(self, consumer: SimulatedConsumer) -> None:
        for checker in self.checkers:
            checker.began_again(consumer)

    def fenced(self, consumer: SimulatedConsumer, notice: FenceNotice) -> None:
        for checker in self.checkers:
            checker.fenced(consumer, notice)

    def rehearsed(self, operator: str, what: str, refusal: str) -> None:
        for checker in self.checkers:
            checker.rehearsed(operator, what, refusal)

    def emit(self, record: logging.LogRecord) -> None:
        self._note(record)

    def _say(self, what: str) -> None:
        self._note(what)

    def _note(self, what: str | logging.LogRecord) -> None:
        self.trace.append((self.loop.time(), current_process().name, what))

    def fail(self, invariant: str, what: str) -> None:
        if self.violation is None:
            self.violation = Violation(invariant, what)

    def told_trace(self) -> tuple[str, ...]:
        return tuple(
            f"{at:9.3f} {who:12} {what.getMessage() if isinstance(what, logging.LogRecord) else what}"
            for at, who, what in self.trace
        )

    def close_all(self) -> None:
        """After the play: every process may run once more, against ports that are closed."""
        for cluster in self.clusters.values():
            cluster.kill()
            for process in cluster.former:
                self.loop.bury(process)
        for process in self._buried:
            self.loop.bury(process)
        for connection in list(self.network.connections):
            connection.snap()

    # --- chance ----------------------------------------------------------------------------------------------------

    def _rng(self) -> random.Random:
        """A stream of its own for each part, so that one part's draws do not move another's."""
        return random.Random(self._rngs.random())

    def _producer(self, number: int, namespace: str) -> SimulatedProducer:
        names = list(self.clusters)
        durability, everywhere = DURABILITIES[number % len(DURABILITIES)]
        copies = len(names) - 1 if everywhere else 1
        rng = self._rng()
        return SimulatedProducer(f"p{number}", namespace, names, self.loop, self.network, self, rng, durability, copies)


def _descriptor(name: str) -> ClusterDescriptor:
    return ClusterDescriptor(name, name, Endpoints(name, name), ("mesh-team",), "CHG-1")
