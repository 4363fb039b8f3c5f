"""Planted bugs: a checker that never fails proves nothing.

Each mutant changes one thing of the product for the length of a run and names the invariants of which at least one
must be reported then. It is caught if any of the default seeds of its scenario reports it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from omnirelay.failover import emergency_preflight, emergency_workflow, loss, workflow
from omnirelay.failover.planned import SOURCE_CLOSED
from omnirelay.failover.record import Failover, LossRange, State
from omnirelay.model.batch import Batch
from omnirelay.model.position import START, Cursor
from omnirelay.model.routing import Route, RoutingDocument
from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.log import EpochGuard
from omnirelay.replication.picture import LogPicture
from omnirelay.replication.receiver import Decision, receive
from omnirelay.runtime import failovers, publishing, sequencer
from omnirelay.runtime.acting import Acting
from omnirelay.runtime.agent import Agent
from omnirelay.runtime.audit import Actor
from omnirelay.runtime.delivering import Delivering
from omnirelay.runtime.emergency_role import EmergencyRole
from omnirelay.runtime.failovers import Failovers, StepResult
from omnirelay.runtime.ownership import Ownerships
from omnirelay.runtime.planned_role import PlannedRole
from omnirelay.runtime.sequencer import Queued, Sequencer
from omnirelay.testing.batches import head_after
from omnirelay.testing.memory_log import MemoryLog, OriginOnDisk

Planting = Callable[[], AbstractContextManager[Any]]

LATE_SECONDS = 0.5
"""How much longer an epoch's way to the log takes, where that is to show a bug more often."""


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    breaks: frozenset[str]
    """Invariants, any of which gives it away."""
    scenario: str
    """In which it shows."""
    plant: Planting


MUTANTS: dict[str, Mutant] = {}


def _mutant(*breaks: str, scenario: str = "handovers") -> Callable[[Planting], Planting]:
    def register(plant: Planting) -> Planting:
        name = plant.__name__.lstrip("_").replace("_", "-")
        MUTANTS[name] = Mutant(name, frozenset(breaks), scenario, plant)
        return plant

    return register


@_mutant("I2", "I1")
@contextmanager
def epoch_check_skipped_on_append() -> Iterator[None]:
    """A cluster judges by the epoch in its own log alone, however old that is, and the log does not look at all. Epochs
    reach the logs late, as they do on a slow disk: nothing but these checks makes that harmless."""
    route, append, install = Ownerships._route, Sequencer._append, Sequencer.install

    def installed(self: Ownerships, namespace: str) -> Route:
        return self._sequencer.routes().get(namespace) or route(self, namespace)

    def unguarded(self: Sequencer, batch: Batch, guard: EpochGuard | None) -> Queued:
        return append(self, batch, None)

    async def late(self: Sequencer, routes: Mapping[str, Route]) -> None:
        await asyncio.sleep(LATE_SECONDS)
        await install(self, routes)

    with (
        patch.object(Ownerships, "_route", installed),
        patch.object(Sequencer, "_append", unguarded),
        patch.object(Sequencer, "install", late),
    ):
        yield


@_mutant("I10", scenario="emergencies")
@contextmanager
def drain_without_deadline() -> Iterator[None]:
    with patch.object(Acting, "passed", lambda self, failover, step, began_at, seconds: False):
        yield


@_mutant("I9", "I8", "I6")
@contextmanager
def promote_without_recheck() -> Iterator[None]:
    """Once drained is drained for good: what the record has become since the driver last looked does not matter. What
    the source admits once it is open again lies beyond the cut: acknowledged (I9), or held by the target (I6)."""
    promote, raise_if_undone = workflow.promote, failovers._raise_if_undone

    def careless(failover: Failover, routing: RoutingDocument, actor: str, now: str) -> Any:
        if failover.state is State.ABORTED and failover.reached:
            failover = replace(failover, state=State.DRAINED)
        return promote(failover, routing, actor, now)

    def only_drains(name: str, failover: Failover) -> None:
        if name != "promote":
            raise_if_undone(name, failover)

    with patch.object(workflow, "promote", careless), patch.object(failovers, "_raise_if_undone", only_drains):
        yield


