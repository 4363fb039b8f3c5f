"""An emergency and the way home through the API, as whoever decides on a bad day sees them."""

import pytest
from tests.package.unit.api.mesh import Agents, background

from omnirelay.failover.approvals import ApprovalPolicy

EMERGENCY = {
    "mode": "emergency",
    "target": "eu-west",
    "reason": "us-east is dark",
    "change_ticket": "INC-1",
    "accept_data_loss": 30,
}
STEPS = ("promote", "verify", "complete")


@pytest.fixture
async def disaster(mesh):
    await mesh.strike()
    return mesh


async def plan(mesh, name="alice", **changes):
    body = {key: value for key, value in {**EMERGENCY, **changes}.items() if value is not None}
    return await mesh.call(name, "POST", "/control/failovers", json=body)


async def planned(mesh, **changes):
    answer = await plan(mesh, **changes)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def completed(mesh, **changes):
    failover = await planned(mesh, **changes)
    async with background(Agents(mesh).run()):
        for step in STEPS:
            answer = await mesh.step(failover["id"], step)
            assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(mesh, **changes):
    answer = await plan(mesh, **changes)
    return answer.status_code, answer.json()


class TestPlan:
    async def test_fm07_the_plan_shows_evidence_and_predicted_loss(self, disaster):
        failover = await planned(disaster)
        assert failover["state"] == "approved", "the acceptance in writing is the approval"
        [prediction] = failover["plan"]["loss"]
        assert (prediction["held"], prediction["heard"], prediction["known_records"]) == (40, 43, 3)
        assert failover["plan"]["predicted_loss_records"] == 3 + prediction["unheard_records"]
        seen = {check["id"]: check["observed"] for check in failover["checks"]}
        assert seen["source_gone"] == "no report, no stream; its lease has ended"
        assert seen["loss_accepted"].startswith("3 records known")
        assert [step["name"] for step in failover["plan"]["steps"]] == [
            "gather",
            "fence",
            "promote",
            "verify",
            "complete",
        ]
        assert failover["next"] == ["deny", "promote", "abort"]

    @pytest.mark.parametrize("accepted", [None, 0, 12])
    async def test_a_loss_beyond_what_is_accepted_fails_one_check_and_says_what_would_do(self, disaster, accepted):
        status, problem = await refused(disaster, accept_data_loss=accepted)
        assert (status, problem["code"], problem["details"]["failed"]) == (409, "preflight_failed", "loss_accepted")
        [check] = [c for c in problem["details"]["checks"] if c["id"] == "loss_accepted"]
        needed = int(check["hint"].rpartition(" ")[2])
        assert needed > 12
        assert check["hint"].endswith(f"in writing: --accept-data-loss {needed}")
        assert (await plan(disaster, accept_data_loss=needed + 5)).status_code == 201

    async def test_a_living_source_is_no_emergency(self, mesh):
        status, problem = await refused(mesh, accept_data_loss=10**6)
        assert (status, problem["code"]) == (409, "preflight_failed")
        assert "source_gone" in problem["details"]["failed"]
        [check] = [c for c in problem["details"]["checks"] if c["id"] == "source_gone"]
        assert "eu-west receives from it" in check["observed"]
        assert "--break-glass" in check["hint"]

    async def test_a_second_approval_may_be_asked_for(self, disaster):
        failover = await planned(disaster, limits={"approvals_required": 1})
        assert failover["state"] == "awaiting_approval"
        answer = await disaster.step(failover["id"], "promote")
        assert answer.json()["code"] in ("not_approved", "illegal_transition")

    async def test_configured_approvals_hold_for_an_emergency_too_unless_the_glass_is_broken(self, disaster):
        disaster.failovers.policy = ApprovalPolicy(emergency=1)
        refused = await plan(disaster, limits={"approvals_required": 0})
        assert (refused.status_code, refused.json()["code"]) == (409, "approvals_below_floor")
        assert (await planned(disaster))["approvals_required"] == 1
        glass = await plan(disaster, "root", break_glass=True, accept_data_loss=None)
        assert (glass.json()["state"], glass.json()["approvals_required"]) == ("approved", 0)

    async def test_the_same_request_finds_the_open_plan_also_after_the_promotion(self, disaster):
        first = await completed(disaster, namespaces=["default"])
        assert first["state"] == "completed"
        failover = await planned(disaster, namespaces=["orders"])
        again = await plan(disaster, namespaces=["orders"])
        assert (again.status_code, again.json()["id"]) == (200, failover["id"])

    async def test_a_dry_run_takes_the_same_checks_and_stores_nothing(self, disaster):
        answer = await plan(disaster, dry_run=True)
        assert (answer.status_code, answer.json()["id"]) == (200, "")
        assert answer.json()["plan"]["loss"]
        status, problem = await refused(disaster, dry_run=True, accept_data_loss=0)
        assert (status, problem["details"]["failed"]) == (409, "loss_accepted")
        assert (await disaster.call("reader", "GET", "/control/failovers")).json() == {"failovers": []}


