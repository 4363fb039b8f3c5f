"""What a failback asks beyond a planned failover."""

from dataclasses import replace

import pytest
from tests.package.unit.failover.support import REQUEST, a_link, healthy

from omnirelay.failover import preflight as planned
from omnirelay.failover.failback import preflight
from omnirelay.failover.record import Mode, Verdict
from omnirelay.model.lag import Lag

HOME = replace(REQUEST, mode=Mode.FAILBACK, reverses="fo-0")
"""From us-east home to eu-west, of two namespaces."""


def against(evidence):
    """The checks that a failback fails."""
    return {check.id for check in preflight(evidence, HOME, "us-east") if check.status is Verdict.FAIL}


def with_report(cluster, **changes):
    evidence = healthy()
    return replace(evidence, reports={**evidence.reports, cluster: replace(evidence.reports[cluster], **changes)})


def with_peer(cluster, peer, **changes):
    view = replace(healthy().reports[cluster].peers[peer], **changes)
    return with_report(cluster, peers={**healthy().reports[cluster].peers, peer: view})


def test_home_that_holds_everything_with_nothing_open_may_be_gone_to():
    assert against(healthy()) == set()


def test_it_asks_all_that_a_planned_failover_asks():
    ids = [check.id for check in preflight(healthy(), HOME, "us-east")]
    assert ids == [*(check.id for check in planned.preflight(healthy(), HOME, "us-east")), ids[-2], ids[-1]]
    assert ids[-2:] == ["tail_received", "divergence_resolved"]


@pytest.mark.parametrize(("has", "refused"), [(39, True), (40, False), (41, False)])
def test_fm24_everything_that_home_wrote_itself_must_be_here(has, refused):
    home = healthy().reports["eu-west"]
    evidence = replace(
        healthy(),
        reports={
            "eu-west": replace(home, vector={**home.vector, home.origin: 40}),
            "us-east": replace(healthy().reports["us-east"], vector={**home.vector, home.origin: has}),
        },
    )
    assert ("tail_received" in against(evidence)) is refused


@pytest.mark.parametrize(
    ("evidence", "check"),
    [
        (with_peer("us-east", "eu-west", outbound=a_link(lag=Lag(1, 10, 6.0))), "target_lag"),
        (with_peer("us-east", "eu-west", outbound=a_link(lag=Lag(None, None, None))), "target_lag"),
        (with_peer("us-east", "eu-west", digest_agrees=False), "digests_agree"),
        (with_peer("us-east", "eu-west", digest_agrees=None), "digests_agree"),
    ],
)
def test_fm24_the_copy_at_home_must_be_level_with_equal_digests(evidence, check):
    assert against(evidence) == {check}


def test_fm24_who_does_not_report_is_not_trusted_to_hold_anything():
    evidence = healthy()
    silent = replace(evidence, reports={"us-east": evidence.reports["us-east"]})
    assert {"tail_received", "target_alive"} <= against(silent)
    silent = replace(evidence, reports={"eu-west": evidence.reports["eu-west"]})
    assert {"tail_received", "divergence_resolved"} <= against(silent)


@pytest.mark.parametrize(
    ("diverged", "refused"),
    [({"default": 1}, True), ({"orders": 3, "other": 1}, True), ({"other": 7}, False), ({}, False), (None, True)],
)
def test_fm23_what_diverged_in_these_namespaces_must_be_decided(diverged, refused):
    assert against(with_report("us-east", diverged=diverged)) == ({"divergence_resolved"} if refused else set())
