"""Opens streams to peers."""

from __future__ import annotations

from typing import Any

import grpc.aio

from omnirelay.errors import Unreachable
from omnirelay.ports.streams import Duplex, FromReceiver, FromSender
from omnirelay.transport.messages import decode_from_sender, encode_from_receiver
from omnirelay.transport.streams import ClientStream
from omnirelay.transport.tls import TlsFiles, channel_credentials
from omnirelay.wire._generated.omnirelay.mesh.v1 import replication_pb2

_REPLICATE = f"/{replication_pb2.DESCRIPTOR.services_by_name['ReplicationService'].full_name}/Replicate"

KEEPALIVE_OPTIONS = [
    # A peer behind a cut link must be noticed although nothing tells us: ping when the stream has been silent.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
]


class GrpcDialer:
    """`files` are read at each dial, so a rotated certificate is used from the next stream on."""

    def __init__(self, files: TlsFiles, max_message_bytes: int) -> None:
        self._files = files
        self._max_message_bytes = max_message_bytes

    async def dial(self, cluster: str, endpoint: str) -> Duplex[FromSender, FromReceiver]:
        """Raises Unreachable while the certificate cannot be read, as it is while it is replaced."""
        try:
            credentials = channel_credentials(self._files)
        except OSError as error:
            raise Unreachable(f"this cluster's certificate cannot be read: {error}") from error
        channel = grpc.aio.secure_channel(
            endpoint,
            credentials,
            options=[
                *KEEPALIVE_OPTIONS,
                # The peer's certificate must bear the cluster's name, whatever the address is.
                ("grpc.ssl_target_name_override", cluster),
                ("grpc.max_receive_message_length", self._max_message_bytes),
                ("grpc.max_send_message_length", self._max_message_bytes),
                # Each stream has its own connection: a broken one is not shared, a new one is tried at once.
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.enable_retries", 0),
                # A peer is not reached through a web proxy that happens to be in the environment.
                ("grpc.enable_http_proxy", 0),
            ],
        )
        call: Any = channel.stream_stream(_REPLICATE, replication_pb2.ReplicateRequest.SerializeToString)()
        return ClientStream(call, channel, replication_pb2.ReplicateResponse, decode_from_sender, encode_from_receiver)

    async def close_stream(self, stream: Duplex[FromSender, FromReceiver]) -> None:
        if isinstance(stream, ClientStream):
            await stream.close()
