"""The API on a real socket: who the handshake lets in, and how the server starts and stops."""

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from tests.package.unit.api.mesh import PLAN, Agents, background

from omnirelay import pki
from omnirelay.api import ControlServer, TlsFiles, create_app
from omnirelay.errors import ConfigInvalid
from omnirelay.failover.record import State
from omnirelay.model.access import Scope

DORA = "spiffe://omnirelay/operator/dora"


class Site:
    """Certificates of one authority."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = datetime.now(UTC)
        pki.create_authority(directory, "omnirelay", now=self.now)
        self.authority = pki.load_authority(directory)
        self.server = self.issue(pki.Kind.CLUSTER, "us-east")

    def issue(self, kind: pki.Kind, name: str, force: bool = False) -> pki.Issued:
        return pki.issue(self.authority, self.directory, kind, name, now=self.now, force=force)

    @property
    def files(self) -> TlsFiles:
        return TlsFiles(self.server.certificate, self.server.key, self.directory / "ca.crt")

    def context(self, identity: pki.Issued | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.directory / "ca.crt")
        if identity:
            context.load_cert_chain(identity.certificate, identity.key)
        return context


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path / "pki")


@pytest.fixture
async def server(mesh, site):
    grants = {**mesh.policy.grants, DORA: frozenset({Scope.OPERATE})}
    services = replace(mesh.services, access=replace(mesh.policy, grants=grants))
    server = ControlServer(create_app(services), "127.0.0.1", 0, site.files)
    await server.start()
    yield server
    await server.stop()


@asynccontextmanager
async def caller(server, context, token=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(
        verify=context, base_url=f"https://127.0.0.1:{server.port}", headers=headers, trust_env=False
    ) as client:
        yield client


async def test_tls_1_2_is_refused(server, site):
    context = site.context()
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    writer.close()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", server.port, ssl=context)


async def test_without_a_certificate_there_is_a_connection_and_a_typed_refusal(server, site):
    async with caller(server, site.context()) as client:
        assert (await client.get("/healthz")).status_code == 200
        refused = await client.get("/control/routing")
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    assert "server" not in refused.headers


async def test_a_certificate_of_another_authority_is_refused_in_the_handshake(server, site, tmp_path):
    foreign = Site(tmp_path / "foreign")
    identity = foreign.issue(pki.Kind.OPERATOR, "dora")
    async with caller(server, site.context(identity)) as client:
        with pytest.raises(httpx.TransportError):
            await client.get("/healthz")


async def test_a_certificate_is_an_identity_with_its_scopes(server, site, mesh):
    identity = site.issue(pki.Kind.OPERATOR, "dora")
    async with caller(server, site.context(identity)) as client:
        planned = await client.post("/control/failovers", json=PLAN)
        assert (planned.status_code, planned.json()["requested_by"]) == (201, DORA)
        refused = await client.post("/control/clusters", json={})
        assert refused.json()["details"] == {"principal": DORA, "scope": "mesh.admin"}
    assert mesh.view.failovers["fo-1"].requested_by == DORA


async def test_two_connections_are_two_identities(server, site):
    dora, eve = (site.issue(pki.Kind.OPERATOR, name) for name in ("dora", "eve"))
    async with caller(server, site.context(dora)) as one, caller(server, site.context(eve)) as other:
        answers = [await client.get("/control/routing") for client in (one, other, one, other)]
    assert [answer.status_code for answer in answers] == [200, 403, 200, 403]


async def test_a_token_is_an_identity_too(server, site):
    async with caller(server, site.context(), token="reader") as client:
        assert (await client.get("/control/routing")).status_code == 200


async def test_an_oversized_body_is_a_typed_refusal(server, site):
    async with caller(server, site.context(), token="alice") as client:
        refused = await client.post("/control/failovers", content=b" " * (1024 * 1024 + 1))
    assert (refused.status_code, refused.json()["code"]) == (413, "request_too_large")


async def test_oversized_headers_end_the_request(server, site):
    async with caller(server, site.context(), token="reader") as client:
        refused = await client.get("/control/routing", headers={"X-Long": "x" * 100_000})
    assert refused.status_code in (400, 431)


class TestSlowCallers:
    """Nobody holds a connection by being slow."""

    POST = b"POST /control/failovers HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"

    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch):
        monkeypatch.setattr("omnirelay.api.edge.READ_SECONDS", 0.1)
        monkeypatch.setattr("omnirelay.api.server.HEAD_SECONDS", 0.1)

    async def answer_to(self, server, site, *parts):
        """Everything until the server ends the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=site.context())
        for part in parts:
            writer.write(part)
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.transport.abort()

    @pytest.mark.parametrize("length", [b"1000000", b"10000000"])
    async def test_a_body_that_never_ended_held_its_connection_for_ever(self, server, site, length):
        head = self.POST.replace(b"1000000", length)
        answer = await self.answer_to(server, site, head, b"x" * 999_000)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"application/problem+json" in answer
        assert b'"code":"request_timeout"' in answer

    @pytest.mark.parametrize("head", [b"", b"GET /healthz HTTP/1.1\r\nHost: loc"])
    async def test_a_head_that_never_ended_held_its_connection_for_ever(self, server, site, head):
        assert await self.answer_to(server, site, head) == b""

    async def test_a_second_head_that_never_ended_did_too(self, server, site):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=site.context())
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b'{"status":"ok"}')
        writer.write(b"GET /he")
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.transport.abort()

    async def test_a_stream_of_events_is_not_cut(self, server, site, mesh):
        failover_id = await mesh.approved()
        path = f"/control/failovers/{failover_id}/events"
        async with caller(server, site.context(), token="reader") as client, client.stream("GET", path) as events:
            lines = (line async for line in events.aiter_lines() if line.startswith("data:"))
            assert '"state":"approved"' in await anext(lines)
            # A slow caller who came later is gone, and the stream is there.
            assert await self.answer_to(server, site, b"GET /") == b""
            await mesh.step(failover_id, "abort")
            assert '"state":"aborted"' in await anext(lines)


