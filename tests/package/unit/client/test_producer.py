import asyncio
from contextlib import asynccontextmanager

import pytest

from omnirelay.client import OutboxLimits, Producer, Record, Unacknowledged
from omnirelay.client.errors import AcknowledgedMissing, ProducerIdInUse
from omnirelay.errors import BadRequest, BatchTooLarge, ConfigInvalid, Overloaded, TooFewClusters
from omnirelay.model.position import Position

SHORT = OutboxLimits(park_timeout_seconds=0.2, stall_timeout_seconds=0.1)


def records(*keys):
    return [Record(str(key).encode(), b"value") for key in keys]


def keys(stop):
    return [str(key).encode() for key in range(stop)]


def producer(mesh, **options):
    return Producer(options.pop("endpoints", mesh.endpoints), producer_id="p1", jitter=lambda: 0.0, **options)


@asynccontextmanager
async def unflushed(p):
    """For a producer that breaks: leaving its block would raise what the test has seen already."""
    await p.__aenter__()
    try:
        yield p
    finally:
        await p.close()


async def test_a_batch_is_durable_when_send_returns(mesh):
    async with producer(mesh) as p:
        result = await p.send(records("a", "b"))
    assert (result.producer_sequence, result.count, result.cluster, result.epoch) == (1, 2, "us-east", 1)
    assert (result.position, result.duplicate) == (Position("us-east", 1), False)
    assert mesh.keys == [b"a", b"b"]


async def test_pipelined_batches_are_acknowledged_in_order(mesh):
    async with producer(mesh) as p:
        futures = [p.send_nowait(records(n)) for n in range(100)]
        await p.flush()
        assert [future.result().producer_sequence for future in futures] == list(range(1, 101))
    assert mesh.keys == keys(100)


async def test_a_new_process_goes_on_after_what_the_mesh_holds(mesh):
    async with producer(mesh) as p:
        await p.send(records("a"))
    async with producer(mesh) as p:
        assert await p.opened() == 1
        assert (await p.send(records("b"))).producer_sequence == 2


async def test_it_finds_the_active_from_any_endpoint(mesh):
    async with producer(mesh, endpoints=[mesh.clusters["eu-west"].endpoint]) as p:
        assert (await p.send(records("a"))).cluster == "us-east"


async def test_endpoints_that_do_not_answer_are_passed_over(mesh):
    async with producer(mesh, endpoints=["127.0.0.1:1", *mesh.endpoints]) as p:
        assert (await p.send(records("a"))).cluster == "us-east"


async def test_fm21_a_drain_and_a_promotion_are_not_seen_by_the_application(mesh):
    async with producer(mesh) as p:
        await p.send(records(0))
        mesh.draining = True
        futures = [p.send_nowait(records(n)) for n in range(1, 20)]
        await mesh.next_knock()
        await mesh.next_knock()
        mesh.promote("eu-west")
        results = await asyncio.gather(*futures)
    assert [(r.producer_sequence, r.cluster, r.epoch) for r in results] == [(n, "eu-west", 2) for n in range(2, 21)]
    assert mesh.keys == keys(20)


async def test_an_active_that_dies_is_replaced_without_loss_or_doubles(mesh):
    async with producer(mesh) as p:
        await p.send(records(0))
        mesh.clusters["us-east"].answers.clear()
        mesh.changed.clear()
        futures = [p.send_nowait(records(n)) for n in range(1, 20)]
        await mesh.changed.wait()
        await mesh.clusters["us-east"].stop()
        await mesh.next_knock()
        mesh.promote("eu-west")
        results = await asyncio.gather(*futures)
    assert mesh.keys == keys(20)
    assert {r.cluster for r in results} == {"eu-west"}
    assert next(r.duplicate for r in results), "committed by the one that died, known by the one that took over"


async def test_an_acknowledgement_that_is_lost_resolves_as_a_duplicate(mesh):
    mesh.clusters["us-east"].lose_acks = 1
    async with producer(mesh) as p:
        result = await p.send(records("a"))
        assert (result.duplicate, result.position, result.producer_sequence) == (True, None, 1)
        assert not (await p.send(records("b"))).duplicate
    assert mesh.keys == [b"a", b"b"]


async def test_order_survives_connections_that_are_cut_again_and_again(mesh):
    mesh.clusters["us-east"].lose_acks = 5
    async with producer(mesh, limits=OutboxLimits(in_flight_batches=3)) as p:
        results = await asyncio.gather(*(p.send(records(n)) for n in range(50)))
    assert mesh.keys == keys(50)
    assert sum(r.duplicate for r in results) == 5


