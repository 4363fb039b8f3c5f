"""One side of a gRPC stream as a `Duplex` of the model's messages.

gRPC hands over what came as bytes: what it could not parse itself it would drop, or end the call for without a reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import grpc.aio
from google.protobuf.message import Message

from omnirelay.wire import codec
from omnirelay.wire.calls import ending

In = TypeVar("In")
Out = TypeVar("Out")


class ServerStream(Generic[In, Out]):
    """The server's side. When the client goes away the call is cancelled, which ends whoever waits here."""

    def __init__(
        self,
        context: grpc.aio.ServicerContext[Any, Any],
        kind: type[Message],
        decode: Callable[[Any], In],
        encode: Callable[[Out], Any],
    ) -> None:
        self._context = context
        self._kind = kind
        self._decode = decode
        self._encode = encode
        # gRPC takes one write at a time; batches and heartbeats come from different tasks.
        self._writing = asyncio.Lock()

    async def receive(self) -> In | None:
        """None at the end. Raises BadRequest for what is no message."""
        data = await self._context.read()
        return None if data is grpc.aio.EOF else self._decode(codec.parse(self._kind, data))

    async def send(self, message: Out) -> None:
        async with self._writing:
            await self._context.write(self._encode(message))


class ClientStream(Generic[In, Out]):
    """The caller's side."""

    def __init__(
        self,
        call: Any,
        channel: grpc.aio.Channel,
        kind: type[Message],
        decode: Callable[[Any], In],
        encode: Callable[[Out], Any],
    ) -> None:
        self._call = call
        self._channel = channel
        self._kind = kind
        self._decode = decode
        self._encode = encode
        self._writing = asyncio.Lock()

    async def receive(self) -> In | None:
        """None at the end. Raises BadRequest for what is no message."""
        try:
            data = await self._call.read()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise await ending(self._call) from error
        return None if data is grpc.aio.EOF else self._decode(codec.parse(self._kind, data))

    async def send(self, message: Out) -> None:
        try:
            async with self._writing:
                await self._call.write(self._encode(message))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            # gRPC raises the latter when the call has ended before the write.
            raise await ending(self._call) from error

    async def close(self) -> None:
        self._call.cancel()
        await self._channel.close()
