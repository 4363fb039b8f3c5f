# Copyright (c) The OmniRelay Mesh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os

from unittest import mock

import pytest
from ansible_collections.omnirelay.mesh.plugins.module_utils import _client
from ansible_collections.omnirelay.mesh.plugins.module_utils._client import Answer
from ansible_collections.omnirelay.mesh.plugins.module_utils._errors import MeshApiError
from ansible_collections.omnirelay.mesh.plugins.modules import divergence as divergence_module
from ansible_collections.omnirelay.mesh.plugins.modules import failover_step
from ansible_collections.omnirelay.mesh.tests.unit.plugins.fake_control_api import Problem, audit_entry, check


def error_of(result):
    assert result["failed"] and not result["changed"]
    assert set(result["error"]) == {"code", "message", "hint", "http_status", "retryable", "details", "request_id"}
    return result["error"]["code"]


def mutations(mesh):
    made = [call for call in mesh.calls if call[0] != "GET" and not call[2].get("dry_run") and not (call[3] or {}).get("dry_run")]
    return [(path, query) for method, path, query, body in made]


class TestInfo:
    def test_clusters_of_all_pages(self, run_module):
        result = run_module("cluster_info")
        assert [cluster["cluster_id"] for cluster in result["clusters"]] == ["us-east", "eu-west", "ap-south"]
        assert result["coordination"] == {"reachable": True}

    def test_filters_go_to_the_control_plane(self, run_module, mesh):
        assert [item["cluster_id"] for item in run_module("cluster_info", state="active")["clusters"]] == ["us-east"]
        assert mesh.calls[0][2] == {"state": "active"}

    def test_cluster_that_does_not_exist_is_an_empty_list(self, run_module):
        assert run_module("cluster_info", cluster_id="mars")["clusters"] == []

    def test_replication_of_all_and_of_some(self, run_module):
        assert [item["cluster_id"] for item in run_module("replication_info")["replication"]] == ["us-east", "eu-west", "ap-south"]
        assert [item["cluster_id"] for item in run_module("replication_info", cluster_id=["eu-west"])["replication"]] == ["eu-west"]
        assert error_of(run_module("replication_info", cluster_id=["mars"])) == "not_found"

    def test_failovers(self, run_module, plan):
        run_module("failover", state="absent", failover_id=plan["id"])
        assert [item["id"] for item in run_module("failover_info")["failovers"]] == [plan["id"]]
        assert run_module("failover_info", open=True)["failovers"] == []
        assert run_module("failover_info", failover_id=plan["id"])["failovers"][0]["state"] == "aborted"
        assert run_module("failover_info", failover_id="fo-99")["failovers"] == []

    def test_routing_of_all_and_of_one(self, run_module, mesh):
        mesh.owners["orders"] = "eu-west"
        result = run_module("routing_info")
        assert {name: route["active"] for name, route in result["namespaces"].items()} == {"default": "us-east", "orders": "eu-west"}
        assert (result["version"], result["coordination"]) == (1, {"reachable": True})
        assert list(run_module("routing_info", namespace="orders")["namespaces"]) == ["orders"]

    def test_namespace_that_does_not_exist_is_an_empty_answer(self, run_module, mesh):
        result = run_module("routing_info", namespace="mars")
        assert (result["namespaces"], result["version"], result["coordination"]) == ({}, None, None)
        mesh.refuse("/control/routing", Problem(404, "not_found", "There is no such path."))
        assert error_of(run_module("routing_info", namespace="mars")) == "not_found", "only the namespace may be missing"


