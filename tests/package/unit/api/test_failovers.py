"""A planned failover through the API, step by step, as a driver and an approver see it."""

import pytest
from tests.package.unit.api.mesh import PLAN, Agents, background

from omnirelay.failover.approvals import ApprovalPolicy
from omnirelay.failover.record import State

STEPS = ("preflight", "drain", "promote", "verify", "complete")


class TestPlan:
    async def test_a_plan_shows_everything_that_is_approved(self, mesh):
        plan = await mesh.planned()
        assert plan["state"] == "awaiting_approval"
        assert plan["namespaces"] == ["default", "orders"]
        assert plan["source"] == "us-east"
        assert plan["expected_epochs"] == {"default": 1, "orders": 1}
        assert {check["status"] for check in plan["checks"]} == {"pass"}
        assert [step["name"] for step in plan["plan"]["steps"]] == list(STEPS)
        assert plan["plan"]["routing"][0]["epoch_after"] == 2
        assert plan["next"] == ["approve", "deny", "abort"]
        assert plan["measured_outage_seconds"] is None
        assert plan["requested_by"] == "token/alice"

    async def test_the_same_request_finds_the_open_plan(self, mesh):
        plan = await mesh.planned()
        again = await mesh.call("alice", "POST", "/control/failovers", json=PLAN)
        assert (again.status_code, again.json()["id"]) == (200, plan["id"])

    async def test_the_same_request_by_another_person_is_another_plan(self, mesh):
        plan = await mesh.planned()
        other = await mesh.call("root", "POST", "/control/failovers", json=PLAN)
        assert other.status_code == 201
        assert other.json()["id"] != plan["id"]

    @pytest.mark.parametrize("namespaces", [[], ["default", "orders"], ["orders", "default"]])
    async def test_a_driver_that_died_finds_its_failover_also_after_promotion(self, mesh, agents, namespaces):
        failover_id = await mesh.approved(namespaces=namespaces)
        await mesh.step(failover_id, "drain")
        await mesh.step(failover_id, "promote")
        again = await mesh.call("alice", "POST", "/control/failovers", json={**PLAN, "namespaces": namespaces})
        assert (again.status_code, again.json().get("id")) == (200, failover_id)

    async def test_a_plan_whose_epochs_have_passed_is_not_found_again(self, mesh, agents):
        stale = await mesh.planned(reason="first", namespaces=["default"])
        for target, reason in (("eu-west", "there"), ("us-east", "and back")):
            moving = await mesh.approved(target=target, reason=reason, namespaces=["default"])
            for step in STEPS:
                assert (await mesh.step(moving, step)).status_code == 200
            await mesh.claim("default", target)
        again = await mesh.planned(reason="first", namespaces=["default"])
        assert again["id"] != stale["id"]
        assert again["expected_epochs"] == {"default": 3}

    async def test_a_dry_run_stores_nothing(self, mesh):
        answer = await mesh.call("alice", "POST", "/control/failovers", json={**PLAN, "dry_run": True})
        assert (answer.status_code, answer.json()["id"]) == (200, "")
        assert (await mesh.call("reader", "GET", "/control/failovers")).json() == {"failovers": []}

    async def test_a_failed_check_refuses_the_plan_and_shows_all_checks(self, mesh):
        await mesh.report("eu-west", problems=("disk full",))
        answer = await mesh.call("alice", "POST", "/control/failovers", json=PLAN)
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (409, "preflight_failed")
        assert "disk full" in problem["detail"]
        failed = [check["id"] for check in problem["details"]["checks"] if check["status"] == "fail"]
        assert failed == ["target_alive"]
        assert (await mesh.call("reader", "GET", "/control/failovers")).json() == {"failovers": []}

    async def test_a_cluster_that_stopped_reporting_is_no_target(self, mesh):
        mesh.clock.added += 5
        for cluster in ("us-east", "ap-south"):
            await mesh.report(cluster)
        answer = await mesh.call("alice", "POST", "/control/failovers", json=PLAN)
        assert answer.json()["code"] == "preflight_failed"
        assert "eu-west reported 5" in answer.json()["detail"]

    @pytest.mark.parametrize(
        ("changes", "status", "code"),
        [
            ({"mode": "emergency"}, 409, "preflight_failed"),
            ({"target": "mars"}, 404, "not_found"),
            ({"target": "us-east"}, 400, "invalid_argument"),
            ({"namespaces": ["payments"]}, 404, "unknown_namespace"),
            ({"change_ticket": ""}, 409, "preflight_failed"),
        ],
    )
    async def test_what_cannot_be_planned_is_refused(self, mesh, changes, status, code):
        answer = await mesh.call("alice", "POST", "/control/failovers", json={**PLAN, **changes})
        assert (answer.status_code, answer.json()["code"]) == (status, code)


