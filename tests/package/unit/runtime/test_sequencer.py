"""The one place where batches join a log: what is on its way, and what is held back."""

import asyncio

import pytest
from tests.package.unit.runtime.virtual import LoopClock, in_virtual_time

from omnirelay.errors import StorageUnavailable
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
    await sequencer.install({"default": ROUTE})
    return sequencer


def publish(sequencer, number):
    return sequencer.publish(ROUTE.current, "default", "p", number, b"records", 1)


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
    with pytest.raises(StorageUnavailable):
        await publish(sequencer, 2).durable
    with pytest.raises(StorageUnavailable):
        publish(sequencer, 2)
    reading = Delivering(sequencer, sequencer.log, dict, None).serve(SubscribeRequest("default", None, latest=False))
    first = await anext(reading)
    assert isinstance(first, Batch)
    assert first.header.last_sequence == 1
    await reading.aclose()
