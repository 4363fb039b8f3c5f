"""People who move ownership about: each with a browser, a temper and a way of vanishing between two steps.

An operator picks up a failover that somebody left lying, or plans one; asks any cluster, for all are equal; gives up,
aborts, or disappears, as the seed has it. Drivers of other modes are further subclasses of `Operator`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from omnirelay.errors import OmniRelayError
from omnirelay.failover.modes import HOLDS_LOCK, is_open
from omnirelay.failover.record import Failover, Limits, Mode, Request, State
from omnirelay.runtime.audit import Actor
from omnirelay.runtime.failovers import StepResult
from omnirelay.runtime.replicator import Replicator
from omnirelay.testing.simulation.cluster import Cluster

T = TypeVar("T")

STEPS = ("drain", "promote", "verify", "complete")
STEP_SECONDS = 6.0
"""How long an operator waits for the end of a step before looking again."""
LIMITS = Limits(max_lag_seconds=5.0, drain_timeout_seconds=3.0, verify_timeout_seconds=5.0)
VANISHES = 0.06
"""Probability, before each call."""
ABORTS = 0.03
HANDS_ON_SECONDS = 0.1
"""About how long the next call takes to be made, "..."""
DITHERS_SECONDS = 3.0
"""... and how long when the operator thinks about it first."""
REHEARSES = 0.1
"""Probability of a dry run before the step."""
RESUMES = 0.7
"""Probability of going on with what lies about, rather than trying something new."""


class Vanished(Exception):
    """The operator has had enough, or a power cut of its own."""


class Operator:
    """`dithers` is how likely it thinks before a call; `trace` takes a line of what it does.
    After `retire` it begins nothing new, but finishes what lies about."""

    def __init__(
        self,
        name: str,
        clusters: dict[str, Cluster],
        dithers: float,
        rng: random.Random,
        trace: Callable[[str], None],
    ) -> None:
        self.name = name
        self._clusters = clusters
        self._dithers = dithers
        self._rng = rng
        self._trace = trace
        self._actor = Actor(f"operator/{name}", "mtls")
        self._second = Actor(f"operator/{name}-supervisor", "mtls")
        self._steadfast = False
        self.finished = 0

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
            await self._drive(await self._plan())

    async def _plan(self) -> Failover:
        def work(replicator: Replicator) -> Coroutine[Any, Any, tuple[Failover, bool]]:
            routes = replicator.view.routing.routes
            target = self._rng.choice(sorted(self._clusters))
            names = [name for name, route in sorted(routes.items()) if route.active != target]
            wanted = tuple(sorted(self._rng.sample(names, self._rng.randint(1, len(names))))) if names else ()
            request = Request(Mode.PLANNED, target, wanted, "simulated", "CHG-1", LIMITS)
            return replicator.failovers.plan(request, self._actor, "", dry_run=self._rng.random() < 0.1)

        failover, new = await self._call(work)
        if not failover.id:
            raise Vanished  # it was a dry run
        self._trace(f"{'plans' if new else 'finds'} {_title(failover)}")
        return failover

    async def _drive(self, failover: Failover) -> None:
        if failover.state is State.AWAITING_APPROVAL:
            self._trace(f"has {failover.id} approved")
            failover = await self._call(
                lambda r: r.failovers.approve(failover.id, "approve", failover.plan.hash, "", "api", self._second)
            )
        for step in STEPS:
            if failover.state in (State.APPROVED, State.DRAINING, State.DRAINED) and self._rng.random() < ABORTS:
                await self._step(failover, "abort")
                return
            failover = await self._step(failover, step)
        self.finished += 1

    async def _step(self, failover: Failover, step: str) -> Failover:
        self._trace(f"asks {step} of {failover.id}")
        if self._rng.random() < REHEARSES:
            await self._call(lambda r: r.failovers.step(failover.id, step, self._actor, 0.0, dry_run=True))
        result: StepResult = await self._call(lambda r: r.failovers.step(failover.id, step, self._actor, STEP_SECONDS))
        self._trace(f"has {step} of {failover.id}: {result.failover.state}")
        return result.failover

    async def _call(self, work: Callable[[Replicator], Coroutine[Any, Any, T]]) -> T:
        """Of any cluster: a caller does not know who is alive."""
        if not self._steadfast and self._rng.random() < VANISHES:
            raise Vanished
        seconds = DITHERS_SECONDS if self._rng.random() < self._dithers else HANDS_ON_SECONDS
        await asyncio.sleep(self._rng.expovariate(1.0) * seconds)
        return await self._rng.choice(list(self._clusters.values())).call(self.name, work)


async def _open_failovers(replicator: Replicator) -> list[Failover]:
    """What is under way, or waits for somebody to begin."""
    await replicator.view.refresh()
    found = replicator.failovers.all()
    return [f for f in found if f.state in HOLDS_LOCK] or [f for f in found if is_open(f)]


def _title(failover: Failover) -> str:
    names = ",".join(failover.request.namespaces)
    return f"{failover.id}: {names} from {failover.source} to {failover.request.target}"
