"""The section `approvals` of a replicator's configuration: the least number of approvals."""

import pytest
from tests.package.unit.config.test_rpo import BASE

from omnirelay.config.settings import parse
from omnirelay.errors import ApprovalsBelowFloor, ConfigInvalid
from omnirelay.failover.approvals import ApprovalPolicy
from omnirelay.failover.record import Limits, Mode, Request


def asked(mode, approvals, **changes):
    return Request(mode, "eu-west", ("default",), "why", "CHG-1", Limits(approvals_required=approvals), **changes)


def test_by_default_somebody_else_must_agree_to_a_plan_and_a_loss_is_accepted_in_writing():
    assert parse(BASE).approvals.policy() == ApprovalPolicy(planned=1, emergency=0)


def test_what_is_configured_is_the_floor():
    policy = parse({**BASE, "approvals": {"planned": 3, "emergency": 2}}).approvals.policy()
    for mode, least in ((Mode.PLANNED, 3), (Mode.FAILBACK, 3), (Mode.EMERGENCY, 2)):
        policy.require(asked(mode, least))
        with pytest.raises(ApprovalsBelowFloor) as refused:
            policy.require(asked(mode, least - 1))
        assert refused.value.details == {"required": least, "asked": least - 1}
    policy.require(asked(Mode.EMERGENCY, 0, break_glass=True))


@pytest.mark.parametrize("count", [-1, 21, "two"])
def test_an_impossible_number_is_named_by_its_path(count):
    with pytest.raises(ConfigInvalid, match=r"approvals\.planned"):
        parse({**BASE, "approvals": {"planned": count}})
