"""Descriptors through the API: what is shown, who changes them, and what they may not become."""

import asyncio
import re

import pytest
from tests.package.unit.api.mesh import Mesh

from omnirelay.failover.evidence import LinkReport, PeerReport
from omnirelay.model.lag import Lag, ReplicationStatus
from omnirelay.testing.memory_coordination import Fault

MARS = {
    "cluster_id": "mars",
    "region": "sol-4",
    "endpoints": {"grpc": "mars.example:7443", "control": "https://mars.example:8443"},
    "owners": ["sre@example.com"],
    "change_ticket": "CHG-9",
}
CHANGE = {key: value for key, value in MARS.items() if key != "cluster_id"}


async def create(mesh, name="root", query=None, **changes):
    return await mesh.call(name, "POST", "/control/clusters", json={**MARS, **changes}, params=query)


async def change(mesh, method, cluster="eu-west", name="alice", etag=None, **options):
    path = f"/control/clusters/{cluster}"
    if etag is None:
        etag = (await mesh.call("reader", "GET", path)).headers["ETag"]
    return await mesh.call(name, method, path, headers={"If-Match": etag} if etag else {}, **options)


async def get(mesh, cluster):
    answer = await mesh.call("reader", "GET", f"/control/clusters/{cluster}")
    assert answer.status_code == 200, answer.text
    return answer.json()


class TestReading:
    async def test_a_cluster_with_everything_that_is_known_of_it(self, mesh):
        shown = await get(mesh, "us-east")
        assert (shown["state"], shown["ready"], shown["problems"]) == ("active", True, [])
        assert shown["namespaces"] == [{"namespace": "default", "epoch": 1}, {"namespace": "orders", "epoch": 1}]
        assert shown["vector"] == {"us-east": 40}
        assert [peer["peer"] for peer in shown["peers"]] == ["ap-south", "eu-west"]
        link = {"status": "streaming", "lag_records": 0, "lag_bytes": 0, "lag_seconds": 0.0}
        assert (shown["peers"][0]["outbound"], shown["peers"][0]["inbound"]) == (link, link)
        assert shown["peers"][0]["mesh_replication_status"] == "streaming"

    async def test_states(self, mesh):
        assert (await get(mesh, "eu-west"))["state"] == "passive"
        assert (await change(mesh, "PATCH", json={"change_ticket": "C", "maintenance": True})).status_code == 200
        assert (await get(mesh, "eu-west"))["state"] == "maintenance"
        failover_id = await mesh.approved(target="ap-south")
        await mesh.step(failover_id, "drain", wait=0)
        assert (await get(mesh, "us-east"))["state"] == "draining"

    async def test_the_list_is_filtered(self, mesh):
        async def ids(**query):
            answer = await mesh.call("reader", "GET", "/control/clusters", params=query)
            return [cluster["cluster_id"] for cluster in answer.json()["clusters"]]

        assert await ids() == ["ap-south", "eu-west", "us-east"]
        assert await ids(state="passive") == ["ap-south", "eu-west"]
        assert await ids(region="eu-west") == ["eu-west"]
        assert await ids(owner="mesh-team") == ["ap-south", "eu-west", "us-east"]
        assert await ids(owner="nobody") == []

    async def test_pages(self, mesh):
        seen, token = [], ""
        for _ in range(3):
            query = {"limit": 1, "page_token": token}
            page = (await mesh.call("reader", "GET", "/control/clusters", params=query)).json()
            seen += [cluster["cluster_id"] for cluster in page["clusters"]]
            token = page["next_page_token"]
        assert (seen, token) == (["ap-south", "eu-west", "us-east"], "")

    async def test_unknown_lag_is_null_and_the_worse_direction_counts(self, mesh):
        half = PeerReport(outbound=LinkReport(ReplicationStatus.STREAMING, Lag(3, 300, 0.2)))
        await mesh.report("eu-west")
        await mesh.report("us-east", peers={"eu-west": half})
        await mesh.view.refresh()
        peer = (await get(mesh, "us-east"))["peers"][0]
        assert peer["outbound"]["lag_bytes"] == 300
        assert peer["inbound"] == {"status": "unknown", "lag_records": None, "lag_bytes": None, "lag_seconds": None}
        assert peer["mesh_replication_status"] == "unknown"
        assert peer["last_contact"] is peer["digest_agrees"] is peer["transport"] is None

    async def test_a_cluster_that_never_reported(self, mesh):
        await create(mesh)
        shown = await get(mesh, "mars")
        assert (shown["ready"], shown["problems"]) == (False, ["does not report"])
        assert shown["last_seen"] is shown["vector"] is shown["origin"] is None
        assert shown["peers"] == shown["namespaces"] == []
        replication = (await mesh.call("reader", "GET", "/control/clusters/mars/replication")).json()
        assert replication == {"cluster_id": "mars", "vector": None, "heads": {}, "peers": [], "observed_at": None}

    async def test_an_old_report_says_nothing_of_lag_any_more(self, mesh):
        mesh.clock.added += 5
        shown = await get(mesh, "us-east")
        assert not shown["ready"]
        (problem,) = shown["problems"]
        assert re.fullmatch(r"reported \d+\.\d s ago", problem)
        assert {peer["inbound"]["status"] for peer in shown["peers"]} == {"unknown"}
        assert {peer["inbound"]["lag_seconds"] for peer in shown["peers"]} == {None}

    async def test_a_silent_store_is_shown_and_reads_go_on(self, mesh):
        fresh = await mesh.call("reader", "GET", "/control/clusters")
        assert fresh.json()["coordination"] == {"reachable": True}
        assert fresh.headers["X-Coordination-Reachable"] == "true"
        mesh.store.fault = Fault.UNAVAILABLE
        mesh.clock.added += 5
        for path in ("/control/clusters", "/control/routing"):
            silent = await mesh.call("reader", "GET", path)
            assert silent.status_code == 200
            assert silent.json()["coordination"] == {"reachable": False}
            assert silent.headers["X-Coordination-Reachable"] == "false"
        refused = await change(mesh, "PATCH", json={"change_ticket": "C"})
        assert (refused.status_code, refused.json()["code"]) == (503, "coordination_unavailable")

    async def test_before_anything_was_read_nothing_is_claimed(self):
        unread = Mesh()
        answer = await unread.call("reader", "GET", "/control/clusters")
        assert (answer.status_code, answer.json()["code"]) == (503, "coordination_unavailable")
        assert answer.headers["Retry-After"] == "1"

    async def test_replication(self, mesh):
        shown = (await mesh.call("reader", "GET", "/control/clusters/us-east/replication")).json()
        assert shown["heads"] == {"us-east": {"sequence": 40, "digest": "ab" * 32}}
        assert len(shown["peers"]) == 2


