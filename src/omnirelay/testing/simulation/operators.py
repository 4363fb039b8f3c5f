"""People who move ownership about: each with a browser, a temper and a way of vanishing between two steps.

An operator picks up a failover that somebody left lying, or begins what its kind begins; asks any cluster, for all are
equal; gives up, aborts, or disappears, as the seed has it.

    Mover       plans failovers
    Rescuer     looks for an active that is silent and promotes another in an emergency; now and then against a live one
    Settler     decides about what diverged, and takes ownership home
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from omnirelay.errors import OmniRelayError, Unreachable, VerifyFailed
from omnirelay.failover.divergence import Divergence, Resolution
from omnirelay.failover.emergency_preflight import RECEIVING
from omnirelay.failover.events import Event
from omnirelay.failover.evidence import Evidence
from omnirelay.failover.loss import best_prefix, in_reach, predict
from omnirelay.failover.modes import HOLDS_LOCK, is_open, machine
from omnirelay.failover.record import Failover, Limits, Mode, Request, State
from omnirelay.runtime.audit import Actor
from omnirelay.runtime.failovers import StepResult
from omnirelay.runtime.replicator import Replicator
from omnirelay.testing.simulation.cluster import TIMING, Cluster

T = TypeVar("T")

STEPS = {
    Mode.PLANNED: ("drain", "promote", "verify", "complete"),
    Mode.FAILBACK: ("drain", "promote", "verify", "complete"),
    Mode.EMERGENCY: ("promote", "verify", "complete"),
}
STEP_SECONDS = 6.0
"""How long an operator waits for the end of a step before looking again, ..."""
EMERGENCY_SECONDS = 20.0
"""... and for the promotion of an emergency, which waits for leases."""
LIMITS = Limits(max_lag_seconds=5.0, drain_timeout_seconds=3.0, verify_timeout_seconds=5.0, gather_timeout_seconds=3.0)
VANISHES = 0.06
"""Probability, before each call."""
ABORTS = 0.03
HANDS_ON_SECONDS = 0.1
"""About how long the next call takes to be made, "..."""
DITHERS_SECONDS = 3.0
"""... and how long when the operator thinks about it first."""
REHEARSES = 0.1
"""Probability of a dry run before the step."""
REHEARSAL = "rehearsal/"
"""Who asks for dry runs is called so; the name must never be found in the store."""
RESUMES = 0.7
"""Probability of going on with what lies about, rather than trying something new."""
DISTRUSTS = 0.15
"""Probability of an emergency against an active that is alive, where none is silent."""
BREAKS_GLASS = 0.2
"""Probability, where the active does not report, ..."""
BREAKS_GLASS_SEEING = 0.7
"""... and where it does."""
ACCEPTS_TOO_LITTLE = 0.25
"""Probability of accepting less than what is predicted, where anything is."""
STAYS = 0.5
"""Probability of not going home although one could."""


class Vanished(Exception):
    """The operator has had enough, or a power cut of its own."""


class Bystander(Protocol):
    def rehearsed(self, operator: str, what: str, refusal: str) -> None:
        """A dry run found nothing against a step, before and after the real one was refused, while nothing but the
        clock had moved."""
        ...