class TestAudit:
    def numbers(self, result):
        return [entry["number"] for entry in result["entries"]]

    def test_all_pages_up_to_the_head(self, run_module, mesh):
        result = run_module("audit_info")
        assert (self.numbers(result), result["next_after"]) == ([1, 2, 3, 4, 5], None)
        assert result["head"] == dict(number=5, digest="%064d" % 5)
        assert self.numbers(run_module("audit_info", after=3)) == [4, 5]
        assert self.numbers(run_module("audit_info", after=5)) == []

    def test_reading_on_gives_every_entry_once(self, run_module):
        seen, after = [], 0
        while after is not None:
            result = run_module("audit_info", after=after, limit=2, subject="clusters/us-east")
            seen += self.numbers(result)
            after = result["next_after"]
        assert seen == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize(
        "wanted, numbers",
        [
            (dict(actor="spiffe://mesh.test/operator/bob"), [2, 4]),
            (dict(action="failover.plan"), [4, 5]),
            (dict(action="failover.plan", outcome="refused"), [5]),
            (dict(change_ticket="CHG-3"), [3]),
            (dict(subject="clusters/mars"), []),
        ],
    )
    def test_filters(self, run_module, mesh, wanted, numbers):
        result = run_module("audit_info", **wanted)
        assert (self.numbers(result), result["next_after"]) == (numbers, None)
        assert all(wanted.items() <= call[2].items() for call in mesh.calls), "the control plane filters"

    def test_chain_that_grows_while_it_is_read_ends_the_reading(self, run_module, mesh):
        answer = mesh._audit

        def growing(query):
            mesh.audit.append(audit_entry(len(mesh.audit) + 1))
            return answer(query)

        mesh._audit, mesh.audit_page = growing, 4
        result = run_module("audit_info")
        assert self.numbers(result) == [1, 2, 3, 4, 5, 6]
        assert result["next_after"] == 6, "there are more by now"

    @pytest.mark.parametrize("options", [dict(after=-1), dict(limit=0)])
    def test_numbers_that_mean_nothing(self, run_module, mesh, options):
        assert error_of(run_module("audit_info", **options)) == "invalid_argument" and not mesh.calls


MARS = dict(
    cluster_id="mars",
    region="sol-4",
    endpoints=dict(grpc="mars.test:7443", control="https://mars.test:8443"),
    owners=["sre@example.net"],
    change_ticket="CHG-9",
)
EU_WEST = dict(cluster_id="eu-west", owners=["sre@example.net"], change_ticket="CHG-9")
GONE = dict(cluster_id="ap-south", state="absent", change_ticket="CHG-9")