class TestApproval:
    async def decide(self, mesh, name, plan, decision="approve", query=None, **changes):
        body = {"decision": decision, "plan_hash": plan["plan"]["hash"], **changes}
        return await mesh.call(name, "POST", f"/control/failovers/{plan['id']}/approvals", json=body, params=query)

    @pytest.mark.parametrize("decision", ["approve", "deny"])
    async def test_a_dry_run_answers_the_decision_and_records_none(self, mesh, decision):
        plan = await mesh.planned()
        predicted = (await self.decide(mesh, "bob", plan, decision, {"dry_run": True})).json()
        assert (await mesh.call("reader", "GET", f"/control/failovers/{plan['id']}")).json() == plan
        real = (await self.decide(mesh, "bob", plan, decision)).json()
        for answer in (predicted, real):
            assert answer["approvals"][0].pop("at")
        assert predicted == real

    async def test_a_dry_run_is_refused_what_the_decision_would_be(self, mesh):
        plan = (await mesh.call("root", "POST", "/control/failovers", json=PLAN)).json()
        refused = await self.decide(mesh, "root", plan, query={"dry_run": True})
        assert (refused.status_code, refused.json()["code"]) == (403, "self_approval")

    async def test_the_requester_cannot_approve_even_as_admin(self, mesh):
        answer = await mesh.call("root", "POST", "/control/failovers", json=PLAN)
        refused = await self.decide(mesh, "root", answer.json())
        assert (refused.status_code, refused.json()["code"]) == (403, "self_approval")

    async def test_an_approval_is_bound_to_the_plan(self, mesh):
        refused = await self.decide(mesh, "bob", await mesh.planned(), plan_hash="sha256:other")
        assert (refused.status_code, refused.json()["code"]) == (409, "plan_hash_mismatch")

    async def test_nobody_can_ask_for_a_failover_that_nobody_approves(self, mesh):
        asked = {**PLAN, "limits": {"approvals_required": 0}}
        refused = await mesh.call("root", "POST", "/control/failovers", json=asked)
        assert (refused.status_code, refused.json()["code"]) == (409, "approvals_below_floor")
        assert "at least 1 (limits.approvals_required)" in refused.json()["hint"]
        assert mesh.view.failovers == {}

    async def test_fewer_approvals_than_configured_cannot_be_asked_for_and_more_can(self, mesh):
        mesh.failovers.policy = ApprovalPolicy(planned=2)
        asked = {**PLAN, "limits": {"approvals_required": 1}}
        refused = await mesh.call("alice", "POST", "/control/failovers", json=asked)
        assert (refused.status_code, refused.json()["details"]) == (409, {"asked": 1, "required": 2})
        assert (await mesh.planned())["approvals_required"] == 2, "what is not said is what is configured"
        assert (await mesh.planned(limits={"approvals_required": 3}))["approvals_required"] == 3

    async def test_a_plan_with_fewer_approvals_than_configured_here_is_not_carried_out_here(self, mesh):
        failover_id = await mesh.approved()
        mesh.failovers.policy = ApprovalPolicy(planned=2)
        refused = await mesh.step(failover_id, "drain")
        assert (refused.status_code, refused.json()["code"]) == (409, "approvals_below_floor")
        assert await mesh.state(failover_id) is State.APPROVED

    async def test_without_a_floor_whoever_operates_may_do_it_alone(self, mesh):
        mesh.failovers.policy = ApprovalPolicy(planned=0)
        assert (await mesh.planned())["state"] == "approved"

    async def test_two_of_two(self, mesh):
        plan = await mesh.planned(limits={"approvals_required": 2})
        one = (await self.decide(mesh, "bob", plan, comment="go", via="awx")).json()
        assert (one["state"], one["approved"]) == ("awaiting_approval", False)
        twice = (await self.decide(mesh, "bob", plan)).json()
        assert twice["state"] == "awaiting_approval"
        two = (await self.decide(mesh, "carol", plan)).json()
        assert (two["state"], two["approved"]) == ("approved", True)
        listed = (await mesh.call("reader", "GET", f"/control/failovers/{plan['id']}/approvals")).json()
        assert listed["required"] == 2
        assert [(a["principal"], a["via"]) for a in listed["approvals"]] == [
            ("token/bob", "awx"),
            ("token/carol", "api"),
        ]

    async def test_an_expired_plan_takes_no_approval(self, mesh):
        plan = await mesh.planned(limits={"plan_valid_seconds": 60})
        mesh.clock.added += 61
        refused = await self.decide(mesh, "bob", plan)
        assert (refused.status_code, refused.json()["code"]) == (409, "plan_expired")

    async def test_without_approval_there_is_no_drain(self, mesh):
        plan = await mesh.planned()
        refused = await mesh.step(plan["id"], "drain")
        assert (refused.status_code, refused.json()["code"]) == (409, "not_approved")

    async def test_a_denial_ends_it(self, mesh):
        plan = await mesh.planned()
        assert (await self.decide(mesh, "bob", plan, "deny", comment="freeze")).json()["state"] == "denied"
        refused = await mesh.step(plan["id"], "drain")
        assert refused.json()["code"] == "approval_denied"