class TestBreakGlass:
    async def test_it_needs_the_admin_s_scope(self, disaster):
        status, problem = await refused(disaster, break_glass=True)
        assert (status, problem["code"]) == (403, "permission_denied")

    @pytest.mark.parametrize("reason", ["", "  "])
    async def test_it_needs_a_reason(self, disaster, reason):
        answer = await plan(disaster, "root", break_glass=True, reason=reason)
        assert (answer.status_code, answer.json()["details"]["path"]) == (400, "reason")

    async def test_it_overrides_the_acceptance_and_a_living_source_and_is_on_record(self, mesh):
        answer = await plan(mesh, "root", break_glass=True, accept_data_loss=None)
        assert answer.status_code == 201, answer.text
        assert answer.json()["break_glass"]
        statuses = {check["id"]: check["status"] for check in answer.json()["checks"]}
        assert (statuses["source_gone"], statuses["loss_accepted"]) == ("warn", "pass")
        entries = (await mesh.call("reader", "GET", "/control/audit")).json()["entries"]
        assert (entries[-1]["actor"], entries[-1]["why"]) == ("token/root", "us-east is dark")

    async def test_a_refusal_of_it_is_on_record_too(self, disaster):
        await plan(disaster, break_glass=True)
        entries = (await disaster.call("reader", "GET", "/control/audit")).json()["entries"]
        assert (entries[-1]["action"], entries[-1]["outcome"]) == ("failover.plan", "refused")


