"""How long nobody admitted writes: from when on is said with the figure, and what is not known is no figure."""

from dataclasses import replace

from tests.package.unit.failover import disasters
from tests.package.unit.failover.support import ROUTING, at

from omnirelay.failover import emergency_workflow, workflow
from omnirelay.failover.loss import last_heard_ms
from omnirelay.failover.outage import Basis, Outage, measured_outage


def promoted(last_heard="", demoted=False):
    failover = emergency_workflow.start(
        disasters.accepted(), ROUTING, disasters.predictions(), "bob", at(1), last_heard
    )
    if demoted:
        failover = emergency_workflow.confirm_demotion(failover, at(1.5))
    failover = emergency_workflow.gathered(failover, disasters.CUTS, at(2))
    failover = emergency_workflow.fence(failover, disasters.CUTS, "eu-west", at(8))
    return emergency_workflow.promote(failover, ROUTING, "cluster/eu-west", at(9))[0]


def opened(failover):
    return workflow.open_writes(failover, ["default", "orders"], at(9.5))


def test_a_dead_source_counts_from_when_it_was_last_heard_of_and_the_figure_is_a_bound():
    assert measured_outage(opened(promoted(last_heard=at(-4)))) == Outage(13.5, Basis.SOURCE_LAST_HEARD)


def test_a_living_source_counts_from_when_it_was_barred():
    assert measured_outage(opened(promoted(last_heard=at(0.9), demoted=True))) == Outage(8.5, Basis.SOURCE_BARRED)


def test_of_a_source_that_nobody_ever_heard_of_nothing_is_said():
    assert measured_outage(opened(promoted())) is None


def test_an_outage_that_is_not_over_has_no_figure():
    failover = promoted(last_heard=at(-4))
    assert measured_outage(failover) is None
    assert measured_outage(workflow.open_writes(failover, ["default"], at(9.5))) is None


def test_the_last_word_of_a_source_is_anybodys():
    evidence = disasters.disaster()
    heard = {r.peers["us-east"].last_contact_ms for r in evidence.reports.values()}
    assert {last_heard_ms(evidence, "us-east")} == heard
    later = disasters.with_view("ap-south", last_contact_ms=max(heard) + 700)(evidence)
    assert last_heard_ms(later, "us-east") == max(heard) + 700
    nobody = disasters.both(
        disasters.with_view("ap-south", last_contact_ms=None), disasters.with_view("eu-west", last_contact_ms=None)
    )(evidence)
    assert last_heard_ms(nobody, "us-east") is None
    assert last_heard_ms(replace(nobody, reports={}), "us-east") is None
