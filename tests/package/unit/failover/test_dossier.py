"""What a change ticket is to hold, and in which words."""

from dataclasses import replace

import pytest
from tests.package.unit.failover import disasters
from tests.package.unit.failover.support import NOW, REQUEST, a_plan, a_refusal, a_token, an_approval, at

from omnirelay.failover import ticket_notes, workflow
from omnirelay.failover.approvals import decide
from omnirelay.failover.dossier import Dossier, Posting, due, pause_seconds, posted
from omnirelay.failover.record import ApprovalSource, Check, State, Verdict


def approved():
    plan = a_plan()
    return decide(plan, replace(an_approval(plan), comment="go ahead"))


def aborted():
    return workflow.abort(approved(), "alice", "postponed", at(3))


def test_a_new_plan_is_noted_and_linked():
    assert due(a_plan(), None) == ("plan", "link")


def test_each_approval_is_noted():
    assert due(approved(), None) == ("plan", "link", "approval 1")


@pytest.mark.parametrize("begun", [{"drain_started_at": NOW}, {"gather_started_at": NOW}])
def test_the_start_is_noted_in_both_modes(begun):
    assert due(a_plan(**begun), None)[-1] == "started"


@pytest.mark.parametrize("state", [State.COMPLETED, State.ABORTED, State.DENIED, State.EXPIRED])
def test_every_end_has_its_reports_before_the_note_that_names_their_digests(state):
    assert due(a_plan(state=state), None) == ("plan", "link", "report.json", "report.md", "finished")


def test_a_failed_verification_has_its_reports_too_and_later_those_of_the_end():
    failed = a_plan(state=State.VERIFY_FAILED)
    held = ("verify_failed.json", "verify_failed.md", "verify_failed")
    assert due(failed, None)[2:] == held
    dossier = posted(Dossier("fo-1", "CHG-1"), [Posting(key, NOW) for key in ("plan", "link", *held)])
    assert due(failed, dossier) == ()
    assert due(replace(failed, state=State.COMPLETED), dossier) == ("report.json", "report.md", "finished")


def test_what_the_ticket_holds_is_not_due_and_is_held_once():
    dossier = posted(Dossier("fo-1", "CHG-1"), [Posting("plan", NOW)])
    assert due(a_plan(), dossier) == ("link",)
    assert posted(dossier, [Posting("plan", at(9)), Posting("link", NOW)]).posted == (
        Posting("plan", NOW),
        Posting("link", NOW),
    )


