"""What bad input gets: a typed error with a hint, nothing stored, and a server that goes on serving (fm33, fm38)."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from tests.system.support import rpc
from tests.system.support.meshes import Pages, session
from tests.system.support.rpc import Answer, batch_message, open_message, record_set
from tests.system.support.waiting import until

from omnirelay import pki
from omnirelay.client.credentials import Credentials
from omnirelay.demo.mesh import APPROVER, CLIENT, REQUESTER, TRUST_DOMAIN, LocalMesh
from omnirelay.wire._generated.omnirelay.mesh.v1 import batch_pb2, events_pb2, replication_pb2, replication_pb2_grpc

ACTIVE, PASSIVE = "us-east", "eu-west"
MIB = 1 << 20


@pytest.fixture(scope="module")
def pages(mesh: LocalMesh) -> Iterator[dict[str, Pages]]:
    opened = {cluster: Pages(mesh, cluster) for cluster in mesh.clusters}
    yield opened
    for each in opened.values():
        each.close()


@pytest.fixture(autouse=True)
def nothing_stored_and_still_serving(mesh: LocalMesh, pages: dict[str, Pages]) -> Iterator[None]:
    """Around each test: every cluster's heads stay where they were, and afterwards the active takes a write."""

    def heads() -> list[dict[str, int]]:
        return [heads_of(pages[cluster]) for cluster in mesh.clusters]

    # A write of our own first, so that a head which stands still proves something.
    _write(mesh)
    until(lambda: all(held == heads()[0] for held in heads()), "all clusters are level")
    before = heads()
    yield
    assert heads() == before
    assert all(member.running for member in mesh.members.values())
    _write(mesh)


def _write(mesh: LocalMesh) -> None:
    address, who = mesh.members[ACTIVE].grpc, mesh.credentials(CLIENT)
    opened = rpc.publish(address, who, [open_message(producer="healthy")])
    number = opened.messages[0].opened.last_producer_sequence + 1
    answer = rpc.publish(address, who, [open_message(producer="healthy"), batch_message(number, record_set(b"fine"))])
    assert answer.messages[1].ack.producer_sequence == number, answer


APPLIED = "mesh_replication_applied_sequence"


def heads_of(pages: Pages) -> dict[str, int]:
    """What the cluster itself says it holds, now."""
    scrape = pages.scrape()
    origins = [dict(labels)["origin"] for name, labels in scrape.samples if name == APPLIED]
    return {origin: int(scrape.value(APPLIED, origin=origin) or 0) for origin in sorted(origins)}


def publish(mesh: LocalMesh, *requests: events_pb2.PublishRequest, at: str = ACTIVE, who: str = CLIENT) -> Answer:
    return rpc.publish(mesh.members[at].grpc, mesh.credentials(who), requests)


def refused(answer: Answer, code: str, status: grpc.StatusCode) -> None:
    assert (answer.code, answer.status) == (code, status), answer
    assert answer.text
    assert answer.hint
    assert "{" not in answer.hint, f"the hint has holes: {answer.hint}"


# --- producers ----------------------------------------------------------------------------------------------------

INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRODUCERS_MISTAKES: dict[str, tuple[list[events_pb2.PublishRequest], str, grpc.StatusCode]] = {
    "records that are no RecordSet": ([open_message(), batch_message(1, b"\xff\xff\xff")], "malformed_batch", INVALID),
    "an empty batch": ([open_message(), batch_message(1, b"")], "malformed_batch", INVALID),
    "fields beside the records": (
        [open_message(), batch_message(1, record_set(b"x") + b"\x12\x01x")],
        "malformed_batch",
        INVALID,
    ),
    "more than 4 MiB": ([open_message(), batch_message(1, record_set(bytes(4 * MIB)))], "batch_too_large", INVALID),
    "a batch before open": ([batch_message(1, record_set(b"x"))], "invalid_argument", INVALID),
    "open twice": ([open_message(), open_message()], "invalid_argument", INVALID),
    "a request without a message": ([events_pb2.PublishRequest()], "invalid_argument", INVALID),
    "an old epoch": ([open_message(epoch=7)], "stale_epoch", grpc.StatusCode.FAILED_PRECONDITION),
    "an unknown namespace": ([open_message(namespace="nowhere")], "unknown_namespace", grpc.StatusCode.NOT_FOUND),
    "a namespace that is no name": ([open_message(namespace="No Name!")], "invalid_argument", INVALID),
    "no producer id": ([open_message(producer="")], "invalid_argument", INVALID),
    "a producer id of a kilobyte": ([open_message(producer="x" * 1024)], "invalid_argument", INVALID),
    "a producer id with control characters": ([open_message(producer="a\nb")], "invalid_argument", INVALID),
    "batch number 0": ([open_message(), batch_message(0, record_set(b"x"))], "invalid_argument", INVALID),
    "a gap in the numbers": (
        [open_message(), batch_message(3, record_set(b"x"))],
        "producer_gap",
        grpc.StatusCode.OUT_OF_RANGE,
    ),
}