async def test_the_token_of_a_later_epoch_is_learnt(mesh):
    async with producer(mesh) as p:
        await p.send(records("a"))
        await mesh.clusters["us-east"].stop()
        mesh.promote("eu-west")
        assert (await p.send(records("b"))).epoch == 2
        assert p.cluster_epoch == 2
    assert mesh.clusters["eu-west"].opens == [1, 2]


async def test_a_silent_cluster_is_left_for_another_endpoint(mesh):
    mesh.clusters["us-east"].answers.clear()
    async with producer(mesh, limits=OutboxLimits(stall_timeout_seconds=0.05)) as p:
        future = p.send_nowait(records("a"))
        await mesh.changed.wait()
        mesh.promote("eu-west")
        result = await future
    assert (result.cluster, result.duplicate, mesh.keys) == ("eu-west", True, [b"a"])


async def test_fm21_after_the_window_the_application_learns_what_is_unacknowledged(mesh):
    async with unflushed(producer(mesh, limits=SHORT)) as p:
        await p.send(records("a"))
        mesh.clusters["us-east"].answers.clear()
        sent = p.send_nowait(records("b"))
        await mesh.changed.wait()
        mesh.draining = True
        with pytest.raises(Unacknowledged) as caught:
            await sent
        assert (caught.value.details["first"], caught.value.details["last"]) == (2, 2)
        assert caught.value.details["cause"] in {"draining", "not_active"}
        with pytest.raises(Unacknowledged):
            p.send_nowait(records("c"))
        with pytest.raises(Unacknowledged):
            await p.send(records("c"))
    assert "Batches 2 to 2" in caught.value.operator_hint


async def test_a_producer_that_never_reached_a_cluster_says_that_nothing_was_sent():
    async with unflushed(Producer(["127.0.0.1:1"], producer_id="p1", limits=SHORT)) as p:
        future = p.send_nowait(records("a"))
        with pytest.raises(Unacknowledged) as caught:
            await p.opened()
        with pytest.raises(Unacknowledged):
            await future
        assert (caught.value.details["unsent"], "first" in caught.value.details) == (1, False)


async def test_fm21_the_buffer_is_bounded_and_send_waits_for_room(mesh):
    mesh.clusters["us-east"].answers.clear()
    async with producer(mesh, limits=OutboxLimits(buffered_batches=2)) as p:
        futures = [p.send_nowait(records(n)) for n in range(2)]
        with pytest.raises(Overloaded):
            p.send_nowait(records("x"))
        later = [asyncio.create_task(p.send(records(n))) for n in range(2, 6)]
        await mesh.changed.wait()
        assert (p.unacknowledged, [task.done() for task in later]) == (2, [False] * 4)
        mesh.clusters["us-east"].answers.set()
        await asyncio.gather(*futures, *later)
    assert mesh.keys == keys(6)


async def test_what_is_in_flight_is_bounded(mesh):
    mesh.clusters["us-east"].answers.clear()
    async with producer(mesh, limits=OutboxLimits(in_flight_batches=2)) as p:
        futures = [p.send_nowait(records(n)) for n in range(10)]
        await mesh.changed.wait()
        assert len(p._outbox._in_flight) == 2
        mesh.clusters["us-east"].answers.set()
        await asyncio.gather(*futures)


async def test_a_batch_that_can_never_be_taken_is_refused_at_once(mesh):
    mesh.max_batch_bytes = 100
    async with producer(mesh) as p:
        await p.opened()
        with pytest.raises(BatchTooLarge):
            await p.send([Record(b"k", bytes(200))])
        with pytest.raises(BadRequest):
            p.send_nowait([])
        assert (await p.send(records("a"))).producer_sequence == 1


@pytest.mark.parametrize("lose_acks", [0, 1], ids=["by an acknowledgement", "on reopening"])
async def test_two_processes_with_one_id_are_told_apart(mesh, lose_acks):
    async with unflushed(producer(mesh)) as p:
        await p.send(records("a"))
        for sequence in (2, 3):
            mesh.commit("us-east", "p1", sequence, mesh.log[0].records)
        mesh.clusters["us-east"].lose_acks = lose_acks
        with pytest.raises(ProducerIdInUse):
            await p.send(records("b"))


async def test_leaving_the_block_tells_what_nobody_waited_for(mesh):
    mesh.active = ""
    with pytest.raises(Unacknowledged):
        async with producer(mesh, limits=SHORT) as p:
            p.send_nowait(records("a")).cancel()


async def test_a_cancelled_send_is_sent_all_the_same(mesh):
    mesh.clusters["us-east"].answers.clear()
    async with producer(mesh) as p:
        task = asyncio.create_task(p.send(records("a")))
        await mesh.changed.wait()
        task.cancel()
        mesh.clusters["us-east"].answers.set()
        assert (await p.send(records("b"))).producer_sequence == 2
    assert mesh.keys == [b"a", b"b"]


