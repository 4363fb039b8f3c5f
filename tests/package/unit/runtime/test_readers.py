"""Who has taken notice of a switch: readers acknowledge the epoch, and those that have not are named (fm20)."""

import asyncio
from contextlib import aclosing, asynccontextmanager

import pytest
from tests.package.unit.runtime.mesh import running_mesh
from tests.package.unit.runtime.test_planned import move
from tests.package.unit.runtime.virtual import in_virtual_time

from omnirelay.errors import BadRequest, CursorAhead
from omnirelay.failover.acknowledgement import acknowledgement
from omnirelay.model.position import Cursor
from omnirelay.model.readers import ReaderBehind
from omnirelay.model.routing import Ownership, Route
from omnirelay.ports.streams import AcknowledgeRequest, SubscribeRequest
from omnirelay.runtime.readers import MOST_LISTED, Readers

ROUTES = {"default": Route("default", (Ownership(1, "us-east", "us-east"), Ownership(2, "eu-west", "eu-west")))}


@asynccontextmanager
async def reading(site, principal, consumer, **options):
    """A subscription that is read all the while."""
    request = SubscribeRequest("default", None, latest=True, consumer_id=consumer, **options)

    async def read():
        async with aclosing(await site.replicator.subscribe(request, principal)) as messages:
            async for _ in messages:
                pass

    task = asyncio.create_task(read())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def noticed(site):
    return acknowledgement(site.replicator.view.evidence(), ["default"])


@in_virtual_time
async def test_fm20_after_a_switch_the_readers_that_have_not_acknowledged_it_are_named_wherever_one_asks(tmp_path):
    async with running_mesh(tmp_path) as mesh:
        asked = mesh["us-east"]
        async with (
            reading(mesh["ap-south"], "client/a", "one", epoch=1),
            reading(mesh["ap-south"], "client/a", "two", epoch=1),
            reading(mesh["us-east"], "client/b", "", epoch=1),
        ):
            await mesh.until(lambda: noticed(asked).readers == 3)
            assert noticed(asked).readers_behind == 0
            await move(mesh, "eu-west")
            await mesh.until(lambda: noticed(asked).readers_behind == 3)
            mesh["ap-south"].replicator.acknowledge(AcknowledgeRequest("default", "one", 2), "client/a")
            await mesh.until(lambda: noticed(asked).readers_behind == 2)
            late = noticed(asked)
            assert [(each.cluster, each.reader) for each in late.late] == [
                ("ap-south", ReaderBehind("default", "two", "client/a", 1)),
                ("us-east", ReaderBehind("default", "", "client/b", 1)),
            ]
            assert (late.clusters_behind, late.clusters_unknown) == ((), ())
        await mesh.until(lambda: noticed(asked).readers == 0)
        assert noticed(asked).late == ()


@in_virtual_time
async def test_fm20_a_cluster_that_shows_an_older_routing_is_named_and_its_readers_count_as_behind(tmp_path):
    async with running_mesh(tmp_path) as mesh:
        deaf, asked = mesh["ap-south"], mesh["eu-west"]
        async with reading(deaf, "client/a", "one", epoch=1):
            await mesh.until(lambda: noticed(asked).readers == 1)
            routing = deaf.replicator.view.routing
            show = deaf.replicator.view._set
            deaf.replicator.view._set = lambda key, entry: key == "mesh/routing" or show(key, entry)
            await move(mesh, "eu-west")
            await mesh.until(lambda: noticed(asked).clusters_behind == ("ap-south",))
            assert deaf.replicator.view.routing == routing
            assert noticed(asked).readers_behind == 1
        await deaf.kill()
        await mesh.until(lambda: noticed(asked).clusters_unknown == ("ap-south",))


def test_an_acknowledgement_counts_for_its_own_reader_only():
    readers = Readers()
    for principal, consumer in (("a", "one"), ("a", "two"), ("b", "one")):
        readers.join(principal, consumer, "default", 1)
    readers.acknowledge("a", "one", "default", 2)
    readers.acknowledge("a", "two", "orders", 2)
    counts, late = readers.behind(ROUTES)
    assert counts == {"default": 2}
    assert [(each.principal, each.consumer) for each in late] == [("b", "one"), ("a", "two")]


def test_an_acknowledgement_never_goes_back_and_needs_a_name():
    readers = Readers()
    readers.join("a", "one", "default", 2)
    readers.acknowledge("a", "one", "default", 1)
    assert readers.behind(ROUTES) == ({}, ())
    with pytest.raises(BadRequest, match="consumer_id"):
        readers.acknowledge("a", "", "default", 2)


def test_very_many_are_counted_and_not_all_of_them_named():
    readers = Readers()
    for number in range(MOST_LISTED + 7):
        readers.join("a", f"c{number}", "default", 1)
    counts, late = readers.behind(ROUTES)
    assert (counts, len(late)) == ({"default": MOST_LISTED + 7}, MOST_LISTED)


@in_virtual_time
async def test_a_cursor_of_an_epoch_that_nobody_knows_is_refused_and_not_waited_for(tmp_path):
    async with running_mesh(tmp_path) as mesh:
        request = SubscribeRequest("default", Cursor(9, 1), latest=False)
        with pytest.raises(CursorAhead) as refused:
            await anext(await mesh["ap-south"].replicator.subscribe(request))
        assert refused.value.retryable, "another cluster, or this one a little later, may know it"
        assert refused.value.details == {"namespace": "default", "epoch": 1}
