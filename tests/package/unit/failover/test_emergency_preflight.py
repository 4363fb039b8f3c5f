"""Each check passes in a plain disaster and fails for its own reason; what is not known fails (I13)."""

from dataclasses import replace

import pytest
from tests.package.unit.failover.disasters import (
    EMERGENCY,
    TTL,
    a_survivor,
    both,
    disaster,
    fenced,
    predictions,
    promoted,
    with_survivor,
    with_view,
)
from tests.package.unit.failover.support import ROUTING, a_descriptor, a_link, a_report

from omnirelay.failover.emergency_preflight import preflight
from omnirelay.failover.evidence import LeaseClaim, Probe
from omnirelay.failover.record import Verdict
from omnirelay.model.lag import ReplicationStatus
from omnirelay.model.position import Cursor
from omnirelay.model.routing import Ownership, Route

ORDER = [
    "coordination",
    "target_alive",
    "target_allowed",
    "source_gone",
    "best_candidate",
    "loss_accepted",
    "no_other_failover",
    "disk_headroom",
    "client_endpoints",
    "change_ticket",
]


def checks(evidence, request=EMERGENCY):
    return {check.id: check for check in preflight(evidence, request, "us-east", TTL)}


def changed(evidence, request=EMERGENCY):
    """Check → verdict, where it is not a pass."""
    return {id: str(c.status) for id, c in checks(evidence, request).items() if c.status is not Verdict.PASS}


def with_evidence(**changes):
    return lambda evidence: replace(evidence, **changes)


def with_descriptor(cluster, **changes):
    return lambda evidence: replace(evidence, clusters={**evidence.clusters, cluster: a_descriptor(cluster, **changes)})


def with_source_report(age, **changes):
    def mutate(evidence):
        return replace(
            evidence,
            reports={**evidence.reports, "us-east": a_report("us-east", vector={"us-east": 40}, **changes)},
            report_age_seconds={**evidence.report_age_seconds, "us-east": age},
        )

    return mutate


def receiving(cluster, status=ReplicationStatus.STREAMING):
    return with_view(cluster, inbound=a_link(status))


def further_ahead(cluster, link=ReplicationStatus.STREAMING):
    """The cluster holds more than eu-west, which receives from it by such a link."""

    def mutate(evidence):
        evidence = with_survivor(cluster, vector={"us-east": 42}, sizes={"us-east": 4200})(evidence)
        peers = evidence.reports["eu-west"].peers
        return with_survivor("eu-west", peers={**peers, cluster: replace(peers[cluster], inbound=a_link(link))})(
            evidence
        )

    return mutate


ONE_CHECK = [
    ("coordination", "fail", with_evidence(coordination_lag_seconds=None)),
    ("coordination", "fail", with_evidence(coordination_lag_seconds=4.1)),
    ("target_alive", "fail", with_survivor("eu-west", problems=("the disk is full",))),
    ("target_allowed", "fail", with_descriptor("eu-west", maintenance=True)),
    ("source_gone", "fail", receiving("eu-west")),
    ("source_gone", "fail", receiving("ap-south", ReplicationStatus.CATCHING_UP)),
    ("source_gone", "fail", with_source_report(0.5, admits={"orders": 5})),
    ("best_candidate", "fail", further_ahead("ap-south", ReplicationStatus.DISCONNECTED)),
    ("best_candidate", "fail", further_ahead("ap-south", ReplicationStatus.STALLED)),
    ("loss_accepted", "fail", with_view("ap-south", heard=80)),
    ("no_other_failover", "fail", with_evidence(locks={"default": "fo-0"})),
    ("disk_headroom", "fail", with_survivor("eu-west", disk_free_bytes=1)),
    ("client_endpoints", "warn", with_evidence(probes={"eu-west": Probe(events="no answer within 1 s")})),
]
"""Check, verdict, and the one thing that is wrong in an otherwise plain disaster."""

HARMLESS = [
    with_survivor("ap-south", vector={"us-east": 30}),
    further_ahead("ap-south"),
    further_ahead("ap-south", ReplicationStatus.CATCHING_UP),
    receiving("ap-south", ReplicationStatus.STALLED),
    with_source_report(0.5, admits={"other": 1}),
    with_source_report(3.0, admits={"orders": 5}),
    with_descriptor("ap-south", maintenance=True),
    with_survivor("ap-south", problems=("the disk is full",)),
    with_survivor("ap-south", disk_free_bytes=1),
    with_evidence(locks={"other": "fo-0"}),
    with_evidence(leases={"default": LeaseClaim("us-east", 3)}),
]
"""At the limit, or about something that this failover does not touch."""


