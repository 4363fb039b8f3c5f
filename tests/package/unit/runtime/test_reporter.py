"""What a cluster says of itself, where a failover may be decided by it."""

import asyncio

from tests.package.unit.runtime.mesh import Producer, running_mesh
from tests.package.unit.runtime.test_divergences import come_back, decide, emergency, isolate, split_mesh
from tests.package.unit.runtime.virtual import in_virtual_time

from omnirelay.failover.divergence import Resolution
from omnirelay.failover.evidence import FRESH_SECONDS
from omnirelay.failover.record import State
from omnirelay.testing.memory_coordination import Fault


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


class Looks:
    """Takes the place of a cluster's look at what diverged: `before` it and `after` it, as a test says."""

    def __init__(self, site, before=None, after=None):
        self._look, self._before, self._after = site.replicator.reporter._unresolved, before, after
        self.now = self.most = self.begun = self.cancelled = 0
        site.replicator.reporter._unresolved = self.look

    async def look(self):
        self.begun, self.now = self.begun + 1, self.now + 1
        self.most = max(self.most, self.now)
        try:
            if self._before:
                await self._before()
            found = await self._look()
            if self._after:
                await self._after()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.now -= 1
        return found


@in_virtual_time
async def test_a_cluster_that_lives_is_not_taken_for_gone_while_it_looks_at_what_diverged(tmp_path):
    """It did not report before it had looked, which has no bound: it was unready, and no target of an emergency."""
    async with running_mesh(tmp_path) as mesh:
        us, eu, other = mesh["us-east"], mesh["eu-west"], mesh["ap-south"].replicator.view
        await Producer(us).publish("a")
        await mesh.settle()
        looks = Looks(eu, before=lambda: asyncio.sleep(60.0))
        await us.kill()
        for _ in range(200):
            await asyncio.sleep(0.1)
            assert eu.replicator.reporter.unready() == []
            assert other.report_age("eu-west") < FRESH_SECONDS - 1.0
        failover = await eu.step(await eu.plan("eu-west"), "promote")
        assert (failover.state, looks.begun) == (State.PROMOTED, 1)


@in_virtual_time
async def test_a_long_look_goes_on_beside_the_reports_alone_and_the_next_one_is_told(tmp_path):
    async with split_mesh(tmp_path) as mesh:
        await come_back(mesh)
        eu, other = mesh["eu-west"], mesh["ap-south"].replicator.view
        gate = asyncio.Event()
        looks = Looks(eu, before=gate.wait)
        await Producer(eu, "q").publish("later")
        await asyncio.sleep(30.0)
        assert (looks.begun, looks.most) == (1, 1)
        gate.set()
        await mesh.until(lambda: looks.begun > 2, seconds=4.0)
        await mesh.until(lambda: other.reports["eu-west"].diverged == {"default": 3}, seconds=4.0)
        assert looks.most == 1


@in_virtual_time
async def test_what_a_long_look_found_is_not_told_of_what_came_after_it_began(tmp_path):
    """The fenced tail of a cluster that came back would be told to be here, and not to be open."""
    async with split_mesh(tmp_path) as mesh:
        eu, other = mesh["eu-west"], mesh["ap-south"].replicator.view
        gate = asyncio.Event()
        looks = Looks(eu, after=gate.wait)
        await mesh.until(lambda: looks.now)
        await come_back(mesh)
        told = []
        for wait in range(60):
            await asyncio.sleep(0.1)
            report = other.reports["eu-west"]
            told.append((report.vector["us-east"], report.diverged))
            if wait == 30:
                gate.set()
        assert all(diverged in (None, {"default": 3}) for vector, diverged in told if vector > 1), told
        assert (4, None) in told
        assert told[-1] == (4, {"default": 3})
        assert [vector for vector, _ in told] == sorted(vector for vector, _ in told), "and no report goes back"


