"""What a cluster says of itself, where a failover may be decided by it."""

import asyncio

from tests.package.unit.runtime.mesh import Producer, running_mesh
from tests.package.unit.runtime.virtual import in_virtual_time


@in_virtual_time
async def test_nothing_is_told_to_be_here_that_was_not_looked_at_for_divergence(tmp_path):
    """A fenced record that came during the look was told to be here, and not to be open: the way home was free."""
    async with running_mesh(tmp_path) as mesh:
        site, view = mesh["eu-west"], mesh["ap-south"].replicator.view
        look, looked = site.replicator.reporter._unresolved, asyncio.Event()

        async def slow():
            if looked.is_set():
                await asyncio.Event().wait()
            found = await look()
            await Producer(mesh["us-east"]).publish("late")
            await mesh.until(lambda: site.vector.get("us-east") == 1)
            looked.set()
            return found

        site.replicator.reporter._unresolved = slow
        await looked.wait()
        at_ms = site.clock.wall_ms()
        await mesh.until(lambda: view.reports["eu-west"].at_ms >= at_ms)
        assert view.reports["eu-west"].vector.get("us-east", 0) == 0
