"""Each check passes on a healthy mesh and fails for its own reason; what is not known fails (I13)."""

from dataclasses import replace

import pytest
from tests.package.unit.failover.support import (
    NOW_MS,
    REQUEST,
    ROUTING,
    a_descriptor,
    a_failover,
    a_link,
    at,
    healthy,
)

from omnirelay.failover.evidence import LeaseClaim, LinkReport, Probe
from omnirelay.failover.preflight import failed, preflight
from omnirelay.failover.record import State, Verdict
from omnirelay.replication.lag import Lag, ReplicationStatus

ORDER = [
    "coordination",
    "source_alive",
    "target_alive",
    "target_allowed",
    "source_owns",
    "target_lag",
    "digests_agree",
    "reverse_replication",
    "clock_skew",
    "versions",
    "certificates",
    "disk_headroom",
    "client_endpoints",
    "no_other_failover",
    "cooldown",
    "change_ticket",
]


def verdicts(evidence, request=REQUEST):
    return {check.id: check.status for check in preflight(evidence, request, "us-east")}


def changed(evidence, request=REQUEST):
    """Check → verdict, where it is not a pass."""
    return {id: str(verdict) for id, verdict in verdicts(evidence, request).items() if verdict is not Verdict.PASS}


def with_report(cluster, **changes):
    def mutate(evidence):
        return replace(evidence, reports={**evidence.reports, cluster: replace(evidence.reports[cluster], **changes)})

    return mutate


def with_peer(cluster, peer, **changes):
    def mutate(evidence):
        report = evidence.reports[cluster]
        peers = {**report.peers, peer: replace(report.peers[peer], **changes)}
        return with_report(cluster, peers=peers)(evidence)

    return mutate


def with_evidence(**changes):
    return lambda evidence: replace(evidence, **changes)


def with_age(cluster, seconds):
    return lambda evidence: replace(evidence, report_age_seconds={**evidence.report_age_seconds, cluster: seconds})


def without_report(cluster):
    return lambda evidence: replace(evidence, reports={c: r for c, r in evidence.reports.items() if c != cluster})


def with_lease(claim):
    return lambda evidence: replace(evidence, leases={**evidence.leases, "default": claim})


def moved(seconds_ago, namespace="default", state=State.COMPLETED):
    earlier = a_failover(id="fo-0", state=state, opened={namespace: at(-seconds_ago)})
    return with_evidence(failovers={"fo-0": earlier})


OWNED_BY_ANOTHER = replace(
    ROUTING,
    routes={
        **ROUTING.routes,
        "default": replace(
            ROUTING.routes["default"],
            history=(replace(ROUTING.routes["default"].current, cluster="ap-south"),),
        ),
    },
)
HORIZON_MS = NOW_MS + 3_600_000
LEVEL = Lag(0, 0, 0.0)

