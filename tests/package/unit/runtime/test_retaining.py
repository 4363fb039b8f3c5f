"""What retention holds back for a peer that lags, and what is said of it before it is too late (fm25)."""

import asyncio
import logging

import pytest
from tests.package.unit.runtime.mesh import ALICE, Producer, running_mesh
from tests.package.unit.runtime.test_planned import move
from tests.package.unit.runtime.virtual import in_virtual_time

from omnirelay.errors import BadRequest, NothingToReseed, ResumePointDeleted
from omnirelay.ports.streams import SeedPart
from omnirelay.runtime.retaining import LOOK_SECONDS, RetentionSettings
from omnirelay.testing.memory_log import MemoryDisk

CAP_BYTES = 10_000
FOREVER_MS = 10**12


def isolate(mesh, lost):
    for site in mesh.sites:
        if site != lost:
            mesh.cut(site, lost)


def used(site, peer):
    return site.replicator.links.report(peer).retention_used


async def fill(mesh, ratio):
    """Until so much of the cap is held back for ap-south."""
    active = mesh["us-east"]
    while (await active.log.backlog_bytes("us-east", 0)) < ratio * CAP_BYTES:
        await Producer(active).publish("x" * 100)


@in_virtual_time
async def test_fm25_a_peer_that_lags_is_told_of_at_50_and_at_80_percent_and_beyond_each_once(tmp_path, caplog):
    async with running_mesh(tmp_path, retention=RetentionSettings(FOREVER_MS, 0, CAP_BYTES)) as mesh:
        active = mesh["us-east"]
        isolate(mesh, "ap-south")
        said = []
        for ratio in (0.3, 0.55, 0.6, 0.85, 1.05):
            await fill(mesh, ratio)
            caplog.clear()
            await mesh.until(lambda r=ratio: (used(active, "ap-south") or 0) >= r)
            await mesh.until(lambda at=mesh.now: mesh.now > at + LOOK_SECONDS)
            said.append([r.getMessage() for r in caplog.records if "what is retained for ap-south" in r.getMessage()])
            assert used(active, "eu-west") == 0.0
        assert [len(words) for words in said] == [0, 2, 0, 2, 2], "once by each cluster that holds it back"
        assert "50 %" in said[1][0]
        assert "80 %" in said[3][0]
        assert "re-seeded" in said[4][0]


@in_virtual_time
async def test_fm25_what_is_held_back_counts_the_logs_of_all_clusters_and_outlives_a_restart(tmp_path):
    async with running_mesh(tmp_path, retention=RetentionSettings(FOREVER_MS, 10**9, CAP_BYTES)) as mesh:
        passive, lost = mesh["eu-west"], mesh["ap-south"]
        await Producer(mesh["us-east"]).publish("before")
        await mesh.settle()
        await mesh.until(lambda: passive.replicator.links.of("ap-south").acknowledged)
        await lost.kill()
        await fill(mesh, 0.6)
        await mesh.until(lambda: (used(passive, "ap-south") or 0) >= 0.5)
        await passive.kill()
        await passive.start()
        await mesh.until(lambda: (used(passive, "ap-south") or 0) >= 0.5)
        assert not passive.replicator.links.of("ap-south").acknowledged


@in_virtual_time
async def test_what_comes_while_retention_looks_at_what_is_needed_stays(tmp_path):
    """A fenced tail that arrived in between was dropped before anybody had looked at it."""
    async with running_mesh(tmp_path, retention=RetentionSettings(0, 0, 10**12)) as mesh:
        site, writer = mesh["eu-west"], Producer(mesh["us-east"])
        links = site.replicator.links

        async def held_by_all(sequence):
            await mesh.until(
                lambda: all(
                    (links.of(peer).acknowledged or {}).get("us-east", 0) >= sequence
                    for peer in ("us-east", "ap-south")
                )
            )

        await writer.publish("a")
        await held_by_all(1)

        async def look():
            await writer.publish("late")
            await held_by_all(2)
            return {}

        site.replicator.retaining._kept = look
        await site.replicator.retaining.retain()
        assert site.disk.origins["us-east"].floor.sequence == 1


@in_virtual_time
async def test_fm25_a_cluster_that_was_removed_from_the_mesh_holds_nothing_back(tmp_path):
    """What it had not confirmed filled the others' disks up to the cap."""
    async with running_mesh(tmp_path, retention=RetentionSettings(-1, 0, 10**12)) as mesh:
        site = mesh["us-east"]
        await Producer(site).publish("a")
        await mesh.settle()
        await mesh["ap-south"].kill()
        await Producer(site).publish("b")
        await mesh.until(lambda: (site.replicator.links.of("eu-west").acknowledged or {}).get("us-east") == 2)
        await site.replicator.retaining.retain()
        assert site.disk.origins["us-east"].floor.sequence == 1
        stored = site.replicator.clusters.get("ap-south")
        await site.replicator.clusters.delete("ap-south", stored.revision, "CHG-7", ALICE)
        await site.replicator.retaining.retain()
        assert site.disk.origins["us-east"].floor.sequence == 2


