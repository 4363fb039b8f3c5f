"""Change tickets through the API: read before a plan, filled in as it goes on, and asked for its approval."""

import hashlib
import json
from contextlib import asynccontextmanager

import pytest
from tests.package.unit.api.mesh import MEMBERS, PLAN, Agents, LoopClock, Mesh, background, running_mesh
from tests.package.unit.failover.support import a_descriptor

from omnirelay.errors import TicketCredentialsRefused, TicketRefused, TicketUnavailable
from omnirelay.failover.record import Failover
from omnirelay.model.readers import Acknowledgement
from omnirelay.model.ticket import TicketApproval
from omnirelay.model.times import rfc3339
from omnirelay.ports.tickets import TicketSource
from omnirelay.runtime.documents import CLUSTERS
from omnirelay.runtime.tickets import TicketDesk, TicketDuty
from omnirelay.testing.memory_tickets import MemoryTickets

DOWN = TicketUnavailable("tickets.example does not answer", url="https://tickets.example")
FROM_TICKET = {"approval_source": "ticket"}


def a_report(failover: Failover, audit: tuple[int, int] | None, noticed: Acknowledgement | None) -> bytes:
    return json.dumps({"id": failover.id, "state": failover.state, "audit": audit}).encode()


def a_duty(source: TicketSource, **changes) -> TicketDuty:
    return TicketDuty(**{"source": source, "report": a_report, "poll_seconds": 0.0, **changes})


@asynccontextmanager
async def mesh_with(**changes):
    clock = LoopClock()
    tickets = MemoryTickets(clock.wall_ms)
    async with running_mesh(a_duty(tickets, **changes), clock) as mesh:
        mesh.memory_tickets = tickets
        tickets.open("CHG-1")
        yield mesh


@pytest.fixture
async def mesh():
    async with mesh_with() as mesh:
        yield mesh


@pytest.fixture
def tickets(mesh) -> MemoryTickets:
    return mesh.memory_tickets


async def look(mesh: Mesh, later_seconds: float = 0.0) -> None:
    """The desk's next pass, that much later."""
    mesh.clock.added += later_seconds
    await mesh.view.refresh()
    await mesh.tickets.look()


async def shown(mesh: Mesh, failover_id: str) -> dict:
    return (await mesh.call("reader", "GET", f"/control/failovers/{failover_id}")).json()


async def refused(mesh: Mesh, **changes) -> dict:
    answer = await mesh.call("alice", "POST", "/control/failovers", json={**PLAN, **changes})
    assert answer.status_code >= 400, answer.text
    return answer.json()


async def completed(mesh: Mesh) -> str:
    failover_id = await mesh.approved()
    async with background(Agents(mesh).run()):
        for step in ("drain", "promote", "verify", "complete"):
            answer = await mesh.step(failover_id, step)
            assert answer.status_code == 200, answer.text
    return failover_id


# --- preflight ----------------------------------------------------------------------------------------------------


async def test_a_plan_shows_the_ticket_as_it_was_read(mesh):
    plan = await mesh.planned()
    assert plan["ticket"]["number"] == "CHG-1"
    assert plan["ticket"]["url"] == "https://tickets.example/CHG-1"
    assert (plan["ticket"]["state"], plan["ticket"]["approval"]) == ("Scheduled", "approved")
    assert plan["ticket"]["pending"] == ["plan", "link"]


@pytest.mark.parametrize(
    "fields",
    [{"approval": TicketApproval.PENDING, "workable": False}, {"closed": True}, {"ends_ms": 1}, {"starts_ms": 10**13}],
    ids=["not approved", "closed", "after its window", "before its window"],
)
@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_ticket_that_does_not_allow_it_refuses_the_plan(mesh, tickets, fields, dry_run):
    tickets.open("CHG-1", **fields)
    problem = await refused(mesh, dry_run=dry_run)
    assert (problem["code"], problem["details"]["failed"]) == ("preflight_failed", "change_ticket")
    assert mesh.view.failovers == {}


async def test_a_ticket_system_that_is_silent_refuses_a_new_plan_with_the_reason(mesh, tickets):
    tickets.failure = DOWN
    problem = await refused(mesh)
    assert "tickets.example does not answer" in problem["detail"]


