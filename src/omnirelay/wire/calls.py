"""How a gRPC call ended, as a typed error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Protocol

import grpc
import grpc.aio

from omnirelay.errors import OmniRelayError, Unreachable
from omnirelay.wire.status import from_rpc_error


class Ended(Protocol):
    """The part of every grpc.aio call that tells how it ended."""

    def code(self) -> Awaitable[grpc.StatusCode]: ...
    def details(self) -> Awaitable[Any]: ...
    def initial_metadata(self) -> Awaitable[Any]: ...
    def trailing_metadata(self) -> Awaitable[Any]: ...


async def ending(call: Ended) -> OmniRelayError:
    """Why the other side ended the call; a stream that ends without an error still is one for who needs it."""
    code = await call.code()
    if code is grpc.StatusCode.OK:
        return Unreachable("the cluster ended the stream")
    details, initial, trailing = await asyncio.gather(call.details(), call.initial_metadata(), call.trailing_metadata())
    return from_rpc_error(grpc.aio.AioRpcError(code, initial, trailing, details=details))
