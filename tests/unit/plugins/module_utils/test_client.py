# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import threading
import time

import pytest
from ansible_collections.omnirelay.mesh.plugins.module_utils import _client
from ansible_collections.omnirelay.mesh.plugins.module_utils._client import MeshClient
from ansible_collections.omnirelay.mesh.plugins.module_utils._errors import MeshApiError
from ansible_collections.omnirelay.mesh.plugins.module_utils._spec import client_from
from ansible_collections.omnirelay.mesh.tests.unit.plugins.fake_control_api import FakeControlApi, Problem


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(_client, "FIRST_PAUSE", 0.01)


@pytest.fixture
def nobody():
    """An endpoint where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield "http://127.0.0.1:%d" % probe.getsockname()[1]


@pytest.fixture
def silent():
    """An endpoint that accepts and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield "http://127.0.0.1:%d" % listener.getsockname()[1]


@pytest.fixture
def stranger():
    """An endpoint that answers, but is no control API."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def answer():
            while True:
                try:
                    connection, dummy = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<h1>It works</h1>")

        threading.Thread(target=answer, daemon=True).start()
        yield "http://127.0.0.1:%d" % listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def failure(call, *args, **kwargs):
    with pytest.raises(MeshApiError) as caught:
        call(*args, **kwargs)
    return caught.value


def test_answer_carries_body_status_and_request_id(client):
    answer = client.get("clusters", "us-east", "replication")
    assert (answer.status, answer.request_id, answer.body["cluster_id"]) == (200, "req-1", "us-east")


def test_pages_are_joined(client, mesh):
    clusters, last = client.pages("clusters", "clusters")
    assert [cluster["cluster_id"] for cluster in clusters] == ["us-east", "eu-west", "ap-south"]
    assert [query for dummy, dummy, query, dummy in mesh.calls] == [{}, {"page_token": "2"}]
    assert last.body["routing_version"] == 1


def test_path_and_query_are_quoted(client, mesh):
    failure(client.get, "failovers", "../a b?", state="x&y", open=True, wait=0)
    assert mesh.calls[-1][1:3] == ("/control/failovers/..%2Fa%20b%3F", {"state": "x&y", "open": "true", "wait": "0"})


def test_problem_becomes_typed_error(client, mesh):
    mesh.refuse("/control/clusters", Problem(409, "epoch_moved", "It moved.", "Plan again.", namespace="default"))
    assert failure(client.get, "clusters").as_dict() == dict(
        code="epoch_moved",
        message="It moved.",
        hint="Plan again.",
        http_status=409,
        retryable=False,
        details={"namespace": "default"},
        request_id="req-of-problem",
    )


def test_refusal_is_not_repeated(api, mesh):
    mesh.refuse("/control/clusters", Problem(403, "permission_denied", "No."), times=5)
    failure(MeshClient([api.endpoint], retries=3).get, "clusters")
    assert len(mesh.calls) == 1


def test_retryable_answer_is_repeated(api, mesh):
    mesh.refuse("/control/clusters", Problem(503, "coordination_unavailable", "Wait.", retryable=True), times=2)
    assert MeshClient([api.endpoint], retries=3).get("clusters").status == 200
    assert len(mesh.calls) == 3


def test_repetition_is_bounded(api, mesh):
    mesh.refuse("/control/clusters", Problem(503, "coordination_unavailable", "Wait.", retryable=True), times=9)
    error = failure(MeshClient([api.endpoint], retries=2).get, "clusters")
    assert (error.code, len(mesh.calls)) == ("coordination_unavailable", 3)


def test_next_endpoint_is_tried_and_kept(api, nobody):
    client = MeshClient([nobody, api.endpoint], retries=0)
    assert client.get("clusters").endpoint == api.endpoint
    assert client.endpoint == api.endpoint


def test_next_endpoint_is_tried_when_one_cannot_serve(mesh):
    with FakeControlApi(mesh) as second, FakeControlApi() as first:
        first.mesh.refuse("/control/clusters", Problem(503, "shutting_down", "Bye.", retryable=True))
        assert MeshClient([first.endpoint, second.endpoint], retries=0).get("clusters").endpoint == second.endpoint


def test_silent_endpoint_costs_one_timeout(api, silent):
    started = time.monotonic()
    assert MeshClient([silent, api.endpoint], timeout=0.2, retries=0).get("clusters").status == 200
    assert time.monotonic() - started < 2


def test_deadline_covers_all_attempts(silent):
    started = time.monotonic()
    error = failure(MeshClient([silent], timeout=0.2, deadline=0.5, retries=100).get, "clusters")
    assert error.code == "unreachable" and error.retryable
    assert time.monotonic() - started < 2


def test_every_endpoint_is_named_when_none_answers(nobody, silent):
    error = failure(MeshClient([nobody, silent], timeout=0.1, retries=0).get, "clusters")
    assert error.code == "unreachable" and error.http_status is None
    assert set(error.details["endpoints"]) == {nobody, silent}
    assert nobody in error.message and "no answer within" in error.message


def test_what_a_cluster_said_is_told_rather_than_silence(api, mesh, nobody):
    mesh.refuse("/control/clusters", Problem(503, "coordination_unavailable", "Wait.", retryable=True))
    assert failure(MeshClient([api.endpoint, nobody], retries=0).get, "clusters").code == "coordination_unavailable"


def test_answer_of_something_else_is_no_success(stranger):
    error = failure(MeshClient([stranger], retries=0).get, "clusters")
    assert (error.code, error.http_status) == ("unreachable", 200)


@pytest.mark.parametrize("endpoint", ["http://control.example.net:8443", "control.example.net:8443", "ftp://127.0.0.1", ""])
def test_unfit_endpoint_is_refused_before_any_call(endpoint):
    assert failure(MeshClient, [endpoint]).code == "config_invalid"


def test_unusable_certificate_is_named(api, tmp_path):
    missing = str(tmp_path / "missing.pem")
    error = failure(MeshClient, [api.endpoint], client_cert=missing)
    assert error.code == "config_invalid" and "client_cert" in error.hint


def options(api, **given):
    names = ("ca_path", "client_cert", "client_key", "token", "token_file")
    options = dict({name: None for name in names}, endpoint=[api.endpoint], validate_certs=True, timeout=5, deadline=5, retries=0)
    return dict(options, **given)


def test_identity_of_the_environment_stands_in(api, monkeypatch, tmp_path):
    (tmp_path / "token").write_text("alice-token\n")
    monkeypatch.setenv("OMNIRELAY_TOKEN_FILE", str(tmp_path / "token"))
    client = client_from(options(api))
    assert client.get("failovers").status == 200
    assert client.secrets == {"alice-token"}


def test_identity_of_the_task_replaces_that_of_the_environment(api, monkeypatch):
    monkeypatch.setenv("OMNIRELAY_CERT", "/missing/certificate/of/somebody/else.pem")
    assert client_from(options(api, token="alice-token")).get("failovers").status == 200


def test_unreadable_token_file_is_named(api):
    error = failure(client_from, options(api, token_file="/missing/token"))
    assert error.code == "config_invalid" and "/missing/token" in error.message


@pytest.mark.parametrize("token", ["two\nlines", "with blank", "caf\u00e9", "nul\0"])
def test_token_that_no_header_can_carry_is_refused_and_not_told(api, tmp_path, token):
    """The library below quoted it, escaped, so that no_log did not know it again."""
    file = tmp_path / "token"
    file.write_text(token, encoding="utf-8")
    for given in (dict(token=token), dict(token_file=str(file))):
        error = failure(lambda given=given: client_from(options(api, **given)).get("failovers"))
        assert error.code == "config_invalid"
        assert token not in error.message and repr(token)[1:-1] not in error.message


def test_line_break_at_the_end_of_a_token_is_not_part_of_it(api):
    client = client_from(options(api, token="alice-token\n"))
    assert client.get("failovers").status == 200
    assert client.secrets == {"alice-token"}


def test_token_file_that_is_no_text_is_named_and_not_told(api, tmp_path):
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    error = failure(client_from, options(api, token_file=str(tmp_path / "token")))
    assert error.code == "config_invalid" and "no text" in error.message
