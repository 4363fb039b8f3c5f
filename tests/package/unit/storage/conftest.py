"""Opening logs in one line, and closing them whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from omnirelay.storage import SqliteLog
from omnirelay.wire.codec import decode_header

OpenLog = Callable[..., Awaitable[SqliteLog]]


@pytest.fixture
async def open_log() -> AsyncIterator[OpenLog]:
    async with AsyncExitStack() as stack:

        async def open_log(path: Path, **options: Any) -> SqliteLog:
            log = await SqliteLog.open(path, **{"cluster": "us", "decode_header": decode_header, **options})
            stack.push_async_callback(log.close)
            return log

        yield open_log