class TestSteps:
    async def test_all_the_way_and_each_step_twice(self, mesh, agents):
        failover_id = await mesh.approved()
        reached = dict(zip(STEPS, ("approved", "drained", "promoted", "verified", "completed"), strict=True))
        for step, state in reached.items():
            for _ in range(2):
                answer = await mesh.step(failover_id, step)
                assert (answer.status_code, answer.json()["state"]) == (200, state), step
        routing = (await mesh.call("reader", "GET", "/control/routing")).json()
        assert {name: (r["active"], r["epoch"]) for name, r in routing["namespaces"].items()} == {
            "default": ("eu-west", 2),
            "orders": ("eu-west", 2),
        }
        assert routing["namespaces"]["default"]["history"][-1]["cut"] == {"epoch": 1, "sequence": 40}
        assert mesh.view.locks == {}

    async def test_fm29_a_dry_run_predicts_what_the_step_does_and_changes_nothing(self, mesh, agents):
        failover_id = await mesh.approved()
        for step in STEPS:
            before = await mesh.failovers.load(failover_id)
            predicted = await mesh.step(failover_id, step, dry_run=True)
            assert await mesh.failovers.load(failover_id) == before
            done = await mesh.step(failover_id, step)
            assert predicted.status_code == done.status_code == 200
            for field in ("state", "next", "routing_version", "problem"):
                assert predicted.json()[field] == done.json()[field], (step, field)

    async def test_a_dry_run_of_abort_too(self, mesh):
        failover_id = await mesh.approved()
        predicted = (await mesh.step(failover_id, "abort", dry_run=True)).json()
        done = (await mesh.step(failover_id, "abort")).json()
        assert (predicted["state"], predicted["next"]) == (done["state"], done["next"]) == ("aborted", [])

    @pytest.mark.parametrize("step", ["promote", "verify", "complete"])
    async def test_fm29_a_dry_run_refuses_what_the_step_refuses(self, mesh, step):
        failover_id = await mesh.approved()
        predicted, refused = await mesh.step(failover_id, step, dry_run=True), await mesh.step(failover_id, step)
        assert (predicted.status_code, predicted.json()["code"]) == (409, "illegal_transition")
        assert predicted.json()["detail"] == refused.json()["detail"]

    async def test_no_wait_answers_202_until_it_is_done(self, mesh):
        failover_id = await mesh.approved()
        pending = await mesh.step(failover_id, "drain", wait=0)
        assert (pending.status_code, pending.json()["state"]) == (202, "draining")
        async with background(Agents(mesh).run()):
            assert (await mesh.step(failover_id, "drain")).json()["state"] == "drained"

    async def test_promote_waits_until_every_namespace_is_open(self, mesh):
        failover_id = await mesh.approved()
        async with background(Agents(mesh, ("demote", "reach")).run()):
            await mesh.step(failover_id, "drain")
            pending = await mesh.step(failover_id, "promote", wait=0)
            assert (pending.status_code, pending.json()["state"]) == (202, "promoted")
        async with background(Agents(mesh).run()):
            assert (await mesh.step(failover_id, "promote")).status_code == 200

    async def test_preflight_answers_fresh_checks(self, mesh):
        failover_id = await mesh.approved()
        await mesh.report("eu-west", disk_free_bytes=10)
        await mesh.view.refresh()
        fresh = (await mesh.step(failover_id, "preflight")).json()["checks"]
        assert [check["id"] for check in fresh if check["status"] == "warn"] == ["disk_headroom"]

    async def test_an_abort_gives_its_reason_and_frees_the_namespaces(self, mesh):
        failover_id = await mesh.approved()
        await mesh.step(failover_id, "drain", wait=0)
        path = f"/control/failovers/{failover_id}/abort"
        aborted = (await mesh.call("alice", "POST", path, json={"reason": "not today"})).json()
        assert (aborted["state"], aborted["problem"], aborted["next"]) == ("aborted", "not today", [])
        assert mesh.view.locks == {}

    async def test_an_expired_plan_is_not_drained(self, mesh):
        failover_id = await mesh.approved(limits={"plan_valid_seconds": 60})
        mesh.clock.added += 61
        for cluster in ("us-east", "eu-west"):
            await mesh.report(cluster)
        refused = await mesh.step(failover_id, "drain")
        assert (refused.status_code, refused.json()["code"]) == (409, "plan_expired")

    async def test_unknown_failovers_and_steps(self, mesh):
        missing = await mesh.step("fo-404", "drain")
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
        unknown = await mesh.step(await mesh.approved(), "explode")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_path")

    @pytest.mark.parametrize("wait", ["-1", "61", "nan", "soon"])
    async def test_wait_is_bounded(self, mesh, wait):
        refused = await mesh.step("fo-1", "drain", wait=wait)
        assert (refused.status_code, refused.json()["details"]["path"]) == (400, "wait")