@in_virtual_time
async def test_fm25_the_last_other_cluster_that_was_removed_holds_nothing_back_either(tmp_path):
    """A mesh of one was taken for one that is not seen, and what the other had not confirmed stayed up to the cap."""
    async with running_mesh(tmp_path, retention=RetentionSettings(-1, 0, 10**12)) as mesh:
        site = mesh["us-east"]
        await Producer(site).publish("a")
        await mesh.settle()
        for name in ("ap-south", "eu-west"):
            await mesh[name].kill()
        await Producer(site).publish("b")
        clusters = site.replicator.clusters
        for name in ("ap-south", "eu-west"):
            await clusters.delete(name, clusters.get(name).revision, "CHG-7", ALICE)
        assert list(site.replicator.view.clusters) == ["us-east"]
        await site.replicator.retaining.retain()
        assert site.disk.origins["us-east"].floor.sequence == 2


@in_virtual_time
@pytest.mark.parametrize(("shown", "loaded"), [((), True), (("eu-west",), True), (("us-east", "eu-west"), False)])
async def test_fm25_while_the_mesh_is_not_seen_whoever_ever_confirmed_anything_holds_back(tmp_path, shown, loaded):
    """A cluster that does not find itself among the members does not know who they are."""
    async with running_mesh(tmp_path, retention=RetentionSettings(-1, 0, 10**12)) as mesh:
        site = mesh["us-east"]
        await Producer(site).publish("a")
        await mesh.settle()
        await mesh["ap-south"].kill()
        await Producer(site).publish("b")
        await mesh.until(lambda: (site.replicator.links.of("eu-west").acknowledged or {}).get("us-east") == 2)
        view = site.replicator.view
        view.clusters = {name: view.clusters[name] for name in shown}
        if not loaded:
            view.loaded.clear()
        await site.replicator.retaining.look()
        await site.replicator.retaining.retain()
        assert site.disk.origins["us-east"].floor.sequence == 1


