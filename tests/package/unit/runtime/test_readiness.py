"""A replicator is ready when its log is open, it sees the mesh as it is, and the store knows that it lives."""

import asyncio

from tests.package.unit.runtime.mesh import TIMING, Mesh, running_mesh
from tests.package.unit.runtime.virtual import in_virtual_time

from omnirelay.failover.evidence import FRESH_SECONDS
from omnirelay.testing.memory_coordination import Fault


def unready(site):
    return site.replicator.reporter.unready()


@in_virtual_time
async def test_it_was_ready_before_it_had_read_the_mesh(tmp_path):
    mesh = Mesh(tmp_path)
    site = mesh["us-east"]
    starting = asyncio.create_task(site.start())
    await asyncio.sleep(0)
    site.client.fault = Fault.UNAVAILABLE
    try:
        await asyncio.sleep(1.0)
        assert unready(site) == ["the mesh's state has not been read yet"]
        site.client.fault = None
        await mesh.until(lambda: unready(site) == [], seconds=FRESH_SECONDS)
    finally:
        site.client.fault = None
        await starting
        await site.kill()


@in_virtual_time
async def test_the_first_cluster_of_a_mesh_without_namespaces_is_ready(tmp_path):
    mesh = Mesh(tmp_path)
    site = mesh["us-east"]
    await site.start()
    await mesh.until(lambda: unready(site) == [], seconds=FRESH_SECONDS)
    assert site.replicator.view.clusters == {}
    seen = []
    for _ in range(100):
        await asyncio.sleep(1.0)
        seen += unready(site)
    assert seen == [], "an idle mesh is no silent one"
    await site.kill()


@in_virtual_time
async def test_it_was_ready_while_the_store_was_silent(tmp_path):
    async with running_mesh(tmp_path) as mesh:
        site = mesh["us-east"]
        await mesh.until(lambda: unready(site) == [])
        site.client.fault = Fault.UNAVAILABLE
        await asyncio.sleep(FRESH_SECONDS + 0.1)
        assert unready(site)[0].startswith("the coordination store has been silent for ")
        await asyncio.sleep(TIMING.lease_ttl)
        assert unready(site)[1:] == ["it holds no lease of the coordination store"]
        assert unready(mesh["eu-west"]) == []
        site.client.fault = None
        await mesh.until(lambda: unready(site) == [], seconds=FRESH_SECONDS)


@in_virtual_time
async def test_it_was_ready_without_a_lease(tmp_path, monkeypatch):
    async with running_mesh(tmp_path) as mesh:
        site = mesh["us-east"]
        await mesh.until(lambda: unready(site) == [])

        async def hanging(lease):
            await asyncio.Event().wait()

        monkeypatch.setattr(site.client, "keep_alive", hanging)
        await mesh.until(lambda: unready(site), seconds=TIMING.lease_ttl)
        assert unready(site) == ["it holds no lease of the coordination store"]


@in_virtual_time
async def test_it_was_ready_while_only_renewals_came_through(tmp_path, monkeypatch):
    async with running_mesh(tmp_path) as mesh:
        site = mesh["us-east"]
        await mesh.until(lambda: unready(site) == [])
        view, seen = site.replicator.view, []
        monkeypatch.setattr(view, "_apply", seen.append)  # its watch hangs
        await asyncio.sleep(3 * FRESH_SECONDS)
        assert seen
        assert view.silence_seconds < FRESH_SECONDS
        [problem] = unready(site)
        assert problem.startswith("its own report was seen in the coordination store ")