@pytest.mark.parametrize("mistake", PRODUCERS_MISTAKES)
def test_a_producers_mistake_gets_its_code(mesh: LocalMesh, mistake: str) -> None:
    requests, code, status = PRODUCERS_MISTAKES[mistake]
    refused(publish(mesh, *requests), code, status)


def test_a_message_beyond_what_grpc_accepts_ends_the_call_and_no_more(mesh: LocalMesh) -> None:
    """gRPC itself refuses it before anything of ours sees it: bounded memory, a status without our code."""
    answer = publish(mesh, open_message(), batch_message(1, record_set(bytes(40 * MIB))))
    assert answer.status is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in answer.text


def test_the_code_of_a_batch_that_is_too_large_names_the_limit(mesh: LocalMesh) -> None:
    answer = publish(mesh, open_message(), batch_message(1, record_set(bytes(4 * MIB))))
    assert answer.details["max_batch_bytes"] == str(4 * MIB)


def test_a_passive_cluster_says_where_to_go(mesh: LocalMesh) -> None:
    answer = publish(mesh, open_message(), at=PASSIVE)
    refused(answer, "not_active", grpc.StatusCode.FAILED_PRECONDITION)
    assert answer.details["cluster"] == ACTIVE
    assert answer.details["endpoint"] == mesh.members[ACTIVE].grpc
    assert int(answer.details["epoch"]) == 1
    assert answer.retry


def test_an_operators_certificate_may_not_publish(mesh: LocalMesh) -> None:
    refused(publish(mesh, open_message(), who=REQUESTER), "permission_denied", grpc.StatusCode.PERMISSION_DENIED)


# --- readers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("namespace", "code", "status"),
    [("nowhere", "unknown_namespace", grpc.StatusCode.NOT_FOUND), ("No Name!", "invalid_argument", INVALID)],
)
def test_a_readers_mistake_gets_its_code(mesh: LocalMesh, namespace: str, code: str, status: grpc.StatusCode) -> None:
    request = events_pb2.SubscribeRequest(namespace=namespace)
    refused(rpc.subscribe(mesh.members[PASSIVE].grpc, mesh.credentials(CLIENT), request, 1), code, status)


def test_a_cursor_beyond_everything_waits_rather_than_fails(mesh: LocalMesh) -> None:
    request = events_pb2.SubscribeRequest(namespace="default", after=batch_pb2.Cursor(epoch=1, sequence=1 << 60))
    answer = rpc.subscribe(mesh.members[PASSIVE].grpc, mesh.credentials(CLIENT), request, 1)
    assert answer.messages[0].HasField("progress")


# --- peers --------------------------------------------------------------------------------------------------------


def replicate(mesh: LocalMesh, who: str, *requests: replication_pb2.ReplicateRequest, at: str = ACTIVE) -> Answer:
    """Sends exactly these, then listens until the call ends or a first answer comes."""
    with rpc.channel(mesh.members[at].grpc, mesh.credentials(who), name=at) as channel:
        stub = replication_pb2_grpc.ReplicationServiceStub(channel)
        return rpc.answer_of(stub.Replicate(iter(requests), timeout=rpc.CALL_SECONDS), most=1)


def opening(cluster: str = PASSIVE, **fields: Any) -> replication_pb2.ReplicateRequest:
    version = fields.pop("protocol", replication_pb2.ProtocolVersion(major=1, minor=1))
    opened = replication_pb2.ReplicateOpen(cluster_id=cluster, protocol=version, credit_bytes=MIB, **fields)
    return replication_pb2.ReplicateRequest(open=opened)