class Operator(ABC):
    """`dithers` is how likely it thinks before a call; `trace` takes a line of what it does.
    After `retire` it begins nothing new, but finishes what lies about."""

    def __init__(
        self,
        name: str,
        clusters: dict[str, Cluster],
        dithers: float,
        rng: random.Random,
        trace: Callable[[str], None],
        bystander: Bystander,
    ) -> None:
        self.name = name
        self._clusters = clusters
        self._dithers = dithers
        self._rng = rng
        self._trace = trace
        self._bystander = bystander
        self._actor = Actor(f"operator/{name}", "mtls")
        self._second = Actor(f"operator/{name}-supervisor", "mtls")
        self._rehearsing = Actor(f"{REHEARSAL}{name}", "mtls")
        self._steadfast = False

    async def run(self, pause_seconds: float) -> None:
        while True:
            await asyncio.sleep(self._rng.expovariate(1.0) * pause_seconds)
            try:
                await self._shift()
            except Vanished:
                self._trace("vanishes")
            except OmniRelayError as error:
                self._trace(f"gives up: {error.code}")

    def retire(self) -> None:
        self._steadfast = True

    async def _shift(self) -> None:
        open_failovers = await self._call(_open_failovers)
        if open_failovers and (self._steadfast or self._rng.random() < RESUMES):
            await self._drive(self._rng.choice(open_failovers))
        elif not self._steadfast:
            await self._begin()
        else:
            await self._tidy()

    @abstractmethod
    async def _begin(self) -> None:
        """Something new."""

    async def _tidy(self) -> None:
        """What is left to do once nothing new is to begin: nothing, for most."""
        return

    async def _plan(self, request: Request) -> Failover:
        dry_run = self._rng.random() < REHEARSES
        actor = self._rehearsing if dry_run else self._actor
        failover, new = await self._call(lambda r: r.failovers.plan(request, actor, "", dry_run))
        if dry_run:
            raise Vanished
        self._trace(f"{'plans' if new else 'finds'} {_title(failover)}")
        return failover

    async def _drive(self, failover: Failover) -> None:
        if failover.state is State.AWAITING_APPROVAL:
            self._trace(f"has {failover.id} approved")
            failover = await self._call(
                lambda r: r.failovers.approve(failover.id, "approve", failover.plan.hash, "", "api", self._second)
            )
        for step in STEPS[failover.request.mode]:
            if Event.ABORT in machine(failover).table[failover.state] and self._rng.random() < ABORTS:
                await self._step(failover, "abort")
                return
            try:
                failover = await self._step(failover, step)
            except VerifyFailed:
                if self._rng.random() < 0.5:
                    raise
                self._trace(f"does without the verification of {failover.id}")

    async def _step(self, failover: Failover, step: str) -> Failover:
        self._trace(f"asks {step} of {failover.id}")
        wait = EMERGENCY_SECONDS if failover.request.mode is Mode.EMERGENCY and step == "promote" else STEP_SECONDS
        rehearses = self._rng.random() < REHEARSES

        async def work(replicator: Replicator) -> StepResult:
            if rehearses:
                return await self._rehearsed(replicator, failover.id, step, wait)
            return await replicator.failovers.step(failover.id, step, self._actor, wait, reason="simulated")

        result: StepResult = await self._call(work)
        self._trace(f"has {step} of {failover.id}: {result.failover.state}")
        return result.failover

    async def _rehearsed(self, replicator: Replicator, failover_id: str, step: str, wait: float) -> StepResult:
        """A dry run first. When the real one is refused all the same, another shows whether anything has moved."""

        async def rehearse() -> None:
            await replicator.failovers.step(failover_id, step, self._rehearsing, 0.0, dry_run=True, reason="simulated")

        await rehearse()
        before = _picture(replicator)
        try:
            return await replicator.failovers.step(failover_id, step, self._actor, wait, reason="simulated")
        except OmniRelayError as error:
            if before == _picture(replicator):
                await rehearse()
                if before == _picture(replicator):
                    self._bystander.rehearsed(self.name, f"{step} of {failover_id}", error.code)
            raise

    async def _call(self, work: Callable[[Replicator], Coroutine[Any, Any, T]]) -> T:
        """Of any cluster, for a caller does not know who is alive; of the next one where nobody answers."""
        if not self._steadfast and self._rng.random() < VANISHES:
            raise Vanished
        seconds = DITHERS_SECONDS if self._rng.random() < self._dithers else HANDS_ON_SECONDS
        clusters = self._rng.sample(list(self._clusters.values()), len(self._clusters))
        while True:
            await asyncio.sleep(self._rng.expovariate(1.0) * seconds)
            try:
                return await clusters.pop().call(self.name, work)
            except Unreachable:
                if not clusters:
                    raise


class Mover(Operator):
    async def _begin(self) -> None:
        evidence = await self._call(_evidence)
        routes, target = evidence.routing.routes, self._rng.choice(sorted(self._clusters))
        names = [name for name, route in sorted(routes.items()) if route.active != target]
        wanted = tuple(sorted(self._rng.sample(names, self._rng.randint(1, len(names))))) if names else ()
        await self._drive(await self._plan(Request(Mode.PLANNED, target, wanted, "simulated", "CHG-1", LIMITS)))


