import json
from dataclasses import replace

import pytest

from omnirelay.demo.emergency import EmergencyRun, Loss
from omnirelay.demo.ledger import Verdict
from omnirelay.demo.planned import Run
from omnirelay.demo.report import Audit, Report, emergency_leg, failback_leg, planned_leg, tally, verify_copy
from omnirelay.failover import audit_chain

RECORD = {
    "id": "fo-1",
    "plan": {"routing": [{"epoch_before": 3, "epoch_after": 4}], "predicted_loss_records": 7},
}
RUN = Run(RECORD, begun=10.0, ended=25.0, approval_wait_seconds=8.0)
FAULTLESS = Verdict(100, 0, 0, 0, 0, consistent=True)
LOSS = Loss(lost=0, cut_off=5, in_doubt=1, manifest_records=6, manifest_exact=True)
GOOD = Report(
    planned_leg(RUN, FAULTLESS, 0.41234),
    emergency_leg(EmergencyRun(RUN, 9.0), replace(FAULTLESS, fenced=9), 6.5, 15.25, LOSS),
    failback_leg(RUN, FAULTLESS, 0.5),
    tally(replace(FAULTLESS, acknowledged=300)),
    Audit(14, verified=True),
)
COUNTS = {"acknowledged": 100, "lost": 0, "duplicated": 0, "reordered": 0, "fenced": 0, "consistent": True}
LEG = {
    **COUNTS,
    "failover_id": "fo-1",
    "epoch_before": 3,
    "epoch_after": 4,
    "measured_outage_seconds": 0.412,
    "playbook_seconds": 7.0,
    "approval_wait_seconds": 8.0,
    "predicted_loss": 7,
}


def test_the_report_has_the_documented_shape():
    assert json.loads(GOOD.to_json()) == {
        "planned": LEG,
        "emergency": {
            **LEG,
            "measured_outage_seconds": 6.5,
            "fenced": 9,
            "accepted_after_seconds": 6.25,
            "cut_off": 5,
            "in_doubt": 1,
            "manifest_records": 6,
            "manifest_exact": True,
        },
        "failback": {**LEG, "measured_outage_seconds": 0.5},
        "run": {**COUNTS, "acknowledged": 300},
        "audit": {"entries": 14, "verified": True},
    }


def test_a_good_run_falls_short_of_nothing():
    assert GOOD.shortfalls() == []


COUNTED = [
    ({"lost": 1}, "1 records lost"),
    ({"duplicated": 2}, "2 records duplicated"),
    ({"reordered": 3}, "3 records reordered"),
    ({"acknowledged": 0}, "nothing was acknowledged"),
    ({"consistent": False}, "the clusters delivered different records or another order"),
]
DRIVEN = [({"playbook_seconds": 15.0}, "the playbook took 15.0 s, 15.0 s is the limit")]
AT_HOME = [
    ({"measured_outage_seconds": 1.0}, "1.000 s without writes, 1.0 s is the limit"),
    ({"fenced": 2}, "2 records were delivered and taken back, where nothing is to be fenced"),
]
CUT_OFF = [
    ({"accepted_after_seconds": 8.0}, "writes were taken again after 8.000 s, 8.0 s is the limit"),
    ({"accepted_after_seconds": None}, "the new active took no writes"),
    ({"manifest_exact": False}, "the manifest names 6 records, the ledgers miss 5"),
    ({"cut_off": 0}, "nothing was cut off, so the manifest proves nothing"),
]


@pytest.mark.parametrize(
    ("part", "change", "says"),
    [
        *(("planned", *bar) for bar in COUNTED + DRIVEN + AT_HOME),
        *(("emergency", *bar) for bar in COUNTED + DRIVEN + CUT_OFF),
        *(("failback", *bar) for bar in COUNTED + AT_HOME),
        *(("run", *bar) for bar in COUNTED),
        ("audit", {"verified": False}, "the audit chain does not verify"),
    ],
)
def test_each_bar_can_be_missed(part, change, says):
    assert replace(GOOD, **{part: replace(getattr(GOOD, part), **change)}).shortfalls() == [f"{part}: {says}"]


def test_an_emergencys_outage_is_judged_by_when_writes_are_taken_again():
    assert replace(GOOD, emergency=replace(GOOD.emergency, measured_outage_seconds=9.0)).shortfalls() == []


def test_a_failbacks_playbook_may_take_as_long_as_the_replay_does():
    assert replace(GOOD, failback=replace(GOOD.failback, playbook_seconds=90.0)).shortfalls() == []


def test_what_was_missing_before_the_replay_is_lost_though_it_is_delivered_in_the_end():
    leg = emergency_leg(EmergencyRun(RUN, 9.0), FAULTLESS, 6.5, None, replace(LOSS, lost=3))
    assert (leg.lost, leg.accepted_after_seconds) == (3, None)


def entry(number, previous):
    return audit_chain.seal(
        previous,
        audit_chain.AuditFields(
            number=number, at="2026-01-01T00:00:00Z", actor="a", identity_proof="mtls", action="x", subject="s", why="",
            change_ticket="", run_url="", before=None, after=None, outcome="done",
        ),
    )  # fmt: skip


@pytest.fixture
def chain():
    first = entry(1, audit_chain.START_DIGEST)
    return [first, entry(2, first.digest)]


def test_a_copy_is_checked_as_a_file(tmp_path, chain):
    copy = tmp_path / "audit.jsonl"
    copy.write_bytes(b"".join(audit_chain.encode(each) + b"\n" for each in chain))
    assert verify_copy(copy, chain[-1].digest) is None


def test_a_copy_that_ends_early_or_is_missing_does_not_verify(tmp_path, chain):
    copy = tmp_path / "audit.jsonl"
    assert verify_copy(copy, chain[-1].digest).number == 1
    copy.write_bytes(audit_chain.encode(chain[0]) + b"\n")
    assert verify_copy(copy, chain[-1].digest).number == 2