class TestCluster:
    @pytest.mark.parametrize(
        "options, expected",
        [
            (MARS, dict(region="sol-4", state="passive", change_ticket="CHG-9")),
            (dict(MARS, namespaces=["orders"]), dict(state="active", namespaces=[dict(namespace="orders", epoch=1)])),
            (dict(EU_WEST, maintenance=True), dict(state="maintenance", priority=100, change_ticket="CHG-9")),
            (dict(EU_WEST, annotations=dict(rack="7")), dict(annotations=dict(rack="7"), region="eu-west-1")),
            (dict(EU_WEST, namespaces=["orders"]), dict(state="active", namespaces=[dict(namespace="orders", epoch=1)])),
            (dict(EU_WEST, priority=5, namespaces=["orders"]), dict(state="active", priority=5)),
            (dict(EU_WEST, maintenance=True, namespaces=["orders"]), dict(state="maintenance")),
        ],
    )
    def test_check_then_made_then_unchanged(self, run_module, mesh, options, expected):
        predicted = run_module("cluster", check=True, diff=True, **options)
        assert not mutations(mesh)
        real = run_module("cluster", diff=True, **options)
        assert real["changed"] and {name: real["cluster"][name] for name in expected} == expected
        assert (predicted["changed"], predicted["diff"], predicted["cluster"]) == (True, real["diff"], real["cluster"])
        made = mutations(mesh)
        for in_check_mode in (True, False):
            again = run_module("cluster", check=in_check_mode, diff=True, **options)
            assert not again["changed"] and again["cluster"] == real["cluster"] and again["etag"] == real["etag"]
        assert mutations(mesh) == made

    def test_removed_once(self, run_module, mesh):
        predicted = run_module("cluster", check=True, diff=True, **GONE)
        assert "ap-south" in mesh.descriptors
        real = run_module("cluster", diff=True, **GONE)
        assert (predicted["changed"], predicted["diff"]) == (True, real["diff"]) and real["diff"]["after"] == {}
        assert "ap-south" not in mesh.descriptors and real["cluster"] is None and real["etag"] is None
        assert mutations(mesh) == [("/control/clusters/ap-south", {"change_ticket": "CHG-9"})]
        for in_check_mode in (True, False):
            assert not run_module("cluster", check=in_check_mode, **GONE)["changed"]

    def test_what_is_not_given_stays(self, run_module, mesh):
        run_module("cluster", **dict(EU_WEST, priority=7))
        assert run_module("cluster", **dict(EU_WEST, maintenance=True))["cluster"]["priority"] == 7
        assert mesh.calls[-1][3] == dict(owners=["sre@example.net"], change_ticket="CHG-9", maintenance=True)

    def test_another_ticket_alone_is_no_change(self, run_module, mesh):
        assert not run_module("cluster", **EU_WEST)["changed"] and not mutations(mesh)

    @pytest.mark.parametrize("missing", ["owners", "change_ticket"])
    def test_nobody_changes_anything_without_owner_and_ticket(self, run_module, mesh, missing):
        assert missing in run_module("cluster", **dict(MARS, **{missing: None}))["msg"] and not mesh.calls
        assert "change_ticket" in run_module("cluster", **dict(GONE, change_ticket=None))["msg"] and not mesh.calls

    @pytest.mark.parametrize("in_check_mode", [False, True])
    @pytest.mark.parametrize("options", [dict(EU_WEST, priority=7), dict(GONE)])
    def test_what_changed_since_it_was_read_is_not_overwritten(self, run_module, mesh, options, in_check_mode):
        etag = run_module("cluster", **dict(EU_WEST, cluster_id=options["cluster_id"]))["etag"]
        mesh.revisions[options["cluster_id"]] += 1
        result = run_module("cluster", check=in_check_mode, etag=etag, **options)
        assert error_of(result) == "etag_mismatch" and '"2"' in result["msg"] and not mutations(mesh)
        assert run_module("cluster", check=in_check_mode, etag='"2"', **options)["changed"]

    @pytest.mark.parametrize("in_check_mode", [False, True])
    def test_cluster_that_should_be_there_is_not_made(self, run_module, mesh, in_check_mode):
        assert error_of(run_module("cluster", check=in_check_mode, etag='"1"', **MARS)) == "not_found" and not mutations(mesh)

    def test_change_that_comes_in_between_is_read_and_kept(self, run_module, mesh):
        answer = mesh._change_clusters

        def beaten(*arguments):
            mesh._change_clusters = answer
            mesh.descriptors["eu-west"], mesh.revisions["eu-west"] = dict(annotations=dict(rack="7")), 2
            return answer(*arguments)

        mesh._change_clusters = beaten
        result = run_module("cluster", diff=True, **dict(EU_WEST, priority=7))
        assert (result["cluster"]["priority"], result["cluster"]["annotations"]) == (7, dict(rack="7"))

    def test_somebody_who_is_always_faster_is_an_error(self, run_module, mesh):
        mesh._etag = lambda name: '"%d"' % len(mesh.calls)
        assert error_of(run_module("cluster", **dict(EU_WEST, priority=7))) == "etag_mismatch"

    def test_removal_whose_answer_was_lost_has_happened(self, run_module, mesh):
        answer = mesh._change_clusters

        def lost(*arguments):
            mesh._change_clusters = answer
            answer(*arguments)
            raise Problem(503, "shutting_down", "It stops.", retryable=True)

        mesh._change_clusters = lost
        assert run_module("cluster", **dict(GONE, retries=1))["changed"]

    @pytest.mark.parametrize("in_check_mode", [False, True])
    @pytest.mark.parametrize(
        "options, code",
        [
            (dict(GONE, cluster_id="us-east"), "cluster_in_use"),
            (dict(MARS, namespaces=["default"]), "conflict"),
            (dict(EU_WEST, namespaces=["default"]), "conflict"),
        ],
    )
    def test_refusals_are_those_of_the_control_plane(self, run_module, mesh, options, code, in_check_mode):
        before = dict(mesh.descriptors)
        assert error_of(run_module("cluster", check=in_check_mode, **options)) == code
        assert mesh.descriptors == before

    def test_change_is_refused_to_strangers(self, run_module, mesh):
        assert error_of(run_module("cluster", token="guessed", **dict(EU_WEST, priority=7))) == "unauthenticated"


