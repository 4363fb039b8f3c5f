"""A planned failover among real replicators, where it touches what emergencies rely on."""

import asyncio

from tests.package.unit.runtime.mesh import Producer, delivered, running_mesh
from tests.package.unit.runtime.virtual import in_virtual_time

from omnirelay.failover.record import Limits, Mode, State

STEPS = ("drain", "promote", "verify", "complete")


async def move(mesh, target, **changes):
    failover = await mesh[target].plan(target, mode=Mode.PLANNED, **changes)
    for step in STEPS:
        failover = await mesh[target].step(failover, step)
    assert failover.state is State.COMPLETED


@in_virtual_time
async def test_i9_a_target_with_a_hole_before_the_barrier_has_not_reached_it(tmp_path):
    """ap-south holds the barrier's log to its end, and misses a part of the epoch before, which is in another log."""
    async with running_mesh(tmp_path) as mesh:
        target = mesh["ap-south"]
        sequencer = target.replicator.sequencer
        release = sequencer.hold
        sequencer.hold(frozenset({"us-east"}))
        sequencer.hold = lambda origins: None
        await Producer(mesh["us-east"]).publish("a")
        await move(mesh, "eu-west")
        await Producer(mesh["eu-west"]).publish("b")
        await mesh.until(lambda: target.vector == {"eu-west": mesh["eu-west"].vector["eu-west"]})
        await asyncio.sleep(2.0)
        limits = Limits(approvals_required=0, drain_timeout_seconds=5.0)
        failover = await mesh["eu-west"].plan("ap-south", mode=Mode.PLANNED, limits=limits)
        await mesh["eu-west"].step(failover, "drain", wait=2.0)
        assert mesh["eu-west"].failover(failover.id).state is State.DRAINING
        assert mesh["eu-west"].failover(failover.id).token is not None
        release(frozenset())
        await mesh.until(lambda: mesh["eu-west"].failover(failover.id).state is State.DRAINED)
        await mesh["eu-west"].step(failover, "promote")
        assert await delivered(target) == ["a", "b"]


@in_virtual_time
async def test_there_and_back_loses_and_doubles_nothing_and_leaves_nothing_diverged(tmp_path):
    async with running_mesh(tmp_path) as mesh:
        for turn, target in enumerate(("eu-west", "ap-south", "us-east")):
            active = next(site for site in mesh.sites.values() if site.admitting)
            await Producer(active).publish(f"{turn}")
            await asyncio.sleep(2.0)
            await move(mesh, target)
        await mesh.settle()
        for site in mesh.sites.values():
            assert await delivered(site) == ["0", "1", "2"]
            assert await site.replicator.divergences.all() == []
