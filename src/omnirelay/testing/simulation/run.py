"""Plays one seed of one scenario."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import multiprocessing
import random
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from omnirelay.failover.divergence import Resolution
from omnirelay.failover.record import Mode
from omnirelay.testing.simulation.loop import Process, Stuck, VirtualLoop
from omnirelay.testing.simulation.mesh import Mesh
from omnirelay.testing.simulation.mutants import MUTANTS
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
    cpu_seconds: float
    faults: int
    failovers: int
    """Promotions of every mode; of these `emergencies` and `failbacks`."""
    emergencies: int
    failbacks: int
    fenced: int
    """Batches that emergencies cut off."""
    decisions: int
    """About divergences; of these `replays`."""
    replays: int
    batches: int
    acknowledged: int
    digest: str
    trace: tuple[str, ...]

    @property
    def failed(self) -> bool:
        return bool(self.violation)

    def explain(self, path: Path) -> str:
        """For whoever has to find out why."""
        return "\n".join(
            (
                f"{self.scenario}, seed {self.seed}: {self.violation}",
                f"after {self.events} steps ({self.callbacks} callbacks, {self.virtual_seconds:.3f} s):",
                *self.trace,
                f"replay: python -m omnirelay.testing.simulation {path} --seed {self.seed}",
            )
        )


def run_all(scenario: Scenario, seeds: Iterable[int], processes: int, mutant: str | None = None) -> Iterator[Report]:
    """Reports as they come, over so many processes."""
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        pending = {pool.submit(run, scenario, seed, mutant) for seed in seeds}
        try:
            for done in as_completed(pending):
                yield done.result()
        finally:
            for future in pending:
                future.cancel()


def run(scenario: Scenario, seed: int, mutant: str | None = None) -> Report:
    """Plays one seed, with a planted bug if one is named."""
    with MUTANTS[mutant].plant() if mutant else nullcontext():
        return _run(scenario, seed)


def _run(scenario: Scenario, seed: int) -> Report:
    started = time.process_time()
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
        return _report(scenario, seed, loop, mesh, time.process_time() - started)
    finally:
        _clear(loop, mesh)
        _log.removeHandler(mesh)
        _log.setLevel(level)
        _log.propagate = propagate
        gc.enable()


def _play(loop: VirtualLoop, mesh: Mesh) -> None:
    play = loop.create_task(mesh.play())

    def after_step(process: Process) -> None:
        mesh.after_step(process)
        if mesh.violation is not None or play.done():
            loop.stop()

    loop.after_step = after_step
    try:
        loop.run_forever()
    except Stuck as stuck:
        mesh.fail("defect", str(stuck))
    loop.after_step = lambda process: None
    if play.done():
        play.result()


def _clear(loop: VirtualLoop, mesh: Mesh) -> None:
    """Lets every task end, also those of killed processes, so that nothing is left to the garbage collector."""
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


def _report(scenario: Scenario, seed: int, loop: VirtualLoop, mesh: Mesh, cpu_seconds: float) -> Report:
    facts, violation = mesh.facts, mesh.violation
    failovers = facts.failovers.values()
    content = repr((loop.steps, mesh.events, loop.time(), sorted((k, b.digest) for k, b in facts.batches.items())))
    return Report(
        scenario.name,
        seed,
        str(violation or ""),
        violation.invariant if violation else "",
        mesh.events,
        loop.steps,
        loop.time(),
        cpu_seconds,
        mesh.faults,
        sum(bool(f.routing_version) for f in failovers),
        len(facts.emergencies),
        sum(bool(f.routing_version) and f.request.mode is Mode.FAILBACK for f in failovers),
        sum(len(batches) for f in facts.emergencies for batches in facts.cut_off(f).values()),
        len(facts.decisions),
        sum(d.resolution in (Resolution.REPLAYING, Resolution.REPLAYED) for d in facts.decisions.values()),
        len(facts.batches),
        len(facts.acknowledged),
        hashlib.sha256(content.encode()).hexdigest()[:16],
        mesh.told_trace(),
    )
