import json
import ssl
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from omnirelay import pki
from omnirelay.client import ControlClient, Credentials
from omnirelay.client.control import server_sent
from omnirelay.errors import ConfigInvalid, EtagMismatch, OmniRelayError, Unreachable


class Server:
    """Answers what it is told to; keeps what it was asked."""

    def __init__(self, tls=None):
        self.answers = []
        self.requests = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1
            disable_nagle_algorithm = True

            def respond(self):
                outer.requests.append((self.command, self.path, dict(self.headers)))
                status, headers, content = outer.answers.pop(0) if outer.answers else (200, {}, "{}")
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(status)
                self.close_connection = "Content-Length" in headers  # a length of its own: it breaks off there
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content.encode())

            do_GET = do_POST = do_PUT = do_DELETE = respond  # noqa: N815

            def log_message(self, *args):
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args):
                """A handshake that fails is what some tests are about."""

        self.http = Quiet(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.http.socket = tls.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
        self.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def problem(self, status, code, **details):
        body = {"detail": "what and why", "code": code, "details": details}
        self.answers.append((status, {"Content-Type": "application/problem+json"}, json.dumps(body)))

    def stop(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.mark.parametrize("token", ["two\nlines", "with blank", "caf\u00e9", "nul\0"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_told(token):
    """The library below quoted it, as it would be sent, in the text of its own error."""
    with pytest.raises(ConfigInvalid, match="no header can carry") as refused:
        ControlClient(["http://127.0.0.1:9"], token=token)
    assert token not in str(refused.value)
    assert repr(token)[1:-1] not in str(refused.value)


@pytest.fixture
def servers():
    started = []

    def start(tls=None):
        started.append(Server(tls))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def test_an_endpoint_that_answered_is_asked_first_next_time(servers):
    server = servers()
    with ControlClient(["http://127.0.0.1:1", server.endpoint]) as client:
        client.version()
        assert client._endpoints[0] == server.endpoint


def test_a_cluster_that_cannot_serve_leads_to_the_next_one_with_the_same_key(servers):
    first, second = servers(), servers()
    first.problem(503, "coordination_unavailable")
    second.answers = [(202, {}, '{"state": "draining"}')]
    with ControlClient([first.endpoint, second.endpoint]) as client:
        answer = client.step("fo-1", "drain", wait_seconds=5)
    assert (answer.done, answer.failover["state"]) == (False, "draining")
    keys = {headers["Idempotency-Key"] for server in (first, second) for _, _, headers in server.requests}
    assert len(keys) == 1
    assert second.requests[0][:2] == ("POST", "/control/failovers/fo-1/drain?wait=5")


def test_a_refusal_is_final(servers):
    first, second = servers(), servers()
    first.problem(412, "etag_mismatch", etag='"7"', message="not the name of a parameter")
    with ControlClient([first.endpoint, second.endpoint]) as client, pytest.raises(EtagMismatch) as caught:
        client.replace_cluster("us-east", {}, etag='"6"')
    assert caught.value.details == {"etag": '"7"'}
    assert (first.requests[0][2]["If-Match"], second.requests) == ('"6"', [])


def test_names_cannot_leave_their_place_in_the_path(servers):
    server = servers()
    with ControlClient([server.endpoint]) as client:
        client.cluster("../audit?x=1")
    assert server.requests[0][1] == "/control/clusters/..%2Faudit%3Fx%3D1"


def test_an_audit_chain_that_grows_while_it_is_read_ends_the_reading(servers):
    server = servers()
    for numbers, head in (([1, 2], 3), ([3, 4], 5), ([5, 6], 7), ([], 7)):
        entries = [{"number": number} for number in numbers]
        page = {"entries": entries, "head": {"number": head}, "next_after": numbers[-1] if numbers else None}
        server.answers.append((200, {}, json.dumps(page)))
    with ControlClient([server.endpoint]) as client:
        assert [entry["number"] for entry in client.audit_entries()] == [1, 2, 3]
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((502, {}, "<html>"), Unreachable),
        ((404, {}, "<html>"), OmniRelayError),
        ((200, {}, "<html>"), Unreachable),
        ((200, {}, "[]"), Unreachable),
        ((302, {"Location": "http://127.0.0.1:1/"}, ""), OmniRelayError),
    ],
)
def test_answers_that_are_not_a_replicators_are_told_apart(servers, answer, error):
    server = servers()
    server.answers = [answer]
    with ControlClient([server.endpoint]) as client, pytest.raises(error) as caught:
        client.version()
    assert type(caught.value) is error


def test_nobody_there_names_who_was_asked():
    with ControlClient(["http://127.0.0.1:1"]) as client, pytest.raises(Unreachable, match=r"127\.0\.0\.1:1.*refused"):
        client.version()


def test_events_are_read_as_they_come(servers):
    server = servers()
    server.answers = [(200, {"Content-Type": "text/event-stream"}, ': hi\n\nevent: routing\ndata: {"version": 1}\n\n')]
    with ControlClient([server.endpoint]) as client:
        assert list(client.watch_routing()) == [{"version": 1}]


def test_an_export_comes_line_by_line_and_one_that_breaks_off_is_no_export(servers):
    server = servers()
    server.answers = [(200, {}, '{"sequence":1}\n{"sequence":2}\n'), (200, {"Content-Length": "99"}, '{"seq')]
    with ControlClient([server.endpoint]) as client:
        assert list(client.export("default.1")) == [b'{"sequence":1}\n', b'{"sequence":2}\n']
        with pytest.raises(Unreachable, match="broke off"):
            list(client.export("default.1", dry_run=True))
    posted = [path for _, path, _ in server.requests]
    assert posted == ["/control/divergence/default.1/export", "/control/divergence/default.1/export?dry_run=true"]


def test_server_sent_events_may_have_several_lines_and_comments():
    lines = [":x", "", "event: a", 'data: {"a":', "data: 1}", "", "data:{}", "", "data: {"]
    assert list(server_sent(lines)) == [{"a": 1}, {}]


@pytest.fixture
def mesh_pki(tmp_path):
    now = datetime.now(UTC)
    pki.create_authority(tmp_path, "mesh.example", now=now)
    authority = pki.load_authority(tmp_path)
    pki.issue(authority, tmp_path, pki.Kind.CLUSTER, "us-east", now=now)
    pki.issue(authority, tmp_path, pki.Kind.OPERATOR, "alice", now=now)
    return tmp_path


def server_context(directory, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(directory / "us-east.crt", directory / "us-east.key")
    context.load_verify_locations(directory / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_both_sides_prove_themselves(servers, mesh_pki):
    server = servers(server_context(mesh_pki, ssl.TLSVersion.TLSv1_3))
    server.answers = [(200, {}, '{"version": "1"}')]
    alice = Credentials(mesh_pki / "ca.crt", mesh_pki / "alice.crt", mesh_pki / "alice.key")
    with ControlClient([server.endpoint], credentials=alice) as client:
        assert client.version() == {"version": "1"}
    nobody = Credentials(mesh_pki / "ca.crt")
    with ControlClient([server.endpoint], credentials=nobody) as client, pytest.raises(Unreachable):
        client.version()
    with ControlClient([server.endpoint]) as client, pytest.raises(Unreachable, match=r"(?i)certificate"):
        client.version()


def test_nothing_below_tls_1_3_is_spoken(servers, mesh_pki):
    server = servers(server_context(mesh_pki, ssl.TLSVersion.TLSv1_2))
    alice = Credentials(mesh_pki / "ca.crt", mesh_pki / "alice.crt", mesh_pki / "alice.key")
    with (
        ControlClient([server.endpoint], credentials=alice) as client,
        pytest.raises(Unreachable, match=r"(?i)protocol"),
    ):
        client.version()


def test_a_credential_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigInvalid, match="none"):
        ControlClient(["https://x"], credentials=Credentials(tmp_path / "none"))
