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


@in_virtual_time
async def test_a_report_that_is_a_moment_ahead_of_the_link_says_nothing_of_how_fast_the_peer_writes(tmp_path):
    """What came within milliseconds was taken for a rate, and no loss that anybody would accept covered it."""
    async with running_mesh(tmp_path) as mesh:
        links, reporter = mesh["eu-west"].replicator.links, mesh["eu-west"].replicator.reporter
        writer = Producer(mesh["us-east"])
        for number in range(10):
            await writer.publish(f"w{number}")
            await asyncio.sleep(1.0)
        await asyncio.sleep(2.0)
        seen, link = links.report("us-east"), links.of("us-east")
        link.inbound.head = 1
        assert reporter._peer("us-east").heard == 10
        assert reporter._peer("us-east").heard_rate == seen.heard_rate
        link.inbound.last_contact -= 8.0
        assert 1.0 < reporter._peer("us-east").heard_rate < 1.8 > seen.heard_rate
