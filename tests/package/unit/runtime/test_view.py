"""The watched copy of the mesh: it follows, it never goes back, and it knows how old its knowledge is."""

import asyncio

import pytest
from tests.package.unit.failover.support import a_descriptor, a_report

from omnirelay.ports.coordination import Delete, Put
from omnirelay.runtime.documents import CLUSTERS, LOCKS, REPORTS
from omnirelay.runtime.view import MeshView
from omnirelay.testing.memory_coordination import MemoryCoordination


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return round(self.now * 1000)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(clock):
    return MemoryCoordination(clock).client()


@pytest.fixture
def view(store, clock):
    return MeshView(store, clock)


async def put(store, document, name, value):
    await store.transact([], [Put(document.key(name), document.encode(value))])


async def test_reading_again_makes_no_report_younger(store, view, clock):
    await put(store, REPORTS, "us-east", a_report("us-east"))
    await view.refresh()
    clock.now += 5
    await view.refresh()
    assert view.report_age("us-east") == 5
    assert view.evidence().report_age_seconds == {"us-east": 5}


async def test_a_report_that_says_the_same_again_is_a_new_one(store, view, clock):
    await put(store, REPORTS, "us-east", a_report("us-east"))
    await view.refresh()
    clock.now += 5
    await put(store, REPORTS, "us-east", a_report("us-east"))
    await view.refresh()
    assert view.report_age("us-east") == 0


async def test_what_is_gone_is_gone(store, view):
    await put(store, CLUSTERS, "us-east", a_descriptor("us-east"))
    await put(store, LOCKS, "default", "fo-1")
    await view.refresh()
    assert view.cluster_revisions.keys() == view.clusters.keys() == {"us-east"}
    await store.transact([], [Delete(CLUSTERS.key("us-east")), Delete(LOCKS.key("default"))])
    await view.refresh()
    assert (view.clusters, view.cluster_revisions, view.locks) == ({}, {}, {})


async def test_it_follows_the_store(store, view):
    running = asyncio.create_task(view.run())
    await view.loaded.wait()
    seen = view.changed.version
    await put(store, LOCKS, "default", "fo-1")
    assert await view.changed.wait_beyond(seen, 5)
    assert view.locks == {"default": "fo-1"}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_refresh_without_news_woke_whoever_waits_for_news(store, view):
    await view.refresh()
    seen = view.changed.version
    await view.refresh()
    assert view.changed.version == seen
    assert view.silence_seconds == 0.0