ONE_CHECK = [
    ("coordination", "fail", with_evidence(coordination_lag_seconds=None)),
    ("coordination", "fail", with_evidence(coordination_lag_seconds=4.1)),
    ("source_alive", "fail", with_report("us-east", problems=("the disk is full",))),
    ("target_alive", "fail", with_report("eu-west", problems=("the disk is full",))),
    ("target_allowed", "fail", with_evidence(clusters={"us-east": a_descriptor("us-east")})),
    ("target_allowed", "fail", with_evidence(clusters={"eu-west": a_descriptor("eu-west", maintenance=True)})),
    ("source_owns", "fail", with_evidence(routing=OWNED_BY_ANOTHER)),
    ("source_owns", "fail", with_evidence(routing=replace(ROUTING, routes={}))),
    ("source_owns", "fail", with_lease(None)),
    ("source_owns", "fail", with_lease(LeaseClaim("ap-south", 3))),
    ("source_owns", "fail", with_lease(LeaseClaim("us-east", 2))),
    ("target_lag", "fail", with_peer("us-east", "eu-west", outbound=LinkReport())),
    ("target_lag", "fail", with_peer("us-east", "eu-west", outbound=a_link(lag=Lag(3, 30, None)))),
    ("target_lag", "fail", with_peer("us-east", "eu-west", outbound=a_link(lag=Lag(None, None, 1.0)))),
    ("target_lag", "fail", with_peer("us-east", "eu-west", outbound=a_link(lag=Lag(3, 30, 5.1)))),
    *(
        ("target_lag", "fail", with_peer("us-east", "eu-west", outbound=a_link(status, LEVEL)))
        for status in ("disconnected", "stalled", "unknown", "fenced")
    ),
    ("digests_agree", "fail", with_peer("us-east", "eu-west", digest_agrees=None)),
    ("digests_agree", "fail", with_peer("us-east", "eu-west", digest_agrees=False)),
    *(
        ("reverse_replication", "fail", with_peer("eu-west", "us-east", outbound=a_link(status, LEVEL)))
        for status in ("disconnected", "stalled", "unknown", "fenced")
    ),
    ("clock_skew", "warn", with_peer("us-east", "eu-west", clock_skew_seconds=None)),
    ("clock_skew", "warn", with_peer("us-east", "eu-west", clock_skew_seconds=0.26)),
    ("clock_skew", "warn", with_peer("us-east", "eu-west", clock_skew_seconds=-0.26)),
    ("versions", "fail", with_report("eu-west", protocol="2.0")),
    ("versions", "fail", with_report("us-east", log_format=2)),
    ("certificates", "fail", with_report("us-east", certificate_expires_ms=HORIZON_MS)),
    ("certificates", "fail", with_report("eu-west", certificate_expires_ms=NOW_MS - 1)),
    ("disk_headroom", "fail", with_report("eu-west", disk_free_bytes=4)),
    ("disk_headroom", "warn", with_report("eu-west", disk_free_bytes=14)),
    ("disk_headroom", "fail", with_report("eu-west", disk_total_bytes=0)),
    ("client_endpoints", "fail", with_evidence(probes={"eu-west": Probe(control="no answer within 1 s")})),
    ("no_other_failover", "fail", with_evidence(locks={"orders": "fo-9"})),
    ("cooldown", "fail", moved(seconds_ago=59)),
]
"""Check, verdict, and the one thing that is wrong in an otherwise healthy mesh."""

HARMLESS = [
    with_evidence(coordination_lag_seconds=4.0),
    with_age("eu-west", 4.0),
    with_peer("us-east", "eu-west", outbound=a_link(ReplicationStatus.CATCHING_UP, Lag(3, 30, 5.0))),
    with_peer("eu-west", "us-east", outbound=a_link(ReplicationStatus.CATCHING_UP, Lag(3, 30, 9.0))),
    with_peer("us-east", "eu-west", clock_skew_seconds=-0.25),
    with_report("eu-west", protocol="1.7"),
    with_report("eu-west", log_format=2),
    with_report("us-east", certificate_expires_ms=HORIZON_MS + 1),
    with_report("eu-west", disk_free_bytes=15),
    with_report("us-east", disk_free_bytes=0),
    with_evidence(locks={"other": "fo-9"}),
    moved(seconds_ago=60),
    moved(seconds_ago=1, namespace="other"),
    with_lease(LeaseClaim("us-east", 3)),
]
"""At the limit, or about something that this failover does not touch."""


def test_a_healthy_mesh_passes_every_check():
    assert changed(healthy()) == {}


def test_the_order_is_that_of_mending():
    assert list(verdicts(healthy())) == ORDER


@pytest.mark.parametrize(
    ("check", "verdict", "mutate"), ONE_CHECK, ids=lambda value: value if isinstance(value, str) else ""
)
def test_one_thing_wrong_changes_one_check(check, verdict, mutate):
    assert changed(mutate(healthy())) == {check: verdict}


def test_every_check_has_its_own_reason_to_fail():
    assert {check for check, _, _ in ONE_CHECK} == set(ORDER) - {"change_ticket"}
    assert changed(healthy(), replace(REQUEST, change_ticket="")) == {"change_ticket": "fail"}