@_mutant("I3")
@contextmanager
def gap_ignored() -> Iterator[None]:
    """What comes is applied, whether it follows or not; the log, which would refuse it too, is as careless."""

    def careless(picture: LogPicture, batch: Batch) -> Decision:
        decision = receive(picture, batch)
        return Decision.APPLY if decision is Decision.GAP else decision

    def append(self: MemoryLog, batch: Batch, guard: EpochGuard | None) -> None:
        on_disk = self._disk.origins.setdefault(batch.header.origin, OriginOnDisk())
        on_disk.batches.append(batch)
        on_disk.head = head_after(on_disk.head, batch)

    with patch.object(sequencer, "receive", careless), patch.object(MemoryLog, "_append", append):
        yield


@_mutant("I5")
@contextmanager
def producer_table_not_replicated() -> Iterator[None]:
    """Only what a cluster admitted itself moves its producers' marks."""
    apply = Sequencer.apply

    def forgetful(self: Sequencer, batch: Batch) -> Any:
        before = {n: {e: dict(m) for e, m in epochs.items()} for n, epochs in self.picture._producers.items()}
        answer = apply(self, batch)
        self.picture._producers = before
        return answer

    with patch.object(Sequencer, "apply", forgetful):
        yield


@_mutant("I4", "I1")
@contextmanager
def lease_not_rechecked_before_the_acknowledgement() -> Iterator[None]:
    with patch.object(Ownerships, "still", lambda self, namespace, epoch: None):
        yield


@_mutant("I9", "I10", "I1")
@contextmanager
def drain_undone_without_compare_and_set() -> Iterator[None]:
    """When the deadline passes the source just opens again, and the record goes on saying that it drains."""
    keep_closed = Agent._keep_closed
    as_source = PlannedRole.as_source

    def expired(acting: Acting, failover: Failover) -> bool:
        mine = failover.source == acting.cluster and failover.state in SOURCE_CLOSED
        timeout = failover.request.limits.drain_timeout_seconds
        return mine and acting.passed(failover, "drain", failover.drain_started_at, timeout)

    def opens(self: Agent) -> None:
        view = self._acting.view
        due = {id: failover for id, failover in view.failovers.items() if not expired(self._acting, failover)}
        with patch.object(view, "failovers", due):
            keep_closed(self)

    async def idles(self: PlannedRole, failover: Failover) -> None:
        if not expired(self._acting, failover):
            await as_source(self, failover)

    with patch.object(Agent, "_keep_closed", opens), patch.object(PlannedRole, "as_source", idles):
        yield


@_mutant("I6", scenario="emergencies")
@contextmanager
def fence_cut_taken_before_the_gather() -> Iterator[None]:
    gather, fence = EmergencyRole._gather, emergency_workflow.fence
    early: dict[str, Mapping[str, Cursor]] = {}

    async def noting(self: EmergencyRole, failover: Failover) -> None:
        routes, held = self._acting.sequencer.routes(), self._acting.sequencer.log_vector()
        early.setdefault(failover.id, {n: routes[n].unbroken_prefix(held) for n in failover.request.namespaces})
        await gather(self, failover)

    def too_early(failover: Failover, cuts: Mapping[str, Cursor], *others: Any) -> Failover:
        return fence(failover, early.get(failover.id, cuts), *others)

    with (
        patch.object(EmergencyRole, "_gather", noting),
        patch.object(emergency_workflow, "fence", too_early),
    ):
        yield


@_mutant("I6", "I9", scenario="emergencies")
@contextmanager
def only_the_next_ownership_consulted_for_fencedness() -> Iterator[None]:
    def next_cut(route: Route, epoch: int) -> Cursor | None:
        return next((ownership.cut for ownership in route.history if ownership.epoch > epoch), None)

    def valid_end(self: Route, epoch: int) -> int | None:
        cut = next_cut(self, epoch)
        if cut is None or cut.epoch > epoch:
            return None
        return cut.sequence if cut.epoch == epoch else 0

    def is_valid(self: Route, place: Cursor) -> bool:
        cut = next_cut(self, place.epoch)
        return cut is None or place <= cut

    with (
        patch.object(Route, "valid_end", valid_end),
        patch.object(Route, "_valid_ends", lambda self: [valid_end(self, o.epoch) for o in self.history]),
        patch.object(Route, "is_valid", is_valid),
    ):
        yield


