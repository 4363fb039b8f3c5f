"""A target is looked at where its descriptor sends clients: over real TLS, with a bound on the time (fm32)."""

import asyncio
import socket
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.package.unit.api.mesh import Mesh
from tests.package.unit.failover.support import a_descriptor

from omnirelay import pki
from omnirelay.api import create_app
from omnirelay.api.server import ControlServer
from omnirelay.api.server import TlsFiles as ControlTls
from omnirelay.failover.evidence import Probe
from omnirelay.model.access import AccessPolicy
from omnirelay.model.descriptor import Endpoints
from omnirelay.ports.probing import PROBE_SECONDS
from omnirelay.transport.prober import NetworkProbe
from omnirelay.transport.server import GrpcServer
from omnirelay.transport.tls import TlsFiles


@pytest.fixture
def files(tmp_path):
    now = datetime.now(UTC)
    pki.create_authority(tmp_path, "omnirelay", now=now)
    issued = pki.issue(pki.load_authority(tmp_path), tmp_path, pki.Kind.CLUSTER, "eu-west", now=now)
    return TlsFiles(tmp_path / "ca.crt", issued.certificate, issued.key)


@pytest.fixture
def free_port():
    """Nobody listens there; it stays bound, so that nobody else comes to."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
async def target(files):
    """Both servers of a cluster."""
    events = GrpcServer(None, "127.0.0.1:0", files, "omnirelay", AccessPolicy({}, {}, False), 1 << 20)
    tls = ControlTls(files.certificate, files.key, files.ca)
    control = ControlServer(create_app(Mesh().services), "127.0.0.1", 0, tls)
    await events.start()
    await control.start()
    yield a_descriptor("eu-west", endpoints=Endpoints(f"127.0.0.1:{events.port}", f"https://127.0.0.1:{control.port}"))
    await control.stop()
    await events.stop(0)


async def test_fm32_a_target_that_serves_clients_is_reachable(target, files):
    assert await NetworkProbe(files).probe(target) == Probe()


async def test_fm32_each_endpoint_that_does_not_answer_is_told_with_its_reason(target, files, free_port):
    nobody = Endpoints(f"127.0.0.1:{free_port}", f"https://127.0.0.1:{free_port}")
    events = replace(target, endpoints=replace(target.endpoints, grpc=nobody.grpc))
    control = replace(target, endpoints=replace(target.endpoints, control=nobody.control))
    found = await NetworkProbe(files).probe(events)
    assert (bool(found.events), found.control) == (True, "")
    found = await NetworkProbe(files).probe(control)
    assert (found.events, "refused" in found.control.lower() or "failed" in found.control) == ("", True)


async def test_fm32_another_service_behind_the_endpoint_is_no_answer(target, files):
    swapped = Endpoints(target.endpoints.control.removeprefix("https://"), f"https://{target.endpoints.grpc}")
    found = await NetworkProbe(files).probe(replace(target, endpoints=swapped))
    assert found.events
    assert found.control


async def test_fm32_a_target_that_accepts_and_says_nothing_is_waited_for_within_a_bound(target, files):
    async def silent(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    mute = replace(target, endpoints=Endpoints(f"127.0.0.1:{port}", f"https://127.0.0.1:{port}"))
    async with server:
        found = await NetworkProbe(files).probe(mute)
    assert found == Probe(*[f"no answer within {PROBE_SECONDS:g} s"] * 2)