class TestFailover:
    def test_plan_is_made_once(self, run_module):
        first = run_module("failover", target="eu-west", limits=dict(approvals_required=2), diff=True)
        assert first["changed"] and first["failover"]["approvals_required"] == 2
        assert first["diff"]["after"]["routing_when_promoted"] == ["default: us-east (epoch 1) -> eu-west (epoch 2)"]
        second = run_module("failover", target="eu-west", limits=dict(approvals_required=2), diff=True)
        assert not second["changed"] and not second["diff"]
        assert second["failover"]["id"] == first["failover"]["id"]

    def test_check_mode_says_what_comes_and_stores_nothing(self, run_module, mesh):
        predicted = run_module("failover", target="eu-west", check=True, diff=True)
        assert not mesh.failovers and predicted["failover"]["id"] == ""
        real = run_module("failover", target="eu-west", diff=True)
        assert (predicted["changed"], predicted["diff"]) == (real["changed"], real["diff"])
        again = run_module("failover", target="eu-west", check=True)
        assert not again["changed"] and again["failover"]["id"] == real["failover"]["id"]

    @pytest.mark.parametrize("in_check_mode", [True, False])
    def test_same_plan_of_somebody_else_is_not_the_callers(self, run_module, in_check_mode):
        """Check mode found the other's, and said that nothing would change."""
        theirs = run_module("failover", target="eu-west", token="bob-token")
        result = run_module("failover", target="eu-west", check=in_check_mode)
        assert result["changed"] and result["failover"]["id"] != theirs["failover"]["id"]
        assert result["failover"]["requested_by"] != theirs["failover"]["requested_by"]

    @pytest.mark.parametrize("in_check_mode", [False, True])
    def test_failed_check_refuses(self, run_module, mesh, in_check_mode):
        mesh.checks.append(check("clock_skew", "fail", "9 s"))
        result = run_module("failover", target="eu-west", check=in_check_mode)
        assert error_of(result) == "preflight_failed"
        assert result["error"]["details"]["failed"] == ["clock_skew"]
        assert result["msg"] == "Failed: clock_skew. Mend them."

    def test_absent_aborts_what_is_open(self, run_module, plan, mesh):
        predicted = run_module("failover", state="absent", failover_id=plan["id"], check=True)
        assert mesh.failovers[plan["id"]]["state"] == "awaiting_approval"
        real = run_module("failover", state="absent", failover_id=plan["id"], reason="postponed")
        assert predicted["changed"] and real["changed"]
        assert real["failover"]["state"] == "aborted" and real["failover"]["problem"] == "postponed"
        assert not run_module("failover", state="absent", failover_id=plan["id"])["changed"]

    def test_absent_needs_no_failover(self, run_module):
        result = run_module("failover", state="absent", failover_id="fo-99")
        assert not result["changed"] and result["failover"] is None

    @pytest.mark.parametrize("in_check_mode", [False, True])
    def test_absent_cannot_undo_a_promotion_nor_pass_over_one_that_was_completed(self, run_module, approved, in_check_mode):
        for step in ("drain", "promote", "verify", "complete"):
            run_module("failover_step", failover_id=approved["id"], step=step)
            if step != "drain":
                result = run_module("failover", state="absent", failover_id=approved["id"], check=in_check_mode)
                assert error_of(result) == "illegal_transition"


class TestEmergency:
    def plan(self, run_module, **options):
        return run_module("failover", mode="emergency", target="eu-west", **options)

    def test_plan_says_what_is_accepted_and_needs_no_approval(self, run_module):
        options = dict(accept_data_loss=40, diff=True)
        predicted = self.plan(run_module, check=True, **options)
        real = self.plan(run_module, **options)
        assert (predicted["changed"], predicted["diff"]) == (real["changed"], real["diff"])
        assert (real["failover"]["state"], real["failover"]["accept_data_loss"]) == ("approved", 40)
        assert real["diff"]["after"]["predicted_loss"] == ["us-east: 30 records known, 2.5 s unheard, about 7 records"]
        assert not self.plan(run_module, **options)["changed"]

    @pytest.mark.parametrize("in_check_mode", [False, True])
    @pytest.mark.parametrize("bound", [{}, dict(accept_data_loss=36)])
    def test_loss_that_nobody_answers_for_is_refused(self, run_module, mesh, bound, in_check_mode):
        result = self.plan(run_module, check=in_check_mode, **bound)
        assert error_of(result) == "preflight_failed" and not mesh.failovers
        assert [item["observed"] for item in result["error"]["details"]["checks"]] == ["37 records"]

    def test_broken_glass_accepts_everything(self, run_module):
        assert self.plan(run_module, break_glass=True, reason="fire")["failover"]["break_glass"]

    def test_promotion_does_all_that_comes_before(self, run_module, mesh):
        failover_id = self.plan(run_module, accept_data_loss=37)["failover"]["id"]
        assert error_of(run_module("failover_step", failover_id=failover_id, step="drain")) == "illegal_transition"
        mesh.unfinished["promote"] = 2
        assert run_module("failover_step", failover_id=failover_id, step="promote")["failover"]["manifest"]

    def test_target_is_needed(self, run_module, mesh):
        assert run_module("failover", mode="emergency", reverses="fo-1")["failed"] and not mesh.calls

    @pytest.mark.parametrize("state", ["gathering", "fencing", "fenced"])
    def test_every_state_can_be_asked_for(self, run_module, mesh, state):
        self.plan(run_module, accept_data_loss=37)
        mesh.failovers["fo-1"]["state"] = state
        assert [item["id"] for item in run_module("failover_info", state=state)["failovers"]] == ["fo-1"]