@_mutant("I6", scenario="emergencies")
@contextmanager
def fencing_by_version_vector() -> Iterator[None]:
    """What the new active holds of the last owner's log is valid, whatever it misses of the epochs before."""
    take, fence = EmergencyRole._fence, emergency_workflow.fence
    targets: dict[str, Sequencer] = {}

    async def noting(self: EmergencyRole, failover: Failover) -> None:
        targets[failover.id] = self._acting.sequencer
        await take(self, failover)

    def by_vector(failover: Failover, cuts: Mapping[str, Cursor], *others: Any) -> Failover:
        routes, held = targets[failover.id].routes(), targets[failover.id].log_vector()
        return fence(failover, {name: _last_held(routes[name], held) for name in cuts}, *others)

    with patch.object(EmergencyRole, "_fence", noting), patch.object(emergency_workflow, "fence", by_vector):
        yield


@_mutant("I4", scenario="emergencies")
@contextmanager
def remote_counted_outside_the_unbroken_prefix() -> Iterator[None]:
    """A batch counts as soon as a peer holds it, whatever that one misses before."""

    def remote_end(route: Route, acknowledged: Iterable[VersionVector], copies: int) -> Cursor:
        ends = sorted((_last_held(route, vector) for vector in acknowledged), reverse=True)
        return ends[copies - 1] if len(ends) >= copies else START

    with patch.object(publishing, "remote_end", remote_end):
        yield


@_mutant("I11", scenario="emergencies")
@contextmanager
def emergency_waits_for_its_source() -> Iterator[None]:
    """The target goes on only once the source has confirmed its demotion, however long its lease is over; and a source
    whose lease is over has nothing to confirm."""
    as_source = EmergencyRole.as_source

    async def confirms_what_it_holds(self: EmergencyRole, failover: Failover) -> None:
        if any(map(self._acting.ownerships.held_seconds, failover.request.namespaces)):
            await as_source(self, failover)

    with (
        patch.object(EmergencyRole, "_claimed", lambda self, failover, namespace: True),
        patch.object(EmergencyRole, "as_source", confirms_what_it_holds),
    ):
        yield


@_mutant("I13", scenario="emergencies")
@contextmanager
def loss_accepted_by_silence() -> Iterator[None]:
    with (
        patch.object(emergency_workflow, "require_acceptance", lambda request, predictions: None),
        patch.object(emergency_preflight, "require_acceptance", lambda request, predictions: None),
    ):
        yield


@_mutant("I14", scenario="emergencies")
@contextmanager
def dry_run_that_runs() -> Iterator[None]:
    step = Failovers.step

    async def runs(
        self: Failovers, id: str, name: str, actor: Actor, wait: float, dry_run: bool = False, reason: str = ""
    ) -> StepResult:
        return await step(self, id, name, actor, wait, False, reason)

    with patch.object(Failovers, "step", runs):
        yield


@_mutant("I7", scenario="emergencies")
@contextmanager
def reader_not_told_what_was_taken_back() -> Iterator[None]:
    async def nothing(self: Delivering, route: Route, cut: Cursor, delivered: Cursor) -> AsyncIterator[Batch]:
        none: tuple[Batch, ...] = ()
        for batch in none:
            yield batch

    with patch.object(Delivering, "_withdrawn", nothing):
        yield


@_mutant("I7", "I12", scenario="emergencies")
@contextmanager
def manifest_lacks_its_last_range() -> Iterator[None]:
    manifest = loss.manifest

    def short(*args: Any) -> tuple[LossRange, ...]:
        return manifest(*args)[:-1]

    with patch.object(loss, "manifest", short):
        yield


def _last_held(route: Route, held: VersionVector) -> Cursor:
    return Cursor(route.epoch, held[route.current.origin])