@in_virtual_time
async def test_what_a_long_look_found_is_not_told_of_an_epoch_that_ended_since_it_began(tmp_path):
    """What was valid then is fenced now, and no log had to grow for it."""
    async with running_mesh(tmp_path) as mesh:
        us, eu, ap = (mesh[name] for name in ("us-east", "eu-west", "ap-south"))
        await Producer(us).publish("a")
        await mesh.settle()
        isolate(mesh, "ap-south")
        await Producer(us).publish("b")
        await mesh.until(lambda: us.replicator.view.reports["eu-west"].vector.get("us-east") == 2)
        gate = asyncio.Event()
        looks = Looks(eu, after=gate.wait)
        await mesh.until(lambda: looks.now)
        eu.client.fault = Fault.UNAVAILABLE
        await emergency(mesh, "us-east", "ap-south")
        eu.client.fault = None
        await mesh.until(lambda: eu.replicator.sequencer.routes()["default"].epoch == 2)
        at_ms, view = eu.clock.wall_ms(), ap.replicator.view
        await mesh.until(lambda: "eu-west" in view.reports and view.reports["eu-west"].at_ms > at_ms)
        assert view.reports["eu-west"].diverged is None
        gate.set()
        await mesh.until(lambda: view.reports["eu-west"].diverged == {"default": 1}, seconds=4.0)


@in_virtual_time
async def test_what_diverged_stays_known_where_every_look_takes_long_and_nothing_more_can_be_fenced(tmp_path):
    """A slow disk would keep everybody from going home."""
    async with split_mesh(tmp_path) as mesh:
        await come_back(mesh)
        eu, other = mesh["eu-west"], mesh["ap-south"].replicator.view
        await mesh.until(lambda: other.reports["eu-west"].diverged == {"default": 3})
        Looks(eu, before=lambda: asyncio.sleep(2.5))
        for number in range(100):
            if number % 10 == 0:
                await Producer(eu, "q").publish(f"q{number}")
            await asyncio.sleep(0.1)
            assert other.reports["eu-west"].diverged == {"default": 3}
        assert other.reports["eu-west"].vector["eu-west"] >= eu.vector["eu-west"] - 2


@in_virtual_time
async def test_what_was_decided_during_a_long_look_is_not_told_to_be_open(tmp_path):
    async with split_mesh(tmp_path) as mesh:
        await come_back(mesh)
        eu, other = mesh["eu-west"], mesh["ap-south"].replicator.view
        await mesh.until(lambda: other.reports["eu-west"].diverged == {"default": 3})
        gate = asyncio.Event()
        looks = Looks(eu, after=gate.wait)
        await mesh.until(lambda: looks.now)
        await decide(mesh, Resolution.DISCARDED)
        at_ms = eu.clock.wall_ms() + 1000
        await mesh.until(lambda: other.reports["eu-west"].at_ms > at_ms)
        assert other.reports["eu-west"].diverged is None
        gate.set()
        await mesh.until(lambda: other.reports["eu-west"].diverged == {}, seconds=4.0)


@in_virtual_time
async def test_a_look_ends_with_its_replicator(tmp_path):
    async with running_mesh(tmp_path) as mesh:
        eu = mesh["eu-west"]
        looks = Looks(eu, before=asyncio.Event().wait)
        await asyncio.sleep(10.0)
        assert (looks.now, looks.cancelled) == (1, 0)
        await eu.kill()
        assert (looks.now, looks.cancelled) == (0, 1)


@in_virtual_time
async def test_a_defect_in_a_look_ends_the_replicator_also_when_reports_went_on_meanwhile(tmp_path):
    async with running_mesh(tmp_path) as mesh:
        eu = mesh["eu-west"]

        async def defect():
            await asyncio.sleep(10.0)
            raise ZeroDivisionError

        Looks(eu, after=defect)
        await mesh.until(lambda: not eu.alive, seconds=15.0)
        assert eu._running.exception().subgroup(ZeroDivisionError)


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