class TestDriving:
    async def test_one_call_promotes(self, disaster):
        failover = await completed(disaster)
        assert failover["cuts"] == {name: {"epoch": 1, "sequence": 40} for name in ("default", "orders")}
        routing = (await disaster.call("reader", "GET", "/control/routing")).json()["namespaces"]
        assert (routing["default"]["active"], routing["default"]["epoch"]) == ("eu-west", 2)
        assert routing["default"]["history"][-1]["cut"] == {"epoch": 1, "sequence": 40}

    async def test_a_dry_run_predicts_what_the_step_does_and_changes_nothing(self, disaster):
        failover = await planned(disaster)
        async with background(Agents(disaster).run()):
            for step in STEPS:
                before = await disaster.failovers.load(failover["id"])
                predicted = await disaster.step(failover["id"], step, dry_run=True)
                assert await disaster.failovers.load(failover["id"]) == before
                done = await disaster.step(failover["id"], step)
                assert (predicted.status_code, done.status_code) == (200, 200)
                assert predicted.json()["state"] == done.json()["state"], step
                assert predicted.json()["next"] == done.json()["next"], step

    @pytest.mark.parametrize("dry_run", [True, False])
    async def test_a_loss_that_grew_since_the_plan_is_refused_when_it_starts(self, disaster, dry_run):
        failover = await planned(disaster)
        await disaster.report("ap-south", vector={"us-east": 1000}, peers=disaster.view.reports["ap-south"].peers)
        await disaster.report("eu-west", vector={"us-east": 40}, peers=disaster.view.reports["eu-west"].peers)
        ahead = disaster.view.reports["eu-west"].peers["us-east"]
        peers = {**disaster.view.reports["eu-west"].peers, "us-east": type(ahead)(heard=5000, heard_bytes=1)}
        await disaster.report("eu-west", peers=peers)
        answer = await disaster.step(failover["id"], "promote", dry_run=dry_run)
        assert (answer.status_code, answer.json()["code"]) == (409, "loss_not_accepted")
        assert answer.json()["hint"].endswith(str(answer.json()["details"]["predicted_loss_records"]))

    @pytest.mark.parametrize("step", ["drain"])
    async def test_the_planned_machine_s_steps_are_not_its_own(self, disaster, step):
        answer = await disaster.step((await planned(disaster))["id"], step)
        assert (answer.status_code, answer.json()["code"]) == (409, "illegal_transition")

    async def test_an_abort_before_the_promotion_frees_the_namespaces(self, disaster):
        failover = await planned(disaster)
        assert (await disaster.step(failover["id"], "promote", wait=0)).status_code == 202
        assert set(disaster.view.locks) == {"default", "orders"}
        aborted = (await disaster.step(failover["id"], "abort")).json()
        assert (aborted["state"], aborted["next"], disaster.view.locks) == ("aborted", [], {})


class TestReport:
    async def test_it_carries_the_manifest_the_acceptance_and_the_emergency_s_own_moments(self, disaster):
        failover = await completed(disaster)
        path = f"/control/failovers/{failover['id']}/report"
        report = (await disaster.call("reader", "GET", path)).json()
        assert (report["accept_data_loss"], report["break_glass"]) == (30, False)
        assert [(r["namespace"], r["first"], r["last"], r["exact"], r["grade"]) for r in report["manifest"]] == [
            ("default", 41, 43, False, "presumed_lost"),
            ("orders", 41, 43, False, "presumed_lost"),
        ]
        assert report["measured_loss_records"] == 3, "the namespaces share the log: no record is lost twice"
        assert report["predicted_loss"][0]["origin"] == "us-east"
        assert set(report["timings"]) == {
            "gather_started_at",
            "gathered_at",
            "fenced_at",
            "promoted_at",
            "write_opened_at",
            "verified_at",
            "completed_at",
        }
        assert all(report["timings"].values())
        assert (report["measured_outage_seconds"], report["outage_basis"]) == (5.0, "source_last_heard")

    async def test_as_markdown(self, disaster):
        failover = await completed(disaster)
        path = f"/control/failovers/{failover['id']}/report"
        text = (await disaster.call("reader", "GET", path, headers={"Accept": "text/markdown"})).text
        assert "Emergency, us-east → eu-west." in text
        assert "| Outage | 5 s measured at the most, since the source was last heard of" in text
        assert "## Loss manifest" in text
        assert "| default | us-east | 1 | 41 to 43 | 3 | presumed_lost | no |" in text

    async def test_before_the_promotion_nothing_is_claimed(self, disaster):
        failover = await planned(disaster)
        report = (await disaster.call("reader", "GET", f"/control/failovers/{failover['id']}/report")).json()
        assert (report["manifest"], report["measured_loss_records"]) == ([], None)
        assert set(report["timings"].values()) == {None}

    async def test_a_planned_failover_has_no_manifest(self, mesh):
        failover = await mesh.planned()
        path = f"/control/failovers/{failover['id']}/report"
        assert (await mesh.call("reader", "GET", path)).json()["manifest"] == []
        text = (await mesh.call("reader", "GET", path, headers={"Accept": "text/markdown"})).text
        assert "Loss manifest" not in text


