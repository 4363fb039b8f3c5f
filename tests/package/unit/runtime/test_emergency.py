"""An emergency among real replicators: when the old active's claim ends, what is taken over, what cannot go wrong."""

import asyncio

import pytest
from tests.package.unit.runtime.mesh import ALICE, TIMING, Producer, delivered, running_mesh
from tests.package.unit.runtime.virtual import in_virtual_time

from omnirelay.errors import GatherTimedOut, NotActive, OperationInProgress, PreflightFailed, VerifyFailed
from omnirelay.failover.record import Grade, Limits, Mode, Request, State
from omnirelay.model.position import Cursor
from omnirelay.ports.coordination import Delete
from omnirelay.runtime.audit import Actor
from omnirelay.runtime.documents import LEASES
from omnirelay.runtime.emergency_role import EXPIRY_SLACK_SECONDS
from omnirelay.testing.memory_coordination import Fault
from omnirelay.testing.memory_log import MemoryDisk

TTL = TIMING.lease_ttl


async def promote(mesh, target="eu-west", **changes):
    plan = await mesh[target].plan(target, **changes)
    return await mesh[target].step(plan, "promote")


async def finish(mesh, failover, target="eu-west"):
    for step in ("verify", "complete"):
        failover = await mesh[target].step(failover, step)
    return failover


def events(failover):
    return [f"{e.step} {e.event}" for e in failover.journal]


def deaf(site):
    """Its watch and its readings hang, while its lease goes on being renewed: it sees neither failover nor fence."""
    view = site.replicator.view
    view._apply = lambda changes: None

    async def refresh():
        return view.revision

    view.refresh = refresh


async def lost(message):
    """What is sent and never comes."""


class TestGather:
    @in_virtual_time
    async def test_fm07_fm12_what_only_the_third_has_of_a_source_that_hangs_is_asked_of_it(self, tmp_path):
        """Its connection stayed open, so its log was asked of nobody else until keepalive ended that: the gather did
        not reach what the third held."""
        async with running_mesh(tmp_path) as mesh:
            source, target, third = mesh["us-east"], mesh["eu-west"], mesh["ap-south"]
            [stream] = [stream for stream, ends in mesh.streams.items() if ends == ("eu-west", "us-east")]
            stream.other.send = lost
            await Producer(source).publish("a")
            await mesh.until(lambda: third.vector == source.vector)
            assert target.vector == {}
            await source.hang()
            await asyncio.sleep(TTL)
            assert stream in mesh.streams, "it is still open"
            promoted = await promote(mesh)
            assert (promoted.state, promoted.cuts) == (State.PROMOTED, {"default": Cursor(1, 1)})
            assert await delivered(target) == ["a"]