class TestReading:
    async def test_the_list_is_filtered_and_newest_first(self, mesh):
        aborted = await mesh.approved()
        await mesh.step(aborted, "abort")
        open_one = (await mesh.planned(reason="another"))["id"]

        async def ids(**query):
            answer = await mesh.call("reader", "GET", "/control/failovers", params=query)
            return [failover["id"] for failover in answer.json()["failovers"]]

        assert await ids() == [open_one, aborted]
        assert await ids(open="true") == [open_one]
        assert await ids(open="false") == [aborted]
        assert await ids(state="aborted") == [aborted]

    async def test_the_etag_moves_with_the_record(self, mesh):
        failover_id = (await mesh.planned())["id"]
        path = f"/control/failovers/{failover_id}"
        first = (await mesh.call("reader", "GET", path)).headers["ETag"]
        aborted = await mesh.step(failover_id, "abort")
        assert aborted.headers["ETag"] != first
        assert (await mesh.call("reader", "GET", path)).headers["ETag"] == aborted.headers["ETag"]

    async def test_the_report_tells_what_happened(self, mesh, agents):
        failover_id = await mesh.approved()
        for step in STEPS:
            await mesh.step(failover_id, step)
            mesh.clock.added += 1
        path = f"/control/failovers/{failover_id}/report"
        report = (await mesh.call("reader", "GET", path)).json()
        assert report["state"] == "completed"
        assert all(report["timings"].values())
        assert report["measured_outage_seconds"] == 1.0
        assert (report["measured_loss_records"], report["predicted_loss_records"]) == (0, 0)
        assert report["epochs"]["default"] == {"before": 1, "after": 2}
        assert report["digests"] == {"us-east": "ab" * 32}
        entries = (await mesh.call("reader", "GET", "/control/audit")).json()["entries"]
        about = [entry["number"] for entry in entries if entry["subject"] == f"failovers/{failover_id}"]
        assert report["audit"] == {"first": about[0], "last": about[-1]}

        text = await mesh.call("reader", "GET", path, headers={"Accept": "text/markdown"})
        assert text.headers["Content-Type"].startswith("text/markdown")
        assert f"# Failover {failover_id}" in text.text
        assert "| Outage | 1 s measured, 0.5 s predicted |" in text.text

    async def test_a_report_before_promotion_claims_nothing(self, mesh):
        failover_id = await mesh.approved(reason="a | b\n<script>")
        path = f"/control/failovers/{failover_id}/report"
        report = (await mesh.call("reader", "GET", path)).json()
        assert report["measured_outage_seconds"] is None
        assert report["measured_loss_records"] is None
        assert set(report["timings"].values()) == {None}
        text = (await mesh.call("reader", "GET", path, headers={"Accept": "text/markdown"})).text
        assert "| Reason | a \\| b &lt;script> |" in text
        assert "unknown measured" in text