async def test_leaving_the_block_with_an_error_does_not_wait(mesh):
    mesh.clusters["us-east"].answers.clear()

    async def fail():
        async with producer(mesh) as p:
            futures.append(p.send_nowait(records("a")))
            raise KeyError

    futures = []
    with pytest.raises(KeyError):
        await fail()
    assert isinstance(futures[0].exception(), Unacknowledged)


# --- durability ---------------------------------------------------------------------------------------------------


async def emergency(mesh, lost):
    """The active dies with so many batches that nobody else has."""
    await mesh.clusters["us-east"].stop()
    mesh.promote("eu-west", lost)


async def test_what_an_emergency_lost_is_sent_again_by_producers_that_live(mesh):
    async with producer(mesh) as p:
        for n in range(5):
            assert (await p.send(records(n))).durability == "local"
        await emergency(mesh, lost=3)
        assert (await p.send(records(5))).producer_sequence == 6
    assert mesh.keys == keys(6)


async def test_an_idle_producer_sends_again_without_being_asked(mesh):
    async with producer(mesh) as p:
        for n in range(3):
            await p.send(records(n))
        await emergency(mesh, lost=2)
        while len(mesh.keys) < 3:
            mesh.changed.clear()
            await mesh.changed.wait()
        assert (mesh.keys, p.unacknowledged) == (keys(3), 0)


async def test_what_is_remote_is_kept_no_longer(mesh):
    async with producer(mesh) as p:
        for n in range(3):
            await p.send(records(n))
        assert p.kept == 3
        await mesh.clusters["us-east"].tell_remote(2)
        await p.send(records(3))
        assert (p.kept, p.at_risk) == (2, 0)


async def test_a_mesh_that_never_speaks_of_remote_costs_nothing_but_the_safety(mesh):
    async with producer(mesh, limits=OutboxLimits(kept_batches=2)) as p:
        for n in range(5):
            await p.send(records(n))
        assert (p.kept, p.at_risk) == (2, 3)


@pytest.mark.parametrize(("others", "asked"), [(0, 0), (1, 1)])
async def test_a_mesh_with_fewer_clusters_is_asked_for_what_it_has(mesh, others, asked):
    mesh.others = others
    async with producer(mesh, remote_copies=2) as p:
        await p.send(records("a"))
    assert mesh.clusters["us-east"].copies == [2, asked]


async def test_who_insists_on_more_copies_than_there_can_be_is_told(mesh):
    async with unflushed(producer(mesh, durability="remote", remote_copies=2)) as p:
        with pytest.raises(TooFewClusters):
            await p.send(records("a"))


async def test_with_remote_durability_a_batch_is_awaited_until_it_is_remote(mesh):
    async with producer(mesh, durability="remote") as p:
        futures = [p.send_nowait(records(n)) for n in range(2)]
        await mesh.clusters["us-east"].tell_remote(1)
        assert (await futures[0]).durability == "remote"
        assert not futures[1].done()
        await mesh.clusters["us-east"].tell_remote(2)
        assert (await futures[1]).position == Position("us-east", 2)


async def test_who_waits_for_other_clusters_in_vain_learns_that(mesh):
    async with unflushed(producer(mesh, durability="remote", limits=SHORT)) as p:
        with pytest.raises(Unacknowledged, match="fewer than 1 other clusters confirm; batches 1 to 1"):
            await p.send(records("a"))


async def test_what_was_let_go_of_and_is_lost_is_named(mesh):
    async with unflushed(producer(mesh, limits=OutboxLimits(kept_batches=1))) as p:
        for n in range(5):
            await p.send(records(n))
        await emergency(mesh, lost=3)
        with pytest.raises(AcknowledgedMissing) as caught:
            await p.send(records(5))
    assert {name: caught.value.details[name] for name in ("last_producer_sequence", "missing", "at_risk", "kept")} == {
        "last_producer_sequence": 2, "missing": 2, "at_risk": 2, "kept": 1,
    }  # fmt: skip


async def test_an_active_that_could_lose_too_much_is_asked_again_until_it_takes_writes(mesh):
    async with producer(mesh) as p:
        await p.send(records(0))
        mesh.exposed = True
        future = p.send_nowait(records(1))
        await mesh.next_knock()
        await mesh.next_knock()
        mesh.exposed = False
        assert (await future).cluster == "us-east"
    assert mesh.clusters["eu-west"].opens == [], "nobody else can take them"


@pytest.mark.parametrize("options", [{"durability": "everywhere"}, {"remote_copies": 0}])
async def test_impossible_wishes_are_refused_at_once(mesh, options):
    with pytest.raises(ConfigInvalid):
        producer(mesh, **options)
