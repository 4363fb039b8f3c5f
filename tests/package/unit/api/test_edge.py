"""What every response has, and what becomes of requests that no route takes."""

import asyncio
from dataclasses import replace

import httpx
import pytest
from tests.package.unit.api.mesh import PLAN
from tests.package.unit.failover.support import a_descriptor

from omnirelay.api import create_app
from omnirelay.api.edge import MAX_BODY_BYTES, Edge
from omnirelay.model.access import AccessPolicy
from omnirelay.model.routing import Ownership, Route, RoutingDocument
from omnirelay.ports.coordination import Put
from omnirelay.runtime.documents import CLUSTERS, ROUTING, ROUTING_DOCUMENT
from omnirelay.testing.memory_coordination import Fault


def is_problem(answer, status, code):
    body = answer.json()
    assert (answer.status_code, body["code"], body["status"]) == (status, code, status)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert body["type"] == f"urn:omnirelay:error:{code}"
    assert body["request_id"] == answer.headers["X-Request-Id"]
    assert body["title"]
    assert body["detail"]
    assert "{" not in body["hint"]
    return body


async def test_an_unknown_path(mesh):
    is_problem(await mesh.call("root", "GET", "/control/nothing"), 404, "unknown_path")


async def test_a_method_that_a_path_does_not_take(mesh):
    answer = await mesh.call("root", "DELETE", "/control/routing")
    is_problem(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET"


@pytest.mark.parametrize("content", [b"{", b"[]", b"nonsense", b'"text"', b""])
async def test_a_body_that_is_no_object(mesh, content):
    answer = await mesh.call("alice", "POST", "/control/failovers", content=content)
    is_problem(answer, 400, "invalid_argument")


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"limits": {"max_lag_seconds": -1}}, "limits.max_lag_seconds"),
        ({"limits": {"drain_timeout_seconds": "soon"}}, "limits.drain_timeout_seconds"),
        ({"limits": {"patience": 1}}, "limits.patience"),
        ({"namespaces": ["a", 1]}, "namespaces.1"),
        ({"namespaces": None}, "namespaces"),
        ({"mode": "forced"}, "mode"),
        ({"force": True}, "force"),
        ({"reason": "x" * 2001}, "reason"),
    ],
)
async def test_a_field_that_is_wrong_is_named_by_its_path(mesh, changes, path):
    answer = await mesh.call("alice", "POST", "/control/failovers", json={**PLAN, **changes})
    problem = is_problem(answer, 400, "invalid_argument")
    assert problem["details"]["path"] == path
    assert problem["detail"].startswith(path)


async def test_all_violations_are_listed(mesh):
    answer = await mesh.call("alice", "POST", "/control/failovers", json={"force": True, "target": 5})
    assert {v["path"] for v in answer.json()["details"]["violations"]} == {"mode", "target", "force"}


async def test_infinity_is_no_limit(mesh):
    content = b'{"mode": "planned", "target": "eu-west", "limits": {"max_lag_seconds": Infinity}}'
    answer = await mesh.call("alice", "POST", "/control/failovers", content=content)
    is_problem(answer, 400, "invalid_argument")


HUGE = "9" * 5000
"""More digits than Python reads as an integer."""