class TestFailback:
    def test_goes_to_where_it_came_from_once_nothing_is_open(self, run_module, plan, diverged):
        options = dict(mode="failback", reverses=plan["id"])
        for in_check_mode in (True, False):
            refused = run_module("failover", check=in_check_mode, **options)
            assert error_of(refused) == "preflight_failed"
            assert refused["error"]["details"]["failed"] == "divergence_resolved"
        run_module("divergence", divergence_id=diverged["id"], resolution="replay")
        assert run_module("failover", **options)["failover"]["target"] == "us-east"

    def test_what_it_reverses_is_needed(self, run_module, mesh):
        assert run_module("failover", mode="failback", target="us-east")["failed"] and not mesh.calls


class TestDivergence:
    def test_info(self, run_module, diverged, mesh):
        assert [item["id"] for item in run_module("divergence_info")["divergences"]] == ["default.1", "orders.2"]
        assert [item["id"] for item in run_module("divergence_info", namespaces=["orders"])["divergences"]] == ["orders.2"]
        assert run_module("divergence_info", divergence_id="mars.1")["divergences"] == []
        assert len(mesh.calls) == 3
        details = run_module("divergence_info", divergence_id="default.1", details=True)["details"]
        assert details["default.1"]["keys"] == [dict(key="k1", fenced_records=12, written_since=4)]

    @pytest.mark.parametrize("resolution, decided", [("discard", "discarded"), ("replay", "replayed"), ("export", "exported")])
    def test_resolved_once(self, run_module, diverged, tmp_path, resolution, decided):
        options = dict(divergence_id="default.1", resolution=resolution, reason="drill", diff=True)
        if resolution == "export":
            options["dest"] = str(tmp_path / "fenced.jsonl")
        predicted = run_module("divergence", check=True, **options)
        assert diverged["resolution"] is None and not os.listdir(str(tmp_path))
        real = run_module("divergence", **options)
        assert (predicted["changed"], predicted["diff"]) == (real["changed"], real["diff"]) and real["changed"]
        assert real["diff"]["after"] == dict(resolution=decided, unresolved=0)
        for in_check_mode in (True, False):
            again = run_module("divergence", check=in_check_mode, **options)
            assert not again["changed"] and again["divergence"]["resolution"] == decided

    @pytest.mark.parametrize("in_check_mode", [True, False])
    @pytest.mark.parametrize("resolution", ["discard", "replay"])
    def test_what_is_settled_stays_as_it_is(self, run_module, diverged, mesh, resolution, in_check_mode):
        options = dict(divergence_id="orders.2", resolution=resolution, check=in_check_mode)
        assert not run_module("divergence", **options)["changed"] and not mutations(mesh)

    def test_replay_is_waited_for(self, run_module, diverged, mesh, monkeypatch):
        monkeypatch.setattr(divergence_module, "POLL_SECONDS", 0)
        mesh.replay_takes = 3
        assert run_module("divergence", divergence_id="default.1", resolution="replay")["divergence"]["replayed"] == 17

    def test_replay_that_somebody_began_is_not_begun_again(self, run_module, diverged, mesh):
        diverged["resolution"] = "replaying"
        mesh.replay_takes = 2
        assert run_module("divergence", divergence_id="default.1", resolution="replay")["changed"]
        assert not mutations(mesh)

    def test_wait_that_runs_out_fails_and_says_what_is_open(self, run_module, diverged, mesh):
        mesh.replay_takes = 10**9
        result = run_module("divergence", divergence_id="default.1", resolution="replay", wait_timeout=0)
        assert error_of(result) == "step_incomplete" and "17 records of divergence default.1" in result["msg"]

    def test_export_is_whole_or_not_there(self, run_module, diverged, mesh, tmp_path):
        dest = tmp_path / "fenced.jsonl"
        options = dict(divergence_id="default.1", resolution="export", dest=str(dest))
        mesh.refuse("/control/divergence/default.1/export", Problem(503, "shutting_down", "It stops.", retryable=True))
        assert error_of(run_module("divergence", retries=0, **options)) == "shutting_down" and not os.listdir(str(tmp_path))
        run_module("divergence", **options)
        assert [json.loads(line)["sequence"] for line in dest.read_text().splitlines()] == list(range(101, 121))
        dest.write_text("damaged")
        assert run_module("divergence", **options)["changed"], "a lost file is exported again"

    @pytest.mark.parametrize("in_check_mode", [True, False])
    def test_export_to_where_nothing_can_be_written(self, run_module, diverged, mesh, in_check_mode):
        options = dict(divergence_id="default.1", resolution="export", dest="/proc/self/fenced.jsonl")
        assert error_of(run_module("divergence", check=in_check_mode, **options)) == "invalid_argument"
        assert not mutations(mesh), "no record may count as exported"

    def test_full_disk_is_not_taken_for_a_silent_cluster(self):
        sink = mock.Mock(write=mock.Mock(side_effect=OSError(28, "No space left on device")))
        with pytest.raises(MeshApiError, match="No space left"):
            _client._pour(mock.Mock(read=mock.Mock(return_value=b"x")), sink)

    def test_export_needs_a_file(self, run_module, mesh):
        assert run_module("divergence", divergence_id="default.1", resolution="export")["failed"] and not mesh.calls

    @pytest.mark.parametrize("in_check_mode", [False, True])
    def test_refusals_are_those_of_the_control_plane(self, run_module, diverged, mesh, in_check_mode):
        options = dict(check=in_check_mode, resolution="discard")
        assert error_of(run_module("divergence", divergence_id="mars.1", **options)) == "not_found"
        mesh.refuse("/control/divergence/default.1/discard", Problem(403, "permission_denied", "Not you.", "Ask for mesh.admin."))
        result = run_module("divergence", divergence_id="default.1", **options)
        assert error_of(result) == "permission_denied" and "mesh.admin" in result["msg"]


