"""What an emergency fenced, among real replicators: what it is, what becomes of it, and that nothing comes twice."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from tests.package.unit.runtime.mesh import ALICE, TIMING, Producer, delivered, records_of, running_mesh
from tests.package.unit.runtime.virtual import in_virtual_time

from omnirelay.errors import BadRequest, Conflict, NotFound, StorageUnavailable
from omnirelay.failover.divergence import Resolution
from omnirelay.failover.record import Grade, Mode, State
from omnirelay.ports.log import Retention
from omnirelay.ports.streams import ProducerBatch
from omnirelay.runtime.divergences import Divergences
from omnirelay.runtime.replay import PATIENCE_SECONDS
from omnirelay.wire import codec

TTL = TIMING.lease_ttl
TAIL = ("b", "c", "d")


@asynccontextmanager
async def split_mesh(path, tail=TAIL, producer="p"):
    """us-east wrote `a`, which everybody has, and `tail`, which nobody else has; then it died and eu-west took over."""
    async with running_mesh(path) as mesh:
        await Producer(mesh["us-east"], "p").publish("a")
        await mesh.settle()
        isolate(mesh, "us-east")
        await Producer(mesh["us-east"], producer).publish(*tail)
        await emergency(mesh, "us-east", "eu-west")
        yield mesh


def isolate(mesh, name):
    for other in {"us-east", "eu-west", "ap-south"} - {name}:
        mesh.cut(name, other)


async def emergency(mesh, source, target, **changes):
    await mesh[source].kill()
    await asyncio.sleep(TTL + 1)
    failover = await mesh[target].plan(target, **changes)
    for step in ("promote", "verify", "complete"):
        failover = await mesh[target].step(failover, step)
    mesh.mend()
    return failover


async def come_back(mesh, name="us-east"):
    await mesh[name].start()
    await mesh.settle()


def divergences(mesh, name="eu-west") -> Divergences:
    return mesh[name].replicator.divergences


async def the_divergence(mesh, name="eu-west"):
    [found] = await divergences(mesh, name).all()
    return found


async def decide(mesh, resolution, name="eu-west", **options):
    options = {"dry_run": False, **options}
    return await divergences(mesh, name).decide("default.1", resolution, ALICE, "because", **options)


async def replayed(mesh):
    """A replay that has been carried out."""
    await decide(mesh, Resolution.REPLAYING)
    await mesh.until(lambda: decision(mesh) is Resolution.REPLAYED)


def decision(mesh, id="default.1", name="eu-west"):
    found = mesh[name].replicator.view.divergences.get(id)
    return found.resolution if found else None


def manifest(mesh, failover_id="fo-1", name="eu-west"):
    return [(r.epoch, r.first, r.last, r.grade) for r in mesh[name].failover(failover_id).manifest]


class TestWhatDiverged:
    @in_virtual_time
    async def test_fm23_it_is_found_when_the_old_active_returns_by_every_cluster_alike(self, tmp_path):
        async with split_mesh(tmp_path) as mesh:
            assert await divergences(mesh).all() == []
            await come_back(mesh)
            for name in mesh.sites:
                found = await the_divergence(mesh, name)
                assert (found.id, found.origin, found.records, found.unresolved) == ("default.1", "us-east", 3, 3)

    @in_virtual_time
    async def test_a_canary_or_barrier_in_the_tail_is_nobody_s_record(self, tmp_path):
        async with split_mesh(tmp_path) as mesh:
            await come_back(mesh)
            assert await mesh["eu-west"].log.read("eu-west", 0, 1 << 20), "the canary of the verification"
            assert [b.producer_id for b in (await the_divergence(mesh)).batches] == ["p"] * 3

    @in_virtual_time
    async def test_a_producer_that_sends_again_supersedes(self, tmp_path):
        async with split_mesh(tmp_path) as mesh:
            await Producer(mesh["eu-west"], "p").publish("b", "c")
            await come_back(mesh)
            found = await the_divergence(mesh)
            assert (found.superseded, found.unresolved) == (2, 1)
            await mesh.until(lambda: len(manifest(mesh)) == 2)
            assert manifest(mesh) == [(1, 2, 3, Grade.SUPERSEDED), (1, 4, 4, Grade.FENCED)]

    @in_virtual_time
    async def test_the_same_number_with_other_records_supersedes_nothing(self, tmp_path):
        """A producer that kept nothing goes on from where the new active tells it to."""
        async with split_mesh(tmp_path) as mesh:
            acks = await Producer(mesh["eu-west"], "p").publish("x", "y")
            assert [ack.producer_sequence for ack in acks] == [2, 3]
            await come_back(mesh)
            found = await the_divergence(mesh)
            assert (found.superseded, found.unresolved) == (0, 3)

    @in_virtual_time
    async def test_the_same_records_of_another_producer_supersede_nothing(self, tmp_path):
        async with split_mesh(tmp_path) as mesh:
            await Producer(mesh["eu-west"], "q").publish("a", "b")
            await come_back(mesh)
            assert (await the_divergence(mesh)).unresolved == 3

    @in_virtual_time
    async def test_a_resend_after_the_tail_was_looked_at_counts_too(self, tmp_path):
        async with split_mesh(tmp_path) as mesh:
            await come_back(mesh)
            assert (await the_divergence(mesh)).superseded == 0
            await Producer(mesh["eu-west"], "p").publish("b")
            assert (await the_divergence(mesh)).superseded == 1

    @in_virtual_time
    async def test_a_look_is_not_disturbed_by_another_one(self, tmp_path):
        """The first one reads slowly, so what it adds comes after the second has compared it: that must not count."""
        async with split_mesh(tmp_path) as mesh:
            await Producer(mesh["eu-west"], "p").publish("b")
            await come_back(mesh)
            fresh = another_view_of(mesh["eu-west"])
            gates = {name: asyncio.Event() for name in ("slow 1", "slow 3", "quick 4")}
            gated(mesh["eu-west"].log, gates)
            slow = asyncio.create_task(fresh.all(), name="slow")
            await asyncio.sleep(0.1)
            quick = asyncio.create_task(fresh.all(), name="quick")
            for gate in ("slow 1", "quick 4", "slow 3"):
                await asyncio.sleep(0.1)
                gates[gate].set()
            for look in (slow, quick):
                [found] = await look
                assert found.superseded == 1

    @in_virtual_time
    async def test_a_cluster_whose_log_does_not_answer_goes_on_reporting(self, tmp_path):
        """Fm36: it stays up and says so; what diverged there is unknown, not nothing."""
        async with split_mesh(tmp_path) as mesh:
            site = mesh["eu-west"]

            async def broken():
                raise StorageUnavailable("the disk is gone", reason="gone")

            site.replicator.reporter._unresolved = broken
            await asyncio.sleep(10.0)
            report = mesh["ap-south"].replicator.view.evidence().fresh_report("eu-west")
            assert report is not None
            assert report.diverged is None


class TestDeciding:
    @in_virtual_time
    async def test_a_discard_settles_what_is_open(self, tmp_path):
        async with split_mesh(tmp_path) as mesh:
            await come_back(mesh)
            decided = await decide(mesh, Resolution.DISCARDED)
            assert decided.unresolved == 0
            await mesh.until(lambda: manifest(mesh) == [(1, 2, 4, Grade.DISCARDED)])
            assert await delivered(mesh["ap-south"]) == ["a"]
            assert await mesh["us-east"].log.read("us-east", 1, 1 << 20), "i7: it stays readable"

    @in_virtual_time
    async def test_the_same_decision_again_changes_nothing_and_another_one_is_refused(self, tmp_path):
        async with split_mesh(tmp_path) as mesh:
            await come_back(mesh)
            once = await decide(mesh, Resolution.DISCARDED)
            assert await decide(mesh, Resolution.DISCARDED) == once
            with pytest.raises(BadRequest, match="no open records: discarded"):
                await decide(mesh, Resolution.REPLAYING)

    @in_virtual_time
    async def test_a_replay_that_is_asked_for_again_after_it_was_done_is_done(self, tmp_path):
        async with split_mesh(tmp_path) as mesh:
            await come_back(mesh)
            await replayed(mesh)
            again = await decide(mesh, Resolution.REPLAYING)
            assert again.decision.resolution is Resolution.REPLAYED
            assert await delivered(mesh["eu-west"]) == ["a", "b", "c", "d"]

    @in_virtual_time
    async def test_a_dry_run_decides_nothing(self, tmp_path):
        async with split_mesh(tmp_path) as mesh:
            await come_back(mesh)
            predicted = await decide(mesh, Resolution.DISCARDED, dry_run=True)
            assert predicted.unresolved == 0
            assert (await the_divergence(mesh)).decision is None

    @in_virtual_time
    async def test_nothing_that_does_not_exist_is_decided(self, tmp_path):
        async with split_mesh(tmp_path) as mesh:
            for id in ("default.1", "default.7", "mars.1", "default", "default.x"):
                with pytest.raises(NotFound):
                    await divergences(mesh).decide(id, Resolution.DISCARDED, ALICE, "", False)

    @in_virtual_time
    async def test_while_a_replay_runs_nothing_else_is_decided(self, tmp_path):
        async with split_mesh(tmp_path) as mesh:
            await come_back(mesh)
            crash_after(mesh["eu-west"], 1)
            await decide(mesh, Resolution.REPLAYING)
            with pytest.raises(Conflict, match="is being replayed"):
                await decide(mesh, Resolution.DISCARDED)

    @in_virtual_time
    async def test_what_arrives_later_is_open_again_and_what_was_decided_stays_so(self, tmp_path):
        """The old active comes back in parts. The first is discarded; a replay of the rest does not revive it."""
        async with split_mesh(tmp_path, tail=("b", "c", "d", "e")) as mesh:
            await come_back(mesh)
            await decide(mesh, Resolution.DISCARDED, upto=3)
            found = await the_divergence(mesh)
            assert found.unresolved == 2
            await replayed(mesh)
            assert await delivered(mesh["eu-west"]) == ["a", "d", "e"]
            assert (await the_divergence(mesh)).unresolved == 0
            await mesh.until(lambda: len(manifest(mesh)) == 2)
            assert manifest(mesh) == [(1, 2, 3, Grade.DISCARDED), (1, 4, 5, Grade.RECOVERED)]


class TestReplay:
    @in_virtual_time
    async def test_it_brings_every_open_record_back_once_and_in_order(self, tmp_path):
        async with split_mesh(tmp_path) as mesh:
            await Producer(mesh["eu-west"], "q").publish("x")
            await come_back(mesh)
            await replayed(mesh)
            await mesh.settle()
            for site in mesh.sites.values():
                assert await delivered(site) == ["a", "x", "b", "c", "d"]
            await mesh.until(lambda: manifest(mesh) == [(1, 2, 4, Grade.RECOVERED)])
            told = mesh["eu-west"].replicator.view.divergences["default.1"]
            assert (told.replayed, told.superseded) == (3, 0)

    @in_virtual_time
    async def test_each_record_says_where_it_was_committed_first(self, tmp_path):
        async with split_mesh(tmp_path, tail=("b",)) as mesh:
            await come_back(mesh)
            await replayed(mesh)
            [batch] = [b for b in await mesh["eu-west"].log.read("eu-west", 0, 1 << 20) if b.header.producer_id == "p"]
            [record] = codec.decode_record_set(batch.records)
            assert dict(record.headers) == {
                "omnirelay-origin": b"us-east",
                "omnirelay-epoch": b"1",
                "omnirelay-sequence": b"2",
            }

    @in_virtual_time
    async def test_i5_a_producer_that_sends_again_after_a_replay_is_told_that_it_is_there(self, tmp_path):
        async with split_mesh(tmp_path) as mesh:
            await come_back(mesh)
            await replayed(mesh)
            late = Producer(mesh["eu-west"], "p")
            ack = await late.resend(3, "c")
            assert ack.duplicate
            await late.publish("e")
            assert await delivered(mesh["eu-west"]) == ["a", "b", "c", "d", "e"]

    @in_virtual_time
    async def test_what_its_producer_has_sent_again_is_not_replayed(self, tmp_path):
        async with split_mesh(tmp_path) as mesh:
            await Producer(mesh["eu-west"], "p").publish("b", "c")
            await come_back(mesh)
            await replayed(mesh)
            assert await delivered(mesh["eu-west"]) == ["a", "b", "c", "d"]

    @in_virtual_time
    async def test_where_the_number_is_taken_it_comes_under_an_id_of_its_own(self, tmp_path):
        async with split_mesh(tmp_path) as mesh:
            await Producer(mesh["eu-west"], "p").publish("x")
            await come_back(mesh)
            await replayed(mesh)
            assert await delivered(mesh["eu-west"]) == ["a", "x", "b", "c", "d"]
            ids = [b.header.producer_id for b in await mesh["eu-west"].log.read("eu-west", 0, 1 << 20)]
            assert ids[-3:] == ["replay/us-east/2", "replay/us-east/3", "replay/us-east/4"], "3 is the producer's next"

    @pytest.mark.parametrize(
        ("resends_to", "producers"),
        [
            (0, ["replay/us-east/2", "replay/us-east/3", "replay/us-east/4"]),
            (3, ["p", "p", "replay/us-east/4"]),
            (None, ["replay/us-east/2", "replay/us-east/3", "replay/us-east/4"]),
        ],
        ids=["started anew", "keeps some", "does not say"],
    )
    @in_virtual_time
    async def test_i5_a_replay_takes_no_number_that_a_living_producer_will_use_for_other_records(
        self, tmp_path, resends_to, producers
    ):
        """The producer was told that 2 is its next number, and has not used it yet."""
        async with split_mesh(tmp_path) as mesh:
            async with Producer(mesh["eu-west"], "p").stream(resends_to):
                await come_back(mesh)
                await replayed(mesh)
            assert await delivered(mesh["eu-west"]) == ["a", "b", "c", "d"]
            assert [b.header.producer_id for b in await mesh["eu-west"].log.read("eu-west", 0, 1 << 20)][
                -3:
            ] == producers

    @in_virtual_time
    async def test_i4_new_records_of_a_living_producer_were_acknowledged_as_what_had_been_replayed(self, tmp_path):
        """It does not say what it may send again, and was told that 2 is its next number."""
        async with split_mesh(tmp_path) as mesh:
            living = Producer(mesh["eu-west"], "p")
            async with living.stream() as stream:
                await come_back(mesh)
                await replayed(mesh)
                await stream.send(ProducerBatch(living.last + 1, records_of("x"), 1))
                assert not (await stream.receive()).duplicate
            assert await delivered(mesh["eu-west"]) == ["a", "b", "c", "d", "x"]

    @in_virtual_time
    async def test_i4_what_a_producer_had_in_flight_here_was_taken_for_what_it_sent_to_the_old_active(self, tmp_path):
        """It was started anew, and came back to send 2 again: that is no number of the epoch before."""
        async with split_mesh(tmp_path) as mesh:
            anew = Producer(mesh["eu-west"], "p")
            async with anew.stream(resends_to=0):
                pass
            async with anew.stream(resends_to=2) as stream:
                await come_back(mesh)
                await replayed(mesh)
                await stream.send(ProducerBatch(2, records_of("x"), 1))
                assert not (await stream.receive()).duplicate
            assert await delivered(mesh["eu-west"]) == ["a", "b", "c", "d", "x"]

    @pytest.mark.parametrize("resends_to", [None, 4])
    @in_virtual_time
    async def test_i5_a_producer_that_has_just_come_may_send_again_before_anything_is_replayed(
        self, tmp_path, resends_to
    ):
        async with split_mesh(tmp_path) as mesh:
            await come_back(mesh)
            await asyncio.sleep(PATIENCE_SECONDS)
            async with Producer(mesh["eu-west"], "p").stream(resends_to) as stream:
                await decide(mesh, Resolution.REPLAYING)
                await asyncio.sleep(PATIENCE_SECONDS / 2)
                for number, text in enumerate(TAIL, 2):
                    await stream.send(ProducerBatch(number, records_of(text), 1))
                    assert not (await stream.receive()).duplicate
            await mesh.until(lambda: decision(mesh) is Resolution.REPLAYED)
            assert await delivered(mesh["eu-west"]) == ["a", "b", "c", "d"]
            assert (await the_divergence(mesh)).superseded == 3

    @in_virtual_time
    async def test_a_producer_that_comes_and_goes_holds_a_replay_up_once(self, tmp_path):
        async with split_mesh(tmp_path) as mesh:
            await come_back(mesh)

            async def flap():
                while True:
                    async with Producer(mesh["eu-west"], "p").stream():
                        await asyncio.sleep(1.0)

            flapping = asyncio.create_task(flap())
            began = mesh.now
            await replayed(mesh)
            flapping.cancel()
            assert mesh.now - began < 2 * PATIENCE_SECONDS + 1

    @in_virtual_time
    async def test_i4_a_producer_is_told_no_number_that_a_replay_has_on_its_way_to_the_disk(self, tmp_path):
        """The disk is slow; while the producer is let in, a replay took the number that it was about to be told."""
        async with split_mesh(tmp_path) as mesh:
            await come_back(mesh)
            active = mesh["eu-west"]
            await asyncio.sleep(PATIENCE_SECONDS)
            ready = asyncio.Event()
            active.log.before_commit = ready.wait
            publishing = asyncio.create_task(Producer(active, "q").publish("y"))
            await mesh.until(lambda: active.log.waiting)

            async def told():
                producer = Producer(active, "p")
                async with producer.stream():
                    return producer.last

            opening = asyncio.create_task(told())
            await asyncio.sleep(0.1)
            replaying = asyncio.create_task(replayed(mesh))
            await asyncio.sleep(1.0)
            ready.set()
            assert await opening == 1
            await asyncio.gather(publishing, replaying)

    @in_virtual_time
    async def test_a_producer_that_sends_again_in_the_middle_of_the_replay_is_not_doubled(self, tmp_path):
        """Its numbers are taken when the replay comes to them: by the same records."""
        async with split_mesh(tmp_path) as mesh:
            await come_back(mesh)
            sequencer = mesh["eu-west"].replicator.sequencer
            room, resent = sequencer.room, []

            async def resend_first(size):
                if not resent:
                    resent.append(True)
                    await Producer(mesh["eu-west"], "p").publish("b", "c", "d")
                await room(size)

            sequencer.room = resend_first
            await decide(mesh, Resolution.REPLAYING)
            await mesh.until(lambda: decision(mesh) is Resolution.REPLAYED)
            assert resent
            assert await delivered(mesh["eu-west"]) == ["a", "b", "c", "d"]
            assert (await the_divergence(mesh)).superseded == 3

    @pytest.mark.parametrize("taken", [(), ("x",)], ids=["own number", "own id"])
    @pytest.mark.parametrize("batches", range(5))
    def test_fm02_interrupted_after_any_batch_it_goes_on_without_doubling(self, tmp_path, batches, taken):
        @in_virtual_time
        async def scenario():
            tail = ("b", "c", "d", "e")
            async with split_mesh(tmp_path, tail) as mesh:
                if taken:
                    await Producer(mesh["eu-west"], "p").publish(*taken)
                await come_back(mesh)
                await decide(mesh, Resolution.REPLAYING, name="ap-south", dry_run=True)
                crash_after(mesh["eu-west"], batches)
                await decide(mesh, Resolution.REPLAYING)
                await mesh.until(lambda: mesh["eu-west"].replay_stopped)
                await mesh["eu-west"].kill()
                await mesh["eu-west"].start()
                await mesh.until(lambda: decision(mesh) is Resolution.REPLAYED)
                assert await delivered(mesh["eu-west"]) == ["a", *taken, *tail]

        scenario()

    @in_virtual_time
    async def test_a_new_active_carries_on_a_replay_that_the_last_one_began(self, tmp_path):
        async with split_mesh(tmp_path) as mesh:
            await come_back(mesh)
            crash_after(mesh["eu-west"], 2)
            await decide(mesh, Resolution.REPLAYING)
            await mesh.until(lambda: mesh["eu-west"].replay_stopped)
            await mesh.settle()
            await emergency(mesh, "eu-west", "ap-south")
            view = mesh["ap-south"].replicator.view
            await mesh.until(lambda: view.divergences["default.1"].resolution is Resolution.REPLAYED)
            assert await delivered(mesh["ap-south"]) == ["a", "b", "c", "d"]

    @in_virtual_time
    async def test_an_active_that_holds_a_part_of_the_tail_waits_for_the_rest(self, tmp_path):
        """It was decided on a cluster that holds more."""
        async with split_mesh(tmp_path) as mesh:
            active = mesh["eu-west"]
            isolate(mesh, "eu-west")
            await mesh["us-east"].start()
            await mesh.until(lambda: mesh["ap-south"].vector.get("us-east") == 4)
            active.replicator.sequencer.apply((await mesh["ap-south"].log.read("us-east", 1, 1))[0])
            await decide(mesh, Resolution.REPLAYING, name="ap-south")
            await asyncio.sleep(5.0)
            assert decision(mesh) is Resolution.REPLAYING
            assert await delivered(active) == ["a"]
            mesh.mend()
            await mesh.until(lambda: decision(mesh) is Resolution.REPLAYED)
            assert await delivered(active) == ["a", "b", "c", "d"]


async def retain(mesh, name, *origins):
    """Everything of these origins is dropped, and the cluster starts again."""
    site = mesh[name]
    kept = dict.fromkeys(site.vector.keys() - set(origins), 1)
    await site.log.retain(Retention(site.clock.wall_ms() + 10**9, 0, 10**12, 10**12, keep_from=kept))
    await site.kill()
    await site.start()
    await asyncio.sleep(5.0)


class TestRetention:
    @in_virtual_time
    async def test_a_settled_tail_that_retention_dropped_is_in_nobody_s_way_and_stays_in_the_manifest(self, tmp_path):
        async with split_mesh(tmp_path) as mesh:
            await come_back(mesh)
            await decide(mesh, Resolution.DISCARDED)
            await mesh.until(lambda: manifest(mesh) == [(1, 2, 4, Grade.DISCARDED)])
            await retain(mesh, "eu-west", "us-east", "eu-west")
            assert await divergences(mesh).all() == []
            assert mesh["eu-west"].replicator.view.reports["eu-west"].diverged == {}
            assert manifest(mesh) == [(1, 2, 4, Grade.DISCARDED)]

    @in_virtual_time
    async def test_i7_a_settled_tail_stays_until_the_manifest_tells_what_became_of_it(self, tmp_path):
        """Retention dropped it as soon as it came, and the manifest said for ever that it was presumed lost."""
        async with split_mesh(tmp_path) as mesh:
            mesh["eu-west"].replicator.regrading._look = lambda failover: asyncio.Event().wait()
            await Producer(mesh["eu-west"], "p").publish(*TAIL)
            await come_back(mesh)
            for name in mesh.sites:
                assert await divergences(mesh, name).kept() == {"us-east": 2}, name
            await mesh["eu-west"].kill()
            await mesh.until(lambda: "eu-west" not in mesh["ap-south"].replicator.view.reports)
            assert await divergences(mesh, "ap-south").kept() == {}, "who keeps the manifest is gone"
            await mesh["eu-west"].start()
            await mesh.until(lambda: manifest(mesh) == [(1, 2, 4, Grade.SUPERSEDED)])
            await mesh.settle()
            for name in mesh.sites:
                assert await divergences(mesh, name).kept() == {}, name

    @in_virtual_time
    async def test_i7_what_had_been_sent_again_stays_so_where_retention_has_dropped_the_proof(self, tmp_path):
        """After a restart the manifest had it as fenced; and a cluster that saw it otherwise kept it for ever."""
        async with split_mesh(tmp_path, tail=("b", "c")) as mesh:
            await Producer(mesh["eu-west"], "p").publish("b")
            await come_back(mesh)
            graded = [(1, 2, 2, Grade.SUPERSEDED), (1, 3, 3, Grade.FENCED)]
            await mesh.until(lambda: manifest(mesh) == graded)
            for name in ("eu-west", "ap-south"):
                await retain(mesh, name, "eu-west")
                assert (await the_divergence(mesh, name)).blind
            assert manifest(mesh) == graded
            await decide(mesh, Resolution.EXPORTED)
            await mesh.until(lambda: manifest(mesh)[-1][-1] is Grade.EXPORTED)
            await mesh.settle()
            for name in mesh.sites:
                assert await divergences(mesh, name).kept() == {}, name

    @in_virtual_time
    async def test_a_manifest_waits_for_what_the_old_active_had_and_not_for_what_it_writes_since(self, tmp_path):
        """Where it went on with another namespace, it was never level, and the manifest never graded again."""
        async with running_mesh(tmp_path, namespaces=("default", "other")) as mesh:
            source, target = mesh["us-east"], mesh["eu-west"]
            await Producer(source, "p").publish("a")
            await mesh.settle()
            isolate(mesh, "us-east")
            await Producer(source, "p").publish("b", "c")
            await emergency(mesh, "us-east", "eu-west")
            await come_back(mesh)
            await mesh.until(lambda: manifest(mesh) == [(1, 2, 3, Grade.FENCED)])
            await mesh.until(lambda: "other" in source.admitting)
            target.log.before_commit = lambda: asyncio.sleep(3.0)
            ahead = source.replicator.sequencer

            async def go_on():
                while True:
                    await Producer(source, "q", "other").publish("x")
                    await asyncio.sleep(0.5)

            writing = asyncio.create_task(go_on())
            await asyncio.sleep(10.0)
            await decide(mesh, Resolution.DISCARDED, name="ap-south")
            await mesh.until(lambda: manifest(mesh) == [(1, 2, 3, Grade.DISCARDED)])
            assert target.vector["us-east"] < ahead.log_vector()["us-east"]
            writing.cancel()

    @in_virtual_time
    async def test_i13_an_open_tail_is_not_replayed_once_what_came_after_it_is_not_all_there(self, tmp_path):
        """`b` may have been sent again in what was dropped: replaying it might double it."""
        async with split_mesh(tmp_path) as mesh:
            await Producer(mesh["eu-west"], "p").publish("b")
            await come_back(mesh)
            await mesh.until(lambda: manifest(mesh) == [(1, 2, 2, Grade.SUPERSEDED), (1, 3, 4, Grade.FENCED)])
            await retain(mesh, "eu-west", "eu-west")
            with pytest.raises(Conflict, match="cannot be replayed"):
                await decide(mesh, Resolution.REPLAYING)
            assert await divergences(mesh).diff(await the_divergence(mesh)), "it can be looked at"
            await decide(mesh, Resolution.EXPORTED)
            assert (await the_divergence(mesh)).unresolved == 0

    @in_virtual_time
    async def test_a_replay_that_only_the_active_knows_to_be_impossible_ends_and_leaves_the_decision_open(
        self, tmp_path
    ):
        """It was tried again for ever, and no other decision was taken as long as it was."""
        async with split_mesh(tmp_path) as mesh:
            await Producer(mesh["eu-west"], "p").publish("b")
            await come_back(mesh)
            await retain(mesh, "eu-west", "eu-west")
            await decide(mesh, Resolution.REPLAYING, name="ap-south")
            await mesh.until(lambda: decision(mesh) is Resolution.REPLAYED)
            ended = mesh["eu-west"].replicator.view.divergences["default.1"]
            assert ended.replayed == 0
            assert "export or discard it" in ended.reason
            assert (await the_divergence(mesh)).unresolved > 0
            await decide(mesh, Resolution.EXPORTED)
            assert (await the_divergence(mesh)).unresolved == 0

    @in_virtual_time
    async def test_what_is_open_can_be_read_after_retention_has_dropped_what_was_settled_before_it(self, tmp_path):
        """It was refused with resume_point_deleted until the replicator was started again."""
        async with split_mesh(tmp_path) as mesh:
            await Producer(mesh["eu-west"], "p").publish("b")
            await come_back(mesh)
            await mesh.until(lambda: manifest(mesh) == [(1, 2, 2, Grade.SUPERSEDED), (1, 3, 4, Grade.FENCED)])
            site = mesh["eu-west"]
            kept = {"us-east": 3, "eu-west": 1}
            await site.log.retain(Retention(site.clock.wall_ms() + 10**9, 0, 10**12, 10**12, keep_from=kept))
            assert site.disk.origins["us-east"].floor.sequence == 2
            found = [b async for b in divergences(mesh).batches(await the_divergence(mesh))]
            assert [batch.header.first_sequence for batch in found] == [3, 4]
            await replayed(mesh)
            assert (await the_divergence(mesh)).unresolved == 0
            assert site.replicator.view.divergences["default.1"].replayed == 2


class TestTwoEmergencies:
    @in_virtual_time
    async def test_what_was_sent_again_and_fenced_again_is_accounted_for_once(self, tmp_path):
        """`b` is fenced with us-east, sent again to eu-west, and fenced with that: it is open there, and only there."""
        async with split_mesh(tmp_path, tail=("b",)) as mesh:
            isolate(mesh, "eu-west")
            await Producer(mesh["eu-west"], "p").publish("b")
            second = await emergency(mesh, "eu-west", "ap-south")
            await mesh["us-east"].start()
            await come_back(mesh, "eu-west")
            first, later = await divergences(mesh, "ap-south").all()
            assert (first.id, first.superseded, first.unresolved) == ("default.1", 1, 0)
            assert (later.id, later.superseded, later.unresolved) == ("default.2", 0, 1)
            await divergences(mesh, "ap-south").decide("default.2", Resolution.REPLAYING, ALICE, "", False)
            await mesh.until(lambda: Grade.RECOVERED in {m[3] for m in manifest(mesh, second.id, "ap-south")})
            assert await delivered(mesh["ap-south"]) == ["a", "b"]

    @in_virtual_time
    async def test_i5_what_was_replayed_before_its_later_copy_came_to_light_is_not_replayed_again(self, tmp_path):
        """`b` is fenced with us-east, sent again to eu-west, and lost with that too; ap-south replays what us-east had.
        When eu-west returns with its copy, that is the same record."""
        async with split_mesh(tmp_path, tail=("b",)) as mesh:
            isolate(mesh, "eu-west")
            await Producer(mesh["eu-west"], "p").publish("b")
            second = await emergency(mesh, "eu-west", "ap-south")
            await mesh["us-east"].start()
            await mesh.until(lambda: mesh["ap-south"].vector == mesh["us-east"].vector)
            await divergences(mesh, "ap-south").decide("default.1", Resolution.REPLAYING, ALICE, "", False)
            await mesh.until(lambda: decision(mesh, name="ap-south") is Resolution.REPLAYED)
            await come_back(mesh, "eu-west")
            first, later = await divergences(mesh, "ap-south").all()
            assert (first.replayed, first.unresolved) == (1, 0)
            assert (later.id, later.replayed, later.unresolved) == ("default.2", 1, 0)
            await mesh.until(lambda: Grade.RECOVERED in {m[3] for m in manifest(mesh, second.id, "ap-south")})
            assert await delivered(mesh["ap-south"]) == ["a", "b"]

    @in_virtual_time
    async def test_each_manifest_names_its_own(self, tmp_path):
        async with split_mesh(tmp_path, tail=("b",)) as mesh:
            isolate(mesh, "eu-west")
            await Producer(mesh["eu-west"], "q").publish("x", "y")
            second = await emergency(mesh, "eu-west", "ap-south")
            await mesh["us-east"].start()
            await come_back(mesh, "eu-west")
            await mesh.until(lambda: manifest(mesh, second.id, "ap-south") and manifest(mesh))
            assert [m[0] for m in manifest(mesh)] == [1]
            assert {m[0] for m in manifest(mesh, second.id, "ap-south")} == {2}
            assert sum(r.records for r in mesh["ap-south"].failover(second.id).manifest) == 2


class TestFailback:
    @in_virtual_time
    async def test_fm23_it_waits_until_what_diverged_is_resolved_and_then_is_a_planned_failover(self, tmp_path):
        async with split_mesh(tmp_path) as mesh:
            await come_back(mesh)
            await asyncio.sleep(2.0)
            home = {"mode": Mode.FAILBACK, "namespaces": (), "reverses": "fo-1"}
            with pytest.raises(Exception, match="3 records of default") as refused:
                await mesh["eu-west"].plan("", **home)
            assert refused.value.details["failed"] == "divergence_resolved"
            await replayed(mesh)
            await asyncio.sleep(2.0)
            failback = await mesh["eu-west"].plan("", **home)
            assert (failback.source, failback.request.target) == ("eu-west", "us-east")
            for step in ("drain", "promote", "verify", "complete"):
                failback = await mesh["eu-west"].step(failback, step)
            assert failback.state is State.COMPLETED
            assert mesh["us-east"].admitting == {"default": 3}
            assert await delivered(mesh["us-east"]) == ["a", "b", "c", "d"]

    @in_virtual_time
    async def test_fm02_a_driver_that_died_finds_its_failback_again(self, tmp_path):
        async with split_mesh(tmp_path) as mesh:
            await come_back(mesh)
            await replayed(mesh)
            await asyncio.sleep(2.0)
            home = {"mode": Mode.FAILBACK, "namespaces": (), "reverses": "fo-1"}
            failback = await mesh["eu-west"].plan("", **home)
            assert await mesh["eu-west"].plan("", **home) == failback
            for step in ("drain", "promote"):
                await mesh["eu-west"].step(failback, step)
            assert (await mesh["us-east"].plan("", **home)).id == failback.id


def another_view_of(site):
    replicator = site.replicator
    return Divergences(
        replicator.view,
        replicator.sequencer,
        replicator.auditor,
        site.clock,
        codec.with_provenance,
        codec.decode_record_set,
    )


def gated(log, gates):
    """A reading of a task waits for its gate: `name n` is the n-th of the task of that name."""
    read, counts = log.read_namespace, {}

    async def read_namespace(*place):
        name = asyncio.current_task().get_name()
        counts[name] = counts.get(name, 0) + 1
        gate = gates.get(f"{name} {counts[name]}")
        if gate is not None:
            await gate.wait()
        return await read(*place)

    log.read_namespace = read_namespace


def crash_after(site, batches):
    """Its replay stops after so many batches that are durable, as a process does that dies there."""
    replay = site.replicator._replay
    publish, done = replay._publish, []
    site.replay_stopped = False

    async def until_then(*arguments):
        if len(done) == batches:
            site.replay_stopped = True
            await asyncio.Event().wait()
        published = await publish(*arguments)
        if published is not None:
            await published
        done.append(True)
        return

    async def never(*arguments):
        site.replay_stopped = True
        await asyncio.Event().wait()

    replay._publish = until_then
    replay._divergences = replace_store(replay._divergences, never)


def replace_store(divergences, store):
    """The same divergences, whose decision is never written."""

    class Dying:
        def __getattr__(self, name):
            return store if name == "store" else getattr(divergences, name)

    return Dying()
