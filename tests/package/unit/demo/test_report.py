import json
from dataclasses import replace

import pytest

from omnirelay.demo.ledger import Verdict
from omnirelay.demo.planned import PlannedRun
from omnirelay.demo.report import Audit, Report, planned_leg, verify_copy
from omnirelay.failover import audit_chain

RECORD = {
    "id": "fo-1",
    "plan": {"routing": [{"epoch_before": 3, "epoch_after": 4}], "predicted_loss_records": 0},
}
RUN = PlannedRun(RECORD, begun=10.0, ended=25.0, approval_wait_seconds=8.0)
GOOD = Report(planned_leg(RUN, Verdict(100, 0, 0, 0, 0, consistent=True), 0.41234), Audit(14, verified=True))


def test_the_report_has_the_documented_shape():
    assert json.loads(GOOD.to_json()) == {
        "planned": {
            "failover_id": "fo-1",
            "epoch_before": 3,
            "epoch_after": 4,
            "measured_outage_seconds": 0.412,
            "playbook_seconds": 7.0,
            "approval_wait_seconds": 8.0,
            "acknowledged": 100,
            "lost": 0,
            "duplicated": 0,
            "reordered": 0,
            "fenced": 0,
            "predicted_loss": 0,
            "consistent": True,
        },
        "audit": {"entries": 14, "verified": True},
    }


def test_a_good_run_falls_short_of_nothing():
    assert GOOD.shortfalls() == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lost": 1}, "1 records lost"),
        ({"duplicated": 2}, "2 records duplicated"),
        ({"reordered": 3}, "3 records reordered"),
        ({"acknowledged": 0}, "nothing was acknowledged"),
        ({"consistent": False}, "the clusters delivered different records or another order"),
        ({"measured_outage_seconds": 1.0}, "1.000 s without writes, 1.0 s is the limit"),
        ({"playbook_seconds": 15.0}, "the playbook took 15.0 s, 15.0 s is the limit"),
    ],
)
def test_each_bar_can_be_missed(change, says):
    assert replace(GOOD, planned=replace(GOOD.planned, **change)).shortfalls() == [says]


def test_a_chain_that_does_not_verify_falls_short():
    assert replace(GOOD, audit=Audit(14, verified=False)).shortfalls() == ["the audit chain does not verify"]


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