class TestApproval:
    @pytest.mark.parametrize("state", ["approved", "denied"])
    def test_decision_once(self, run_module, plan, mesh, state):
        options = dict(token="bob-token", failover_id=plan["id"], state=state)
        predicted = run_module("failover_approval", check=True, diff=True, **options)
        assert not mesh.failovers[plan["id"]]["approvals"]
        real = run_module("failover_approval", diff=True, **options)
        assert predicted["changed"] and real["changed"] and predicted["diff"] == real["diff"]
        assert predicted["failover"]["state"] == real["failover"]["state"] == state
        again = run_module("failover_approval", **options)
        assert not again["changed"] and again["failover"]["state"] == state

    def test_one_of_two_is_not_enough(self, run_module):
        plan = run_module("failover", target="eu-west", limits=dict(approvals_required=2))["failover"]
        options = dict(token="bob-token", failover_id=plan["id"], state="approved")
        for in_check_mode in (True, False):
            result = run_module("failover_approval", check=in_check_mode, **options)
            assert result["changed"] and not result["failover"]["approved"]
        assert not run_module("failover_approval", **options)["changed"]

    @pytest.mark.parametrize("in_check_mode", [False, True])
    def test_nobody_approves_their_own_plan(self, run_module, plan, in_check_mode):
        options = dict(failover_id=plan["id"], state="approved", check=in_check_mode)
        assert error_of(run_module("failover_approval", **options)) == "self_approval"

    @pytest.mark.parametrize("in_check_mode", [False, True])
    @pytest.mark.parametrize("first, second, code", [("denied", "approved", "approval_denied"), ("approved", "denied", "illegal_transition")])
    def test_contradiction_is_an_error(self, run_module, plan, first, second, code, in_check_mode):
        options = dict(token="bob-token", failover_id=plan["id"])
        run_module("failover_approval", state=first, **options)
        assert error_of(run_module("failover_approval", state=second, check=in_check_mode, **options)) == code

    @pytest.mark.parametrize("in_check_mode", [False, True])
    def test_another_plan_is_not_approved(self, run_module, plan, in_check_mode):
        options = dict(token="bob-token", failover_id=plan["id"], state="approved", plan_hash="sha256:read-yesterday")
        assert error_of(run_module("failover_approval", check=in_check_mode, **options)) == "plan_hash_mismatch"