async def test_changes_are_pushed_while_they_happen(server, site, mesh):
    failover_id = await mesh.approved()
    path = f"/control/failovers/{failover_id}/events"
    async with caller(server, site.context(), token="reader") as client, client.stream("GET", path) as events:
        lines = (line async for line in events.aiter_lines() if line.startswith("data:"))
        assert '"state":"approved"' in await anext(lines)
        await mesh.step(failover_id, "abort")
        assert '"state":"aborted"' in await anext(lines)
        assert [line async for line in lines] == []


async def test_stopping_ends_streams_and_frees_the_port(server, site, mesh):
    port = server.port
    path = "/control/routing/watch"
    async with caller(server, site.context(), token="reader") as client, client.stream("GET", path) as events:
        lines = events.aiter_lines()
        assert await anext(lines) == "event: routing"
        await server.stop()
        assert [line[:5] async for line in lines] == ["data:", ""]
    socket.create_server(("127.0.0.1", port)).close()
    await server.stop()


async def test_stopping_does_not_wait_for_a_step_longer_than_its_grace(server, site, mesh, monkeypatch):
    monkeypatch.setattr("omnirelay.api.server.GRACE_SECONDS", 0.01)
    failover_id = await mesh.approved()
    async with caller(server, site.context(), token="alice") as client:
        waiting = asyncio.create_task(client.post(f"/control/failovers/{failover_id}/drain"))
        while mesh.view.failovers[failover_id].state is not State.DRAINING:
            await mesh.view.changed.wait_beyond(mesh.view.changed.version)
        await server.stop()
        with pytest.raises(httpx.TransportError):
            await waiting


async def test_a_taken_port_is_an_error_and_not_the_end_of_the_process(server, mesh, site):
    other = ControlServer(create_app(mesh.services), "127.0.0.1", server.port, site.files)
    with pytest.raises(OSError, match="in use"):
        await other.start()


async def test_certificates_are_reloaded_for_new_connections(server, site):
    async def serial() -> int:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=site.context())
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
        return pki.x509.load_der_x509_certificate(der).serial_number

    before = await serial()
    site.issue(pki.Kind.CLUSTER, "us-east", force=True)
    assert await serial() == before
    server.reload_certificates()
    assert await serial() != before


async def test_unusable_certificates_are_refused_and_the_old_ones_stay(server, site):
    site.server.key.write_text("damaged")
    with pytest.raises(ConfigInvalid):
        server.reload_certificates()
    async with caller(server, site.context()) as client:
        assert (await client.get("/healthz")).status_code == 200


async def test_a_whole_failover_over_the_socket(server, site, mesh):
    async with background(Agents(mesh).run()), caller(server, site.context(), token="alice") as client:
        plan = (await client.post("/control/failovers", json=PLAN)).json()
        async with caller(server, site.context(), token="bob") as approver:
            body = {"decision": "approve", "plan_hash": plan["plan"]["hash"]}
            await approver.post(f"/control/failovers/{plan['id']}/approvals", json=body)
        states = [
            (await client.post(f"/control/failovers/{plan['id']}/{step}", json={})).json()["state"]
            for step in ("drain", "promote", "verify", "complete")
        ]
    assert states == ["drained", "promoted", "verified", "completed"]
