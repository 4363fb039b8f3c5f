"""Who gets in, what each scope opens, and that a refused mutation is on record."""

import ssl
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest
from tests.package.unit.api.mesh import PLAN
from tests.package.unit.api.test_clusters import MARS

from omnirelay import pki
from omnirelay.api import create_app
from omnirelay.failover import audit_chain
from omnirelay.model.access import Scope
from omnirelay.testing.memory_coordination import Fault

DORA = "spiffe://omnirelay/operator/dora"

CALLS = [
    ("mesh.read", "GET", "/control/clusters", None),
    ("mesh.read", "GET", "/control/clusters/us-east", None),
    ("mesh.read", "GET", "/control/clusters/us-east/replication", None),
    ("mesh.read", "GET", "/control/routing", None),
    ("mesh.read", "GET", "/control/failovers", None),
    ("mesh.read", "GET", "/control/audit", None),
    ("mesh.read", "GET", "/metrics", None),
    ("mesh.admin", "POST", "/control/clusters", MARS),
    ("mesh.operate", "PATCH", "/control/clusters/us-east", {"change_ticket": "C"}),
    ("mesh.admin", "DELETE", "/control/clusters/us-east?change_ticket=C", None),
    ("mesh.operate", "POST", "/control/failovers", PLAN),
    ("mesh.operate", "POST", "/control/failovers/fo-1/preflight", {}),
    ("mesh.operate", "POST", "/control/failovers/fo-1/drain", {}),
    ("mesh.operate", "POST", "/control/failovers/fo-1/abort", {}),
    ("mesh.approve", "POST", "/control/failovers/fo-1/approvals", {"decision": "deny", "plan_hash": "x"}),
]
OPENS = {
    "reader": {"mesh.read"},
    "alice": {"mesh.read", "mesh.operate"},
    "bob": {"mesh.read", "mesh.approve"},
    "root": {"mesh.read", "mesh.operate", "mesh.approve", "mesh.admin"},
    "nobody": set(),
}


@pytest.mark.parametrize(("scope", "method", "path", "body"), CALLS)
@pytest.mark.parametrize("name", OPENS)
async def test_a_scope_opens_what_it_is_for(mesh, name, scope, method, path, body):
    answer = await mesh.call(name, method, path, json=body)
    if scope in OPENS[name]:
        assert answer.status_code not in (401, 403)
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
        assert answer.json()["details"] == {"principal": f"token/{name}", "scope": scope}


