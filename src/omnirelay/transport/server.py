"""The gRPC server: the services of proto/, health and reflection, every error typed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Protocol

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from omnirelay.errors import OmniRelayError
from omnirelay.model.access import AccessPolicy, Scope
from omnirelay.model.version_vector import VersionVector
from omnirelay.ports import streams
from omnirelay.transport import messages
from omnirelay.transport.identity import caller, calling_cluster
from omnirelay.transport.streams import ServerStream
from omnirelay.transport.tls import TlsFiles, server_credentials
from omnirelay.wire import codec
from omnirelay.wire._generated.omnirelay.mesh.v1 import (
    events_pb2,
    events_pb2_grpc,
    replication_pb2,
    replication_pb2_grpc,
)
from omnirelay.wire.status import to_rpc_status

_log = logging.getLogger(__name__)

TRANSPORT = "h2"
Context = grpc.aio.ServicerContext[Any, Any]


class Services(Protocol):
    """What the server serves; the runtime provides it."""

    async def replicate(
        self, stream: streams.Duplex[streams.FromReceiver, streams.FromSender], cluster: str, transport: str
    ) -> None: ...

    async def publish(self, stream: streams.Duplex[Any, Any]) -> None: ...

    async def subscribe(self, request: streams.SubscribeRequest, principal: str) -> AsyncGenerator[Any, None]: ...

    def acknowledge(self, request: streams.AcknowledgeRequest, principal: str) -> None: ...

    @property
    def vector(self) -> VersionVector: ...


class GrpcServer:
    def __init__(
        self,
        services: Services,
        address: str,
        files: TlsFiles,
        trust_domain: str,
        access: AccessPolicy,
        max_message_bytes: int,
    ) -> None:
        self._address = address
        names = [
            replication_pb2.DESCRIPTOR.services_by_name["ReplicationService"].full_name,
            events_pb2.DESCRIPTOR.services_by_name["EventService"].full_name,
        ]
        self._server = grpc.aio.server(
            interceptors=[_AsBytes(tuple(f"/{name}/" for name in names))],
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", max_message_bytes),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                ("grpc.keepalive_permit_without_calls", 1),
                # Two replicators must not share a port by accident.
                ("grpc.so_reuseport", 0),
            ],
        )
        self._credentials = server_credentials(files)
        self._health = health.aio.HealthServicer()
        replication = _Replication(services, trust_domain)
        events = _Events(services, access)
        replication_pb2_grpc.add_ReplicationServiceServicer_to_server(replication, self._server)
        events_pb2_grpc.add_EventServiceServicer_to_server(events, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._names = names
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)
        self.port = 0

    async def start(self) -> None:
        """Binds and serves. Raises OSError when the address is taken."""
        try:
            self.port = self._server.add_secure_port(self._address, self._credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._address}") from error
        await self._server.start()
        for name in ["", *self._names]:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_seconds: float) -> None:
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_seconds)


class _Replication(replication_pb2_grpc.ReplicationServiceServicer):
    def __init__(self, services: Services, trust_domain: str) -> None:
        self._services = services
        self._trust_domain = trust_domain

    async def Replicate(self, request_iterator: object, context: Context) -> None:  # noqa: N802
        async with _typed(context):
            cluster = calling_cluster(context, self._trust_domain)
            request, decode = replication_pb2.ReplicateRequest, messages.decode_from_receiver
            stream = ServerStream(context, request, decode, messages.encode_from_sender)
            await self._services.replicate(stream, cluster, TRANSPORT)


class _Events(events_pb2_grpc.EventServiceServicer):
    def __init__(self, services: Services, access: AccessPolicy) -> None:
        self._services = services
        self._access = access

    async def Publish(self, request_iterator: object, context: Context) -> None:  # noqa: N802
        async with _typed(context):
            self._access.require(caller(context), Scope.PUBLISH)
            request, decode = events_pb2.PublishRequest, messages.decode_publish
            await self._services.publish(ServerStream(context, request, decode, messages.encode_publish))

    async def Subscribe(self, request: bytes, context: Context) -> None:  # noqa: N802
        async with _typed(context):
            principal = caller(context)
            self._access.require(principal, Scope.SUBSCRIBE)
            asked = messages.decode_subscribe(codec.parse(events_pb2.SubscribeRequest, request))
            async with aclosing(await self._services.subscribe(asked, principal)) as found:
                async for message in found:
                    await context.write(messages.encode_subscribe(message, self._services.vector))

    async def Acknowledge(self, request: bytes, context: Context) -> events_pb2.AcknowledgeResponse:  # noqa: N802
        async with _typed(context):
            principal = caller(context)
            self._access.require(principal, Scope.SUBSCRIBE)
            asked = messages.decode_acknowledge(codec.parse(events_pb2.AcknowledgeRequest, request))
            self._services.acknowledge(asked, principal)
        return events_pb2.AcknowledgeResponse()


class _AsBytes(grpc.aio.ServerInterceptor):
    """Hands the requests of our services over as they came, to be parsed where an error is typed."""

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        self._prefixes = prefixes

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        ours = handler is not None and handler_call_details.method.startswith(self._prefixes)
        return handler._replace(request_deserializer=None) if ours else handler


@asynccontextmanager
async def _typed(context: Context) -> AsyncIterator[None]:
    """Ends the call with the typed error that was raised; what is not typed is a defect, and logged as one."""
    try:
        yield
    except OmniRelayError as error:
        await context.abort(*to_rpc_status(error))
    except (asyncio.CancelledError, grpc.aio.AbortError):
        raise
    except Exception:  # noqa: BLE001  (whatever it is, the call must end with a typed status)
        if context.cancelled() or context.done():
            return
        _log.exception("a call failed")
        await context.abort(*to_rpc_status(OmniRelayError("an internal error; the replicator's log has it")))