class TestValuesThatNoProgramSends:
    @pytest.mark.parametrize(
        "tag", [f'"{HUGE}"', '"18446744073709551616"', '"\xb2"', '"-1"', '"1", "2"', 'W/"1"', "*", '""']
    )
    @pytest.mark.parametrize("method", ["PATCH", "PUT", "DELETE"])
    async def test_an_if_match_that_is_no_etag_of_ours_was_a_defect(self, mesh, method, tag):
        body = {} if method == "DELETE" else {"json": {"change_ticket": "CHG-1"}}
        if method == "PUT":
            endpoints = {"grpc": "eu-west:7443", "control": "https://eu-west:8443"}
            body["json"] |= {"region": "eu", "owners": ["sre"], "endpoints": endpoints}
        path = "/control/clusters/eu-west?change_ticket=CHG-1"
        answer = await mesh.call("root", method, path, headers={"If-Match": tag.encode("latin-1")}, **body)
        problem = is_problem(answer, 400, "invalid_argument")
        assert problem["details"]["path"] == "If-Match"
        assert len(problem["detail"]) < 200

    @pytest.mark.parametrize("epoch", ["9" * 200, "\xb2", "-1", "1e3"])
    async def test_a_divergence_that_cannot_be_was_a_defect(self, mesh, epoch):
        answer = await mesh.call("reader", "GET", f"/control/divergence/default.{epoch}")
        is_problem(answer, 404, "not_found")

    @pytest.mark.parametrize("length", [HUGE, "-5", "\xb2"])
    async def test_a_length_that_is_no_number_was_a_defect(self, mesh, length):
        headers = {"Content-Length": length.encode("latin-1")}
        answer = await mesh.call("alice", "POST", "/control/failovers", headers=headers, content=b"x")
        is_problem(answer, 413, "request_too_large")

    @pytest.mark.parametrize(
        "content",
        [
            rb'{"mode": "planned", "target": "\ud800"}',
            rb'{"mode": "planned", "target": "eu-west", "reason": "\uDFFF"}',
            rb'{"mode": "planned", "target": "eu-west", "\udbff": 1}',
        ],
    )
    async def test_half_a_character_was_a_defect(self, mesh, content):
        headers = {"Content-Type": "application/json"}
        answer = await mesh.call("alice", "POST", "/control/failovers", headers=headers, content=content)
        is_problem(answer, 400, "invalid_argument")

    async def test_a_whole_character_that_is_written_in_two_halves_is_text(self, mesh):
        content = rb'{"mode": "planned", "target": "eu-west", "change_ticket": "CHG-1", "reason": "\ud83d\ude00"}'
        headers = {"Content-Type": "application/json"}
        answer = await mesh.call("alice", "POST", "/control/failovers", headers=headers, content=content)
        assert answer.json()["reason"] == "\U0001f600"

    @pytest.mark.parametrize(
        "query", [f"after={HUGE}", "after=-1", f"limit={HUGE}", "limit=0", "limit=1e3", "after=%00"]
    )
    async def test_a_page_that_cannot_be_is_refused(self, mesh, query):
        is_problem(await mesh.call("reader", "GET", f"/control/audit?{query}"), 400, "invalid_argument")


class TestBody:
    async def test_an_announced_length_is_refused(self, mesh):
        answer = await mesh.call("alice", "POST", "/control/failovers", content=b" " * (MAX_BODY_BYTES + 1))
        problem = is_problem(answer, 413, "request_too_large")
        assert str(MAX_BODY_BYTES) in problem["hint"]

    async def test_a_stream_without_end_too(self, mesh):
        sent = 0

        async def endless():
            nonlocal sent
            while True:
                sent += 65536
                yield b" " * 65536

        answer = await mesh.call("alice", "POST", "/control/failovers", content=endless())
        is_problem(answer, 413, "request_too_large")
        assert sent <= MAX_BODY_BYTES + 2 * 65536


class Held:
    """An application that begins and ends its answers when it is told to."""

    def __init__(self):
        self.begin, self.end = asyncio.Event(), asyncio.Event()
        self.asked = asyncio.Semaphore(0)
        self.answered = asyncio.Semaphore(0)

    async def __call__(self, scope, receive, send):
        self.asked.release()
        await self.begin.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        self.answered.release()
        await self.end.wait()
        await send({"type": "http.response.body", "body": b"ok"})


