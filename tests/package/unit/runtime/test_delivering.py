"""What readers are told by a cluster that does not know of their namespace yet."""

import asyncio
from contextlib import aclosing

import pytest
from tests.package.unit.runtime.mesh import Mesh, Producer, running_mesh
from tests.package.unit.runtime.virtual import in_virtual_time

from omnirelay.errors import NotInstalled, UnknownNamespace
from omnirelay.model.batch import Batch
from omnirelay.ports.streams import SubscribeRequest

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