class TestCreating:
    async def test_it_becomes_owner_of_what_nobody_owns(self, mesh):
        created = await create(mesh, namespaces=["payments"])
        assert created.status_code == 201
        assert created.headers["Location"] == "/control/clusters/mars"
        assert created.json()["namespaces"] == [{"namespace": "payments", "epoch": 1}]
        routing = await mesh.call("reader", "GET", "/control/routing", params={"namespace": "payments"})
        assert routing.json()["version"] == 2
        assert routing.json()["namespaces"]["payments"]["history"] == [
            {"epoch": 1, "cluster": "mars", "origin": "mars", "cut": {"epoch": 0, "sequence": 0}}
        ]

    async def test_the_origin_is_the_one_that_it_reports(self, mesh):
        await mesh.report("mars", origin="mars~2")
        await create(mesh, namespaces=["payments"])
        assert mesh.view.routing.routes["payments"].current.origin == "mars~2"

    async def test_the_same_again_changes_nothing(self, mesh):
        first = await create(mesh, namespaces=["payments"])
        again = await create(mesh, namespaces=["payments"])
        assert (again.status_code, again.headers["ETag"]) == (200, first.headers["ETag"])
        assert mesh.view.routing.version == 2

    async def test_concurrent_creation_happens_once(self, mesh):
        answers = await asyncio.gather(*(create(mesh, namespaces=["payments"]) for _ in range(4)))
        assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
        assert mesh.view.routing.version == 2

    async def test_of_two_clusters_that_want_a_namespace_one_gets_it(self, mesh):
        venus = {"cluster_id": "venus", "region": "sol-2"}
        answers = await asyncio.gather(
            create(mesh, namespaces=["payments"]), create(mesh, namespaces=["payments"], **venus)
        )
        loser = next(answer for answer in answers if answer.status_code != 201)
        assert loser.json()["code"] == "conflict"
        assert loser.json()["details"]["owner"] == mesh.view.routing.routes["payments"].active

    async def test_what_another_owns_is_refused_by_name(self, mesh):
        refused = await create(mesh, namespaces=["default"])
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
        assert refused.json()["details"] == {"namespace": "default", "owner": "us-east"}
        assert "mars" not in mesh.view.clusters

    async def test_another_descriptor_under_the_same_id(self, mesh):
        await create(mesh)
        refused = await create(mesh, region="sol-5")
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")

    async def test_a_dry_run_stores_nothing(self, mesh):
        answer = await create(mesh, query={"dry_run": True}, namespaces=["payments"])
        assert (answer.status_code, answer.json()["cluster_id"]) == (200, "mars")
        assert "mars" not in mesh.view.clusters
        assert mesh.view.routing.version == 1

    async def test_a_dry_run_answers_what_the_creation_then_does(self, mesh):
        predicted = await create(mesh, query={"dry_run": True}, namespaces=["payments"])
        assert (await create(mesh, namespaces=["payments"])).json() == predicted.json()

    @pytest.mark.parametrize(
        ("changes", "path"),
        [
            ({"owners": []}, "owners"),
            ({"owners": [" "]}, "owners.0"),
            ({"change_ticket": " "}, "change_ticket"),
            ({"region": None}, "region"),
            ({"endpoints": {"grpc": "mars", "control": "https://x"}}, "endpoints.grpc"),
            ({"endpoints": {"grpc": "mars:70000", "control": "https://x"}}, "endpoints.grpc"),
            ({"endpoints": {"grpc": "mars:7", "control": "http://x"}}, "endpoints.control"),
            ({"endpoints": {"grpc": "mars:7"}}, "endpoints.control"),
            ({"failover_policy": "whenever"}, "failover_policy"),
            ({"priority": -1}, "priority"),
            ({"surprise": 1}, "surprise"),
        ],
    )
    async def test_what_is_invalid_is_named_by_its_path(self, mesh, changes, path):
        refused = await create(mesh, **changes)
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_argument")
        assert refused.json()["details"]["path"] == path
        assert path in refused.json()["detail"]

    @pytest.mark.parametrize("cluster_id", ["Mars", "", "a" * 64, "mars~2", "-"])
    async def test_ids_are_dns_labels(self, mesh, cluster_id):
        assert (await create(mesh, cluster_id=cluster_id)).json()["code"] == "invalid_argument"


