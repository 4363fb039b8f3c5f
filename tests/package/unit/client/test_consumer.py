import pytest

from omnirelay.client import Consumer, Cursor, Record
from omnirelay.client.reader import Fence
from omnirelay.errors import Unreachable
from omnirelay.model.batch import BatchKind
from omnirelay.model.version_vector import VersionVector
from omnirelay.wire import codec
from omnirelay.wire._generated.omnirelay.mesh.v1 import events_pb2 as pb


def consumer(mesh, **options):
    return Consumer(options.pop("endpoints", mesh.endpoints), jitter=lambda: 0.0, **options)


def write(mesh, *keys, origin=None, kind=BatchKind.DATA):
    records = codec.encode_record_set([Record(str(key).encode(), b"") for key in keys])
    mesh.commit(origin or mesh.active, "p1", mesh.last("p1") + 1, records, kind)


def fence(cut):
    return pb.SubscribeResponse(fence=pb.FenceNotice(cut=codec.cursor_to_message(cut), epoch=2))


async def read(stream, count):
    found = []
    async for delivery in stream:
        found.append(delivery)
        if len(found) == count:
            break
    return found


def keys(deliveries):
    return [int(delivery.record.key) for delivery in deliveries]


async def test_records_come_with_their_place(mesh):
    write(mesh, 1, 2)
    async with consumer(mesh) as c:
        first, second = await read(c, 2)
        assert (first.record.key, first.cursor, first.origin, first.epoch) == (b"1", Cursor(1, 1), "us-east", 1)
        assert (second.cursor, second.cluster, c.cursor) == (Cursor(1, 2), "us-east", Cursor(1, 2))
        assert c.vector == VersionVector({"us-east": 2})


async def test_a_cursor_within_a_batch_goes_on_after_it(mesh):
    write(mesh, 1, 2, 3)
    write(mesh, 4)
    async with consumer(mesh, cursor=Cursor(1, 2)) as c:
        assert keys(await read(c, 2)) == [3, 4]


async def test_only_producers_records_are_delivered(mesh):
    write(mesh, 1)
    write(mesh, 2, kind=BatchKind.BARRIER)
    mesh.promote("eu-west")
    write(mesh, 3, kind=BatchKind.CANARY)
    write(mesh, 4)
    async with consumer(mesh) as c:
        found = await read(c, 2)
    assert keys(found) == [1, 4]
    assert (found[1].cursor, found[1].cluster) == (Cursor(2, 2), "eu-west")


async def test_another_endpoint_goes_on_from_the_cursor(mesh):
    write(mesh, 1, 2, 3)
    async with consumer(mesh) as c:
        stream = aiter(c)
        assert keys([await anext(stream), await anext(stream)]) == [1, 2]
        await mesh.clusters["us-east"].stop()
        mesh.promote("eu-west")
        write(mesh, 4)
        assert keys([await anext(stream), await anext(stream)]) == [3, 4]
    assert mesh.subscriptions == [("us-east", Cursor()), ("eu-west", Cursor(1, 3))]


async def test_a_reader_of_the_latest_has_a_place_before_it_has_a_record(mesh):
    async with consumer(mesh, start="latest") as c:
        delivered = codec.cursor_to_message(Cursor(1, 7))
        c._receive(pb.SubscribeResponse(progress=pb.SubscribeProgress(delivered=delivered, epoch=1)))
        assert c.cursor == Cursor(1, 7), "or it would miss what comes while it reconnects"


async def test_a_fence_is_told_and_rolls_back(mesh):
    write(mesh, 1, 2)
    fences = []
    async with consumer(mesh, on_fence=fences.append) as c:
        stream = aiter(c)
        assert keys([await anext(stream), await anext(stream)]) == [1, 2]
        mesh.notices.append(fence(Cursor(1, 1)))
        mesh.promote("eu-west")
        write(mesh, 3)
        assert keys([await anext(stream)]) == [3]
    assert fences == [Fence(Cursor(1, 1), 2, rolled_back=True)]


async def test_a_fence_beyond_the_reader_undoes_nothing(mesh):
    fences = []
    mesh.notices.append(fence(Cursor(1, 9)))
    write(mesh, 1)
    async with consumer(mesh, on_fence=fences.append) as c:
        assert keys(await read(c, 1)) == [1]
    assert fences == [Fence(Cursor(1, 9), 2, rolled_back=False)]


async def test_batches_come_whole(mesh):
    write(mesh, 1, 2, 3)
    async with consumer(mesh, cursor=Cursor(1, 1)) as c:
        async for batch in c.batches():
            assert [record.key for record in batch.records] == [b"2", b"3"]
            assert (batch.first, batch.last, batch.producer_id) == (Cursor(1, 2), Cursor(1, 3), "p1")
            break
        assert c.cursor == Cursor(1, 3)


async def test_a_silent_cluster_is_left_and_the_error_surfaces_after_the_window():
    async with Consumer(["127.0.0.1:1"], reconnect_timeout_seconds=0.05) as c:
        with pytest.raises(Unreachable):
            await anext(aiter(c))


async def test_silence_is_an_error(mesh):
    async with consumer(mesh, silence_timeout_seconds=0.05, reconnect_timeout_seconds=0.01) as c:
        with pytest.raises(Unreachable, match="silent"):
            await anext(aiter(c))


async def test_fm20_a_reader_acknowledges_an_epoch_that_it_is_told_and_brings_it_along(mesh):
    write(mesh, 1)
    async with consumer(mesh, consumer_id="billing") as c:
        stream = aiter(c)
        await anext(stream)
        await mesh.noticed.wait()
        assert mesh.known == {"billing": 1}
        mesh.noticed.clear()
        mesh.promote("eu-west")
        write(mesh, 2)
        await anext(stream)
        await mesh.noticed.wait()
        assert mesh.known == {"billing": 2}
        await stream.aclose()
        mesh.known.clear()
        write(mesh, 3)
        await anext(aiter(c))
        assert mesh.known == {"billing": 2}, "said by the subscription itself"


async def test_fm20_an_epoch_that_comes_while_another_is_acknowledged_is_acknowledged_without_reading_on(mesh):
    answers = mesh.clusters["us-east"].answers
    answers.clear()
    write(mesh, 1)
    async with consumer(mesh, consumer_id="billing") as c:
        stream = aiter(c)
        await anext(stream)
        await mesh.noticed.wait()
        mesh.noticed.clear()
        mesh.promote("eu-west")
        write(mesh, 2)
        await anext(stream)
        answers.set()
        await mesh.noticed.wait()
        assert mesh.known == {"billing": 2}
