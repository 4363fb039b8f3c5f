"""A planned failover among real replicators, where it touches what emergencies rely on."""

import asyncio

import pytest
from tests.package.unit.runtime.mesh import Producer, delivered, records_of, running_mesh
from tests.package.unit.runtime.virtual import in_virtual_time

from omnirelay.errors import BadRequest, CredentialsUnreadable, DrainTimedOut, NotActive, VerifyFailed
from omnirelay.failover.record import Limits, Mode, State
from omnirelay.model.batch import BatchKind
from omnirelay.ports.coordination import Put
from omnirelay.ports.streams import ProducerBatch
from omnirelay.runtime.acting import DISK_SECONDS
from omnirelay.runtime.agent import TICK_SECONDS
from omnirelay.runtime.documents import LEASES, ROUTING
from omnirelay.runtime.ownership import ARRIVAL_SECONDS
from omnirelay.runtime.planning import MAX_NAMESPACES
from omnirelay.runtime.view import RETRY_SECONDS

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


class TestAProducerThatComesToTheTargetEarly:
    """A drain sends producers on before there is anywhere to go."""

    @in_virtual_time
    async def test_fm21_it_is_kept_waiting_and_let_in_as_soon_as_the_target_is_active(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            failover = await mesh["eu-west"].plan("eu-west", mode=Mode.PLANNED)
            failover = await mesh["eu-west"].step(failover, "drain")
            early = asyncio.create_task(mesh["eu-west"].replicator.ownerships.admit_or_await("default"))
            await asyncio.sleep(ARRIVAL_SECONDS / 2)
            assert not early.done()
            asked = mesh.now
            await mesh["eu-west"].step(failover, "promote")
            assert (await early).epoch == 2
            assert mesh.now - asked < 0.1

    @in_virtual_time
    async def test_fm21_not_for_ever(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            failover = await mesh["eu-west"].plan("eu-west", mode=Mode.PLANNED)
            await mesh["eu-west"].step(failover, "drain")
            asked = mesh.now
            with pytest.raises(NotActive):
                await mesh["eu-west"].replicator.ownerships.admit_or_await("default")
            assert mesh.now - asked == pytest.approx(ARRIVAL_SECONDS, abs=0.01)

    @in_virtual_time
    async def test_fm21_it_hears_at_once_that_the_drain_was_undone(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            failover = await mesh["eu-west"].plan("eu-west", mode=Mode.PLANNED)
            await mesh["eu-west"].step(failover, "drain")
            early = asyncio.create_task(mesh["eu-west"].replicator.ownerships.admit_or_await("default"))
            await asyncio.sleep(0.1)
            asked = mesh.now
            await mesh["eu-west"].step(failover, "abort")
            with pytest.raises(NotActive, match="us-east"):
                await early
            assert mesh.now - asked < 0.1

    @in_virtual_time
    async def test_who_comes_to_a_bystander_is_sent_on_at_once(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            failover = await mesh["eu-west"].plan("eu-west", mode=Mode.PLANNED)
            await mesh["eu-west"].step(failover, "drain")
            asked = mesh.now
            with pytest.raises(NotActive):
                await mesh["ap-south"].replicator.ownerships.admit_or_await("default")
            assert mesh.now == asked


@in_virtual_time
async def test_many_namespaces_move_with_few_writes_to_the_store_and_one_to_the_disk(tmp_path):
    """A wait for a disk for each namespace made the outage grow with their number."""
    names = tuple(f"n{number:02}" for number in range(MAX_NAMESPACES))
    async with running_mesh(tmp_path, namespaces=names) as mesh:
        claims, barriers = [], []
        transact = mesh["eu-west"].client.transact

        async def counted(compares, writes):
            claims.extend([sum(write.key.startswith(LEASES.prefix) for write in writes)])
            return await transact(compares, writes)

        async def committing():
            barriers.append(1)

        failover = await mesh["eu-west"].plan("eu-west", mode=Mode.PLANNED, namespaces=names)
        mesh["us-east"].log.before_commit = committing
        failover = await mesh["eu-west"].step(failover, "drain")
        assert len(barriers) == 1
        mesh["eu-west"].client.transact = counted
        await mesh["eu-west"].step(failover, "promote")
        assert [n for n in claims if n] == [MAX_NAMESPACES, 40, 20], (
            "the promotion deletes the old claims, then two transactions"
        )


@in_virtual_time
async def test_a_claim_that_comes_too_late_for_the_store_is_made_again_at_once(tmp_path):
    """Other failovers move the routing all the time when there are many; each cost a wait for the watch."""
    async with running_mesh(tmp_path, namespaces=("default", "orders")) as mesh:
        failover = await mesh["eu-west"].plan("eu-west", mode=Mode.PLANNED)
        failover = await mesh["eu-west"].step(failover, "drain")
        transact, raced = mesh["eu-west"].client.transact, []

        async def overtaken(compares, writes):
            if len(raced) < 3 and any(isinstance(w, Put) and w.key.startswith(LEASES.prefix) for w in writes):
                raced.append(mesh.now)
                mesh["eu-west"].replicator.view._apply = lambda changes: None  # the watch is behind
                entry = await mesh.store.get(ROUTING)
                await mesh.store.transact([], [Put(ROUTING, entry.value)])
            return await transact(compares, writes)

        mesh["eu-west"].client.transact = overtaken
        await mesh["eu-west"].step(failover, "promote")
        await mesh.until(lambda: mesh["eu-west"].admitting)
        assert len(raced) == 3
        assert mesh.now - raced[0] < RETRY_SECONDS / 2


@in_virtual_time
async def test_more_namespaces_than_one_transaction_can_lock_are_refused_while_planning(tmp_path):
    """It was found out by the drain, which the store refused."""
    names = tuple(f"n{number:02}" for number in range(MAX_NAMESPACES + 1))
    async with running_mesh(tmp_path, namespaces=names) as mesh:
        with pytest.raises(BadRequest, match=f"at most {MAX_NAMESPACES}"):
            await mesh["eu-west"].plan("eu-west", mode=Mode.PLANNED, namespaces=names)
        await move(mesh, "eu-west", namespaces=names[1:])


@in_virtual_time
async def test_fm14_a_source_whose_disk_hangs_undoes_the_drain_in_time_and_says_why(tmp_path):
    async with running_mesh(tmp_path, namespaces=("default", "orders")) as mesh:
        source, target = mesh["us-east"], mesh["eu-west"]
        limits = Limits(approvals_required=0, drain_timeout_seconds=3.0)
        hung = await target.plan("eu-west", mode=Mode.PLANNED, limits=limits)
        answers = asyncio.Event()
        source.log.before_commit = answers.wait
        began = mesh.now
        with pytest.raises(DrainTimedOut, match="the disk has not taken the barrier of default"):
            await target.step(hung, "drain")
        assert mesh.now - began < 3.0 + 2 * TICK_SECONDS + DISK_SECONDS
        await mesh.until(lambda: not source.replicator.ownerships.closed, seconds=1.0)
        answers.set()
        await mesh.until(lambda: set(source.admitting) == {"default", "orders"})
        await Producer(source).publish("a")
        barriers = await source.log.read("us-east", 0, 1 << 20)
        assert [b.header.kind for b in barriers].count(BatchKind.BARRIER) == 1, "one, however often it was looked for"
        await asyncio.sleep(2.0)
        await move(mesh, "eu-west")


class TestASourceWhoseKeyCannotBeRead:
    @staticmethod
    def unable():
        """Asked again without end it gives up, so that a source that writes a barrier each time is found out."""
        left = iter(range(100))

        def sign(token):
            assert next(left, None) is not None
            raise CredentialsUnreadable("us-east.key cannot be read", path="us-east.key")

        return sign

    @in_virtual_time
    async def test_it_tries_again_and_writes_its_barrier_once(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            source, able = mesh["us-east"], mesh["us-east"].signer
            failover = await mesh["eu-west"].plan("eu-west", mode=Mode.PLANNED)
            source.signer = self.unable()
            await mesh["eu-west"].step(failover, "drain", wait=5.0)
            assert mesh["eu-west"].failover(failover.id).state is State.DRAINING
            source.signer = able
            await mesh["eu-west"].step(failover, "drain")
            batches = await source.log.read("us-east", 0, 1 << 20)
            assert [b.header.kind for b in batches].count(BatchKind.BARRIER) == 1
            await mesh["eu-west"].step(failover, "promote")

    @in_virtual_time
    async def test_it_undoes_the_drain_in_time_and_says_why(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            limits = Limits(approvals_required=0, drain_timeout_seconds=3.0)
            failover = await mesh["eu-west"].plan("eu-west", mode=Mode.PLANNED, limits=limits)
            mesh["us-east"].signer = self.unable()
            with pytest.raises(DrainTimedOut, match="key cannot be read"):
                await mesh["eu-west"].step(failover, "drain")
            await mesh.until(lambda: mesh["us-east"].admitting)


@in_virtual_time
async def test_fm11_an_emergency_does_not_wait_for_a_source_whose_disk_hangs(tmp_path):
    async with running_mesh(tmp_path) as mesh:
        source, target = mesh["us-east"], mesh["eu-west"]
        source.log.before_commit = asyncio.Event().wait
        async with Producer(source).stream() as stream:
            await stream.send(ProducerBatch(1, records_of("never durable"), 1))
            plan = await target.plan("eu-west", break_glass=True)
            done = await target.step(plan, "promote")
            assert done.state is State.PROMOTED
            assert source.admitting == {}
            assert source.replicator.ownerships.closed, "its agent goes on looking"


@pytest.mark.parametrize("ahead_seconds", [3600.0, -3600.0])
def test_fm17_deadlines_do_not_compare_the_clocks_of_two_clusters(tmp_path, ahead_seconds):
    @in_virtual_time
    async def run():
        async with running_mesh(tmp_path) as mesh:
            for other in ("us-east", "eu-west"):
                mesh[other].clock.ahead_seconds = ahead_seconds
            await Producer(mesh["us-east"]).publish("a")
            await asyncio.sleep(2.0)
            driver = mesh["ap-south"]
            failover = await driver.plan("eu-west", mode=Mode.PLANNED)
            for step in ("drain", "promote", "verify", "complete"):
                failover = await driver.step(failover, step)
            assert failover.state is State.COMPLETED
            await mesh["us-east"].kill()
            await asyncio.sleep(10.0)

    run()


@in_virtual_time
async def test_fm34_a_verification_ends_by_the_targets_own_clock(tmp_path):
    """Its time of day is behind that of whoever asked: it waits as long as was asked for, and not an hour more."""
    async with running_mesh(tmp_path) as mesh:
        mesh["eu-west"].clock.ahead_seconds = -3600.0
        driver = mesh["ap-south"]
        limits = Limits(approvals_required=0, verify_timeout_seconds=5.0)
        failover = await driver.plan("eu-west", mode=Mode.PLANNED, limits=limits)
        for step in ("drain", "promote"):
            failover = await driver.step(failover, step)
        await mesh["us-east"].kill()
        began = mesh.now
        with pytest.raises(VerifyFailed):
            await driver.step(failover, "verify")
        assert mesh.now - began < 5.0 + 4 * TICK_SECONDS
