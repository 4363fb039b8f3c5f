"""An emergency as the API shows it."""

import pytest
from tests.package.unit.failover import disasters

from omnirelay.api import present
from omnirelay.failover.acknowledgement import acknowledgement


@pytest.mark.parametrize(
    ("stage", "commands"),
    [
        (disasters.accepted, ["deny", "promote", "abort"]),
        (disasters.gathering, ["abort"]),
        (disasters.promoted, ["verify"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_accepted_emergency_is_promoted_and_never_drained(stage, commands):
    assert present.failover(stage()).next == commands


def test_its_report_says_what_was_accepted_predicted_and_cut_off():
    record = disasters.promoted()
    shown = present.evidence(record, None, acknowledgement(disasters.disaster(), ()))
    assert (tuple(shown.manifest), tuple(shown.predicted_loss)) == (record.manifest, record.plan.loss)
    assert shown.manifest
    assert (shown.accept_data_loss, shown.break_glass) == (record.request.accept_data_loss, False)