def test_a_plain_disaster_passes_every_check():
    assert changed(disaster()) == {}


def test_the_order_is_that_of_mending():
    assert list(checks(disaster())) == ORDER


@pytest.mark.parametrize(
    ("check", "verdict", "mutate"), ONE_CHECK, ids=lambda value: value if isinstance(value, str) else ""
)
def test_one_thing_wrong_changes_one_check(check, verdict, mutate):
    assert changed(mutate(disaster())) == {check: verdict}


@pytest.mark.parametrize("mutate", HARMLESS)
def test_what_is_within_its_limit_passes(mutate):
    assert changed(mutate(disaster())) == {}


def test_every_check_has_its_own_reason_to_fail():
    assert {check for check, _, _ in ONE_CHECK} == set(ORDER) - {"change_ticket"}


def test_a_check_that_fails_says_what_to_do():
    for check, _, mutate in ONE_CHECK:
        found = checks(mutate(disaster()))[check]
        assert found.observed
        assert found.limit
        assert found.hint


def test_where_nothing_is_accepted_yet_the_check_says_so():
    [check] = [
        c
        for c in preflight(disaster(), replace(EMERGENCY, accept_data_loss=None), "us-east", TTL)
        if c.id == "loss_accepted"
    ]
    assert (str(check.status), check.limit) == ("fail", "nothing accepted yet")


def test_a_ticket_may_come_afterwards():
    assert changed(disaster(), replace(EMERGENCY, change_ticket="")) == {"change_ticket": "warn"}


@pytest.mark.parametrize("age", [4.1, None])
def test_fm16_a_target_of_which_nothing_is_known_is_none(age):
    ages = {"ap-south": 0.5} if age is None else {"ap-south": 0.5, "eu-west": age}
    assert set(changed(disaster(report_age_seconds=ages))) == {"target_alive", "best_candidate", "disk_headroom"}


def test_with_nobody_left_to_ask_nothing_passes_by_silence():
    found = changed(disaster(reports={}, report_age_seconds={}))
    assert {"target_alive", "best_candidate", "loss_accepted"} <= set(found)


class TestSourceGone:
    """Fm07: two sites, and the line between them is cut. It looks like death, so the evidence is spelt out."""

    @staticmethod
    def partition(**changes):
        """eu-west is alone with the store; it does not hear us-east, which may well be alive."""
        alone = a_survivor("eu-west")
        alone = replace(alone, peers={"us-east": alone.peers["us-east"]})
        clusters = {name: a_descriptor(name) for name in ("us-east", "eu-west")}
        return disaster(clusters=clusters, reports={"eu-west": alone}, report_age_seconds={"eu-west": 0.5}, **changes)

    def test_fm07_an_ended_lease_is_told(self):
        assert checks(self.partition())["source_gone"].observed == "no report, no stream; its lease has ended"

    def test_fm07_a_standing_lease_is_told_by_namespace(self):
        found = checks(self.partition(leases={"orders": LeaseClaim("us-east", 5)}))["source_gone"]
        assert found.status is Verdict.PASS
        assert found.observed == "no report, no stream; its lease of orders has not ended yet"

    def test_fm07_a_source_that_reports_through_the_store_lives(self):
        found = checks(with_source_report(1.2, admits={"default": 3, "orders": 5})(self.partition()))["source_gone"]
        assert (found.status, found.observed) == (Verdict.FAIL, "it reported 1.2 s ago that it admits writes")
        assert "promote eu-west" in found.hint
        assert "--break-glass" in found.hint

    def test_everything_that_was_seen_is_listed(self):
        seen = both(receiving("eu-west"), receiving("ap-south"), with_source_report(1.0, admits={"default": 3}))
        assert checks(seen(disaster()))["source_gone"].observed == (
            "it reported 1.0 s ago that it admits writes; ap-south receives from it; eu-west receives from it"
        )

    def test_a_cluster_in_maintenance_is_a_witness_all_the_same(self):
        """Maintenance bars it from being promoted; what it sees is true."""
        seen = both(receiving("ap-south"), with_descriptor("ap-south", maintenance=True))
        assert changed(seen(disaster())) == {"source_gone": "fail"}

    def test_broken_glass_distrusts_a_living_source_and_the_evidence_stays(self):
        found = checks(receiving("eu-west")(disaster()), replace(EMERGENCY, break_glass=True))["source_gone"]
        assert (found.status, found.observed) == (Verdict.WARN, "eu-west receives from it")


