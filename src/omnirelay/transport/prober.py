"""Probes a cluster's endpoints over the network: as its clients do, who expect the name in the address, and with this
cluster's own certificate."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlsplit

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from omnirelay.failover.evidence import Probe
from omnirelay.model.descriptor import ClusterDescriptor
from omnirelay.ports.probing import PROBE_SECONDS
from omnirelay.transport.tls import TlsFiles, channel_credentials
from omnirelay.wire._generated.omnirelay.mesh.v1 import events_pb2

_EVENTS = events_pb2.DESCRIPTOR.services_by_name["EventService"].full_name
_REQUEST = "GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"


class NetworkProbe:
    """`files` are read at each probe, so a rotated certificate is used from the next one on."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files

    async def probe(self, descriptor: ClusterDescriptor) -> Probe:
        endpoints = descriptor.endpoints
        events, control = await asyncio.gather(
            _why_not(self._events(endpoints.grpc)), _why_not(self._control(endpoints.control))
        )
        return Probe(events, control)

    async def _events(self, address: str) -> None:
        """The standard health service, asked for the service that producers and consumers call."""
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
        async with grpc.aio.secure_channel(address, channel_credentials(self._files), options) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)  # its types name no method
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=_EVENTS))
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise OSError("it does not serve events at the moment")

    async def _control(self, url: str) -> None:
        context = ssl.create_default_context(cafile=str(self._files.ca))
        context.load_cert_chain(self._files.certificate, self._files.key)
        parts = urlsplit(url)
        host, port = str(parts.hostname), parts.port or 443
        reader, writer = await asyncio.open_connection(host, port, ssl=context)
        try:
            writer.write(_REQUEST.format(host=parts.netloc).encode())
            await writer.drain()
            line = (await reader.readline()).decode("ascii", "replace").strip()
        finally:
            writer.close()
        if line.split(" ")[1:2] != ["200"]:
            raise OSError(f"it answers {line!r}" if line else "it ends the connection")


async def _why_not(probing: Coroutine[Any, Any, None]) -> str:
    """ "" if it answers, else the reason in a few words."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await probing
    except TimeoutError:
        return f"no answer within {PROBE_SECONDS:g} s"
    except grpc.aio.AioRpcError as error:
        return error.details() or error.code().name
    except OSError as error:
        return str(error) or type(error).__name__
    return ""