class TestPlaces:
    @pytest.fixture
    def app(self, monkeypatch):
        monkeypatch.setattr("omnirelay.api.edge.MAX_REQUESTS", 2)
        monkeypatch.setattr("omnirelay.api.edge.MAX_STRANGERS", 1)
        self.held = Held()
        edge = Edge(self.held, is_known=lambda request: "authorization" in request.headers)
        return httpx.ASGITransport(edge)

    @pytest.fixture
    async def known(self, app):
        async with httpx.AsyncClient(transport=app, base_url="https://mesh", headers={"Authorization": "x"}) as client:
            yield client

    @pytest.fixture
    async def stranger(self, app):
        async with httpx.AsyncClient(transport=app, base_url="https://mesh") as client:
            yield client

    async def test_one_request_too_many_was_taken_like_any_other(self, known):
        async with asyncio.TaskGroup() as group:
            first = [group.create_task(known.get("/")) for _ in range(2)]
            for _ in first:
                await self.held.asked.acquire()
            refused = await known.get("/")
            problem = is_problem(refused, 503, "busy")
            assert (refused.headers["Retry-After"], refused.headers["Connection"]) == ("1", "close")
            assert (problem["retryable"], problem["details"]) == (True, {"most": 2})
            self.held.begin.set()
            self.held.end.set()
        assert [each.result().status_code for each in first] == [200, 200]
        assert (await known.get("/")).status_code == 200, "their places are free again"

    async def test_strangers_with_bodies_took_the_places_of_those_who_are_known(self, known, stranger):
        async with asyncio.TaskGroup() as group:
            group.create_task(stranger.post("/", content=b"x"))
            await self.held.asked.acquire()
            is_problem(await stranger.post("/", content=b"x"), 503, "busy")
            others = [group.create_task(each) for each in (known.post("/", content=b"x"), stranger.get("/"))]
            self.held.begin.set()
            self.held.end.set()
        assert [each.result().status_code for each in others] == [200, 200]

    async def test_an_answer_that_has_begun_takes_no_place(self, known):
        self.held.begin.set()
        async with asyncio.TaskGroup() as group:
            streams = [group.create_task(known.get("/")) for _ in range(5)]
            for _ in streams:
                await self.held.answered.acquire()
            self.held.end.set()
        assert [each.result().status_code for each in streams] == [200] * 5


class TestRequestId:
    async def test_the_callers_own_is_kept(self, mesh):
        answer = await mesh.call("reader", "GET", "/control/routing", headers={"X-Request-Id": "job-7.step_2"})
        assert answer.headers["X-Request-Id"] == "job-7.step_2"

    @pytest.mark.parametrize("bad", ["", "a b", "x" * 65, "<script>"])
    async def test_another_one_is_made_for_what_is_no_id(self, mesh, bad):
        answer = await mesh.call("reader", "GET", "/control/routing", headers={"X-Request-Id": bad})
        assert len(answer.headers["X-Request-Id"]) == 32


async def test_a_defect_is_logged_under_the_id_that_the_caller_gets(mesh, monkeypatch, caplog):
    def broken():
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(mesh.failovers, "all", broken)
    answer = await mesh.call("reader", "GET", "/control/failovers")
    problem = is_problem(answer, 500, "internal")
    assert "secret" not in answer.text
    assert problem["request_id"] in caplog.text
    assert "ZeroDivisionError" in caplog.text


class TestMeta:
    async def test_ready_or_why_not(self, mesh):
        assert (await mesh.call(None, "GET", "/readyz")).json() == {"ready": True, "problems": []}
        mesh.unready.append("the log cannot be written")
        answer = await mesh.call(None, "GET", "/readyz")
        problem = is_problem(answer, 503, "not_ready")
        assert problem["details"] == {"problems": ["the log cannot be written"]}
        assert (await mesh.call(None, "GET", "/healthz")).json() == {"status": "ok"}

    async def test_version(self, mesh):
        answer = await mesh.call(None, "GET", "/version")
        assert answer.json() == {"version": "1.0.0", "protocol": "1.1", "cluster": "us-east"}

    async def test_metrics(self, mesh):
        answer = await mesh.call("reader", "GET", "/metrics")
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.text == "mesh_up 1\n"
        public = create_app(replace(mesh.services, access=AccessPolicy(metrics_public=True)))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(public), base_url="https://mesh") as client:
            assert (await client.get("/metrics")).status_code == 200