class TestFence:
    @in_virtual_time
    async def test_fm11_a_dead_source_is_waited_for_until_its_lease_ends_and_no_longer(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            await Producer(mesh["us-east"]).publish("a", "b", "c")
            await mesh.settle()
            died = mesh.now
            await mesh["us-east"].kill()
            await asyncio.sleep(3.0)
            promoted = await promote(mesh)
            assert (promoted.state, promoted.cuts) == (State.PROMOTED, {"default": Cursor(1, 3)})
            assert mesh.now - died < TTL + 0.5
            assert mesh["eu-west"].admitting == {"default": 2}
            assert await delivered(mesh["eu-west"]) == ["a", "b", "c"]
            assert "fence revoked" not in events(promoted), "a dead cluster's claim ends by itself"

    @in_virtual_time
    async def test_a_source_whose_lease_has_ended_is_not_waited_for_at_all(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            await mesh["us-east"].kill()
            await asyncio.sleep(TTL + 1)
            began = mesh.now
            await promote(mesh)
            assert mesh.now - began < 1.0

    @in_virtual_time
    async def test_a_living_source_closes_and_says_so_at_once(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            began = mesh.now
            promoted = await promote(mesh, break_glass=True)
            assert mesh.now - began < 1.5, "no lease was waited for"
            assert promoted.demoted
            assert mesh["us-east"].admitting == {}
            with pytest.raises(NotActive):
                await Producer(mesh["us-east"]).publish("zombie")

    @in_virtual_time
    async def test_a_source_that_renews_but_sees_nothing_is_revoked_and_given_a_whole_ttl(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            zombie = mesh["us-east"]
            deaf(zombie)
            began = mesh.now
            plan = await mesh["eu-west"].plan("eu-west", break_glass=True)
            promoting = asyncio.create_task(mesh["eu-west"].step(plan, "promote"))
            while not mesh["eu-west"].admitting:
                assert not (zombie.admitting and mesh["eu-west"].admitting)
                await asyncio.sleep(0.01)
            assert zombie.admitting == {}
            promoted = await promoting
            assert events(promoted)[2:5] == ["gather gathered", "fence revoked", "fence fenced"]
            assert mesh.now - began == pytest.approx(2 * TTL + EXPIRY_SLACK_SECONDS, abs=1.5)

    @in_virtual_time
    async def test_fm08_never_do_two_admit_at_once_also_when_an_emergency_is_aborted_and_made_again(self, tmp_path):
        """The first one has revoked the claim, so the second finds none: the zombie may still use it for a ttl."""
        async with running_mesh(tmp_path) as mesh:
            zombie, target = mesh["us-east"], mesh["eu-west"]
            deaf(zombie)
            first = await target.plan("eu-west", break_glass=True)
            await target.step(first, "promote", wait=0)
            await mesh.until(lambda: target.failover(first.id).revoked)
            await target.step(first, "abort")
            second = await target.plan("eu-west", break_glass=True, reason="again")
            promoting = asyncio.create_task(target.step(second, "promote"))
            await mesh.until(lambda: target.admitting)
            assert zombie.admitting == {}
            await promoting

    @pytest.mark.parametrize("seconds", [0.15, 0.3, 0.45])
    @in_virtual_time
    async def test_fm08_a_mark_that_the_store_took_long_to_write_keeps_the_zombie_s_whole_ttl(self, tmp_path, seconds):
        """The mark's ttl ran from before it stood, and both clusters acknowledged for the difference."""
        async with running_mesh(tmp_path) as mesh:
            zombie, target = mesh["us-east"], mesh["eu-west"]
            deaf(zombie)
            plan = await target.plan("eu-west", break_glass=True)
            await target.step(plan, "promote", wait=0)
            await mesh.until(lambda: target.failover(plan.id).state is State.FENCING)
            target.client.latency_seconds = seconds
            await mesh.until(lambda: target.failover(plan.id).revoked)
            target.client.latency_seconds = 0.0
            await mesh.until(lambda: target.admitting)
            assert zombie.admitting == {}

    @in_virtual_time
    async def test_fm02_a_target_that_restarts_before_the_mark_s_time_has_begun_lets_it_begin(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            zombie, target = mesh["us-east"], mesh["eu-west"]
            deaf(zombie)
            plan = await target.plan("eu-west", break_glass=True)
            await target.step(plan, "promote", wait=0)
            grant = target.client.grant_lease

            async def hangs(ttl):
                return await (asyncio.Event().wait() if target.failover(plan.id).revoked else grant(ttl))

            target.client.grant_lease = hangs
            await mesh.until(lambda: target.failover(plan.id).revoked)
            await target.kill()
            await asyncio.sleep(TTL)
            assert mesh["ap-south"].replicator.view.leases["default"].lasting
            began = mesh.now
            await target.start()
            await mesh.until(lambda: target.admitting)
            assert mesh.now - began >= TTL
            assert zombie.admitting == {}

    @in_virtual_time
    async def test_i4_a_mark_whose_time_begins_late_takes_away_no_claim_that_was_made_since(self, tmp_path):
        """The emergency was given up and the source claimed again while the target waited for a lease: the mark took
        the place of the living claim, and its end let a third cluster begin beside the source."""
        async with running_mesh(tmp_path) as mesh:
            source, target = mesh["us-east"], mesh["eu-west"]
            deaf(source)
            plan = await target.plan("eu-west", break_glass=True)
            await target.step(plan, "promote", wait=0)
            asked, go = slow_grant(target, plan.id)
            await asked.wait()
            await mesh["ap-south"].step(plan, "abort")
            await source.kill()
            await source.start()
            await mesh.until(lambda: source.admitting)
            claim = await mesh.store.get(LEASES.key("default"))
            go.set()
            await asyncio.sleep(1.0)
            assert await mesh.store.get(LEASES.key("default")) == claim
            assert source.admitting

    @in_virtual_time
    async def test_a_mark_that_is_gone_by_the_time_its_lease_is_granted_is_no_defect(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            target = mesh["eu-west"]
            deaf(mesh["us-east"])
            plan = await target.plan("eu-west", break_glass=True)
            await target.step(plan, "promote", wait=0)
            asked, go = slow_grant(target, plan.id)
            await asked.wait()
            await mesh["ap-south"].step(plan, "abort")
            await mesh.store.transact([], [Delete(LEASES.key("default"))])
            await asyncio.sleep(0.1)
            go.set()
            await asyncio.sleep(1.0)
            assert target.alive

    @in_virtual_time
    async def test_a_mark_that_an_emergency_left_costs_the_next_one_ttl(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            target, third = mesh["eu-west"], mesh["ap-south"]
            deaf(mesh["us-east"])
            plan = await target.plan("eu-west", break_glass=True)
            await target.step(plan, "promote", wait=0)
            asked, _ = slow_grant(target, plan.id)
            await asked.wait()
            await target.kill()
            await mesh["us-east"].kill()
            await mesh.until(lambda: third.failover(plan.id).state is State.ABORTED)
            await asyncio.sleep(60.0)
            began = mesh.now
            await promote(mesh, "ap-south", break_glass=True)
            assert mesh.now - began < TTL + 1.0

    @in_virtual_time
    async def test_fm02_a_target_that_restarts_while_it_waits_waits_a_whole_ttl_again(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            zombie, target = mesh["us-east"], mesh["eu-west"]
            deaf(zombie)
            plan = await target.plan("eu-west", break_glass=True)
            await target.step(plan, "promote", wait=0)
            await mesh.until(lambda: target.failover(plan.id).revoked)
            revoked = mesh.now
            await target.kill()
            await target.start()
            await mesh.until(lambda: target.admitting)
            assert mesh.now - revoked >= TTL - 1e-6
            assert zombie.admitting == {}

    @in_virtual_time
    async def test_fm05_a_source_without_the_store_stops_before_its_lease_ends_there(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            source, target = mesh["us-east"], mesh["eu-west"]
            source.client.fault = Fault.UNAVAILABLE
            for other in ("eu-west", "ap-south"):
                mesh.cut("us-east", other)
            await asyncio.sleep(3.0)
            plan = await target.plan("eu-west")
            promoting = asyncio.create_task(target.step(plan, "promote"))
            while not target.admitting:
                assert len([s for s in mesh.sites.values() if s.admitting]) <= 1
                await asyncio.sleep(0.01)
            assert source.admitting == {}
            await promoting


class TestCut:
    @in_virtual_time
    async def test_fm12_what_another_cluster_holds_is_gathered_before_the_cut(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            target = mesh["eu-west"]
            disk = slow_disk(target)
            await Producer(mesh["us-east"]).publish("a", "b", "c")
            await mesh.until(lambda: mesh["ap-south"].vector == {"us-east": 3})
            await mesh["us-east"].kill()
            await asyncio.sleep(TTL + 1)
            plan = await target.plan("eu-west")
            promoting = asyncio.create_task(target.step(plan, "promote"))
            await asyncio.sleep(2.0)
            assert target.failover(plan.id).state is State.GATHERING
            disk.set()
            promoted = await promoting
            assert (promoted.cuts, promoted.manifest) == ({"default": Cursor(1, 3)}, ())
            assert await delivered(target) == ["a", "b", "c"]

    @in_virtual_time
    async def test_fm12_a_target_that_cannot_gather_gives_up_and_names_who_holds_more(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            target = mesh["eu-west"]
            slow_disk(target)
            await Producer(mesh["us-east"]).publish("a")
            await asyncio.sleep(2.0)
            limits = Limits(approvals_required=0, gather_timeout_seconds=2.0)
            plan = await target.plan("eu-west", break_glass=True, limits=limits)
            with pytest.raises(GatherTimedOut, match="did not reach what ap-south holds within 2 s") as gave_up:
                await target.step(plan, "promote")
            assert gave_up.value.details["best"] == "ap-south"
            await mesh.until(lambda: mesh["us-east"].admitting == {"default": 1})

    @in_virtual_time
    async def test_fm12_what_a_peer_took_since_its_last_report_is_gathered_too(self, tmp_path):
        """The source lives and acknowledges until it is barred; ap-south has what its report does not tell yet."""
        async with running_mesh(tmp_path) as mesh:
            target, peer = mesh["eu-west"], mesh["ap-south"]
            sequencer = target.replicator.sequencer
            release, sequencer.hold = sequencer.hold, lambda origins: None
            release(frozenset({"us-east"}))
            plan = await target.plan("eu-west", break_glass=True)
            view = target.replicator.view
            await mesh.until(lambda: view.report_age("ap-south") < 0.02)
            await Producer(mesh["us-east"]).publish("a")
            await mesh.until(lambda: peer.vector == {"us-east": 1})
            assert view.reports["ap-south"].vector == {}, "it has not reported since"
            await target.step(plan, "promote", wait=0.5)
            release(frozenset())
            sequencer.hold = release
            await mesh.until(lambda: target.admitting)
            assert await delivered(target) == ["a"]
            assert target.failover(plan.id).manifest == ()

    @in_virtual_time
    async def test_fm10_what_lands_after_the_cut_is_fenced_kept_and_in_the_manifest(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            await Producer(mesh["us-east"]).publish("a")
            await mesh.settle()
            for other in ("eu-west", "ap-south"):
                mesh.cut("us-east", other)
            tail = Producer(mesh["us-east"])
            await tail.publish("b", "c")
            await mesh["us-east"].kill()
            await asyncio.sleep(TTL)
            failover = await finish(mesh, await promote(mesh))
            await Producer(mesh["eu-west"], "q").publish("x")
            mesh.mend()
            await mesh["us-east"].start()
            await mesh.until(lambda: mesh["eu-west"].failover(failover.id).manifest)
            [lost] = mesh["eu-west"].failover(failover.id).manifest
            assert (lost.first, lost.last, lost.records, lost.exact, lost.grade) == (2, 3, 2, True, Grade.FENCED)
            assert mesh["us-east"].admitting == {}, "fm09: it comes back read-only"
            assert await delivered(mesh["us-east"]) == await delivered(mesh["eu-west"]) == ["a", "x"]

    @in_virtual_time
    async def test_nothing_of_the_old_log_is_applied_between_the_cut_and_the_promotion(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            zombie, target = mesh["us-east"], mesh["eu-west"]
            deaf(zombie)
            plan = await target.plan("eu-west", break_glass=True)
            await target.step(plan, "promote", wait=0)
            await mesh.until(lambda: target.failover(plan.id).state is State.FENCING)
            for peer in ("eu-west", "ap-south"):
                mesh.cut("us-east", peer)
            await Producer(zombie).publish("late")
            failovers, go = target.replicator.failovers, asyncio.Event()
            commit = failovers.commit_promotion

            async def commit_later(*arguments):
                await go.wait()
                return await commit(*arguments)

            failovers.commit_promotion = commit_later
            await mesh.until(lambda: target.failover(plan.id).state is State.FENCED)
            mesh.mend()
            await mesh.until(lambda: mesh["ap-south"].vector == {"us-east": 1})
            await asyncio.sleep(1.0)
            assert target.vector == {}
            go.set()
            await mesh.until(lambda: target.admitting)
            await mesh.until(lambda: target.vector.get("us-east") == 1)
            assert await delivered(target) == []
            await mesh.until(lambda: target.failover(plan.id).manifest)
            assert [(r.first, r.grade) for r in target.failover(plan.id).manifest] == [(1, Grade.FENCED)]

    @in_virtual_time
    async def test_fm12_what_a_peer_took_until_the_source_s_claim_ended_is_gathered_before_the_cut(self, tmp_path):
        """The zombie's producer was told that a second cluster has it; the target had stopped taking it too early."""
        async with running_mesh(tmp_path) as mesh:
            zombie, target, peer = mesh["us-east"], mesh["eu-west"], mesh["ap-south"]
            deaf(zombie)
            plan = await target.plan("eu-west", break_glass=True)
            await target.step(plan, "promote", wait=0)
            await mesh.until(lambda: target.failover(plan.id).state is State.FENCING)
            sequencer = target.replicator.sequencer
            release, sequencer.hold = sequencer.hold, lambda origins: None
            release(frozenset({"us-east"}))
            await Producer(zombie).publish("precious")
            await mesh.until(lambda: peer.vector == {"us-east": 1})
            await mesh.until(lambda: "default" not in target.replicator.view.leases)
            await asyncio.sleep(2.0)
            assert target.failover(plan.id).state is State.FENCING
            release(frozenset())
            sequencer.hold = release
            await mesh.until(lambda: target.admitting)
            assert await delivered(target) == ["precious"]
            assert target.failover(plan.id).manifest == ()

    @in_virtual_time
    async def test_fm12_a_target_that_cannot_gather_again_gives_up_and_names_who_holds_more(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            zombie, target, peer = mesh["us-east"], mesh["eu-west"], mesh["ap-south"]
            deaf(zombie)
            plan = await target.plan("eu-west", break_glass=True)
            promoting = asyncio.create_task(target.step(plan, "promote"))
            await mesh.until(lambda: target.failover(plan.id) and target.failover(plan.id).state is State.FENCING)
            slow_disk(target)
            await Producer(zombie).publish("precious")
            await mesh.until(lambda: peer.vector == {"us-east": 1})
            with pytest.raises(GatherTimedOut, match="did not reach what ap-south holds within 5 s"):
                await promoting

    @in_virtual_time
    async def test_a_source_that_returns_with_an_empty_disk_recovers_nothing(self, tmp_path):
        """The manifest said that records are lost. They still are."""
        async with running_mesh(tmp_path) as mesh:
            source, target = mesh["us-east"], mesh["eu-west"]
            deaf_to = target.replicator.sequencer
            release, deaf_to.hold = deaf_to.hold, lambda origins: None
            release(frozenset({"us-east"}))
            await mesh["ap-south"].kill()
            await Producer(source).publish("a", "b")
            await asyncio.sleep(2.0)
            await source.kill()
            await asyncio.sleep(TTL)
            failover = await finish(mesh, await promote(mesh))
            assert [(r.first, r.last, r.grade) for r in failover.manifest] == [(1, 2, Grade.PRESUMED_LOST)]
            source.disk = MemoryDisk(incarnation=2)
            await source.start()
            await asyncio.sleep(10.0)
            assert target.replicator.view.reports["us-east"].origin == "us-east~2"
            assert target.failover(failover.id).manifest == failover.manifest

    @in_virtual_time
    async def test_fm36_a_target_whose_disk_hangs_while_it_cuts_gives_up(self, tmp_path):
        """It stayed in its fence, and the source barred, for as long as the disk hung."""
        async with running_mesh(tmp_path) as mesh:
            source, target = mesh["us-east"], mesh["eu-west"]
            for peer in ("us-east", "eu-west"):
                mesh.cut(peer, "ap-south")
            slow_disk(target)
            await Producer(source).publish("a")
            await asyncio.sleep(2.0)
            plan = await target.plan("eu-west", break_glass=True)
            await target.step(plan, "promote", wait=0)
            await mesh.until(lambda: target.failover(plan.id).state is State.ABORTED)
            assert "does not take what came before the cut" in target.failover(plan.id).problem
            await mesh.until(lambda: source.admitting)

    @in_virtual_time
    async def test_i7_what_the_store_heard_of_until_the_cut_is_in_the_manifest(self, tmp_path):
        """A deaf zombie wrote and reported on after the emergency had begun; the manifest went by the plan alone."""
        async with running_mesh(tmp_path) as mesh:
            zombie, target = mesh["us-east"], mesh["eu-west"]
            writer = Producer(zombie)
            await writer.publish("a")
            await mesh.settle()
            deaf(zombie)
            for peer in ("eu-west", "ap-south"):
                mesh.cut("us-east", peer)
            plan = await target.plan("eu-west", break_glass=True)
            await target.step(plan, "promote", wait=0)
            await mesh.until(lambda: target.failover(plan.id).state is State.FENCING)
            written = 1
            while zombie.admitting:
                await writer.publish("late")
                written += 1
                await asyncio.sleep(0.5)
            await mesh.until(lambda: target.admitting)
            await zombie.kill()
            [lost] = target.failover(plan.id).manifest
            assert (lost.first, lost.grade, lost.exact) == (2, Grade.PRESUMED_LOST, False)
            assert written - 2 <= lost.last <= written + 1


class TestPredictedLoss:
    @in_virtual_time
    async def test_a_source_that_comes_back_on_an_empty_disk_takes_nothing_back_of_what_was_known(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            await wrote_alone(mesh)
            await mesh["us-east"].kill()
            mesh["us-east"].disk = MemoryDisk(incarnation=2)
            await mesh["us-east"].start()
            await asyncio.sleep(5.0)
            assert predicted(mesh, "eu-west").known_records == 30

    @in_virtual_time
    async def test_a_cluster_that_has_just_started_does_not_take_an_old_report_for_a_word_of_the_source(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            source, target = mesh["us-east"], mesh["eu-west"]
            writer, lost = Producer(source), 0
            for number in range(20):
                await writer.publish(f"w{number}")
                await asyncio.sleep(0.5)
            await mesh.settle()
            source.client.fault = Fault.UNAVAILABLE
            for peer in ("eu-west", "ap-south"):
                mesh.cut("us-east", peer)
            await target.kill()
            while source.admitting:
                await writer.publish("x")
                lost += 1
                await asyncio.sleep(0.5)
            await target.start()
            await asyncio.sleep(20.0)
            assert predicted(mesh, "eu-west").unheard_records >= lost

    @in_virtual_time
    async def test_fm17_a_wall_clock_that_steps_back_hides_no_silence(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            writer = Producer(mesh["us-east"])
            for number in range(20):
                await writer.publish(f"w{number}")
                await asyncio.sleep(0.5)
            await mesh["us-east"].kill()
            await mesh.until(lambda: "default" not in mesh["eu-west"].replicator.view.leases)
            await asyncio.sleep(10.0)
            before = predicted(mesh, "eu-west").unheard_seconds
            mesh["ap-south"].clock.ahead_seconds -= 60
            await asyncio.sleep(3.0)
            assert predicted(mesh, "eu-west").unheard_seconds == pytest.approx(before, abs=1.0)

    @in_virtual_time
    async def test_a_cluster_that_starts_long_after_the_claim_ended_learns_from_others_when_that_was(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            await wrote_alone(mesh)
            await mesh["us-east"].kill()
            await asyncio.sleep(3600.0)
            await mesh["eu-west"].kill()
            await mesh["eu-west"].start()
            await asyncio.sleep(3.0)
            assert predicted(mesh, "eu-west").unheard_seconds < 2 * TTL

    @in_virtual_time
    async def test_what_only_the_store_heard_of_the_source_is_predicted_also_after_its_lease_has_ended(self, tmp_path):
        """Its links had been down for a minute while it wrote and reported; with its report the loss was forgotten."""
        async with running_mesh(tmp_path) as mesh:
            writer = Producer(mesh["us-east"])
            await writer.publish("a", "b", "c")
            await mesh.settle()
            for peer in ("eu-west", "ap-south"):
                mesh.cut("us-east", peer)
            for number in range(60):
                await writer.publish(f"w{number}")
                await asyncio.sleep(1.0)
            await mesh.until(lambda: heard_at(mesh, "ap-south") == 63)
            await mesh["us-east"].kill()
            await mesh["eu-west"].kill()
            await mesh["eu-west"].start()
            await mesh.until(lambda: "us-east" not in mesh["ap-south"].replicator.view.leases)
            await asyncio.sleep(60.0)
            for name in ("ap-south", "eu-west"):
                planner = mesh[name].replicator.failovers._planner
                request = Request(Mode.EMERGENCY, name, ("default",), "t", "C", Limits(approvals_required=0))
                [found] = planner.predictions(request, "us-east")
                assert (found.held, found.heard, found.known_records) == (3, 63, 60), name
                assert found.bounded
                # From its last report until its claim ended, at the rate at which it wrote.
                assert TTL - 2 < found.unheard_seconds < TTL
                assert TTL - 2 < found.unheard_records <= TTL
            assert mesh["ap-south"].replicator.view.evidence().unclaimed_seconds["default"] > 50


async def wrote_alone(mesh):
    """us-east has written 30 records that only its reports tell of."""
    writer = Producer(mesh["us-east"])
    await writer.publish("a")
    await mesh.settle()
    for peer in ("eu-west", "ap-south"):
        mesh.cut("us-east", peer)
    for number in range(30):
        await writer.publish(f"w{number}")
        await asyncio.sleep(1.0)
    await mesh.until(lambda: heard_at(mesh, "eu-west") == 31)


def predicted(mesh, name):
    request = Request(Mode.EMERGENCY, name, ("default",), "t", "C", Limits(approvals_required=0))
    [found] = mesh[name].replicator.failovers._planner.predictions(request, "us-east")
    return found


def slow_grant(target, failover_id):
    """The store takes its time with the lease for a mark. When it was asked, and what lets it answer."""
    grant, asked, go = target.client.grant_lease, asyncio.Event(), asyncio.Event()

    async def slow(ttl):
        if target.failover(failover_id).revoked:
            asked.set()
            await go.wait()
        return await grant(ttl)

    target.client.grant_lease = slow
    return asked, go


def heard_at(mesh, name):
    """What the cluster tells others of us-east's log."""
    report = mesh[name].replicator.view.reports.get(name)
    return report.peers["us-east"].heard if report else None


class TestBarring:
    @in_virtual_time
    async def test_i4_a_source_that_has_confirmed_its_demotion_vouches_for_nothing_it_still_holds(self, tmp_path):
        """The target may be promoted before the source hears of it: an acknowledgement, or a word that a batch is
        remote, would be given for what is fenced by then."""
        async with running_mesh(tmp_path) as mesh:
            source, target = mesh["us-east"], mesh["eu-west"]
            plan = await target.plan("eu-west", break_glass=True)
            hold_target(target)
            source.replicator.ownerships.still("default", 1)
            await target.step(plan, "promote", wait=0)
            await mesh.until(lambda: target.failover(plan.id).demoted)
            with pytest.raises(NotActive):
                source.replicator.ownerships.still("default", 1)
            await target.step(plan, "abort")
            await mesh.until(lambda: source.admitting == {"default": 1})
            source.replicator.ownerships.still("default", 1)

    @in_virtual_time
    async def test_a_source_that_is_barred_does_not_claim_again_after_its_claim_was_deleted(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            source, target = mesh["us-east"], mesh["eu-west"]
            plan = await target.plan("eu-west", break_glass=True)
            hold_target(target)
            await target.step(plan, "promote", wait=0)
            await mesh.until(lambda: source.failover(plan.id).state is State.GATHERING)
            await mesh.store.transact([], [Delete(LEASES.key("default"))])
            await asyncio.sleep(3 * TTL)
            assert await mesh.claims() == {}
            assert source.admitting == {}

    @pytest.mark.parametrize("state", [State.GATHERING, State.FENCING, State.FENCED])
    @in_virtual_time
    async def test_fm04_a_target_that_dies_before_the_promotion_does_not_bar_a_living_source_for_ever(
        self, tmp_path, state
    ):
        """Nobody but the dead target could end the emergency, and nothing took writes any more."""
        async with running_mesh(tmp_path) as mesh:
            source, target = mesh["us-east"], mesh["eu-west"]
            if state is not State.FENCED:
                deaf(source)
            if state is State.GATHERING:
                slow_disk(target)
                await Producer(source).publish("a")
                await mesh.until(lambda: mesh["ap-south"].vector == {"us-east": 1})
                await asyncio.sleep(2.0)
            plan = await target.plan("eu-west", break_glass=True)
            failovers = target.replicator.failovers
            failovers.commit_promotion = asyncio.Event().wait
            promoting = asyncio.create_task(target.step(plan, "promote"))
            await mesh.until(lambda: target.failover(plan.id) and target.failover(plan.id).state is state)
            promoting.cancel()
            await target.kill()
            died, other = mesh.now, mesh["ap-south"]
            await mesh.until(lambda: other.failover(plan.id).state is State.ABORTED)
            assert mesh.now - died < 3 * TTL
            assert other.failover(plan.id).problem.startswith("eu-west has not reported for")
            if state is State.FENCED:
                await mesh.until(lambda: source.admitting == {"default": 1})

    @in_virtual_time
    async def test_a_cluster_that_was_away_itself_does_not_take_the_target_for_gone(self, tmp_path):
        """Back from a pause, it saw an old report and undid an emergency whose target was at work."""
        async with running_mesh(tmp_path) as mesh:
            target, third = mesh["eu-west"], mesh["ap-south"]
            disk = slow_disk(target)
            await Producer(mesh["us-east"]).publish("a")
            await mesh.until(lambda: third.vector == {"us-east": 1})
            await asyncio.sleep(2.0)
            await mesh["us-east"].kill()
            await asyncio.sleep(TTL + 1)
            plan = await target.plan("eu-west", limits=Limits(approvals_required=0, gather_timeout_seconds=60.0))
            await target.step(plan, "promote", wait=0)
            await mesh.until(lambda: third.failover(plan.id) and third.failover(plan.id).state is State.GATHERING)
            third.replicator.view._apply = lambda changes: None
            await asyncio.sleep(3 * TTL)
            assert target.failover(plan.id).state is State.GATHERING
            disk.set()
            await mesh.until(lambda: target.admitting)

    @in_virtual_time
    async def test_a_source_that_restarts_meanwhile_does_not_claim_either(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            source, target = mesh["us-east"], mesh["eu-west"]
            plan = await target.plan("eu-west", break_glass=True)
            hold_target(target)
            await target.step(plan, "promote", wait=0)
            await source.kill()
            await asyncio.sleep(TTL + 1)
            await source.start()
            await asyncio.sleep(TTL)
            assert await mesh.claims() == {}
            assert source.admitting == {}

    @in_virtual_time
    async def test_after_an_abort_it_claims_again_and_admits(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            source, target = mesh["us-east"], mesh["eu-west"]
            plan = await target.plan("eu-west", break_glass=True)
            hold_target(target)
            await target.step(plan, "promote", wait=0)
            await mesh.until(lambda: not source.admitting)
            await target.step(plan, "abort")
            await mesh.until(lambda: source.admitting == {"default": 1})
            await Producer(source).publish("a")

    @in_virtual_time
    async def test_fm01_a_second_operation_on_the_namespace_is_told_of_the_first(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            target = mesh["eu-west"]
            first = await target.plan("eu-west", break_glass=True)
            second = await mesh["ap-south"].plan("ap-south", break_glass=True)
            hold_target(target)
            await target.step(first, "promote", wait=0)
            with pytest.raises((OperationInProgress, PreflightFailed), match=first.id):
                await mesh["ap-south"].step(second, "promote", wait=0)


class TestVerification:
    @in_virtual_time
    async def test_any_living_cluster_sees_the_canary(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            await mesh["us-east"].kill()
            await asyncio.sleep(3.0)
            done = await finish(mesh, await promote(mesh))
            assert done.state is State.COMPLETED
            assert [e.actor for e in done.journal if e.event == "canary_seen"] == ["ap-south"]

    @in_virtual_time
    async def test_with_nobody_else_alive_the_target_is_its_own_witness(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            for name in ("us-east", "ap-south"):
                await mesh[name].kill()
            await asyncio.sleep(TTL + 1)
            done = await finish(mesh, await promote(mesh))
            assert [e.actor for e in done.journal if e.event == "canary_seen"] == ["eu-west"]

    @in_virtual_time
    async def test_fm04_a_target_that_dies_before_it_was_verified_can_be_replaced_by_a_third(self, tmp_path):
        """Its failover could neither be completed nor aborted, and held the namespace for ever."""
        async with running_mesh(tmp_path) as mesh:
            third = mesh["ap-south"]
            await Producer(mesh["us-east"]).publish("a")
            await mesh.settle()
            await mesh["us-east"].kill()
            await asyncio.sleep(TTL + 1)
            first = await promote(mesh)
            await mesh["eu-west"].kill()
            await asyncio.sleep(TTL + 1)
            with pytest.raises(PreflightFailed, match=first.id):
                await third.plan("ap-south", break_glass=True)
            with pytest.raises(VerifyFailed):
                await third.step(first, "verify")
            done = await third.replicator.failovers.step(first.id, "complete", ALICE, 5.0, reason="it is gone, too")
            assert done.failover.state is State.COMPLETED
            plan = await third.plan("ap-south", break_glass=True)
            assert (await finish(mesh, await third.step(plan, "promote"), "ap-south")).state is State.COMPLETED
            assert await delivered(third) == ["a"]

    @in_virtual_time
    async def test_fm04_a_planned_failover_whose_target_dies_unverified_ends_by_whoever_lives(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            source = mesh["us-east"]
            plan = await source.plan("eu-west", mode=Mode.PLANNED)
            for step in ("drain", "promote"):
                plan = await source.step(plan, step)
            await mesh["eu-west"].kill()
            await source.kill()
            with pytest.raises(VerifyFailed):
                await mesh["ap-south"].step(plan, "verify")


class TestAudit:
    """Who broke the glass, or accepted a loss, could not be told from the audit chain."""

    @staticmethod
    async def told(mesh):
        entries = await mesh["eu-west"].replicator.auditor.entries(0, 1000)
        return [e for e in entries if e.subject.startswith("failovers/")]

    @pytest.mark.parametrize(
        ("asked", "noted"),
        [
            ({"break_glass": True, "accept_data_loss": None}, {"break_glass": True}),
            ({"accept_data_loss": 10_000}, {"accept_data_loss": 10_000}),
            ({"accept_data_loss": 0}, {"accept_data_loss": 0}),
        ],
    )
    def test_each_entry_says_on_what_an_emergency_rests(self, tmp_path, asked, noted):
        @in_virtual_time
        async def scenario():
            async with running_mesh(tmp_path) as mesh:
                await mesh["us-east"].kill()
                await asyncio.sleep(TTL + 1)
                await finish(mesh, await promote(mesh, **asked))
                entries = await self.told(mesh)
                assert {"failover.plan", "failover.promote"} <= {e.action for e in entries}
                for entry in entries:
                    keys = {"accept_data_loss", "break_glass"} & entry.after.keys()
                    assert {key: entry.after[key] for key in keys} == noted

        scenario()

    @in_virtual_time
    async def test_a_decision_says_how_it_came_and_what_was_not_given_is_not_there(self, tmp_path):
        async with running_mesh(tmp_path) as mesh:
            failovers = mesh["eu-west"].replicator.failovers
            limits = Limits(approvals_required=1)
            plan = await mesh["eu-west"].plan("eu-west", mode=Mode.PLANNED, limits=limits)
            await failovers.approve(plan.id, "approve", plan.plan.hash, "", "awx", Actor("token/bob", "token"))
            planned, approved = await self.told(mesh)
            assert planned.after.keys() == {"state", "plan_hash", "routing_version"}
            assert approved.after == planned.after | {"state": "approved", "decision": {"via": "awx"}}


class TestMixedMesh:
    @in_virtual_time
    async def test_one_namespace_moves_and_the_others_of_the_source_stay(self, tmp_path):
        async with running_mesh(tmp_path, namespaces=("default", "orders")) as mesh:
            source, target = mesh["us-east"], mesh["eu-west"]
            await promote(mesh, namespaces=("orders",), break_glass=True)
            assert (source.admitting, target.admitting) == ({"default": 1}, {"orders": 2})
            await Producer(source).publish("a")
            await Producer(target, namespace="orders").publish("b")
            await mesh.settle()
            for site in mesh.sites.values():
                assert (await delivered(site), await delivered(site, "orders")) == (["a"], ["b"])

    @in_virtual_time
    async def test_two_emergencies_of_one_dead_cluster_run_side_by_side(self, tmp_path):
        async with running_mesh(tmp_path, namespaces=("default", "orders")) as mesh:
            await mesh["us-east"].kill()
            await asyncio.sleep(3.0)
            one = await mesh["eu-west"].plan("eu-west", namespaces=("default",))
            two = await mesh["ap-south"].plan("ap-south", namespaces=("orders",))
            await asyncio.gather(mesh["eu-west"].step(one, "promote"), mesh["ap-south"].step(two, "promote"))
            assert (mesh["eu-west"].admitting, mesh["ap-south"].admitting) == ({"default": 2}, {"orders": 2})


def slow_disk(site):
    """Its log commits nothing until the answered event is set."""
    ready = asyncio.Event()
    site.log.before_commit = ready.wait
    return ready


def hold_target(target):
    """Its agent does nothing more in emergencies, so that a test can look at the middle."""
    role = target.replicator._agent._emergency

    async def nothing(failover):
        pass

    role.as_target = nothing
