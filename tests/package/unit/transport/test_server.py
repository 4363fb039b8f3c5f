"""What is no message at all is the caller's mistake, and told so, at every method and at both ends."""

from datetime import UTC, datetime

import grpc
import grpc.aio
import pytest

from omnirelay import pki
from omnirelay.errors import BadRequest
from omnirelay.model.access import AccessPolicy, Scope
from omnirelay.transport.dialer import GrpcDialer
from omnirelay.transport.server import GrpcServer
from omnirelay.transport.tls import TlsFiles, channel_credentials, server_credentials
from omnirelay.wire.calls import ending

NO_MESSAGE = b"\xff\xff\xff"
NO_TEXT = b"\x0a\x05\x0a\x03\xff\xfe\xfd"
"""A message whose name is not UTF-8, for the methods that begin with one."""
SERVICES = "/omnirelay.mesh.v1."
EU_WEST = "spiffe://omnirelay/cluster/eu-west"


class Reading:
    """Takes requests until they end."""

    async def publish(self, stream):
        while await stream.receive():
            pass

    async def replicate(self, stream, cluster, transport):
        while await stream.receive():
            pass


@pytest.fixture
def files(tmp_path):
    now = datetime.now(UTC)
    pki.create_authority(tmp_path, "omnirelay", now=now)
    issued = pki.issue(pki.load_authority(tmp_path), tmp_path, pki.Kind.CLUSTER, "eu-west", now=now)
    return TlsFiles(tmp_path / "ca.crt", issued.certificate, issued.key)


@pytest.fixture
async def server(files):
    access = AccessPolicy({EU_WEST: frozenset({Scope.PUBLISH, Scope.SUBSCRIBE})}, {}, False)
    server = GrpcServer(Reading(), "127.0.0.1:0", files, "omnirelay", access, 1 << 20)
    await server.start()
    yield server
    await server.stop(0)


@pytest.fixture
async def channel(server, files):
    async with grpc.aio.secure_channel(f"127.0.0.1:{server.port}", channel_credentials(files)) as channel:
        yield channel


@pytest.mark.parametrize("content", [NO_MESSAGE, NO_TEXT])
@pytest.mark.parametrize("method", ["EventService/Publish", "ReplicationService/Replicate"])
async def test_a_stream_of_what_is_no_message_was_an_internal_error(channel, method, content):
    call = channel.stream_stream(SERVICES + method)()
    await call.write(content)
    error = await ending(call)
    assert (type(error), error.code) == (BadRequest, "invalid_argument")
    assert "Request" in error.message


@pytest.mark.parametrize("content", [NO_MESSAGE, NO_TEXT[2:]])
async def test_a_call_with_what_is_no_message_was_an_unknown_error(channel, content):
    for call in (
        channel.unary_stream(SERVICES + "EventService/Subscribe")(content),
        channel.unary_unary(SERVICES + "EventService/Acknowledge")(content),
    ):
        error = await ending(call)
        assert (type(error), error.code) == (BadRequest, "invalid_argument")


async def test_what_a_peer_answered_that_is_no_message_was_an_untyped_error(server, files):
    raw = grpc.aio.server()

    async def garbage(request_iterator, context):
        await context.write(NO_MESSAGE)

    handlers = {"Replicate": grpc.stream_stream_rpc_method_handler(garbage)}
    name = SERVICES.strip("/") + "ReplicationService"
    raw.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    port = raw.add_secure_port("127.0.0.1:0", server_credentials(files))
    await raw.start()
    dialer = GrpcDialer(files, 1 << 20)
    stream = await dialer.dial("eu-west", f"127.0.0.1:{port}")
    with pytest.raises(BadRequest):
        await stream.receive()
    await dialer.close_stream(stream)
    await raw.stop(0)