class TestRouting:
    async def test_the_document_and_its_version(self, mesh):
        answer = await mesh.call("reader", "GET", "/control/routing")
        assert answer.headers["ETag"] == '"1"'
        assert answer.json()["namespaces"]["default"] == {
            "active": "us-east",
            "epoch": 1,
            "endpoint": "us-east.example:7443",
            "control": "https://us-east.example:8443",
            "history": [{"epoch": 1, "cluster": "us-east", "origin": "us-east", "cut": {"epoch": 0, "sequence": 0}}],
        }

    async def test_one_namespace(self, mesh):
        answer = await mesh.call("reader", "GET", "/control/routing", params={"namespace": "orders"})
        assert list(answer.json()["namespaces"]) == ["orders"]
        unknown = await mesh.call("reader", "GET", "/control/routing", params={"namespace": "mars"})
        assert is_problem(unknown, 404, "unknown_namespace")["hint"].endswith("default, orders.")

    @pytest.mark.parametrize(
        "path",
        [
            "/control/clusters/pluto",
            "/control/clusters/pluto/replication",
            "/control/routing?namespace=mars",
            "/control/routing/readers?namespace=mars",
        ],
    )
    async def test_what_was_just_made_through_another_cluster_was_not_found(self, mesh, monkeypatch, path):
        monkeypatch.setattr(mesh.view, "_apply", lambda changes: None)  # no change has arrived yet
        routes = {**mesh.view.routing.routes, "mars": Route("mars", (Ownership(1, "eu-west", "eu-west"),))}
        document = ROUTING_DOCUMENT.encode(RoutingDocument(2, routes))
        pluto = CLUSTERS.encode(a_descriptor("pluto"))
        await mesh.store.transact([], [Put(ROUTING, document), Put(CLUSTERS.key("pluto"), pluto)])
        assert (await mesh.call("reader", "GET", path)).status_code == 200

    async def test_nothing_is_said_to_be_absent_while_the_store_is_silent(self, mesh):
        mesh.store.fault = Fault.UNAVAILABLE
        for path in ("/control/clusters/pluto", "/control/routing?namespace=mars"):
            is_problem(await mesh.call("reader", "GET", path), 503, "coordination_unavailable")


class TestAudit:
    async def test_pages_follow_the_chain(self, mesh):
        for number in range(3):
            await mesh.planned(reason=f"drill {number}")
        page = (await mesh.call("reader", "GET", "/control/audit", params={"after": 1, "limit": 1})).json()
        assert [entry["number"] for entry in page["entries"]] == [2]
        assert page["head"]["number"] == 3
        entry = page["entries"][0]
        assert (entry["actor"], entry["why"], entry["change_ticket"]) == ("token/alice", "drill 1", "CHG-1")

    async def test_an_empty_chain(self, mesh):
        page = (await mesh.call("reader", "GET", "/control/audit")).json()
        assert page == {"entries": [], "head": {"number": 0, "digest": "0" * 64}, "next_after": None}

    @pytest.mark.parametrize(
        ("wanted", "numbers"),
        [
            ({"subject": "failovers/fo-2"}, [2]),
            ({"action": "failover.plan", "outcome": "done"}, [1, 2, 3]),
            ({"outcome": "refused"}, [4]),
            ({"actor": "token/alice"}, [1, 2, 3]),
            ({"change_ticket": "CHG-1", "after": 1, "limit": 1}, [2]),
            ({"subject": "failovers/fo-2", "action": "failover.abort"}, []),
        ],
    )
    async def test_whatever_was_asked_for_came_with_everything_else(self, mesh, wanted, numbers):
        for number in range(3):
            await mesh.planned(reason=f"drill {number}")
        await mesh.call("reader", "POST", "/control/failovers", json=PLAN)
        page = (await mesh.call("reader", "GET", "/control/audit", params=wanted)).json()
        assert [entry["number"] for entry in page["entries"]] == numbers
        assert page["next_after"] == (2 if "limit" in wanted else None)

    async def test_an_outcome_that_there_is_not_is_refused(self, mesh):
        answer = await mesh.call("reader", "GET", "/control/audit", params={"outcome": "perhaps"})
        is_problem(answer, 400, "invalid_argument")