@pytest.mark.parametrize(("scope", "method", "path", "body"), CALLS)
@pytest.mark.parametrize("token", [None, "wrong"])
async def test_a_stranger_is_told_nothing_else(mesh, token, scope, method, path, body):
    answer = await mesh.call(token, method, path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("content", [b"{", b'{"surprise": 1}', b"\xff"])
async def test_a_stranger_is_not_told_what_is_wrong_with_the_body(mesh, content):
    answer = await mesh.call(None, "POST", "/control/failovers", content=content)
    assert answer.status_code == 401


@pytest.mark.parametrize("header", ["Basic YWxpY2U6YWxpY2U=", "Bearer", "Bearer ", "alice", ""])
async def test_other_credentials(mesh, header):
    answer = await mesh.call(None, "GET", "/control/routing", headers={"Authorization": header})
    assert answer.status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/version", "/openapi.json"])
async def test_some_things_anybody_may_know(mesh, path):
    assert (await mesh.call(None, "GET", path)).status_code == 200


NEW_CLUSTER = ("POST", "/control/clusters", MARS)
NEW_PLAN = ("POST", "/control/failovers", PLAN)
DECISION = ("POST", "/control/failovers/fo-1/approvals", {"decision": "deny", "plan_hash": "x"})


@pytest.mark.parametrize(
    ("call", "field", "most"),
    [
        (NEW_PLAN, "target", 253),
        (NEW_PLAN, "reverses", 253),
        (NEW_PLAN, "namespaces.0", 253),
        (DECISION, "plan_hash", 128),
        (NEW_CLUSTER, "cluster_id", 253),
        (NEW_CLUSTER, "namespaces.0", 253),
        (NEW_CLUSTER, "failover_policy", 253),
    ],
)
async def test_what_is_named_is_named_in_so_many_characters(mesh, call, field, most):
    method, path, body = call
    name, _, in_list = field.partition(".")
    for length, complained in ((most, False), (most + 1, True)):
        text = "x" * length
        answer = await mesh.call("root", method, path, json={**body, name: [text] if in_list else text})
        violations = [violation["path"] for violation in answer.json().get("details", {}).get("violations", ())]
        assert (field in violations) is complained, answer.text


@pytest.mark.parametrize("path", ["clusters/{}", "failovers/{}", "divergence/{}", "failovers/{}/report"])
async def test_what_is_asked_for_is_named_in_so_many_characters_too(mesh, path):
    for length, code in ((253, "not_found"), (254, "invalid_argument")):
        answer = await mesh.call("reader", "GET", "/control/" + path.format("x" * length))
        assert answer.json()["code"] == code


class TestRefusalsOnRecord:
    async def refusals(self, mesh):
        return [e for e in await mesh.auditor.entries(0, 100) if e.outcome == "refused"]

    async def test_a_missing_scope(self, mesh):
        answer = await mesh.call("reader", "POST", "/control/failovers", json=PLAN)
        (entry,) = await self.refusals(mesh)
        assert (entry.actor, entry.identity_proof) == ("token/reader", "token")
        assert (entry.action, entry.subject) == ("failover.plan", "failovers")
        assert entry.after == {"code": "permission_denied", "request_id": answer.json()["request_id"]}

    async def test_a_typed_error_and_an_invalid_request(self, mesh):
        failover_id = await mesh.approved()
        await mesh.step(failover_id, "promote")
        await mesh.call("alice", "POST", "/control/failovers", json={"surprise": 1})
        refused = await self.refusals(mesh)
        assert [(e.action, e.subject, e.after["code"]) for e in refused] == [
            ("failover.promote", f"failovers/{failover_id}", "illegal_transition"),
            ("failover.plan", "failovers", "invalid_argument"),
        ]

    @pytest.mark.parametrize("length", [3_000, 400_000, 800_000])
    async def test_one_with_a_long_message_is_too_and_stays_small(self, mesh, length):
        """The chain took all that was sent, in every head; what was too much for the store was not on record at all."""
        answer = await mesh.call("alice", "POST", "/control/failovers", json={**PLAN, "x" * length: 1})
        assert answer.json()["code"] == "invalid_argument"
        (entry,) = await self.refusals(mesh)
        assert entry.why == "x" * 1999 + "…"

    async def test_one_of_a_long_path_is_too_and_stays_small(self, mesh):
        answer = await mesh.call("alice", "POST", f"/control/failovers/{'x' * 50_000}/drain")
        assert answer.json()["code"] == "invalid_argument"
        (entry,) = await self.refusals(mesh)
        assert entry.subject == "failovers/" + "x" * 1989 + "…"

    async def test_strangers_reads_and_dry_runs_are_not(self, mesh):
        failover_id = (await mesh.planned())["id"]
        await mesh.call(None, "POST", "/control/failovers", json=PLAN)
        await mesh.call("nobody", "GET", "/control/routing")
        assert (await mesh.step(failover_id, "drain", dry_run=True)).status_code == 409
        body = {**PLAN, "change_ticket": "", "dry_run": True}
        assert (await mesh.call("alice", "POST", "/control/failovers", json=body)).status_code == 409
        assert await self.refusals(mesh) == []

    async def test_a_silent_store_does_not_change_the_answer(self, mesh, caplog):
        mesh.store.fault = Fault.UNAVAILABLE
        answer = await mesh.call("reader", "POST", "/control/failovers", json=PLAN)
        assert answer.json()["code"] == "permission_denied"
        assert "not audited" in caplog.text

    async def test_done_and_refused_are_one_chain(self, mesh):
        failover_id = await mesh.approved()
        await mesh.step(failover_id, "promote")
        await mesh.step(failover_id, "abort")
        entries = await mesh.auditor.entries(0, 100)
        assert [e.outcome for e in entries] == ["done", "done", "refused", "done"]
        head = (await mesh.call("reader", "GET", "/control/audit")).json()["head"]
        assert audit_chain.verify(entries, head["digest"]) is None


class TestCertificates:
    @pytest.fixture
    def call(self, tmp_path, mesh):
        """Calls as the holder of a certificate, which the server hands on as it came."""
        now = datetime.now(UTC)
        pki.create_authority(tmp_path, "omnirelay", now=now)
        authority = pki.load_authority(tmp_path)
        policy = replace(mesh.policy, grants={DORA: frozenset({Scope.READ})})
        app = create_app(replace(mesh.services, access=policy))

        async def call(kind: pki.Kind, **headers: str) -> httpx.Response:
            issued = pki.issue(authority, tmp_path, kind, "dora", now=now)
            der = ssl.PEM_cert_to_DER_cert(issued.certificate.read_text())

            async def served(scope, receive, send):
                await app({**scope, "state": {"peer_certificate": der}}, receive, send)

            transport = httpx.ASGITransport(served)
            async with httpx.AsyncClient(transport=transport, base_url="https://mesh") as client:
                return await client.get("/control/routing", headers=headers)

        return call

    async def test_the_spiffe_id_is_the_principal(self, call):
        assert (await call(pki.Kind.OPERATOR)).status_code == 200

    async def test_another_identity_of_the_same_name(self, call):
        refused = await call(pki.Kind.CLIENT)
        assert refused.json()["details"]["principal"] == "spiffe://omnirelay/client/dora"

    async def test_a_wrong_token_is_not_made_good_by_the_certificate(self, call):
        assert (await call(pki.Kind.OPERATOR, Authorization="Bearer wrong")).status_code == 401
