"""Server-sent events, level-triggered: a reader gets the newest state and skips what it was too slow for.

There is no queue to bound. Each connection remembers what it sent last and looks again whenever the view moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from omnirelay.runtime.signal import Signal

KEEP_ALIVE_SECONDS = 10.0
"""A comment is sent after this long without an event: proxies and readers then know a quiet stream from a dead one."""


class EventStream(StreamingResponse):
    media_type = "text/event-stream"


def stream(request: Request, changed: Signal, event: str, look: Callable[[], tuple[BaseModel, bool]]) -> EventStream:
    """Streams what `look` answers: the state, and whether it is the last one."""
    closing: asyncio.Event = request.app.state.closing
    chunks = follow(changed, event, look, closing.is_set)
    return EventStream(chunks, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


async def follow(
    changed: Signal,
    event: str,
    look: Callable[[], tuple[BaseModel, bool]],
    closing: Callable[[], bool],
    keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
) -> AsyncIterator[bytes]:
    """The current state, then each newer one that is still the newest when the reader is ready for it."""
    loop = asyncio.get_running_loop()
    sent, silent_since = "", loop.time()
    while True:
        version = changed.version
        state, last = look()
        data = state.model_dump_json()
        if data != sent:
            yield f"event: {event}\ndata: {data}\n\n".encode()
            sent, silent_since = data, loop.time()
        elif loop.time() - silent_since >= keep_alive_seconds:
            yield b": keep-alive\n\n"
            silent_since = loop.time()
        if last or closing():
            return
        await changed.wait_beyond(version, max(0.0, silent_since + keep_alive_seconds - loop.time()))