class TestFailback:
    @pytest.fixture
    async def moved(self, disaster):
        """us-east is back, passive and level."""
        failover = await completed(disaster)
        level = {"vector": {"us-east": 40, "eu-west": 2}, "digests": {}}
        for name in ("us-east", "eu-west", "ap-south"):
            await disaster.report(name, **level)
        for namespace in ("default", "orders"):
            await disaster.claim(namespace, "eu-west")
        await disaster.view.refresh()
        return disaster, failover["id"]

    async def home(self, mesh, reverses, **changes):
        body = {"mode": "failback", "reverses": reverses, "reason": "home", "change_ticket": "CHG-2", **changes}
        return await mesh.call("alice", "POST", "/control/failovers", json=body)

    async def test_it_goes_to_the_source_of_what_it_reverses_with_the_same_namespaces(self, moved):
        mesh, reverses = moved
        answer = await self.home(mesh, reverses)
        assert answer.status_code == 201, answer.text
        plan = answer.json()
        assert (plan["source"], plan["target"], plan["namespaces"]) == ("eu-west", "us-east", ["default", "orders"])
        assert (plan["reverses"], plan["state"]) == (reverses, "awaiting_approval")
        assert {"tail_received", "divergence_resolved"} <= {check["id"] for check in plan["checks"]}

    async def test_fm02_the_same_request_finds_it_again(self, moved):
        mesh, reverses = moved
        first = (await self.home(mesh, reverses)).json()
        again = await self.home(mesh, reverses)
        assert (again.status_code, again.json()["id"]) == (200, first["id"])

    async def test_a_dry_run_stores_nothing(self, moved):
        mesh, reverses = moved
        answer = await self.home(mesh, reverses, dry_run=True)
        assert (answer.status_code, answer.json()["id"]) == (200, "")
        known = (await mesh.call("reader", "GET", "/control/failovers")).json()["failovers"]
        assert [failover["id"] for failover in known] == [reverses]

    async def test_fm23_what_diverged_and_is_open_stops_it(self, moved):
        mesh, reverses = moved
        await mesh.report("eu-west", vector={"us-east": 40, "eu-west": 2}, digests={}, diverged={"default": 3})
        problem = (await self.home(mesh, reverses)).json()
        assert (problem["code"], problem["details"]["failed"]) == ("preflight_failed", "divergence_resolved")
        assert "3 records of default" in problem["detail"]

    async def test_fm24_a_tail_that_has_not_arrived_stops_it(self, moved):
        mesh, reverses = moved
        await mesh.report("us-east", vector={"us-east": 55, "eu-west": 2}, digests={})
        problem = (await self.home(mesh, reverses)).json()
        assert "tail_received" in problem["details"]["failed"]
        assert "40 of 55" in problem["detail"]

    async def test_another_target_is_refused_rather_than_ignored(self, moved):
        mesh, reverses = moved
        answer = await self.home(mesh, reverses, target="ap-south")
        assert (answer.status_code, answer.json()["details"]["path"]) == (400, "target")
        assert "us-east" in answer.json()["detail"]

    async def test_what_is_not_complete_is_not_reversed_and_the_right_command_is_named(self, disaster):
        failover = await planned(disaster)
        answer = await self.home(disaster, failover["id"])
        assert (answer.status_code, answer.json()["code"]) == (409, "failback_refused")
        assert f"omnirelay mesh failovers resume {failover['id']}" in answer.json()["hint"]

    async def test_nor_what_was_aborted_which_nobody_can_resume(self, disaster):
        failover = await planned(disaster)
        await disaster.step(failover["id"], "abort")
        answer = await self.home(disaster, failover["id"])
        assert answer.json()["code"] == "failback_refused"
        assert "resume" not in answer.json()["hint"]

    async def test_what_does_not_exist_is_not_reversed(self, mesh):
        answer = await self.home(mesh, "fo-404")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