@in_virtual_time
async def test_fm25_a_peer_that_catches_up_is_fine_again(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    async with running_mesh(tmp_path, retention=RetentionSettings(FOREVER_MS, 10**9, CAP_BYTES)) as mesh:
        active = mesh["us-east"]
        isolate(mesh, "ap-south")
        await fill(mesh, 0.9)
        await mesh.until(lambda: (used(active, "ap-south") or 0) >= 0.8)
        mesh.mend()
        await mesh.until(lambda: used(active, "ap-south") == 0.0)
        assert "below half of the cap again" in caplog.text


# --- re-seeding ---------------------------------------------------------------------------------------------------


async def fall_behind(mesh):
    """ap-south is away while what it lacks is published and dropped by everybody else. Another producer is idle since
    before that. Returns the sequence from which on us-east's log is kept."""
    active = mesh["us-east"]
    isolate(mesh, "ap-south")
    await Producer(active, "idle").publish("of old")
    await fill(mesh, 3.0)
    await mesh.until(lambda: all(oldest(mesh[name]) > 10 for name in ("us-east", "eu-west")), seconds=300)
    mesh.mend()
    await mesh.until(lambda: mesh["eu-west"].replicator.view.reports["ap-south"].deleted)


def oldest(site):
    return site.disk.origins["us-east"].floor.sequence + 1


async def ask(site, cluster="ap-south", **options):
    return await site.replicator.reseeding.request(cluster, "CHG-9", "its line was down", ALICE, **options)


SMALL = RetentionSettings(FOREVER_MS, 0, CAP_BYTES)


@in_virtual_time
async def test_fm25_a_cluster_that_fell_behind_retention_is_reseeded_when_it_is_told_to(tmp_path):
    async with running_mesh(tmp_path, retention=SMALL) as mesh:
        active, lost = mesh["us-east"], mesh["ap-south"]
        await Producer(active).publish("before")
        await mesh.settle()
        await fall_behind(mesh)
        await asyncio.sleep(60.0)
        assert lost.vector == {"us-east": 1}, "nothing is left out by itself"
        [problem] = lost.replicator.reporter.problems()
        assert "omnirelay mesh clusters reseed ap-south" in problem
        reseed = await ask(mesh["eu-west"])
        assert reseed.origins == ("us-east",)
        await mesh.until(lambda: lost.vector == active.vector)
        await mesh.until(lambda: lost.replicator.view.reseeds == {})
        assert lost.replicator.reporter.problems() == []
        assert lost.log.heads == active.log.heads, "to the same end, with the same digest"
        end = oldest(lost) - 1
        assert await lost.log.read("us-east", end, 1 << 30) == await active.log.read("us-east", end, 1 << 30)
        with pytest.raises(ResumePointDeleted):
            await lost.log.read("us-east", 0, 1)
        entries = [e for e in await active.replicator.auditor.entries(0, 1000) if e.subject == "clusters/ap-south"]
        assert [(e.action, e.actor) for e in entries] == [
            ("cluster.reseed", "token/alice"),
            ("cluster.reseeded", "cluster/ap-south"),
        ]
        head = active.log.heads["us-east"]
        assert entries[-1].after["proven"] == {"us-east": f"{head.sequence} {head.digest.hex()}"}


@in_virtual_time
async def test_fm25_what_other_clusters_write_goes_on_arriving_where_one_log_waits_for_a_seed(tmp_path):
    """Every stream that was asked for the dropped log ended, and with it what the same peer wrote itself."""
    async with running_mesh(tmp_path, retention=SMALL, namespaces=("default", "orders")) as mesh:
        lost = mesh["ap-south"]
        await move(mesh, "eu-west", namespaces=("orders",))
        await fall_behind(mesh)
        writer = Producer(mesh["eu-west"], namespace="orders")
        for text in "abcdefghij":
            await writer.publish(text)
            await mesh.until(lambda: lost.vector["eu-west"] == mesh["eu-west"].vector["eu-west"], seconds=1.0)
            await asyncio.sleep(1.0)
        assert lost.replicator.links.deleted() == {"us-east"}


@in_virtual_time
@pytest.mark.parametrize("details", [{}, {"origin": "us-east", "oldest": "soon"}])
async def test_fm25_a_peer_that_says_it_has_dropped_something_and_not_what_is_asked_again(tmp_path, details):
    async with running_mesh(tmp_path) as mesh:
        active, reader = mesh["us-east"], mesh["ap-south"]
        honest = active.replicator.outbound._send

        async def vague(*_):
            raise ResumePointDeleted("something is gone", **details)

        active.replicator.outbound._send = vague
        mesh.cut("us-east", "ap-south")
        mesh.mend()
        await mesh.until(lambda: reader.replicator.links.of("us-east").problem == "something is gone")
        assert reader.replicator.links.deleted() == set()
        active.replicator.outbound._send = honest
        await Producer(active).publish("a")
        await mesh.until(lambda: reader.replicator.links.of("us-east").receiving)
        assert reader.alive
        assert reader.vector == {"us-east": 1}


@in_virtual_time
async def test_fm25_a_reseeded_cluster_knows_what_producers_sent_before_and_can_be_promoted(tmp_path):
    async with running_mesh(tmp_path, retention=SMALL) as mesh:
        active, lost = mesh["us-east"], mesh["ap-south"]
        await fall_behind(mesh)
        await ask(mesh["eu-west"])
        await mesh.until(lambda: lost.vector == active.vector and not lost.replicator.view.reseeds)
        await asyncio.sleep(10.0)
        await move(mesh, "ap-south")
        retried = await Producer(lost, "idle").resend(1, "of old")
        assert retried.duplicate, "its batch was dropped before the seed was taken"
        await Producer(lost, "idle").publish("new")
        await mesh.settle()


@in_virtual_time
async def test_fm25_a_cluster_that_comes_back_with_nothing_at_all_is_reseeded_too(tmp_path):
    async with running_mesh(tmp_path, retention=SMALL) as mesh:
        active, lost = mesh["us-east"], mesh["ap-south"]
        await fall_behind(mesh)
        await lost.kill()
        lost.disk = MemoryDisk()
        await lost.start()
        await mesh.until(lost.replicator.links.deleted)
        await mesh.until(lambda: active.replicator.view.reports["ap-south"].deleted)
        await ask(active)
        await mesh.until(lambda: lost.vector == active.vector and not lost.replicator.view.reseeds)


@in_virtual_time
async def test_fm25_a_reseed_is_refused_where_everything_comes_by_itself(tmp_path):
    async with running_mesh(tmp_path, retention=SMALL) as mesh:
        await Producer(mesh["us-east"]).publish("a")
        with pytest.raises(NothingToReseed):
            await ask(mesh["eu-west"])
        await fall_behind(mesh)
        await mesh.until(lambda: mesh["eu-west"].replicator.view.reports["ap-south"].deleted)
        assert (await ask(mesh["eu-west"], dry_run=True)).origins == ("us-east",)
        assert mesh["eu-west"].replicator.view.reseeds == {}, "a dry run changes nothing"
        with pytest.raises(BadRequest):
            await mesh["eu-west"].replicator.reseeding.request("ap-south", "CHG-9", " ", ALICE)


@in_virtual_time
async def test_fm25_a_seed_that_nobody_asked_for_is_refused(tmp_path):
    async with running_mesh(tmp_path, retention=SMALL) as mesh:
        active, lost = mesh["us-east"], mesh["ap-south"]
        await fall_behind(mesh)
        seed = await active.log.seed_of("us-east")
        before = dict(lost.log.heads)

        async def pushed(stream, progress, moved, seeds):
            await stream.send(SeedPart(seed, True))
            await asyncio.Event().wait()

        active.replicator.outbound._send = pushed
        await mesh.until(lambda: "was not asked for" in lost.replicator.links.of("us-east").problem)
        assert dict(lost.log.heads) == before