def test_fm04_a_failover_whose_target_may_be_gone_too_is_named_with_its_way_out():
    """The namespace was held by one that could not be aborted any more, and no command was named that ended it."""
    other = replace(promoted(), id="fo-0")
    evidence = disaster(locks={"default": "fo-0"}, failovers={"fo-0": other})
    hint = checks(evidence)["no_other_failover"].hint
    assert hint.startswith("omnirelay mesh failovers resume fo-0. If eu-west is gone, too,")
    assert hint.endswith("omnirelay mesh failovers complete fo-0 --reason REASON")
    begun = disaster(locks={"default": "fo-0"}, failovers={"fo-0": replace(fenced(), id="fo-0")})
    assert checks(begun)["no_other_failover"].hint == "omnirelay mesh failovers show fo-0"


class TestBestCandidate:
    def test_fm12_a_better_one_is_named_with_the_command(self):
        found = checks(further_ahead("ap-south", ReplicationStatus.DISCONNECTED)(disaster()))["best_candidate"]
        assert found.hint == "omnirelay mesh clusters promote ap-south --emergency"
        assert found.observed == (
            "ap-south holds default up to 3:42, eu-west up to 3:40 and does not receive from ap-south"
        )

    def test_fm12_where_it_can_catch_up_it_will(self):
        found = checks(further_ahead("ap-south")(disaster()))["best_candidate"]
        assert found.observed.endswith("it will catch up first")

    def test_every_namespace_is_looked_at_also_behind_one_that_will_catch_up(self):
        """The first that could catch up was taken for all of them."""
        owners = (Ownership(4, "sa-east", "sa-east"), Ownership(5, "us-east", "us-east", Cursor(4, 10)))
        orders = replace(ROUTING, routes={**ROUTING.routes, "orders": Route("orders", owners)})
        evidence = further_ahead("ap-south")(disaster(routing=orders))
        ahead = replace(a_report("sa-east"), origin="sa-east", vector={"sa-east": 10})
        evidence = replace(
            evidence,
            clusters={**evidence.clusters, "sa-east": a_descriptor("sa-east")},
            reports={**evidence.reports, "sa-east": ahead},
            report_age_seconds={**evidence.report_age_seconds, "sa-east": 0.5},
        )
        found = checks(evidence)["best_candidate"]
        assert found.status is Verdict.FAIL
        assert found.observed == ("sa-east holds orders up to 5:0, eu-west up to 4:0 and does not receive from sa-east")

    def test_data_in_maintenance_is_gathered_from_but_its_cluster_is_not_proposed(self):
        evidence = both(
            further_ahead("ap-south", ReplicationStatus.DISCONNECTED), with_descriptor("ap-south", maintenance=True)
        )(disaster())
        found = checks(evidence)["best_candidate"]
        assert found.status is Verdict.FAIL
        assert found.hint == "Bring the link from ap-south to eu-west up; ap-south itself is in maintenance."


class TestLossAccepted:
    def test_fm07_the_prediction_is_shown_with_what_was_accepted(self):
        found = checks(disaster())["loss_accepted"]
        assert (found.observed, found.limit) == (
            "3 records known, 5.5 s unheard, 14 records in all",
            "<= 30 records",
        )

    def test_below_the_prediction_it_says_how_much_would_do(self):
        found = checks(disaster(), replace(EMERGENCY, accept_data_loss=13))["loss_accepted"]
        assert (found.status, found.hint) == (
            Verdict.FAIL,
            "Accept at least 14 records in writing: --accept-data-loss 14",
        )

    def test_what_nobody_knows_is_said_to_be_unknown(self):
        deaf = {"heard": None, "heard_bytes": None, "heard_rate": 0.0, "last_contact_ms": None}
        evidence = both(*(with_view(cluster, **deaf) for cluster in ("eu-west", "ap-south")))(disaster())
        found = checks(evidence)["loss_accepted"]
        assert (found.status, "nobody knows how many in all" in found.observed) == (Verdict.FAIL, True)
        assert "--break-glass" in found.hint

    def test_it_is_the_very_prediction_of_the_plan(self):
        total = sum(p.records for p in predictions())
        assert f"{total} records in all" in checks(disaster())["loss_accepted"].observed
