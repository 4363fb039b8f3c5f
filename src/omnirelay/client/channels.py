"""gRPC channels to the endpoints of a mesh, one each, kept while they work."""

from __future__ import annotations

import grpc
import grpc.aio

from omnirelay.client.credentials import Credentials
from omnirelay.errors import ConfigInvalid

MAX_MESSAGE_BYTES = 65 << 20
"""Twice the largest batch, which a replay may come to, and what is around it."""

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # gRPC's own reconnecting waits seconds; a switch takes tenths of one, and the caller has its own back-off.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 250),
    # Channels to one address share that back-off unless told otherwise.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    # A producer that has nothing to send must still find out that its cluster is gone: the next one may lack batches.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A mesh is not reached through a web proxy that happens to be in the environment.
    ("grpc.enable_http_proxy", 0),
)


class Channels:
    """`credentials` None means plain text: for tests and for a proxy on the same host that adds TLS."""

    def __init__(self, credentials: Credentials | None) -> None:
        self._credentials = _grpc_credentials(credentials) if credentials else None
        self._channels: dict[str, grpc.aio.Channel] = {}

    def get(self, endpoint: str) -> grpc.aio.Channel:
        channel = self._channels.get(endpoint)
        if channel is None:
            if self._credentials is None:
                channel = grpc.aio.insecure_channel(endpoint, _OPTIONS)
            else:
                channel = grpc.aio.secure_channel(endpoint, self._credentials, _OPTIONS)
            self._channels[endpoint] = channel
        return channel

    async def drop(self, endpoint: str) -> None:
        """Forgets a channel that failed, with whatever state made it fail."""
        channel = self._channels.pop(endpoint, None)
        if channel is not None:
            await channel.close()

    async def close(self) -> None:
        for endpoint in list(self._channels):
            await self.drop(endpoint)


def _grpc_credentials(credentials: Credentials) -> grpc.ChannelCredentials:
    """Raises ConfigInvalid when a file cannot be read."""
    if credentials.cert is None or credentials.key is None:
        raise ConfigInvalid("the event service needs a client certificate and its key")
    return grpc.ssl_channel_credentials(
        root_certificates=credentials.read(credentials.ca),
        private_key=credentials.read(credentials.key),
        certificate_chain=credentials.read(credentials.cert),
    )