async def test_a_defect_of_an_adapter_is_a_finding_and_nothing_more(mesh, tickets, monkeypatch):
    async def broken(number, within=None):
        raise ZeroDivisionError

    monkeypatch.setattr(tickets, "read", broken)
    assert "has a defect" in (await refused(mesh))["detail"]


async def test_an_emergency_is_not_refused_whatever_the_ticket_says(mesh, tickets):
    await mesh.strike()
    asked = {"mode": "emergency", "accept_data_loss": 10_000, "reason": "us-east is gone"}
    tickets.failure = DOWN
    plan = await mesh.planned(**asked)
    (check,) = [check for check in plan["checks"] if check["id"] == "change_ticket"]
    assert check["status"] == "warn"
    assert "does not answer" in check["observed"]
    calls = len(tickets.calls)
    async with background(Agents(mesh).run()):
        assert (await mesh.step(plan["id"], "promote")).status_code == 200
    assert len(tickets.calls) == calls, "nobody waits for a ticket while writes stand still"


async def test_a_ticket_that_was_cancelled_since_stops_the_drain(mesh, tickets):
    failover_id = await mesh.approved()
    tickets.open("CHG-1", closed=True)
    answer = await mesh.step(failover_id, "drain")
    assert answer.json()["details"]["failed"] == "change_ticket"


async def test_a_ticket_system_that_went_down_since_holds_nobody_up(mesh, tickets):
    failover_id = await mesh.approved()
    tickets.failure = DOWN
    async with background(Agents(mesh).run()):
        answer = await mesh.step(failover_id, "drain")
    assert answer.json()["state"] == "drained"
    (check,) = [check for check in answer.json()["checks"] if check["id"] == "change_ticket"]
    assert check["status"] == "warn"


async def test_without_a_source_the_ticket_is_only_recorded():
    async with running_mesh() as mesh:
        plan = await mesh.planned()
        await look(mesh)
        assert plan["ticket"] is None
        answer = await mesh.call("alice", "POST", f"/control/failovers/{plan['id']}/ticket")
        assert (answer.status_code, answer.json()["code"]) == (409, "no_ticket_source")
        assert (await refused(mesh, **FROM_TICKET, reason="other"))["code"] == "no_ticket_source"


# --- filling the ticket in ----------------------------------------------------------------------------------------


async def test_a_completed_run_is_in_the_ticket_from_plan_to_digest(mesh, tickets):
    failover_id = await completed(mesh)
    await look(mesh)
    kept, ticket = tickets.kept["CHG-1"], (await shown(mesh, failover_id))["ticket"]
    assert ticket["pending"] == []
    keys = ["plan", "link", "approval 1", "started", "report.json", "report.md", "finished"]
    assert [posting["key"] for posting in ticket["posted"]] == keys
    plan, approval, started, finished = kept.notes.values()
    assert "Plan hash: sha256:" in plan
    assert "token/bob approved" in approval
    assert "takes no more writes" in started
    assert "Outage: 0 s measured" in finished
    assert "Loss: 0 records measured" in finished
    assert [link.url for link in kept.links.values()] == [
        f"https://eu-west.example:8443/control/failovers/{failover_id}"
    ]
    digests = {posting["name"]: posting["sha256"] for posting in ticket["posted"] if posting["sha256"]}
    assert digests.keys() == kept.documents.keys()
    for name, digest in digests.items():
        assert f"Attached: {name}, sha256:{digest}" in finished
    (report,) = [json.loads(content) for name, content in kept.documents.items() if name.endswith(".json")]
    assert (report["id"], report["state"]) == (failover_id, "completed")


async def test_an_aborted_run_is_in_the_ticket_with_its_reason_and_report(mesh, tickets):
    failover_id = await mesh.approved()
    await mesh.call("alice", "POST", f"/control/failovers/{failover_id}/abort", json={"reason": "postponed"})
    await look(mesh)
    kept = tickets.kept["CHG-1"]
    assert "is aborted" in list(kept.notes.values())[-1]
    assert "Because: postponed" in list(kept.notes.values())[-1]
    assert len(kept.documents) == 2


async def test_the_runs_own_address_is_linked_where_it_has_one(mesh, tickets):
    await mesh.planned(run_url="https://awx.example/#/jobs/7")
    await look(mesh)
    assert [link.url for link in tickets.kept["CHG-1"].links.values()] == ["https://awx.example/#/jobs/7"]


