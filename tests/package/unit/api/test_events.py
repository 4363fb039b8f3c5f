"""Event streams: the newest state, whenever the reader is ready for it."""

import asyncio
import json

from pydantic import BaseModel
from tests.package.unit.api.mesh import Agents, background

from omnirelay.api.events import follow
from omnirelay.runtime.signal import Signal


class Number(BaseModel):
    value: int


class Source:
    def __init__(self) -> None:
        self.changed = Signal()
        self.value = 0
        self.last = False
        self.closing = False

    def set(self, value: int, last: bool = False) -> None:
        self.value, self.last = value, last
        self.changed.fire()

    def follow(self, keep_alive_seconds: float = 60.0):
        return follow(
            self.changed,
            "number",
            lambda: (Number(value=self.value), self.last),
            lambda: self.closing,
            keep_alive_seconds,
        )


def parsed(chunk: bytes) -> int:
    head, data, *_ = chunk.decode().split("\n")
    assert head == "event: number"
    return json.loads(data.removeprefix("data: "))["value"]


async def test_the_current_state_comes_first_and_the_last_one_ends_it():
    source = Source()
    reading = source.follow()
    assert parsed(await anext(reading)) == 0
    source.set(1, last=True)
    assert [parsed(chunk) async for chunk in reading] == [1]


async def test_a_slow_reader_skips_to_the_newest_state():
    source = Source()
    reading = source.follow()
    await anext(reading)
    for value in range(1, 100):
        source.set(value)
    assert parsed(await anext(reading)) == 99


async def test_what_does_not_change_the_state_is_no_event():
    source = Source()
    reading = source.follow()
    await anext(reading)
    following = asyncio.create_task(anext(reading))
    for _ in range(3):
        source.changed.fire()
        await asyncio.sleep(0)
    source.set(1)
    assert parsed(await following) == 1


async def test_silence_is_filled_with_comments():
    source = Source()
    reading = source.follow(keep_alive_seconds=0.001)
    await anext(reading)
    assert await anext(reading) == b": keep-alive\n\n"
    assert await anext(reading) == b": keep-alive\n\n"


async def test_news_that_are_none_do_not_put_the_comments_off():
    source = Source()
    reading = source.follow(keep_alive_seconds=0.01)
    await anext(reading)
    following = asyncio.create_task(anext(reading))
    while not following.done():
        source.changed.fire()
        await asyncio.sleep(0)
    assert following.result() == b": keep-alive\n\n"


async def test_a_server_that_stops_ends_it():
    source = Source()
    reading = source.follow()
    await anext(reading)
    source.closing = True
    source.changed.fire()
    assert [chunk async for chunk in reading] == []


async def test_a_failover_is_followed_to_its_end(mesh):
    failover_id = await mesh.approved()
    async with background(Agents(mesh).run()):
        watching = asyncio.create_task(mesh.call("reader", "GET", f"/control/failovers/{failover_id}/events"))
        for step in ("drain", "promote", "verify", "complete"):
            await mesh.step(failover_id, step)
        answer = await watching
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    events = [block.split("\n") for block in answer.text.strip().split("\n\n")]
    assert {event[0] for event in events} == {"event: failover"}
    states = [json.loads(event[1].removeprefix("data: "))["state"] for event in events]
    # A reader that comes late has missed the first ones; the order of the rest is the failover's.
    order = ["approved", "draining", "drained", "promoted", "verified", "completed"]
    assert [order.index(state) for state in states] == sorted(order.index(state) for state in states)
    assert states[-1] == "completed"


async def test_events_of_nothing(mesh):
    answer = await mesh.call("reader", "GET", "/control/failovers/fo-404/events")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