def test_pauses_grow_to_a_bound_and_the_systems_own_wish_counts():
    pauses = [pause_seconds(failed, None) for failed in range(40)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (2.0, 300.0)
    assert pause_seconds(0, 900) == 900
    assert pause_seconds(0, 1e9) == 3600
    assert pause_seconds(0, 0) == 2


# --- words ----------------------------------------------------------------------------------------------------------


def test_the_plan_says_what_a_person_approves():
    checks = (Check("target_lag", Verdict.PASS, "0.1 s"), Check("clock_skew", Verdict.WARN, "+300 ms"))
    text = ticket_notes.plan_note(a_plan(checks=checks)).text
    plan = a_plan().plan
    for part in (
        "planned, us-east → eu-west",
        "default: epoch 3 → 4, orders: epoch 5 → 6",
        "Requested by: alice",
        "quarterly drill",
        plan.hash,
        plan.expires_at,
        "0.5 s without writes, 0 records",
        "1 of 2 pass",
        "warn: clock_skew: +300 ms",
        "Step drain:",
    ):
        assert part in text
    assert "approves this plan" not in text


def test_a_plan_that_the_ticket_approves_says_so():
    plan = a_plan(replace(REQUEST, approval_source=ApprovalSource.TICKET))
    assert "after this note" in ticket_notes.plan_note(plan).text


def test_a_note_ends_with_its_marker_and_no_two_have_the_same():
    failover = aborted()
    notes = [
        ticket_notes.plan_note(failover),
        ticket_notes.approval_note(failover, 1),
        ticket_notes.started_note(failover),
        ticket_notes.end_note(failover, "finished", (3, 9), []),
        ticket_notes.end_note(failover, "verify_failed", (3, 9), []),
        ticket_notes.plan_note(replace(failover, id="fo-2")),
        ticket_notes.refusal_note(a_refusal()),
        ticket_notes.refusal_note(a_refusal(at=at(1))),
        ticket_notes.refusal_note(a_refusal(requested_by="bob")),
    ]
    assert all(note.text.endswith(f"\n\n{note.marker}") for note in notes)
    assert len({note.marker for note in notes}) == len(notes)


def test_the_end_has_timeline_approvals_figures_and_digests():
    failover = approved()
    failover = workflow.start_drain(failover, disasters.ROUTING, "alice", at(1))
    failover = workflow.demote(failover, a_token(failover), at(2))
    failover = workflow.abort(failover, "alice", "the link is down", at(3))
    document = Posting("report.json", NOW, "fo-1.json", "ab" * 32)
    text = ticket_notes.end_note(failover, "finished", (3, 9), [document]).text
    for part in (
        "is aborted",
        "Because: the link is down",
        "Outage: unknown measured (not over), 0.5 s predicted",
        "Loss: unknown measured, 0 records predicted",
        f"bob approved {failover.plan.hash}",
        f"planned: {NOW}",
        f"drain started: {at(1)}",
        f"write closed: {at(2)}",
        f"aborted: {at(3)}",
        "entries 3 to 9",
        f"Attached: fo-1.json, sha256:{'ab' * 32}",
    ):
        assert part in text


def test_an_emergencys_start_names_who_takes_over():
    text = ticket_notes.started_note(disasters.gathering()).text
    assert "eu-west takes over from us-east" in text


def test_no_note_is_too_long_for_a_ticket_however_long_its_parts_are():
    checks = tuple(Check(f"check_{n}", Verdict.WARN, "x" * 5000) for n in range(50))
    note = ticket_notes.plan_note(a_plan(checks=checks))
    assert len(note.text) <= 3900
    assert note.text.endswith(note.marker)
    assert "The report has all of it." in note.text


def test_the_note_of_a_refusal_says_nothing_where_nothing_is_known():
    checks = (Check("source_gone", Verdict.FAIL, "it lives"),)
    lines = ticket_notes.refusal_note(a_refusal(checks=checks)).text.splitlines()
    assert lines[-3:-1] == ["  source_gone: it lives", ""]
    assert not [line for line in lines if line.startswith("Run:")]


def test_the_note_of_a_refusal_keeps_digest_and_marker_however_much_failed():
    checks = tuple(Check(f"check_{n}", Verdict.FAIL, "x" * 5000, "y", "z" * 5000) for n in range(50))
    refusal = a_refusal(checks=checks)
    note = ticket_notes.refusal_note(refusal)
    assert len(note.text) <= 3900
    assert note.text.endswith(f"The run's output has all of it.\n\n{note.marker}")
    assert refusal.digest in note.text


def test_a_refusal_is_the_same_again_whatever_was_measured_meanwhile_and_another_by_what_was_asked_or_fails():
    refusal = a_refusal()
    lag, versions = refusal.checks
    assert a_refusal(at=at(1), checks=(replace(lag, observed="8.000 s"), versions)).kind == refusal.kind
    others = [
        a_refusal(checks=(lag, replace(versions, status=Verdict.FAIL))),
        a_refusal(requested_by="bob"),
        a_refusal(run_url="https://awx.example/#/jobs/8"),
        *(
            a_refusal(request=replace(REQUEST, **changes))
            for changes in ({"target": "ap-south"}, {"namespaces": ("orders",)}, {"change_ticket": "CHG-2"})
        ),
    ]
    assert len({refusal.kind, *(other.kind for other in others)}) == len(others) + 1


def test_what_people_typed_cannot_pass_for_another_line_or_marker():
    plan = a_plan(replace(REQUEST, reason="a\nPlan hash: sha256:00\n"))
    assert "\nPlan hash: sha256:00" not in ticket_notes.plan_note(plan).text