DENIED = grpc.StatusCode.PERMISSION_DENIED
PEERS_MISTAKES: dict[str, tuple[str, list[replication_pb2.ReplicateRequest], str, grpc.StatusCode]] = {
    "a certificate of another cluster": (PASSIVE, [opening("ap-south")], "peer_identity_mismatch", DENIED),
    "the server's own name": (ACTIVE, [opening(ACTIVE)], "peer_identity_mismatch", DENIED),
    "a client's certificate": (CLIENT, [opening()], "peer_identity_mismatch", DENIED),
    "an operator's certificate": (REQUESTER, [opening()], "peer_identity_mismatch", DENIED),
    "an acknowledgement before open": (
        PASSIVE,
        [replication_pb2.ReplicateRequest(ack=replication_pb2.ReplicateAck())],
        "invalid_argument",
        INVALID,
    ),
    "a request without a message": (PASSIVE, [replication_pb2.ReplicateRequest()], "invalid_argument", INVALID),
    "a major version of the future": (
        PASSIVE,
        [opening(protocol=replication_pb2.ProtocolVersion(major=2))],
        "protocol_version_unsupported",
        grpc.StatusCode.FAILED_PRECONDITION,
    ),
    "more of the server's log than the server has": (
        PASSIVE,
        [opening(applied=batch_pb2.ClusterVersionVector(sequences={ACTIVE: 1 << 40}))],
        "history_diverged",
        grpc.StatusCode.DATA_LOSS,
    ),
    "another history": (
        PASSIVE,
        [opening(applied=batch_pb2.ClusterVersionVector(sequences={ACTIVE: 1}), digests={ACTIVE: bytes(32)})],
        "history_diverged",
        grpc.StatusCode.DATA_LOSS,
    ),
}


@pytest.mark.parametrize("mistake", PEERS_MISTAKES)
def test_a_peers_mistake_gets_its_code(mesh: LocalMesh, mistake: str) -> None:
    who, requests, code, status = PEERS_MISTAKES[mistake]
    refused(replicate(mesh, who, *requests), code, status)


def test_a_stream_that_opens_twice_is_ended(mesh: LocalMesh) -> None:
    with rpc.channel(mesh.members[ACTIVE].grpc, mesh.credentials(PASSIVE), name=ACTIVE) as channel:
        stub = replication_pb2_grpc.ReplicationServiceStub(channel)
        answer = rpc.answer_of(stub.Replicate(iter([opening(), opening()]), timeout=rpc.CALL_SECONDS))
    refused(answer, "invalid_argument", INVALID)


def test_a_major_mismatch_names_what_is_spoken(mesh: LocalMesh) -> None:
    answer = replicate(mesh, PASSIVE, opening(protocol=replication_pb2.ProtocolVersion(major=2)))
    assert answer.details["supported"] == "1.1"
    assert "2.0" in answer.text


# --- strangers ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of the right names from another authority."""
    directory = tmp_path_factory.mktemp("foreign")
    now = datetime.now(UTC)
    pki.create_authority(directory, TRUST_DOMAIN, now=now)
    authority = pki.load_authority(directory)
    pki.issue(authority, directory, pki.Kind.CLIENT, CLIENT, now=now)
    pki.issue(authority, directory, pki.Kind.CLUSTER, PASSIVE, now=now)
    pki.issue(authority, directory, pki.Kind.OPERATOR, REQUESTER, now=now)
    return directory


def of(directory: Path, name: str, ca: Path) -> Credentials:
    return Credentials(ca, directory / f"{name}.crt", directory / f"{name}.key")


@pytest.mark.parametrize("who", ["nobody", "plain text", CLIENT, PASSIVE])
def test_who_is_not_of_the_mesh_gets_no_answer_at_all(mesh: LocalMesh, foreign: Path, who: str) -> None:
    """Neither without a certificate, nor with one of another authority, nor without TLS."""
    ca = mesh.pki / "ca.crt"
    known = {"nobody": Credentials(ca), "plain text": None}
    credentials = known[who] if who in known else of(foreign, who, ca)
    answer = rpc.publish(mesh.members[ACTIVE].grpc, credentials, [open_message()])
    assert answer.status is grpc.StatusCode.UNAVAILABLE
    assert not answer.messages


def test_the_control_api_refuses_a_foreign_authority(mesh: LocalMesh, foreign: Path) -> None:
    with (
        session(of(foreign, REQUESTER, mesh.pki / "ca.crt")) as stranger,
        pytest.raises(requests.ConnectionError),
    ):
        stranger.get(mesh.members[ACTIVE].control_url + "/control/clusters", timeout=20)


