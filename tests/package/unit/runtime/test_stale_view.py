"""What a cluster has not heard of yet exists all the same: before it says no, it asks the store once."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from tests.package.unit.failover.support import a_descriptor
from tests.package.unit.runtime.mesh import TIMING, Pipe, Producer, records_of, running_mesh
from tests.package.unit.runtime.virtual import in_virtual_time

from omnirelay.errors import CoordinationUnavailable, NotActive, NotFound, NotInstalled, UnknownNamespace
from omnirelay.model.routing import Ownership, Route, RoutingDocument
from omnirelay.ports.coordination import Put
from omnirelay.ports.streams import ProducerBatch, PublishOpen, SubscribeRequest
from omnirelay.runtime.documents import CLUSTERS, ROUTING, ROUTING_DOCUMENT
from omnirelay.testing.memory_coordination import Fault

DEFAULT = Route("default", (Ownership(1, "us-east", "us-east"),))
MOVED = Route("default", (*DEFAULT.history, Ownership(2, "eu-west", "eu-west")))
ORDERS = Route("orders", (Ownership(1, "eu-west", "eu-west"),))


@asynccontextmanager
async def a_stale_site(path):
    """us-east, to which no changes come any more."""
    async with running_mesh(path) as mesh:
        mesh["us-east"].replicator.view._apply = lambda changes: None
        yield mesh, mesh["us-east"]


async def route(mesh, *routes):
    document = RoutingDocument(2, {each.namespace: each for each in routes})
    await mesh.store.transact([], [Put(ROUTING, ROUTING_DOCUMENT.encode(document))])


async def refused(site, namespace="default"):
    """What a producer is told that opens a stream."""
    here, there = Pipe.pair()
    await here.send(PublishOpen(namespace, "p", 0, 0, None))
    with pytest.raises(Exception) as told:
        await site.replicator.publish(there)
    return told.value


@in_virtual_time
async def test_a_cluster_that_was_just_made_elsewhere_was_not_found(tmp_path):
    async with a_stale_site(tmp_path) as (mesh, site):
        await mesh.store.transact([], [Put(CLUSTERS.key("mars"), CLUSTERS.encode(a_descriptor("mars")))])
        found = await site.replicator.clusters.find("mars")
        assert found.descriptor.cluster_id == "mars"
        with pytest.raises(NotFound):
            await site.replicator.clusters.find("venus")
        site.client.fault = Fault.UNAVAILABLE
        with pytest.raises(CoordinationUnavailable):
            await site.replicator.clusters.find("venus")


@in_virtual_time
async def test_a_namespace_that_was_just_made_elsewhere_was_unknown_to_producers(tmp_path):
    async with a_stale_site(tmp_path) as (mesh, site):
        await route(mesh, DEFAULT, ORDERS)
        error = await refused(site, "orders")
        assert (type(error), error.details["cluster"]) == (NotActive, "eu-west")
        assert isinstance(await refused(site, "nothing"), UnknownNamespace)
        site.client.fault = Fault.UNAVAILABLE
        assert isinstance(await refused(site, "nothing"), CoordinationUnavailable)


@in_virtual_time
async def test_a_namespace_that_was_just_made_elsewhere_was_unknown_to_readers(tmp_path):
    async with a_stale_site(tmp_path) as (mesh, site):
        await route(mesh, DEFAULT, ORDERS)
        with pytest.raises(NotInstalled):
            await anext(await site.replicator.subscribe(SubscribeRequest("orders", None, latest=False)))
        with pytest.raises(UnknownNamespace):
            await anext(await site.replicator.subscribe(SubscribeRequest("nothing", None, latest=False)))


@in_virtual_time
async def test_fm08_a_zombie_named_itself_as_the_active_cluster(tmp_path):
    async with a_stale_site(tmp_path) as (mesh, site):
        await paused(site)
        await route(mesh, MOVED)
        assert site.replicator.view.routing.routes["default"].active == "us-east"
        error = await refused(site)
        assert (error.code, error.details["cluster"], error.details["epoch"]) == ("not_active", "eu-west", 2)
        assert "eu-west" in error.details["endpoint"]


@in_virtual_time
async def test_fm08_a_zombie_named_itself_on_a_stream_that_was_open(tmp_path):
    async with a_stale_site(tmp_path) as (mesh, site):
        async with Producer(site).stream() as stream:
            await paused(site)
            await route(mesh, MOVED)
            await stream.send(ProducerBatch(1, records_of("late"), 1))
            with pytest.raises(NotActive) as ended:
                await stream.receive()
        assert ended.value.details["cluster"] == "eu-west"


@in_virtual_time
async def test_fm08_a_zombie_that_the_store_does_not_answer_named_itself_as_the_active_cluster(tmp_path):
    async with a_stale_site(tmp_path) as (_, site):
        await paused(site)
        site.client.fault = Fault.UNAVAILABLE
        error = await refused(site)
        assert (error.code, error.details) == ("not_active", {"cluster": "", "epoch": 1, "endpoint": ""})
        assert "is not known" in error.message
        assert "Ask another cluster" in error.operator_hint


@in_virtual_time
async def test_a_store_that_hangs_held_a_refusal_back(tmp_path, monkeypatch):
    async with a_stale_site(tmp_path) as (mesh, site):
        await paused(site)
        monkeypatch.setattr(site.client, "list", lambda prefix: asyncio.Event().wait())
        began = mesh.now
        assert (await refused(site)).details["cluster"] == ""
        assert mesh.now - began < 2.0


@in_virtual_time
async def test_who_holds_the_lease_asks_the_store_nothing(tmp_path, monkeypatch):
    async with a_stale_site(tmp_path) as (_, site):
        asked = []
        monkeypatch.setattr(site.replicator.view, "refresh", lambda: asked.append(1))
        await Producer(site).publish("a", "b", "c")
        assert asked == []


async def paused(site):
    """Until its lease has ended by its own clock: renewals hang, as while a process is stopped."""
    site.client.keep_alive = lambda lease: asyncio.Event().wait()
    await asyncio.sleep(TIMING.lease_ttl - TIMING.lease_margin)
    assert site.admitting == {}
