"""What readers are told by a cluster that does not know of their namespace yet."""

import asyncio
from contextlib import aclosing

import pytest
from tests.package.unit.runtime.mesh import ALICE, Mesh, Producer, running_mesh
from tests.package.unit.runtime.test_emergency import promote
from tests.package.unit.runtime.test_planned import move
from tests.package.unit.runtime.virtual import in_virtual_time

from omnirelay.errors import NotInstalled, ResumePointDeleted, UnknownNamespace, VerifyFailed
from omnirelay.model.batch import Batch
from omnirelay.model.position import Cursor
from omnirelay.ports.log import Retention
from omnirelay.ports.streams import FenceNotice, Progress, SubscribeRequest, Withdrawn
from omnirelay.runtime.retaining import RetentionSettings
from omnirelay.wire import codec

FROM_START = SubscribeRequest("default", None, latest=False)


async def first(site, request=FROM_START):
    async with aclosing(await site.replicator.subscribe(request)) as messages:
        return await anext(messages)


@in_virtual_time
async def test_fm08_a_reader_that_comes_while_a_replicator_starts_waits_until_it_has_read_its_log(tmp_path):
    """It was told that there is no such namespace, and readers take that for the last word."""
    async with running_mesh(tmp_path) as mesh:
        site = mesh["us-east"]
        await Producer(site).publish("one")
        await site.kill()
        starting = asyncio.create_task(site.start())
        await asyncio.sleep(0)
        assert not site.replicator.view.loaded.is_set()
        message = await first(site)
        assert isinstance(message, Batch)
        await starting


@in_virtual_time
async def test_a_namespace_whose_first_epoch_has_not_arrived_is_a_reason_to_try_again_and_an_unknown_one_is_not(
    tmp_path,
):
    mesh = Mesh(tmp_path)
    await mesh.populate()
    site = mesh["eu-west"]
    await site.start()
    with pytest.raises(NotInstalled) as early:
        await first(site)
    assert early.value.retryable
    with pytest.raises(UnknownNamespace) as never:
        await first(site, SubscribeRequest("orders", None, latest=False))
    assert never.value.details["known"] == "default"
    await site.kill()


SOON = RetentionSettings(60_000, 1 << 60, 1 << 60)
"""A minute, beside what peers lack."""


@in_virtual_time
async def test_fm25_a_reader_without_a_cursor_begins_with_the_first_record_that_is_retained(tmp_path):
    """It was told resume_point_deleted, and to start from the earliest, as soon as retention had dropped anything."""
    async with running_mesh(tmp_path, retention=SOON) as mesh:
        site = mesh["us-east"]
        await Producer(site).publish("one", "two")
        await asyncio.sleep(100.0)
        await Producer(site).publish("three")
        await mesh.until(lambda: site.disk.origins["us-east"].floor.sequence == 2)
        given = await first(site)
        assert isinstance(given, Batch)
        assert given.header.first_sequence == 3
        with pytest.raises(ResumePointDeleted) as refused:
            await first(site, SubscribeRequest("default", Cursor(1, 1), latest=False))
        assert refused.value.details["oldest"] == 3


@in_virtual_time
async def test_fm25_a_reader_without_a_cursor_begins_behind_all_that_was_dropped_in_whichever_epoch(tmp_path):
    async with running_mesh(tmp_path, retention=SOON) as mesh:
        await Producer(mesh["us-east"]).publish("one")
        await move(mesh, "eu-west")
        await Producer(mesh["eu-west"]).publish("two")
        site = mesh["ap-south"]
        await mesh.until(lambda: site.disk.origins["eu-west"].floor.sequence > 0, seconds=300)
        end = site.vector["eu-west"]
        told = await first(site)
        assert told == Progress(Cursor(2, end), 2)
        await Producer(mesh["eu-west"]).publish("three")
        given = await first(site)
        assert isinstance(given, Batch)
        assert given.header.first_sequence == end + 1


@in_virtual_time
async def test_fm25_a_reader_that_is_about_to_begin_when_retention_comes_round_begins_behind_it(tmp_path):
    async with running_mesh(tmp_path, retention=SOON) as mesh:
        site = mesh["us-east"]
        await Producer(site).publish("one")
        await asyncio.sleep(100.0)
        await Producer(site).publish("two")
        assert site.disk.origins["us-east"].floor.sequence == 0
        read, rounds = site.log.read_namespace, []

        async def late(*place):
            if not rounds:
                rounds.append(await site.replicator.retaining.retain())
            return await read(*place)

        site.log.read_namespace = late
        given = await first(site)
        assert isinstance(given, Batch)
        assert given.header.first_sequence == 2