class TestStep:
    def test_each_step_once(self, run_module, approved, mesh):
        for step, state in [("drain", "drained"), ("promote", "promoted"), ("verify", "verified"), ("complete", "completed")]:
            options = dict(failover_id=approved["id"], step=step, diff=True)
            predicted = run_module("failover_step", check=True, **options)
            before = len(mutations(mesh))
            real = run_module("failover_step", **options)
            assert len(mutations(mesh)) == before + 1
            assert real["changed"] and real["failover"]["state"] == state
            assert (predicted["changed"], predicted["diff"]) == (real["changed"], real["diff"])
            again = run_module("failover_step", **options)
            assert not again["changed"] and again["failover"]["state"] == state

    def test_check_mode_changes_and_waits_for_nothing(self, run_module, approved, mesh):
        run_module("failover_step", failover_id=approved["id"], step="drain", check=True)
        assert mesh.calls[-1][2] == {"dry_run": "true"}
        assert mesh.failovers[approved["id"]]["state"] == "approved"

    def test_diff_shows_the_routing(self, run_module, approved):
        run_module("failover_step", failover_id=approved["id"], step="drain")
        diff = run_module("failover_step", failover_id=approved["id"], step="promote", diff=True)["diff"]
        assert diff["before"]["routing"] == {"default": dict(active="us-east", epoch=1)}
        assert diff["after"]["routing"] == {"default": dict(active="eu-west", epoch=2)}

    def test_waits_until_it_is_done(self, run_module, approved, mesh):
        mesh.unfinished["drain"] = 3
        assert run_module("failover_step", failover_id=approved["id"], step="drain")["failover"]["state"] == "drained"

    def test_wait_that_runs_out_fails_and_says_what_is_missing(self, run_module, approved, mesh):
        mesh.unfinished["drain"] = 10**9
        result = run_module("failover_step", failover_id=approved["id"], step="drain", wait_timeout=0)
        assert error_of(result) == "step_incomplete"
        assert "it is draining" in result["msg"] and "failovers show " + approved["id"] in result["msg"]
        assert result["error"]["details"]["state"] == "draining"

    @pytest.mark.parametrize("in_check_mode", [False, True])
    def test_refusals_are_those_of_the_control_plane(self, run_module, plan, in_check_mode):
        options = dict(failover_id=plan["id"], check=in_check_mode)
        assert error_of(run_module("failover_step", step="drain", **options)) == "not_approved"
        assert error_of(run_module("failover_step", step="verify", **options)) == "not_approved"
        assert error_of(run_module("failover_step", step="drain", **dict(options, failover_id="fo-99"))) == "not_found"

    def test_drain_that_undid_itself(self, run_module, approved, mesh):
        path = "/control/failovers/%s/drain" % approved["id"]
        mesh.refuse(path, Problem(409, "drain_timed_out", "It took too long.", "Look at the lag."))
        assert error_of(run_module("failover_step", failover_id=approved["id"], step="drain")) == "drain_timed_out"

    def test_preflight_with_a_failed_check_is_no_success(self, run_module, plan, mesh):
        options = dict(failover_id=plan["id"], step="preflight")
        assert not run_module("failover_step", **options)["changed"]
        mesh.checks.append(check("disk", "fail", "full"))
        assert error_of(run_module("failover_step", **options)) == "preflight_failed"

    def test_preflight_that_answers_200_with_a_failed_check_is_no_success_either(self):
        answer = Answer(200, dict(checks=[check("disk", "fail", "full")]), "req-1", "")
        with pytest.raises(MeshApiError, match="disk: full"):
            failover_step._refuse_failed_checks(dict(step="preflight"), answer)

    def test_abort_carries_the_reason(self, run_module, plan):
        result = run_module("failover_step", failover_id=plan["id"], step="abort", reason="postponed")
        assert result["failover"]["problem"] == "postponed"


