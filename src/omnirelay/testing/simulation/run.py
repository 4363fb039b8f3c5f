"""Plays one seed of one scenario."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import random
import time
from dataclasses import dataclass

from omnirelay.testing.simulation.loop import Deadlock, VirtualLoop
from omnirelay.testing.simulation.mesh import Mesh
from omnirelay.testing.simulation.scenario import Scenario

_log = logging.getLogger("omnirelay")


@dataclass(frozen=True, slots=True)
class Report:
    """How a run went. `events` are the scenario's steps, `callbacks` what the loop ran; equal seeds, equal `digest`."""

    scenario: str
    seed: int
    violation: str
    invariant: str
    events: int
    callbacks: int
    virtual_seconds: float
    real_seconds: float
    faults: int
    failovers: int
    batches: int
    acknowledged: int
    digest: str
    trace: tuple[str, ...]

    @property
    def failed(self) -> bool:
        return bool(self.violation)


def run(scenario: Scenario, seed: int) -> Report:
    started = time.perf_counter()
    loop = VirtualLoop(random.Random(f"{seed}/turns"))
    asyncio.set_event_loop(loop)
    mesh = Mesh(scenario, seed, loop)
    level, propagate = _log.level, _log.propagate
    _log.setLevel(logging.INFO)
    _log.propagate = False
    _log.addHandler(mesh)
    # Finalisers at moments that depend on the machine would make two runs differ.
    gc.disable()
    try:
        _play(loop, mesh)
        return _report(scenario, seed, loop, mesh, time.perf_counter() - started)
    finally:
        _log.removeHandler(mesh)
        _log.setLevel(level)
        _log.propagate = propagate
        _clear(loop, mesh)
        gc.enable()


def _play(loop: VirtualLoop, mesh: Mesh) -> None:
    loop.after_step = mesh.after_step
    play = loop.create_task(mesh.play())

    def stop(done: asyncio.Task[None]) -> None:
        loop.stop()

    play.add_done_callback(stop)
    try:
        loop.run_forever()
    except Deadlock as deadlock:
        mesh.fail("defect", str(deadlock))
    finally:
        play.remove_done_callback(stop)
    if play.done() and not play.cancelled():
        play.result()


def _clear(loop: VirtualLoop, mesh: Mesh) -> None:
    """Lets every task end, also those of killed processes, so that nothing is left to the garbage collector."""
    loop.after_step = lambda process: None
    mesh.close_all()
    for _ in range(100):
        tasks = asyncio.all_tasks(loop)
        if not tasks:
            break
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
    loop.run_until_complete(loop.shutdown_asyncgens())
    asyncio.set_event_loop(None)
    loop.close()


def _report(scenario: Scenario, seed: int, loop: VirtualLoop, mesh: Mesh, real_seconds: float) -> Report:
    facts, violation = mesh.facts, mesh.violation
    content = repr((loop.steps, mesh.events, loop.time(), sorted((k, b.digest) for k, b in facts.batches.items())))
    return Report(
        scenario.name,
        seed,
        str(violation or ""),
        violation.invariant if violation else "",
        mesh.events,
        loop.steps,
        loop.time(),
        real_seconds,
        mesh.faults,
        sum(len(route.history) - 1 for route in facts.routing.routes.values()),
        len(facts.batches),
        len(facts.acknowledged),
        hashlib.sha256(content.encode()).hexdigest()[:16],
        mesh.told_trace(),
    )