@in_virtual_time
async def test_i7_what_a_fence_takes_back_is_what_the_reader_was_given_and_not_what_had_been_fenced_before(tmp_path):
    """`c` was cut off before the reader came there; it was told that `c`, which it never had, was taken back."""
    async with running_mesh(tmp_path) as mesh:
        first_active, second, third = (mesh[name] for name in ("us-east", "eu-west", "ap-south"))
        await Producer(first_active).publish("a")
        await mesh.settle()
        for peer in ("us-east", "eu-west"):
            mesh.cut("ap-south", peer)
        await Producer(first_active).publish("b")
        await mesh.until(lambda: second.vector.get("us-east") == 2)
        mesh.cut("us-east", "eu-west")
        await Producer(first_active).publish("c")
        await first_active.kill()
        await promote(mesh, "eu-west", break_glass=True)
        await Producer(second, "q").publish("x")
        at = Cursor(2, second.vector["eu-west"])
        mesh.mend()
        for peer in ("us-east", "eu-west"):
            mesh.cut("ap-south", peer)
        await first_active.start()
        await mesh.until(lambda: second.vector.get("us-east") == 3)
        await first_active.kill()
        await second.kill()
        [failover] = third.replicator.view.failovers.values()
        with pytest.raises(VerifyFailed):
            await third.step(failover, "verify")
        await third.replicator.failovers.step(failover.id, "complete", ALICE, 5.0, reason="it is gone")
        await promote(mesh, "ap-south", break_glass=True)
        mesh.mend()
        await second.start()
        await mesh.until(lambda: second.replicator.sequencer.routes()["default"].epoch == 3)
        taken_back = []
        async with aclosing(await second.replicator.subscribe(SubscribeRequest("default", at, latest=False))) as told:
            async for message in told:
                if isinstance(message, FenceNotice):
                    break
                assert isinstance(message, Withdrawn)
                taken_back += [record.value for record in codec.decode_record_set(message.batch.records)]
        assert message == FenceNotice(Cursor(1, 1), 3)
        assert taken_back == [b"b", b"x"]


async def cut_off(mesh):
    """us-east wrote `a`, which everybody has, and `b` and `c`, which nobody else has."""
    writer = Producer(mesh["us-east"])
    await writer.publish("a")
    await mesh.settle()
    for peer in ("eu-west", "ap-south"):
        mesh.cut("us-east", peer)
    await writer.publish("b", "c")


@in_virtual_time
async def test_i7_a_reader_that_began_with_the_latest_is_taken_back_nothing_from_before(tmp_path):
    async with running_mesh(tmp_path) as mesh:
        source = mesh["us-east"]
        await cut_off(mesh)
        latest, told = SubscribeRequest("default", None, latest=True), []
        async with aclosing(await source.replicator.subscribe(latest)) as messages:
            told.append(await anext(messages))
            await promote(mesh, "eu-west", break_glass=True)
            mesh.mend()
            while not isinstance(told[-1], FenceNotice):
                told.append(await anext(messages))
        assert [message for message in told if isinstance(message, Withdrawn)] == []


@in_virtual_time
async def test_a_reader_of_fenced_records_that_retention_has_dropped_is_told_of_the_fence(tmp_path):
    """It was told resume_point_deleted, although what follows its place was all there."""
    async with running_mesh(tmp_path) as mesh:
        source, target = mesh["us-east"], mesh["eu-west"]
        await cut_off(mesh)
        await source.kill()
        await promote(mesh, "eu-west", break_glass=True)
        mesh.mend()
        await source.start()
        await mesh.until(lambda: target.vector.get("us-east") == 3)
        everything = Retention(target.clock.wall_ms() + 10**9, 0, 10**12, 10**12, keep_from={"eu-west": 1})
        await target.log.retain(everything)
        assert await first(target, SubscribeRequest("default", Cursor(1, 3), latest=False)) == FenceNotice(
            Cursor(1, 1), 2
        )
