"""The way home: the checks of a planned failover, and that nothing which diverged is forgotten."""

from dataclasses import replace

import pytest
from tests.package.unit.failover.support import REQUEST, healthy

from omnirelay.failover import preflight
from omnirelay.failover.failback import preflight as failback
from omnirelay.failover.record import Mode, Verdict

HOME = replace(REQUEST, mode=Mode.FAILBACK, reverses="fo-0")
"""us-east is active, and eu-west is the home to go to."""


def with_report(cluster, **changes):
    evidence = healthy()
    return replace(evidence, reports={**evidence.reports, cluster: replace(evidence.reports[cluster], **changes)})


def checks(evidence):
    return {check.id: check for check in failback(evidence, HOME, "us-east")}


def failed(evidence):
    return [id for id, check in checks(evidence).items() if check.status is Verdict.FAIL]


def test_level_and_resolved_it_may_go():
    assert failed(healthy()) == []


def test_it_is_a_planned_failover_with_two_checks_more():
    planned = preflight.preflight(healthy(), HOME, "us-east")
    assert failback(healthy(), HOME, "us-east")[: len(planned)] == planned
    assert list(checks(healthy()))[len(planned) :] == ["tail_received", "divergence_resolved"]


def test_fm24_all_that_the_old_active_wrote_itself_must_be_here():
    found = checks(with_report("eu-west", vector={"us-east": 40, "eu-west": 7}))["tail_received"]
    assert (found.status, found.observed) == (Verdict.FAIL, "0 of 7")
    evidence = with_report("us-east", vector={"us-east": 40, "eu-west": 7})
    reports = {
        **evidence.reports,
        "eu-west": replace(evidence.reports["eu-west"], vector={"us-east": 40, "eu-west": 7}),
    }
    assert failed(replace(evidence, reports=reports)) == []


def test_fm35_of_a_rebuilt_log_it_is_the_new_one_that_counts():
    evidence = with_report("eu-west", origin="eu-west~2", vector={"us-east": 40, "eu-west~2": 3})
    assert checks(evidence)["tail_received"].observed == "0 of 3"


def test_fm23_open_records_are_counted_by_namespace():
    found = checks(with_report("us-east", diverged={"default": 3, "orders": 2}))["divergence_resolved"]
    assert (found.status, found.observed) == (Verdict.FAIL, "3 records of default, 2 records of orders")
    assert found.hint == "omnirelay mesh divergence list"


def test_what_is_open_in_another_namespace_does_not_matter():
    assert failed(with_report("us-east", diverged={"other": 3})) == []


@pytest.mark.parametrize("cluster", ["us-east", "eu-west"])
def test_fm16_what_is_not_known_fails(cluster):
    evidence = healthy()
    silent = replace(evidence, report_age_seconds={**evidence.report_age_seconds, cluster: 4.1})
    assert checks(silent)["tail_received"].status is Verdict.FAIL
    assert (checks(silent)["divergence_resolved"].status is Verdict.FAIL) == (cluster == "us-east")


def test_a_log_that_does_not_answer_has_not_nothing_open():
    found = checks(with_report("us-east", diverged=None))["divergence_resolved"]
    assert (found.status, found.observed) == (Verdict.FAIL, "unknown")
