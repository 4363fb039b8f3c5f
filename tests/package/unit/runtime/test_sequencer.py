"""The one place where batches join a log: what is on its way, and what is held back."""

import asyncio
import logging

import pytest
from tests.package.unit.runtime.mesh import Producer, running_mesh
from tests.package.unit.runtime.virtual import LoopClock, in_virtual_time

from omnirelay.errors import EpochMoved, StorageUnavailable
from omnirelay.model.batch import Batch
from omnirelay.model.routing import Ownership, Route
from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.streams import SubscribeRequest
from omnirelay.runtime.delivering import Delivering
from omnirelay.runtime.sequencer import Sequencer
from omnirelay.testing.memory_log import MemoryLog
from omnirelay.wire.codec import encode_header

ROUTE = Route("default", (Ownership(1, "us-east", "us-east"),))


async def started():
    log = await MemoryLog.open()

    async def a_moment():
        await asyncio.sleep(0.01)

    log.before_commit = a_moment
    sequencer = Sequencer(log, "us-east", LoopClock(), encode_header, str.encode)
    await sequencer.start()
    await sequencer.install({"default": ROUTE, "orders": Route("orders", ROUTE.history)})
    return sequencer


def publish(sequencer, number, namespace="default"):
    return sequencer.publish(ROUTE.current, namespace, "p", number, b"records", 1)


class FullDisk:
    """Refuses what is being written once it is told to, when more has been queued behind."""

    def __init__(self, log):
        self.writing, self.refuse = asyncio.Event(), asyncio.Event()
        log.before_commit = self._commit

    async def _commit(self):
        self.writing.set()
        await self.refuse.wait()
        raise StorageUnavailable("the log's disk refuses: full", reason="full")


@in_virtual_time
async def test_waiting_for_what_is_on_its_way_ends_also_under_load():
    """Something is always on its way, but not always the same; a fence waits for it, and must not wait for ever."""
    sequencer = await started()

    async def load():
        number = 0
        while True:
            number += 1
            publish(sequencer, number)
            await asyncio.sleep(0.004)

    loading = asyncio.create_task(load())
    await asyncio.sleep(1.0)
    async with asyncio.timeout(0.1):
        await sequencer.settled()
    loading.cancel()
    await asyncio.gather(loading, return_exceptions=True)
    await sequencer.settled()


@in_virtual_time
async def test_what_was_queued_before_is_durable_afterwards():
    sequencer = await started()
    queued = publish(sequencer, 1)
    await sequencer.settled()
    assert sequencer.log_vector() == VersionVector({"us-east": 1})
    await queued.durable
    await sequencer.settled()


@in_virtual_time
async def test_a_held_origin_waits_until_it_is_released():
    sequencer = await started()
    sequencer.hold(frozenset({"us-east"}))
    waiting = asyncio.create_task(sequencer.released("us-east"))
    await asyncio.sleep(5.0)
    assert not waiting.done()
    await sequencer.released("eu-west")
    sequencer.hold(frozenset())
    await waiting


@in_virtual_time
async def test_fm36_a_disk_that_takes_no_writes_stops_no_reader():
    """Readers were refused whenever they asked between a failed append and the log's being read again."""
    sequencer = await started()
    await publish(sequencer, 1).durable

    async def no_space():
        raise StorageUnavailable("the log's disk refuses: no space")

    sequencer.log.before_commit = no_space
    sequencer.log.load = asyncio.Event().wait
    with pytest.raises(StorageUnavailable):
        await publish(sequencer, 2).durable
    with pytest.raises(StorageUnavailable):
        publish(sequencer, 2)
    reading = Delivering(sequencer, sequencer.log, dict, None).serve(SubscribeRequest("default", None, latest=False))
    first = await anext(reading)
    assert isinstance(first, Batch)
    assert first.header.last_sequence == 1
    await reading.aclose()


@in_virtual_time
async def test_fm36_a_batch_behind_one_that_the_disk_refused_was_told_that_it_could_never_succeed():
    """It was `position_mismatch`, which is final and names the log's head instead of the disk."""
    sequencer = await started()
    disk = FullDisk(sequencer.log)
    first = publish(sequencer, 1)
    await disk.writing.wait()
    behind = publish(sequencer, 1, "orders")
    disk.refuse.set()
    with pytest.raises(StorageUnavailable, match="disk refuses: full"):
        await first.durable
    with pytest.raises(StorageUnavailable) as refused:
        await behind.durable
    assert refused.value.retryable
    assert "disk refuses: full" in refused.value.operator_hint


@in_virtual_time
async def test_a_batch_behind_one_of_an_epoch_that_has_ended_is_told_to_try_again():
    sequencer = await started()
    moved = Route("default", (*ROUTE.history, Ownership(2, "eu-west", "eu-west")))
    await sequencer.log.install({"default": moved})
    first, behind = publish(sequencer, 1), publish(sequencer, 1, "orders")
    with pytest.raises(EpochMoved):
        await first.durable
    with pytest.raises(StorageUnavailable, match="before it"):
        await behind.durable
    await sequencer.settled()
    await asyncio.sleep(1.0)
    await publish(sequencer, 1, "orders").durable


@in_virtual_time
async def test_whoever_gives_up_waiting_for_a_batch_takes_nothing_from_the_others():
    sequencer = await started()
    first, behind = publish(sequencer, 1), publish(sequencer, 2)
    waiting = asyncio.ensure_future(first.durable)
    waiting.cancel()
    await behind.durable
    assert sequencer.losses == 0
    assert sequencer.log_vector() == VersionVector({"us-east": 2})


@in_virtual_time
async def test_fm36_a_receiver_whose_disk_is_full_named_the_position_and_not_the_disk(tmp_path, caplog):
    async with running_mesh(tmp_path) as mesh:
        receiver, producer = mesh["eu-west"], Producer(mesh["us-east"])
        disk = FullDisk(receiver.log)
        await producer.publish("a")
        await disk.writing.wait()
        await producer.publish("b")
        await mesh.until(lambda: receiver.log.waiting == 2)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "omnirelay.runtime.inbound"):
            disk.refuse.set()
            await mesh.until(lambda: not receiver.replicator.links.of("us-east").receiving)
        told = [r.getMessage() for r in caplog.records if r.name == "omnirelay.runtime.inbound"]
        assert told == ["us-east: the log's disk refuses: full"]
        receiver.log.before_commit = mesh["us-east"].log.before_commit
        await mesh.settle()