async def test_looking_again_posts_nothing_again(mesh, tickets):
    await completed(mesh)
    await look(mesh)
    calls = len(tickets.calls)
    await look(mesh)
    assert len(tickets.calls) == calls


async def test_two_replicators_post_everything_once(mesh, tickets):
    other = TicketDesk("eu-west", a_duty(tickets), mesh.store, mesh.view, mesh.auditor, mesh.failovers, mesh.clock)
    await completed(mesh)
    await mesh.view.refresh()
    await other.look()
    calls = len(tickets.calls)
    await look(mesh)
    assert len(tickets.calls) == calls
    assert len(tickets.kept["CHG-1"].notes) == 4


async def test_whoever_holds_the_ticket_is_waited_for_but_not_for_ever(mesh, tickets):
    failover_id = (await mesh.planned())["id"]
    other = TicketDesk("eu-west", a_duty(tickets), mesh.store, mesh.view, mesh.auditor, mesh.failovers, mesh.clock)
    failover, _ = await mesh.failovers.load(failover_id)
    await mesh.view.refresh()
    assert await other._hold(failover, "CHG-1")  # and dies
    await look(mesh, 60)
    assert tickets.kept["CHG-1"].notes == {}
    await look(mesh, 61)
    assert len(tickets.kept["CHG-1"].notes) == 1


async def test_a_lost_answer_leaves_one_note(mesh, tickets):
    failover_id = (await mesh.planned())["id"]
    tickets.lost_answer = DOWN
    await look(mesh)
    assert (await shown(mesh, failover_id))["ticket"]["pending"] == ["plan", "link"]
    await look(mesh, 3)
    assert (await shown(mesh, failover_id))["ticket"]["pending"] == []
    assert len(tickets.kept["CHG-1"].notes) == 1


async def test_what_was_posted_is_on_record_and_the_failovers_own_story_stays_as_it_was(mesh):
    failover_id = await completed(mesh)
    before = await mesh.auditor.range_of(f"failovers/{failover_id}", "failover.plan")
    await look(mesh)
    assert await mesh.auditor.range_of(f"failovers/{failover_id}", "failover.plan") == before
    (entry,) = [e for e in await mesh.auditor.entries(0, 100) if e.action == "ticket.posted"]
    assert (entry.subject, entry.change_ticket) == (f"tickets/{failover_id}", "CHG-1")
    assert set(entry.after) == {"plan", "link", "approval 1", "started", "report.json", "report.md", "finished"}


# --- when the ticket system is not well ---------------------------------------------------------------------------


async def test_a_system_that_is_down_shows_as_pending_is_tried_again_and_holds_nobody_up(mesh, tickets):
    failover_id = await mesh.approved()
    tickets.failure = DOWN
    await look(mesh)
    async with background(Agents(mesh).run()):
        for step in ("drain", "promote", "verify", "complete"):
            assert (await mesh.step(failover_id, step)).status_code == 200
    ticket = (await shown(mesh, failover_id))["ticket"]
    assert ticket["pending"] == ["plan", "link", "approval 1", "started", "report.json", "report.md", "finished"]
    assert ticket["problem"] == "tickets.example does not answer"
    assert "https://tickets.example" in ticket["hint"]
    tickets.failure = None
    await look(mesh, 60)
    ticket = (await shown(mesh, failover_id))["ticket"]
    assert (ticket["pending"], ticket["problem"], ticket["retry_at"]) == ([], "", "")


async def test_it_is_not_asked_again_before_its_time(mesh, tickets):
    await mesh.planned()
    tickets.failure = TicketUnavailable("busy", retry_after_seconds=100)
    await look(mesh)
    calls = len(tickets.calls)
    await look(mesh, 99)
    assert len(tickets.calls) == calls
    await look(mesh, 2)
    assert len(tickets.calls) == calls + 1