class TestChanging:
    async def test_a_patch_changes_what_it_names(self, mesh):
        before = await get(mesh, "eu-west")
        answer = await change(mesh, "PATCH", json={"change_ticket": "CHG-2", "annotations": {"rack": "7"}})
        assert answer.status_code == 200
        after = {**before, "change_ticket": "CHG-2", "annotations": {"rack": "7"}}
        assert {k: v for k, v in answer.json().items() if k != "problems"} == {
            k: v for k, v in after.items() if k != "problems"
        }
        assert (await mesh.call("reader", "GET", "/control/clusters/eu-west")).headers["ETag"] == answer.headers["ETag"]

    async def test_a_put_replaces_everything(self, mesh):
        answer = await change(mesh, "PUT", json=CHANGE)
        assert (answer.status_code, answer.json()["region"], answer.json()["annotations"]) == (200, "sol-4", {})

    async def test_the_id_does_not_change(self, mesh):
        refused = await change(mesh, "PUT", json=MARS)
        assert (refused.status_code, refused.json()["details"]) == (400, {"path": "cluster_id"})

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
    async def test_without_an_etag_nothing_is_changed(self, mesh, method):
        body = {} if method == "DELETE" else {"json": CHANGE}
        refused = await change(mesh, method, name="root", etag="", params={"change_ticket": "C"}, **body)
        assert (refused.status_code, refused.json()["code"]) == (428, "etag_required")

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
    async def test_with_an_old_etag_nothing_is_changed_and_the_new_one_is_named(self, mesh, method):
        old = (await mesh.call("reader", "GET", "/control/clusters/eu-west")).headers["ETag"]
        new = (await change(mesh, "PATCH", json={"change_ticket": "CHG-2"})).headers["ETag"]
        body = {} if method == "DELETE" else {"json": CHANGE}
        refused = await change(mesh, method, name="root", etag=old, params={"change_ticket": "C"}, **body)
        assert (refused.status_code, refused.json()["code"]) == (412, "etag_mismatch")
        assert refused.json()["details"]["etag"] == new

    @pytest.mark.parametrize("etag", ["*", "3", 'W/"3"', '"x"', '""'])
    async def test_only_our_etags(self, mesh, etag):
        refused = await change(mesh, "PATCH", etag=etag, json={"change_ticket": "C"})
        assert (refused.status_code, refused.json()["details"]) == (400, {"path": "If-Match"})

    async def test_of_two_concurrent_changes_one_wins(self, mesh):
        etag = (await mesh.call("reader", "GET", "/control/clusters/eu-west")).headers["ETag"]
        answers = await asyncio.gather(
            *(change(mesh, "PATCH", etag=etag, json={"change_ticket": f"CHG-{number}"}) for number in range(1, 5))
        )
        assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412]

    async def test_a_change_names_its_ticket(self, mesh):
        refused = await change(mesh, "PATCH", json={"region": "elsewhere"})
        assert (refused.status_code, refused.json()["details"]["path"]) == (400, "change_ticket")

    async def test_a_dry_run_answers_the_change_and_makes_none(self, mesh):
        before = await get(mesh, "eu-west")
        answer = await change(mesh, "PUT", json=CHANGE, params={"dry_run": "true"})
        assert answer.json()["region"] == "sol-4"
        assert await get(mesh, "eu-west") == before


