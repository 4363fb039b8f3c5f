"""What retention holds back for a peer that lags, and what is said of it before it is too late (fm25)."""

import logging

from tests.package.unit.runtime.mesh import Producer, running_mesh
from tests.package.unit.runtime.virtual import in_virtual_time

from omnirelay.runtime.retaining import LOOK_SECONDS, RetentionSettings

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