async def test_trying_ends_after_a_bounded_time_and_begins_again_on_command(mesh, tickets):
    failover_id = (await mesh.planned(limits={"plan_valid_seconds": 604_800}))["id"]
    tickets.failure = DOWN
    for _ in range(300):
        await look(mesh, 301)
    ticket = (await shown(mesh, failover_id))["ticket"]
    assert ticket["gave_up"]
    calls = len(tickets.calls)
    tickets.failure = None
    await look(mesh, 10_000)
    assert len(tickets.calls) == calls
    answer = await mesh.call("alice", "POST", f"/control/failovers/{failover_id}/ticket")
    assert (answer.status_code, answer.json()["ticket"]["gave_up"]) == (200, False)
    await look(mesh)
    assert (await shown(mesh, failover_id))["ticket"]["pending"] == []


async def test_an_expired_credential_is_pending_with_the_file_to_renew(mesh, tickets):
    failover_id = (await mesh.planned())["id"]
    tickets.failure = TicketCredentialsRefused("refused", credential_file="/etc/omnirelay/snow")
    await look(mesh)
    assert "/etc/omnirelay/snow" in (await shown(mesh, failover_id))["ticket"]["hint"]


async def test_one_thing_that_is_refused_does_not_keep_the_rest_out(mesh, tickets, monkeypatch):
    async def forbidden(number, link):
        raise TicketRefused("links are not for you")

    monkeypatch.setattr(tickets, "link", forbidden)
    failover_id = await completed(mesh)
    await look(mesh)
    ticket = (await shown(mesh, failover_id))["ticket"]
    assert (ticket["pending"], ticket["problem"]) == (["link"], "links are not for you")
    assert failover_id in ticket["hint"]
    assert len(tickets.kept["CHG-1"].documents) == 2


async def test_a_defect_of_an_adapter_does_not_end_the_desk(mesh, tickets, monkeypatch):
    async def broken(number, note):
        raise KeyError("surprise")

    monkeypatch.setattr(tickets, "note", broken)
    failover_id = (await mesh.planned())["id"]
    await look(mesh)
    assert "has a defect" in (await shown(mesh, failover_id))["ticket"]["problem"]


# --- a plan that its preflight refuses ----------------------------------------------------------------------------

RUN = "https://awx.example/#/jobs/7"


@pytest.fixture
async def maintained(mesh) -> None:
    """eu-west cannot become active; ap-south can."""
    await maintain(mesh)


async def maintain(mesh: Mesh, maintenance: bool = True) -> None:
    await mesh.put(CLUSTERS.key("eu-west"), CLUSTERS.encode(a_descriptor("eu-west", maintenance=maintenance)))


async def later(mesh: Mesh, seconds: float) -> None:
    """So much later every cluster still reports."""
    await look(mesh, seconds)
    for cluster in MEMBERS:
        await mesh.report(cluster)
    await mesh.view.refresh()


def notes(tickets: MemoryTickets, number: str = "CHG-1") -> list[str]:
    return list(tickets.kept[number].notes.values())