class TestDeleting:
    async def delete(self, mesh, cluster, **query):
        return await change(mesh, "DELETE", cluster, name="root", params={"change_ticket": "CHG-3", **query})

    async def test_a_passive_cluster_goes(self, mesh):
        assert (await self.delete(mesh, "ap-south", dry_run=True)).status_code == 200
        assert (await get(mesh, "ap-south"))["cluster_id"] == "ap-south"
        assert (await self.delete(mesh, "ap-south")).json()["cluster_id"] == "ap-south"
        gone = await mesh.call("reader", "GET", "/control/clusters/ap-south")
        assert (gone.status_code, gone.json()["code"]) == (404, "not_found")

    async def test_an_owner_stays(self, mesh):
        refused = await self.delete(mesh, "us-east")
        assert (refused.status_code, refused.json()["code"]) == (409, "cluster_in_use")
        assert "default, orders" in refused.json()["hint"]

    async def test_the_target_of_a_failover_stays(self, mesh):
        failover_id = await mesh.approved()
        await mesh.step(failover_id, "drain", wait=0)
        refused = await self.delete(mesh, "eu-west")
        assert (refused.status_code, refused.json()["code"]) == (409, "operation_in_progress")
        assert refused.json()["details"] == {"failover_id": failover_id}

    async def test_it_names_its_ticket(self, mesh):
        refused = await change(mesh, "DELETE", "ap-south", name="root")
        assert (refused.status_code, refused.json()["details"]["path"]) == (400, "change_ticket")


REBUILD = "/control/clusters/eu-west/rebuild"
BURNT = {"change_ticket": "CHG-7", "reason": "its disk burnt"}


class TestRebuild:
    async def lose(self, mesh):
        """Somebody holds more of eu-west's log than eu-west itself."""
        await mesh.report("eu-west", vector={"us-east": 40})
        await mesh.report("ap-south", vector={"us-east": 40, "eu-west": 7})
        await mesh.view.refresh()

    async def test_fm35_a_rebuild_is_asked_for_by_an_admin_and_audited(self, mesh):
        await self.lose(mesh)
        dry = await mesh.call("root", "POST", REBUILD, params={"dry_run": True}, json=BURNT)
        assert (dry.status_code, mesh.view.rebuilds) == (202, {})
        answer = await mesh.call("root", "POST", REBUILD, json=BURNT)
        assert (answer.json()["origin"], answer.json()["incarnation"]) == ("eu-west", 2)
        again = await mesh.call("root", "POST", REBUILD, json={**BURNT, "reason": "twice"})
        assert again.json() == answer.json()
        entry = (await mesh.auditor.entries(0, 100))[-1]
        assert (entry.action, entry.actor, entry.why) == ("cluster.rebuild", "token/root", "its disk burnt")
        assert entry.after["new_origin"] == "eu-west~2"

    @pytest.mark.parametrize(
        ("who", "path", "body", "status", "code"),
        [
            ("alice", REBUILD, BURNT, 403, "permission_denied"),
            ("root", REBUILD, {"change_ticket": "CHG-7"}, 400, "invalid_argument"),
            ("root", "/control/clusters/us-east/rebuild", BURNT, 409, "log_not_lost"),
            ("root", "/control/clusters/mars/rebuild", BURNT, 404, "not_found"),
        ],
    )
    async def test_fm35_a_rebuild_that_is_refused(self, mesh, who, path, body, status, code):
        await self.lose(mesh)
        refused = await mesh.call(who, "POST", path, json=body)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert mesh.view.rebuilds == {}


class TestReseed:
    PATH = "/control/clusters/ap-south/reseed"

    async def test_fm25_a_reseed_is_asked_for_by_an_admin_and_audited(self, mesh):
        refused = await mesh.call("root", "POST", self.PATH, json=BURNT)
        assert (refused.status_code, refused.json()["code"]) == (409, "nothing_to_reseed")
        await mesh.report("ap-south", deleted=("us-east",))
        refused = await mesh.call("alice", "POST", self.PATH, json=BURNT)
        assert (refused.status_code, mesh.view.reseeds) == (403, {})
        dry = await mesh.call("root", "POST", self.PATH, params={"dry_run": True}, json=BURNT)
        assert (dry.status_code, mesh.view.reseeds) == (202, {})
        answer = await mesh.call("root", "POST", self.PATH, json=BURNT)
        assert answer.json()["origins"] == ["us-east"]
        assert (await mesh.call("root", "POST", self.PATH, json=BURNT)).json() == answer.json()
        entry = (await mesh.auditor.entries(0, 100))[-1]
        assert (entry.action, entry.actor, entry.why) == ("cluster.reseed", "token/root", "its disk burnt")