class Rescuer(Operator):
    async def _begin(self) -> None:
        evidence = await self._call(_evidence)
        actives = sorted({route.active for route in evidence.routing.routes.values()})
        silent = [active for active in actives if _silent(evidence, active)]
        if silent:
            source = self._rng.choice(silent)
        elif actives and self._rng.random() < DISTRUSTS:
            source = self._rng.choice(actives)
        else:
            return
        request = self._request(evidence, source)
        if request is not None:
            await self._drive(await self._plan(request))

    def _request(self, evidence: Evidence, source: str) -> Request | None:
        names = [name for name, route in sorted(evidence.routing.routes.items()) if route.active == source]
        wanted = tuple(sorted(self._rng.sample(names, self._rng.randint(1, len(names)))))
        _, best = best_prefix(evidence.routing.routes[wanted[0]], in_reach(evidence, source))
        others = sorted(self._clusters.keys() - {source})
        target = best if best and self._rng.random() < 0.7 else self._rng.choice(others)
        request = Request(Mode.EMERGENCY, target, wanted, "simulated", "", LIMITS)
        predicted = sum(p.records for p in predict(evidence, request, source, TIMING.lease_ttl))
        accepted: int | None = predicted + self._rng.choice((0, 0, 10, 100))
        if self._rng.random() < ACCEPTS_TOO_LITTLE:
            accepted = predicted - 1 if predicted else None
        broken = self._rng.random() < (BREAKS_GLASS if evidence.fresh_report(source) is None else BREAKS_GLASS_SEEING)
        return Request(
            Mode.EMERGENCY,
            target,
            wanted,
            "simulated",
            "",
            LIMITS,
            accept_data_loss=None if broken else accepted,
            break_glass=broken,
        )


class Settler(Operator):
    async def _begin(self) -> None:
        if not await self._decide():
            await self._go_home()

    async def _tidy(self) -> None:
        await self._decide()

    async def _decide(self) -> bool:
        """About one divergence, if there is any. Returns whether there was."""
        open_ = await self._call(_unresolved)
        if not open_:
            return False
        id, dry_run = self._rng.choice(open_).id, self._rng.random() < REHEARSES
        kinds = (Resolution.REPLAYING, Resolution.EXPORTED, Resolution.DISCARDED)
        (resolution,) = self._rng.choices(kinds, (6, 2, 2))
        actor = self._rehearsing if dry_run else self._actor

        async def work(replicator: Replicator) -> Divergence:
            divergences, upto = replicator.divergences, None
            if resolution is Resolution.EXPORTED:
                found = await divergences.get(id)
                upto = found.last_sequence
                async for _ in divergences.batches(found):
                    pass
            return await divergences.decide(id, resolution, actor, "simulated", dry_run, upto)

        await self._call(work)
        self._trace(f"{'rehearses: ' if dry_run else ''}{id} is {resolution}")
        return True

    async def _go_home(self) -> None:
        """Reverses one of the failovers that are complete."""
        completed = await self._call(_reversible)
        if completed and self._rng.random() > STAYS:
            reversed_ = self._rng.choice(completed)
            request = Request(Mode.FAILBACK, "", (), "simulated", "CHG-2", LIMITS, reverses=reversed_.id)
            await self._drive(await self._plan(request))


async def _evidence(replicator: Replicator) -> Evidence:
    await replicator.view.refresh()
    return replicator.view.evidence()


def _silent(evidence: Evidence, active: str) -> bool:
    """No report, or nobody receives from it."""
    links = [r.peers[active].inbound for r in in_reach(evidence, active).values() if active in r.peers]
    return evidence.fresh_report(active) is None or not any(link.status in RECEIVING for link in links)


async def _open_failovers(replicator: Replicator) -> list[Failover]:
    """What is under way, or waits for somebody to begin."""
    await replicator.view.refresh()
    found = replicator.failovers.all()
    return [f for f in found if f.state in HOLDS_LOCK] or [f for f in found if is_open(f)]


async def _unresolved(replicator: Replicator) -> list[Divergence]:
    return await replicator.divergences.unresolved()


async def _reversible(replicator: Replicator) -> list[Failover]:
    """Failovers whose namespaces are where they brought them."""
    await replicator.view.refresh()
    routes = replicator.view.routing.routes
    return [
        f
        for f in replicator.failovers.all()
        if f.state is State.COMPLETED
        and all(routes[n].epoch == epoch + 1 for n, epoch in f.expected_epochs.items() if n in routes)
    ]


def _picture(replicator: Replicator) -> tuple[Any, ...]:
    """What a check judges, but for the time."""
    view = replicator.view
    return (
        view.routing_revision,
        dict(view.failover_revisions),
        dict(view.lock_revisions),
        dict(view.lease_revisions),
        {cluster: id(report) for cluster, report in view.reports.items()},
    )


def _title(failover: Failover) -> str:
    names, request = ",".join(failover.request.namespaces), failover.request
    return f"{failover.id} ({request.mode}): {names} from {failover.source} to {request.target}"