@pytest.mark.parametrize("port", ["grpc", "control"])
def test_tls_1_2_is_refused_on_both_ports(mesh: LocalMesh, port: str) -> None:
    address = getattr(mesh.members[ACTIVE], port)
    assert _handshake(mesh, address, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        _handshake(mesh, address, ssl.TLSVersion.TLSv1_2)


def _handshake(mesh: LocalMesh, address: str, version: ssl.TLSVersion) -> str | None:
    credentials = mesh.credentials(CLIENT)
    context = ssl.create_default_context(cafile=str(credentials.ca))
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(str(credentials.cert), str(credentials.key))
    context.set_alpn_protocols(["h2", "http/1.1"])
    host, _, number = address.rpartition(":")
    with (
        socket.create_connection((host, int(number)), 20) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        return tls.version()


@pytest.mark.parametrize("port", ["grpc", "control"])
@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.0\r\n\r\n", bytes(range(256)) * 64, b"\x16\x03\x01\xff\xff" + bytes(70_000)]
)
def test_garbage_on_a_socket_ends_that_connection(mesh: LocalMesh, port: str, garbage: bytes) -> None:
    host, _, number = getattr(mesh.members[ACTIVE], port).rpartition(":")
    with socket.create_connection((host, int(number)), 20) as stranger, contextlib.suppress(OSError):
        stranger.sendall(garbage)
        stranger.shutdown(socket.SHUT_WR)
        while stranger.recv(65536):
            pass


def test_garbage_inside_tls_ends_that_connection(mesh: LocalMesh) -> None:
    credentials = mesh.credentials(CLIENT)
    context = ssl.create_default_context(cafile=str(credentials.ca))
    context.load_cert_chain(str(credentials.cert), str(credentials.key))
    context.set_alpn_protocols(["h2"])
    host, _, number = mesh.members[ACTIVE].grpc.rpartition(":")
    with (
        socket.create_connection((host, int(number)), 20) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
        contextlib.suppress(ConnectionError, ssl.SSLError),
    ):
        tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(range(256)) * 256)
        while tls.recv(65536):
            pass


# --- the control API ----------------------------------------------------------------------------------------------

POST = "/control/failovers"
PLAN = {"mode": "planned", "target": PASSIVE, "reason": "test", "change_ticket": "CHG-1"}
REQUESTS: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "an oversized body": (POST, {"data": b"{" + b" " * 2 * MIB + b"}"}, 413, "request_too_large"),
    "no JSON": (POST, {"data": b"{nonsense"}, 400, "invalid_argument"),
    "an unknown field": (POST, {"json": {**PLAN, "tarrget": "x"}}, 400, "invalid_argument"),
    "a wrong type": (POST, {"json": {**PLAN, "namespaces": 7}}, 400, "invalid_argument"),
    "a limit that is not a number": (
        POST,
        {"json": {**PLAN, "limits": {"max_lag_seconds": "soon"}}},
        400,
        "invalid_argument",
    ),
    "an unknown mode": (POST, {"json": {**PLAN, "mode": "sideways"}}, 400, "invalid_argument"),
    "an unknown target": (POST, {"json": {**PLAN, "target": "atlantis"}}, 404, "not_found"),
    "an unknown namespace": (POST, {"json": {**PLAN, "namespaces": ["nowhere"]}}, 404, "unknown_namespace"),
    "an unknown failover": (POST + "/no-such-id/drain", {"json": {}}, 404, "not_found"),
    "an unknown path": ("/control/nothing", {"json": {}}, 404, "unknown_path"),
}


@pytest.mark.parametrize("mistake", REQUESTS)
def test_a_wrong_request_gets_a_problem_with_code_and_hint(mesh: LocalMesh, mistake: str) -> None:
    path, content, status, code = REQUESTS[mistake]
    with session(mesh.credentials(REQUESTER)) as caller:
        headers = {"Content-Type": "application/json", "Idempotency-Key": mistake}
        response = caller.post(mesh.members[ACTIVE].control_url + path, timeout=20, headers=headers, **content)
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert response.headers["Content-Type"] == "application/problem+json"
    assert problem["hint"]
    assert problem["detail"]


def test_a_caller_without_an_identity_and_one_without_the_scope_are_told_apart(mesh: LocalMesh) -> None:
    url = mesh.members[ACTIVE].control_url + POST
    with session(Credentials(mesh.pki / "ca.crt")) as nobody:
        answer = nobody.post(url, json=PLAN, timeout=20)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        answer = nobody.post(url, json=PLAN, timeout=20, headers={"Authorization": "Bearer guessed"})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    with session(mesh.credentials(APPROVER)) as approver:
        answer = approver.post(url, json=PLAN, timeout=20)
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
        assert "mesh.operate" in answer.json()["hint"]
