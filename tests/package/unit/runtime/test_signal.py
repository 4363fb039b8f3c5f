"""Waiting for a change: none is lost, and each wait takes time."""

import asyncio

from tests.package.unit.runtime.virtual import in_virtual_time

from omnirelay.runtime.signal import Signal, first_of


@in_virtual_time
async def test_a_change_between_looking_and_waiting_is_not_lost():
    signal = Signal()
    seen = signal.version
    signal.fire()
    assert await signal.wait_beyond(seen)
    assert not await signal.wait_beyond(signal.version, 1.0)


@in_virtual_time
async def test_what_rounding_leaves_of_a_wait_is_waited_for_once_not_at_the_same_instant_for_ever():
    """A deadline of another clock can be so near that the loop's time plus the rest is the loop's time."""
    loop = asyncio.get_running_loop()
    rest = loop.time() * 1e-17
    assert loop.time() + rest == loop.time()
    before = loop.time()
    assert not await Signal().wait_beyond(0, rest)
    assert loop.time() > before


@in_virtual_time
async def test_of_several_waits_the_first_counts_and_the_others_leave_nothing_behind():
    one, other = Signal(), Signal()
    waiting = asyncio.create_task(first_of(one.wait_beyond(0), other.wait_beyond(0)))
    await asyncio.sleep(1.0)
    other.fire()
    await waiting
    await asyncio.sleep(0)
    assert not one._waiters
