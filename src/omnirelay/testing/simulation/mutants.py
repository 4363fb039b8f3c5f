"""Planted bugs: a checker that never fails proves nothing.

Each mutant changes one thing of the product for the length of a run and names the invariants of which at least one
must be reported then. It is caught if any of the default seeds reports it.

Of the emergency path, to be planted beside it once its drivers are in `operators`: the fence cut taken before the
gather, only the next ownership consulted for fenced-ness, fencing by version vector instead of the order-closed cut,
`remote` counted outside the unbroken prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from omnirelay.failover import workflow
from omnirelay.failover.planned import SOURCE_CLOSED
from omnirelay.failover.record import Failover, State
from omnirelay.model.batch import Batch
from omnirelay.model.routing import Route, RoutingDocument
from omnirelay.ports.log import EpochGuard
from omnirelay.replication.picture import LogPicture
from omnirelay.replication.receiver import Decision, receive
from omnirelay.runtime import failovers, sequencer
from omnirelay.runtime.acting import Acting
from omnirelay.runtime.agent import Agent
from omnirelay.runtime.ownership import Ownerships
from omnirelay.runtime.planned_role import PlannedRole
from omnirelay.runtime.sequencer import Queued, Sequencer
from omnirelay.testing.batches import head_after
from omnirelay.testing.memory_log import MemoryLog, OriginOnDisk

Planting = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    breaks: frozenset[str]
    """Invariants, any of which gives it away."""
    plant: Planting


MUTANTS: dict[str, Mutant] = {}


def _mutant(*breaks: str) -> Callable[[Planting], Planting]:
    def register(plant: Planting) -> Planting:
        name = plant.__name__.lstrip("_").replace("_", "-")
        MUTANTS[name] = Mutant(name, frozenset(breaks), plant)
        return plant

    return register


@_mutant("I2", "I1")
@contextmanager
def epoch_check_skipped_on_append() -> Iterator[None]:
    """A cluster judges by the epoch in its own log alone, however old that is, and the log does not look at all."""
    route, append = Ownerships._route, Sequencer._append

    def installed(self: Ownerships, namespace: str) -> Route:
        return self._sequencer.routes().get(namespace) or route(self, namespace)

    def unguarded(self: Sequencer, batch: Batch, guard: EpochGuard | None) -> Queued:
        return append(self, batch, None)

    with patch.object(Ownerships, "_route", installed), patch.object(Sequencer, "_append", unguarded):
        yield


@_mutant("I10")
@contextmanager
def drain_without_deadline() -> Iterator[None]:
    with patch.object(Acting, "passed", lambda self, failover, step, began_at, seconds: False):
        yield


@_mutant("I9", "I8")
@contextmanager
def promote_without_recheck() -> Iterator[None]:
    """Once drained is drained for good: what the record has become since the driver last looked does not matter."""
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