async def test_a_refused_run_is_in_its_ticket_with_what_was_seen_and_what_to_do(mesh, tickets, maintained):
    problem = await refused(mesh, run_url=RUN)
    await look(mesh, 10)
    assert mesh.view.failovers == {}
    (note,) = notes(tickets)
    for part in (
        "Refused by its preflight: planned, us-east → eu-west",
        "Namespaces: default, orders",
        "Requested by: token/alice",
        "Reason: drill",
        f"Run: {RUN}",
        "Checks: 1 of 16 fail",
        "target_allowed: eu-west is in maintenance (required: not in maintenance)",
        "End its maintenance first.",
    ):
        assert part in note
    checks = json.dumps(problem["details"]["checks"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert f"Digest of the checks: sha256:{hashlib.sha256(checks.encode()).hexdigest()}" in note
    assert tickets.kept["CHG-1"].links == {}


async def test_the_note_of_a_refusal_is_on_record(mesh, tickets, maintained):
    await refused(mesh, run_url=RUN)
    await look(mesh, 10)
    (entry,) = [e for e in await mesh.auditor.entries(0, 100) if e.action == "ticket.posted"]
    assert (entry.actor, entry.change_ticket, entry.run_url) == ("cluster/us-east", "CHG-1", RUN)
    assert entry.after["refused"] in notes(tickets)[0]


async def test_a_ticket_that_refuses_the_plan_itself_is_told_why(mesh, tickets):
    tickets.open("CHG-1", ends_ms=1)
    await refused(mesh)
    await look(mesh, 10)
    (note,) = notes(tickets)
    assert "change_ticket: CHG-1" in note
    assert "Its window is over" in note


async def test_a_refused_emergency_is_in_its_ticket(mesh, tickets):
    await refused(mesh, mode="emergency", accept_data_loss=0)
    await look(mesh, 10)
    (note,) = notes(tickets)
    assert "Refused by its preflight: emergency, us-east → eu-west" in note
    assert "source_gone" in note


async def test_a_refused_dry_run_leaves_nothing_in_the_ticket(mesh, tickets, maintained):
    await refused(mesh, dry_run=True)
    await look(mesh, 10)
    assert notes(tickets) == []


async def test_a_refused_run_without_ticket_asks_the_ticket_system_nothing(mesh, tickets, maintained):
    await refused(mesh, change_ticket="")
    await look(mesh, 10)
    assert tickets.calls == []


async def test_only_what_is_an_address_is_told_as_the_run(mesh, tickets, maintained):
    await refused(mesh, run_url="javascript:alert(1)")
    await look(mesh, 10)
    assert "Run:" not in notes(tickets)[0]


async def test_a_refusal_is_answered_before_the_ticket_is_written(mesh, tickets, maintained, monkeypatch):
    async def never(number, note):
        raise AssertionError("the caller waited for the ticket")

    monkeypatch.setattr(tickets, "note", never)
    assert (await refused(mesh))["code"] == "preflight_failed"
    assert tickets.calls == [("read", "CHG-1")]


async def test_a_run_that_tries_again_leaves_one_note_however_the_figures_move(mesh, tickets, maintained):
    for _ in range(5):
        await refused(mesh, limits={"cooldown_seconds": 1})
        await later(mesh, 300)
    assert len(notes(tickets)) == 1


@pytest.mark.parametrize(
    "changes", [{"run_url": RUN}, {"namespaces": ["orders"]}, {"mode": "emergency", "accept_data_loss": 0}]
)
async def test_another_refused_run_has_a_note_of_its_own(mesh, tickets, maintained, changes):
    await refused(mesh)
    await look(mesh, 10)
    await refused(mesh, **changes)
    for _ in range(2):
        await look(mesh, 10)
    assert len(notes(tickets)) == 2


async def test_other_checks_that_fail_have_a_note_of_their_own(mesh, tickets, maintained):
    await refused(mesh)
    await later(mesh, 10)
    await mesh.report("eu-west", disk_free_bytes=1)
    await refused(mesh)
    await look(mesh, 10)
    assert ["1 of 16 fail" in notes(tickets)[0], "2 of 16 fail" in notes(tickets)[1]] == [True, True]


async def test_the_same_run_long_after_has_a_note_of_its_own(mesh, tickets, maintained):
    await refused(mesh)
    await later(mesh, 10)
    await later(mesh, 600)
    await refused(mesh)
    await look(mesh, 10)
    assert len(notes(tickets)) == 2


async def test_a_run_that_was_refused_for_a_moment_only_is_in_the_ticket_as_its_plan(mesh, tickets, maintained):
    for _ in range(10):
        await refused(mesh)
        await later(mesh, 3)
    await maintain(mesh, False)
    plan = await mesh.planned()
    await look(mesh, 10)
    (note,) = notes(tickets)
    assert f"Plan of failover {plan['id']}" in note


@pytest.mark.parametrize(("who", "reason"), [("alice", "another"), ("root", "drill")])
async def test_another_plan_made_meanwhile_hides_no_refusal(mesh, tickets, maintained, who, reason):
    await refused(mesh)
    await maintain(mesh, False)
    answer = await mesh.call(who, "POST", "/control/failovers", json={**PLAN, "reason": reason})
    assert answer.status_code == 201
    await look(mesh, 10)
    assert [note.split(":")[0] for note in notes(tickets)] == ["Plan of failover fo-1", "Refused by its preflight"]


async def test_the_same_plan_made_and_ended_before_hides_no_refusal(mesh, tickets):
    plan = await mesh.planned()
    await mesh.call("alice", "POST", f"/control/failovers/{plan['id']}/abort", json={"reason": "postponed"})
    await later(mesh, 10)
    await maintain(mesh)
    await refused(mesh)
    await look(mesh, 10)
    assert "Refused by its preflight" in notes(tickets)[-1]


async def test_a_run_that_never_stops_trying_is_in_the_ticket_all_the_same(mesh, tickets, maintained):
    for _ in range(21):
        await refused(mesh)
        await later(mesh, 3)
    assert len(notes(tickets)) == 1


async def test_a_ticket_is_not_flooded_with_refusals_and_other_tickets_get_theirs(mesh, tickets, maintained):
    for n in range(40):
        await refused(mesh, run_url=f"{RUN}{n}")
    tickets.open("CHG-2")
    await refused(mesh, change_ticket="CHG-2")
    await look(mesh, 10)
    for _ in range(60):
        await look(mesh)
    assert len(notes(tickets)) == 20
    assert len(notes(tickets, "CHG-2")) == 1


async def test_one_refusal_at_a_time_so_that_no_failover_waits_for_them(mesh, tickets, maintained):
    for n in range(3):
        await refused(mesh, run_url=f"{RUN}{n}")
    await look(mesh, 10)
    assert len(notes(tickets)) == 1


async def test_the_refusal_stands_while_the_ticket_system_is_down_and_is_told_once_it_is_back(mesh, tickets, caplog):
    tickets.failure = DOWN
    problem = await refused(mesh)
    assert problem["details"]["failed"] == "change_ticket"
    await look(mesh, 10)
    assert "ticket of a refused plan: tickets.example does not answer" in caplog.text
    tickets.failure = None
    await look(mesh, 2)
    (note,) = notes(tickets)
    assert "tickets.example does not answer" in note


async def test_the_note_of_a_refusal_is_tried_for_a_bounded_time():
    async with mesh_with(give_up_seconds=600) as mesh:
        tickets = mesh.memory_tickets
        tickets.failure = DOWN
        await refused(mesh)
        for _ in range(20):
            await look(mesh, 301)
        calls = len(tickets.calls)
        tickets.failure = None
        await look(mesh, 301)
        assert (len(tickets.calls), notes(tickets)) == (calls, [])


async def test_a_ticket_system_that_is_down_is_asked_for_a_refusal_ever_more_seldom(mesh, tickets, maintained):
    await refused(mesh)
    tickets.failure = DOWN
    await look(mesh, 10)
    for _ in range(31):
        await look(mesh, 1)
    assert [call for call, _ in tickets.calls].count("note") == 5, "after 2, 4, 8, 16 seconds"


async def test_a_ticket_system_that_wants_patience_has_it_though_the_run_tries_again(mesh, tickets, maintained):
    await refused(mesh)
    tickets.failure = TicketUnavailable("busy", retry_after_seconds=100)
    await later(mesh, 10)
    tickets.failure = None
    await refused(mesh)
    await look(mesh, 70)
    assert notes(tickets) == []
    await look(mesh, 30)
    assert len(notes(tickets)) == 1


async def test_a_lost_answer_leaves_one_note_of_a_refusal(mesh, tickets, maintained):
    await refused(mesh)
    tickets.lost_answer = DOWN
    await look(mesh, 10)
    await look(mesh, 5)
    assert [call for call, _ in tickets.calls].count("note") == 2
    assert len(notes(tickets)) == 1


@pytest.mark.parametrize("error", [TicketRefused("it is closed for good"), None], ids=["refused", "unknown"])
async def test_a_ticket_that_does_not_take_the_note_of_a_refusal_is_not_asked_again(
    mesh, tickets, maintained, error, monkeypatch, caplog
):
    if error:

        async def closed(number, note):
            tickets.calls.append(("note", number))
            raise error

        monkeypatch.setattr(tickets, "note", closed)
    else:
        tickets.kept.clear()
    await refused(mesh)
    for _ in range(4):
        await look(mesh, 301)
    assert [call for call, _ in tickets.calls].count("note") == 1
    assert "ticket of a refused plan: " in caplog.text


async def test_a_defect_of_an_adapter_does_not_end_the_desk_over_a_refusal(mesh, tickets, maintained, monkeypatch):
    async def broken(number, note):
        raise KeyError("surprise")

    with monkeypatch.context() as patch:
        patch.setattr(tickets, "note", broken)
        await refused(mesh)
        await look(mesh, 10)
    await look(mesh, 5)
    assert len(notes(tickets)) == 1


# --- later ----------------------------------------------------------------------------------------------------------


async def test_an_emergency_gets_its_ticket_afterwards(mesh, tickets):
    await mesh.strike()
    asked = {"mode": "emergency", "accept_data_loss": 10_000, "reason": "gone", "change_ticket": ""}
    failover_id = (await mesh.planned(**asked))["id"]
    await look(mesh)
    assert (await shown(mesh, failover_id))["ticket"] is None
    tickets.open("INC-9")
    path = f"/control/failovers/{failover_id}/ticket"
    predicted = await mesh.call("alice", "POST", path, params={"dry_run": True}, json={"change_ticket": "INC-9"})
    assert (predicted.json()["ticket"]["number"], predicted.json()["ticket"]["pending"]) == ("INC-9", ["plan", "link"])
    assert (await shown(mesh, failover_id))["ticket"] is None
    answer = await mesh.call("alice", "POST", path, json={"change_ticket": "INC-9"})
    assert answer.json()["ticket"]["number"] == "INC-9"
    await look(mesh)
    assert len(tickets.kept["INC-9"].notes) == 1
    again = await mesh.call("alice", "POST", path, json={"change_ticket": "CHG-1"})
    assert (again.status_code, again.json()["code"]) == (409, "conflict")


async def test_a_failover_without_ticket_needs_one_to_be_named(mesh):
    await mesh.strike()
    asked = {"mode": "emergency", "accept_data_loss": 10_000, "reason": "gone", "change_ticket": ""}
    failover_id = (await mesh.planned(**asked))["id"]
    answer = await mesh.call("alice", "POST", f"/control/failovers/{failover_id}/ticket")
    assert answer.status_code == 400


async def test_what_ended_long_before_is_not_posted_by_itself(mesh, tickets):
    failover_id = await completed(mesh)
    await look(mesh, 3601)
    assert tickets.kept["CHG-1"].notes == {}
    await mesh.call("alice", "POST", f"/control/failovers/{failover_id}/ticket")
    await look(mesh)
    assert len(tickets.kept["CHG-1"].notes) == 4


# --- approvals in the ticket --------------------------------------------------------------------------------------


@pytest.fixture
async def waiting(mesh, tickets) -> str:
    """A plan that the ticket is to approve, noted in it."""
    tickets.open("CHG-1", approval=TicketApproval.PENDING, workable=False, state="Authorize")
    failover_id = (await mesh.planned(**FROM_TICKET))["id"]
    await look(mesh)
    return failover_id


async def test_an_approval_in_the_ticket_approves_the_plan_under_the_approvers_name(mesh, tickets, waiting):
    mesh.clock.added += 0.5
    tickets.decide("CHG-1", "jane", comment="fine")
    await look(mesh)
    failover = await shown(mesh, waiting)
    assert failover["approved"]
    (approval,) = failover["approvals"]
    assert (approval["principal"], approval["via"], approval["ticket"]) == ("memory/jane", "ticket", "CHG-1")
    assert approval["plan_hash"] == failover["plan"]["hash"]
    assert approval["comment"] == f"in CHG-1 at {rfc3339(mesh.clock.wall_ms())}: fine"
    (entry,) = [e for e in await mesh.auditor.entries(0, 100) if e.action == "failover.approve"]
    assert (entry.actor, entry.identity_proof) == ("memory/jane", "system")
    assert entry.after["approval_source"] == "ticket"
    assert entry.after["decision"] == {"via": "ticket", "ticket": "CHG-1"}, "where it can be looked up"
    async with background(Agents(mesh).run()):
        assert (await mesh.step(waiting, "drain")).json()["state"] == "drained"


async def test_an_approval_from_before_the_plan_approves_nothing(mesh, tickets):
    tickets.open("CHG-1", approval=TicketApproval.PENDING, workable=False)
    tickets.decide("CHG-1", "jane")
    mesh.clock.added += 0.5
    failover_id = (await mesh.planned(**FROM_TICKET))["id"]
    await look(mesh)
    await look(mesh, 0.5)
    assert (await shown(mesh, failover_id))["state"] == "awaiting_approval"


async def test_an_approval_from_before_the_plan_does_not_become_one_by_an_edit(mesh, tickets):
    tickets.exact = False
    tickets.open("CHG-1", approval=TicketApproval.PENDING, workable=False)
    tickets.decide("CHG-1", "jane")
    mesh.clock.added += 0.5
    failover_id = (await mesh.planned(**FROM_TICKET))["id"]
    await look(mesh)
    mesh.clock.added += 0.5
    tickets.touch("CHG-1")
    await look(mesh)
    assert (await shown(mesh, failover_id))["state"] == "awaiting_approval"
    tickets.take_back("CHG-1", "jane")
    await look(mesh)
    tickets.decide("CHG-1", "jane")
    await look(mesh)
    assert (await shown(mesh, failover_id))["approved"]


async def test_the_requester_cannot_approve_in_the_ticket_and_is_told_so(mesh, tickets, waiting):
    mesh.clock.added += 0.5
    tickets.decide("CHG-1", "Alice")
    await look(mesh)
    failover = await shown(mesh, waiting)
    assert failover["state"] == "awaiting_approval"
    assert "cannot approve it" in failover["ticket"]["problem"]


async def test_whom_the_configuration_names_is_who_they_are_in_the_mesh():
    async with mesh_with(people={"ajones": "token/alice"}) as mesh:
        tickets = mesh.memory_tickets
        tickets.open("CHG-1", approval=TicketApproval.PENDING, workable=False)
        failover_id = (await mesh.planned(**FROM_TICKET))["id"]
        await look(mesh)
        mesh.clock.added += 0.5
        tickets.decide("CHG-1", "ajones")
        await look(mesh)
        assert (await shown(mesh, failover_id))["state"] == "awaiting_approval"


async def test_no_other_approval_counts_whatever_it_calls_itself(mesh, waiting):
    plan_hash = (await shown(mesh, waiting))["plan"]["hash"]
    for via in ("api", "terminal", "awx", "ticket"):
        body = {"decision": "approve", "plan_hash": plan_hash, "via": via}
        answer = await mesh.call("bob", "POST", f"/control/failovers/{waiting}/approvals", json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "ticket_approval_needed")


async def test_a_rejection_in_the_ticket_denies_the_plan(mesh, tickets, waiting):
    mesh.clock.added += 0.5
    tickets.decide("CHG-1", "jane", "deny", "not during the sale")
    await look(mesh)
    failover = await shown(mesh, waiting)
    assert failover["state"] == "denied"
    assert "not during the sale" in failover["approvals"][0]["comment"]


async def test_several_approvers_of_the_ticket_make_several_approvals(mesh, tickets):
    tickets.open("CHG-1", approval=TicketApproval.PENDING, workable=False)
    failover_id = (await mesh.planned(**FROM_TICKET, limits={"approvals_required": 2}))["id"]
    await look(mesh)
    mesh.clock.added += 0.5
    tickets.decide("CHG-1", "jane")
    await look(mesh)
    assert not (await shown(mesh, failover_id))["approved"]
    tickets.decide("CHG-1", "joe")
    await look(mesh)
    assert (await shown(mesh, failover_id))["approved"]


async def test_a_second_plan_in_the_same_ticket_is_not_approved_by_what_approved_the_first(mesh, tickets, waiting):
    mesh.clock.added += 0.5
    tickets.decide("CHG-1", "jane")
    mesh.clock.added += 0.5
    second = (await mesh.planned(**FROM_TICKET, reason="another", namespaces=["orders"]))["id"]
    await look(mesh)
    await look(mesh, 0.5)
    assert (await shown(mesh, waiting))["approved"]
    assert not (await shown(mesh, second))["approved"]


async def test_a_ticket_system_that_is_silent_is_shown_while_the_plan_waits(mesh, tickets, waiting):
    tickets.failure = DOWN
    await look(mesh)
    assert (await shown(mesh, waiting))["ticket"]["problem"] == "tickets.example does not answer"
    tickets.failure = None
    await look(mesh)
    assert (await shown(mesh, waiting))["ticket"]["problem"] == ""


async def test_a_plan_that_the_ticket_is_to_approve_names_its_ticket(mesh):
    problem = await refused(mesh, **FROM_TICKET, change_ticket="")
    assert problem["details"]["path"] == "change_ticket"
