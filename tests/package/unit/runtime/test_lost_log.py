"""A cluster whose own log was lost or rebuilt must not use its sequences again (I3)."""

import asyncio

import pytest
from tests.package.unit.failover.support import ROUTING, a_report
from tests.package.unit.runtime.mesh import ALICE, Producer, delivered, running_mesh
from tests.package.unit.runtime.test_planned import move
from tests.package.unit.runtime.virtual import in_virtual_time

from omnirelay.errors import BadRequest, ClusterInUse, LogNotLost, LogRebuilt
from omnirelay.failover.rebuild import next_incarnation
from omnirelay.ports.coordination import Put
from omnirelay.runtime.documents import REBUILDS
from omnirelay.runtime.rebuilding import Restart
from omnirelay.testing.memory_log import MemoryDisk


@in_virtual_time
async def test_fm35_an_active_that_comes_back_without_its_log_admits_nothing_and_says_why(tmp_path):
    async with running_mesh(tmp_path) as mesh:
        active, peer = mesh["us-east"], mesh["eu-west"]
        await Producer(active).publish("a", "b", "c")
        await mesh.settle()
        await mesh.until(lambda: peer.replicator.view.reports["eu-west"].vector.get("us-east") == 3)
        await active.kill()
        active.disk = MemoryDisk()
        await active.start()
        await mesh.until(active.replicator.reporter.problems)
        [problem] = active.replicator.reporter.problems()
        assert "holds us-east up to 3, this cluster itself up to 0" in problem
        with pytest.raises(LogRebuilt):
            active.replicator.ownerships.admit("default")
        assert active.admitting == {}


async def lose(mesh, name="us-east"):
    """The cluster comes back with nothing of its own log, while its peers hold it to its end."""
    lost = mesh[name]
    await mesh.settle()
    await lost.kill()
    lost.disk = MemoryDisk()
    await lost.start()
    await mesh.until(lambda: lost.replicator.ownerships.rebuilt() and "eu-west" in lost.replicator.view.reports)


async def ask(site, cluster="us-east", **options):
    return await site.replicator.rebuilding.request(cluster, "CHG-7", "its disk burnt", ALICE, **options)


async def evacuate(mesh):
    """What us-east owned is taken over by eu-west, and closed."""
    plan = await mesh["eu-west"].plan("eu-west", break_glass=True)
    for step in ("promote", "verify", "complete"):
        plan = await mesh["eu-west"].step(plan, step)


@in_virtual_time
async def test_fm35_a_cluster_without_its_log_comes_back_under_a_new_incarnation_when_it_is_told_to(tmp_path):
    async with running_mesh(tmp_path) as mesh:
        lost, taken_over = mesh["us-east"], mesh["eu-west"]
        await Producer(lost).publish("a", "b", "c")
        await lose(mesh)
        await evacuate(mesh)
        await asyncio.sleep(30.0)
        assert lost.replicator.sequencer.origin == "us-east", "nothing comes back by itself"
        rebuild = await ask(mesh["ap-south"])
        assert (rebuild.origin, rebuild.incarnation) == ("us-east", 2)
        await mesh.until(lambda: not lost.alive)
        with pytest.raises(Restart):
            lost._running.result()
        await lost.kill()
        await lost.start()
        await mesh.until(lambda: lost.replicator.reporter.problems() == [])
        assert lost.replicator.sequencer.origin == "us-east~2"
        await mesh.until(lambda: lost.vector == taken_over.vector)
        assert await delivered(lost) == ["a", "b", "c"], "its old log comes back from its peers"
        assert lost.replicator.view.rebuilds == {}
        entries = [e async for e in audited(taken_over, "clusters/us-east")]
        assert [(e.action, e.actor, e.change_ticket) for e in entries] == [
            ("cluster.rebuild", "token/alice", "CHG-7"),
            ("cluster.rebuilt", "cluster/us-east", "CHG-7"),
        ]
        await asyncio.sleep(10.0)  # the others ask it again, and report so
        await move(mesh, "us-east")
        await Producer(lost).publish("d")
        await mesh.settle()
        assert lost.vector["us-east~2"] > 0
        for site in mesh.sites.values():
            assert await delivered(site) == ["a", "b", "c", "d"]


async def audited(site, subject):
    for entry in await site.replicator.auditor.entries(0, 1000):
        if entry.subject == subject:
            yield entry


@in_virtual_time
async def test_fm35_a_rebuild_is_refused_while_the_cluster_owns_something_and_where_nothing_is_lost(tmp_path):
    async with running_mesh(tmp_path) as mesh:
        await Producer(mesh["us-east"]).publish("a")
        await mesh.settle()
        with pytest.raises(LogNotLost):
            await ask(mesh["eu-west"])
        await lose(mesh)
        with pytest.raises(ClusterInUse) as refused:
            await ask(mesh["eu-west"])
        assert refused.value.details["namespaces"] == "default"
        assert refused.value.operator_hint == (
            "Move the namespaces default to another cluster first: "
            "omnirelay mesh clusters promote TARGET --emergency --break-glass REASON"
        )
        for missing in (("", "why"), ("CHG-7", " ")):
            with pytest.raises(BadRequest):
                await mesh["eu-west"].replicator.rebuilding.request("us-east", *missing, ALICE)
        await evacuate(mesh)
        assert (await ask(mesh["eu-west"], dry_run=True)).incarnation == 2
        await asyncio.sleep(5.0)
        assert mesh["us-east"].alive, "a dry run changes nothing"


@in_virtual_time
async def test_fm35_a_process_that_dies_between_the_new_name_and_the_telling_of_it_only_tells(tmp_path):
    async with running_mesh(tmp_path) as mesh:
        lost = mesh["us-east"]
        await Producer(lost).publish("a")
        await lose(mesh)
        await evacuate(mesh)
        rebuild = await ask(mesh["eu-west"])
        await mesh.until(lambda: not lost.alive)
        await lost.kill()
        await mesh.store.transact([], [Put(REBUILDS.key("us-east"), REBUILDS.encode(rebuild))])
        await lost.start()
        await mesh.until(lambda: lost.replicator.view.rebuilds == {})
        await asyncio.sleep(5.0)
        assert lost.alive
        assert lost.replicator.sequencer.origin == "us-east~2"


def test_fm35_a_new_incarnation_is_one_that_nobody_ever_heard_of():
    reports = {
        "us-east": a_report("us-east", origin="us-east~2", vector={}),
        "eu-west": a_report("eu-west", vector={"us-east": 9, "us-east~4": 1}),
    }
    assert next_incarnation("us-east", ROUTING, reports) == 5
    assert next_incarnation("eu-west", ROUTING, reports) == 2
    assert next_incarnation("eu", ROUTING, reports) == 2