class TestReport:
    @pytest.mark.parametrize("kind, start", [("json", "{"), ("markdown", "# Failover fo-1")])
    def test_saved_once(self, run_module, plan, tmp_path, kind, start):
        dest = tmp_path / "report"
        options = dict(failover_id=plan["id"], dest=str(dest), format=kind)
        assert run_module("failover_report", check=True, **options)["changed"]
        assert not dest.exists()
        real = run_module("failover_report", **options)
        assert real["changed"] and dest.read_text() == real["content"] and real["content"].startswith(start)
        assert not run_module("failover_report", **options)["changed"]
        assert os.listdir(str(tmp_path)) == ["report"]

    @pytest.mark.parametrize("held", [None, "an older report", "{}\r\n", "\udcff"])
    def test_diff_is_what_the_file_held_and_holds(self, run_module, plan, tmp_path, held):
        dest = tmp_path / "report"
        if held is not None:
            dest.write_bytes(held.encode("utf-8", "surrogateescape"))
        options = dict(failover_id=plan["id"], dest=str(dest), diff=True)
        predicted = run_module("failover_report", check=True, **options)
        real = run_module("failover_report", **options)
        assert (predicted["changed"], predicted["diff"]) == (True, real["diff"]) and real["changed"]
        assert real["diff"]["before"] == ("\ufffd" if held == "\udcff" else held)
        assert real["diff"]["after"] == dest.read_text() == real["content"]
        assert real["diff"]["before_header"] == real["diff"]["after_header"] == str(dest)
        for in_check_mode in (True, False):
            again = run_module("failover_report", check=in_check_mode, **options)
            assert not again["changed"] and again["diff"]["before"] == again["diff"]["after"] == real["content"]

    @pytest.mark.parametrize("in_check_mode", [True, False])
    def test_directory_is_no_file(self, run_module, plan, tmp_path, in_check_mode):
        result = run_module("failover_report", check=in_check_mode, failover_id=plan["id"], dest=str(tmp_path))
        assert error_of(result) == "invalid_argument"

    def test_read_only_without_a_file(self, run_module, plan):
        result = run_module("failover_report", failover_id=plan["id"], diff=True)
        assert not result["changed"] and result["dest"] is None and result["diff"] == {}
        assert json.loads(result["content"]) == result["report"]

    @pytest.mark.parametrize("in_check_mode", [True, False])
    @pytest.mark.parametrize("below", ["a-file/report", "a-file/new/report"])
    def test_file_that_cannot_be_written(self, run_module, plan, tmp_path, below, in_check_mode):
        (tmp_path / "a-file").write_text("")
        result = run_module("failover_report", check=in_check_mode, failover_id=plan["id"], dest=str(tmp_path / below))
        assert error_of(result) == "invalid_argument" and str(tmp_path) in result["msg"]

    def test_missing_directory_is_made_as_check_mode_said(self, run_module, plan, tmp_path):
        dest = tmp_path / "new" / "below" / "report"
        options = dict(failover_id=plan["id"], dest=str(dest))
        predicted = run_module("failover_report", check=True, **options)
        assert predicted["changed"] and os.listdir(str(tmp_path)) == []
        assert run_module("failover_report", **options)["changed"] and dest.read_text() == predicted["content"]

    @pytest.mark.parametrize("directory", ["", "new", "new/below"])
    def test_before_there_is_a_failover_its_directory_is_made_and_no_file(self, run_module, tmp_path, directory):
        dest = tmp_path / directory / "report"
        options = dict(dest=str(dest), endpoint=["http://127.0.0.1:9"], retries=0)  # nothing is read
        predicted = run_module("failover_report", check=True, **options)
        assert predicted["changed"] == bool(directory) and os.listdir(str(tmp_path)) == []
        real = run_module("failover_report", **options)
        assert real == predicted and os.listdir(str(dest.parent)) == []
        assert not run_module("failover_report", **options)["changed"]
        assert [real[name] for name in ("report", "content", "sha256")] == [None] * 3

    @pytest.mark.parametrize("in_check_mode", [True, False])
    @pytest.mark.parametrize("below", ["a-file/report", "a-file/new/report", "directory"])
    def test_before_there_is_a_failover_a_file_that_could_not_be_saved_is_refused(self, run_module, tmp_path, below, in_check_mode):
        (tmp_path / "a-file").write_text("")
        (tmp_path / "directory").mkdir()
        result = run_module("failover_report", check=in_check_mode, dest=str(tmp_path / below))
        assert error_of(result) == "invalid_argument" and str(tmp_path) in result["msg"] and result["error"]["hint"]

    @pytest.mark.parametrize("in_check_mode", [True, False])
    def test_before_there_is_a_failover_a_directory_that_refuses_is_found(self, run_module, in_check_mode):
        result = run_module("failover_report", check=in_check_mode, dest="/proc/self/report")
        assert error_of(result) == "invalid_argument" and "/proc/self" in result["msg"]

    def test_a_failover_without_a_name_is_not_taken_for_none(self, run_module, tmp_path):
        """What a playbook meant to hand on and did not."""
        result = run_module("failover_report", failover_id="", dest=str(tmp_path / "new" / "report"))
        assert result["failed"] and os.listdir(str(tmp_path)) == []

    def test_it_is_asked_for_a_failover_or_a_file(self, run_module):
        result = run_module("failover_report")
        assert "failover_id, dest" in result["msg"]


class TestArguments:
    def test_endpoint_of_the_environment(self, run_module, api, monkeypatch):
        monkeypatch.setenv("OMNIRELAY_ENDPOINT", "http://127.0.0.1:9, " + api.endpoint)
        assert run_module("cluster_info", endpoint=None)["clusters"]

    def test_endpoint_is_required(self, run_module):
        assert run_module("cluster_info", endpoint=None)["failed"]

    @pytest.mark.parametrize(
        "name, options", [("failover", {}), ("failover", dict(state="absent")), ("failover_step", dict(failover_id="x", step="leap"))]
    )
    def test_wrong_options_are_refused_before_any_call(self, run_module, mesh, name, options):
        assert run_module(name, **options)["failed"]
        assert not mesh.calls

    def test_secret_that_comes_back_is_not_shown(self, run_module, mesh, monkeypatch):
        monkeypatch.setenv("OMNIRELAY_TOKEN", "alice-token")
        mesh.refuse("/control/clusters", Problem(401, "unauthenticated", "Nobody has the token alice-token."))
        assert "alice-token" not in json.dumps(run_module("cluster_info", token=None))