@pytest.mark.parametrize("mutate", HARMLESS)
def test_what_is_within_its_limit_passes(mutate):
    assert changed(mutate(healthy())) == {}


OF_THE_SOURCE = {"source_alive", "target_lag", "digests_agree", "versions", "certificates"}
OF_THE_TARGET = {"target_alive", "reverse_replication", "versions", "certificates", "disk_headroom"}


@pytest.mark.parametrize(("cluster", "lost"), [("us-east", OF_THE_SOURCE), ("eu-west", OF_THE_TARGET)])
@pytest.mark.parametrize("how", ["no report", "an old report", "no age"])
def test_fm16_what_is_not_known_fails(cluster, lost, how):
    evidence = {
        "no report": without_report(cluster),
        "an old report": with_age(cluster, 4.1),
        "no age": lambda e: replace(
            e, report_age_seconds={c: a for c, a in e.report_age_seconds.items() if c != cluster}
        ),
    }[how](healthy())
    found = preflight(evidence, REQUEST, "us-east")
    assert set(failed(found)) == lost
    assert {check.id for check in found if check.status is Verdict.WARN} <= {"clock_skew"}


def test_a_check_that_does_not_pass_says_what_to_do():
    for check, _, mutate in ONE_CHECK:
        [found] = [c for c in preflight(mutate(healthy()), REQUEST, "us-east") if c.id == check]
        assert found.observed
        assert found.limit
        assert found.hint


def test_fm33_promotion_onto_an_older_log_format_is_refused_but_not_onto_a_newer_one():
    older = with_report("eu-west", log_format=0)
    assert changed(older(healthy())) == {"versions": "fail"}


def test_fm22_the_cooldown_counts_from_when_writes_were_opened_last():
    earlier = {
        name: a_failover(id=name, state=State.COMPLETED, opened={"default": at(-ago)})
        for name, ago in (("fo-1", 900), ("fo-2", 20), ("fo-3", 500))
    }
    [check] = [c for c in preflight(replace(healthy(), failovers=earlier), REQUEST, "us-east") if c.id == "cooldown"]
    assert (check.status, check.observed, check.hint) == (
        Verdict.FAIL,
        "moved 20 s ago",
        "Wait 40 s, or set another cooldown.",
    )


def test_fm01_the_other_failover_is_named():
    [check] = [
        c
        for c in preflight(replace(healthy(), locks={"default": "fo-9"}), REQUEST, "us-east")
        if c.id == "no_other_failover"
    ]
    assert check.observed == "fo-9 holds default"
    assert check.hint.endswith("fo-9")


@pytest.mark.parametrize(
    ("lacks", "check"),
    [
        (with_report("eu-west", disk_free_bytes=4), "disk_headroom"),
        (with_report("eu-west", disk_total_bytes=0), "disk_headroom"),
        (with_report("eu-west", protocol="2.0"), "versions"),
        (with_report("eu-west", problems=("the log cannot be written",)), "target_alive"),
    ],
)
def test_fm32_a_target_without_the_capacity_is_refused_and_a_source_without_it_may_be_left(lacks, check):
    assert changed(lacks(healthy())) == {check: "fail"}
    assert changed(with_report("us-east", disk_free_bytes=0)(healthy())) == {}


@pytest.mark.parametrize(
    ("probes", "verdict", "observed"),
    [
        ({"eu-west": Probe(events="connection refused")}, "fail", "events (eu-west.example:7443): connection refused"),
        (
            {"eu-west": Probe(control="no answer within 1 s")},
            "fail",
            "control (https://eu-west.example:8443): no answer within 1 s",
        ),
        ({}, "warn", "not probed"),
    ],
)
def test_fm32_a_target_that_clients_do_not_find_where_routing_sends_them_is_refused(probes, verdict, observed):
    evidence = replace(healthy(), probes=probes)
    assert changed(evidence) == {"client_endpoints": verdict}
    [check] = [c for c in preflight(evidence, REQUEST, "us-east") if c.id == "client_endpoints"]
    assert check.observed == observed
    assert "omnirelay mesh clusters show eu-west" in check.hint
