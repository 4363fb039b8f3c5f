"""The port of ticket systems: every adapter against a system that answers as the vendor's published API does, and the
fake that stands in for all of them."""

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.system.support.ticket_systems import (
    SECRET,
    Fault,
    JiraServer,
    ServiceNowServer,
    TicketServer,
    WebhookServer,
)

from omnirelay.config.tickets import TicketSettings
from omnirelay.errors import (
    TicketCredentialsRefused,
    TicketNotFound,
    TicketRefused,
    TicketUnavailable,
)
from omnirelay.model.ticket import TicketApproval, TicketDocument, TicketLink, TicketNote
from omnirelay.ports.tickets import TicketSource
from omnirelay.testing.memory_tickets import MemoryTickets
from omnirelay.tickets import open_source

NOTE = TicketNote("[omnirelay fo-1 plan]", "The plan.\n\n[omnirelay fo-1 plan]")
REPORT = TicketDocument("fo-1.md", "text/markdown", "# Report\n\nüber".encode())
LINK = TicketLink("omnirelay fo-1", "https://awx.example/#/jobs/7", "Failover fo-1")
HOUR_MS = 3_600_000
TICKET = "CHG-42"


class MemoryHarness:
    """The fake, spoken to as the servers are."""

    kind = "memory"

    def __init__(self) -> None:
        self.source = MemoryTickets(lambda: round(time.time() * 1000))

    def now_ms(self) -> int:
        return round(time.time() * 1000)

    def open(self, number, approved=True, state=None, starts_ms=None, ends_ms=None) -> None:
        approval = {None: TicketApproval.PENDING, True: TicketApproval.APPROVED, False: TicketApproval.REJECTED}
        self.source.open(
            number,
            approval=approval[approved],
            workable=bool(approved),
            closed=state == "Canceled",
            starts_ms=starts_ms,
            ends_ms=ends_ms,
        )

    def decide(self, number, user, decision="approve") -> None:
        self.source.decide(number, user, decision)

    def notes(self, number):
        return list(self.source.kept[number].notes.values())

    def documents(self, number):
        return dict(self.source.kept[number].documents)

    def links(self, number):
        return [link.url for link in self.source.kept[number].links.values()]

    def lose_the_answer_of_the_next_write(self) -> None:
        self.source.lost_answer = TicketUnavailable("the answer was lost")


SERVERS = {"servicenow": ServiceNowServer, "jira": JiraServer, "webhook": WebhookServer}


@pytest.fixture(params=[*SERVERS, "memory"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def desk(kind: str, tmp_path: Path):
    """`system` is the ticket system, `source` what the control plane holds of it."""
    if kind == "memory":
        harness = MemoryHarness()
        yield SimpleNamespace(system=harness, source=harness.source)
        return
    server = SERVERS[kind]()
    with server.running():
        source = opened(server, tmp_path)
        yield SimpleNamespace(system=server, source=source)
        await source.close()


@pytest.fixture(params=list(SERVERS))
async def remote(request: pytest.FixtureRequest, tmp_path: Path):
    """One of the systems that are reached over the network."""
    server = SERVERS[request.param]()
    with server.running():
        source = opened(server, tmp_path)
        server.open(TICKET)
        yield SimpleNamespace(system=server, source=source, directory=tmp_path)
        await source.close()


def opened(server: TicketServer, directory: Path, **changes: object) -> TicketSource:
    section = {"timeout": "2s", "deadline": "4s", "retries": 2, **server.settings(directory), **changes}
    return open_source(TicketSettings.model_validate(section))


# --- reading ------------------------------------------------------------------------------------------------------


async def test_an_approved_ticket_reads_as_one_that_may_be_carried_out(desk) -> None:
    now = desk.system.now_ms()
    desk.system.open(TICKET, starts_ms=now - HOUR_MS, ends_ms=now + HOUR_MS)
    ticket = await desk.source.read(TICKET)
    assert (ticket.number, ticket.approval, ticket.workable, ticket.closed) == (
        TICKET,
        TicketApproval.APPROVED,
        True,
        False,
    )
    assert ticket.starts_ms is not None
    assert ticket.ends_ms is not None
    assert abs(ticket.starts_ms - (now - HOUR_MS)) <= 1000
    assert abs(ticket.ends_ms - (now + HOUR_MS)) <= 1000
    assert ticket.url.startswith("http")
    assert ticket.system == desk.source.system


async def test_a_ticket_without_window_names_none(desk) -> None:
    desk.system.open(TICKET)
    ticket = await desk.source.read(TICKET)
    assert (ticket.starts_ms, ticket.ends_ms, ticket.decisions) == (None, None, ())


async def test_a_ticket_that_waits_for_approval_reads_so(desk) -> None:
    desk.system.open(TICKET, approved=None)
    ticket = await desk.source.read(TICKET)
    assert (ticket.approval, ticket.workable, ticket.closed) == (TicketApproval.PENDING, False, False)


async def test_a_ticket_that_is_cancelled_is_closed(desk) -> None:
    desk.system.open(TICKET, approved=False, state="Canceled")
    ticket = await desk.source.read(TICKET)
    assert (ticket.approval, ticket.workable, ticket.closed) == (TicketApproval.REJECTED, False, True)


@pytest.mark.parametrize("decision", ["approve", "deny"])
async def test_a_decision_names_who_made_it_and_when(desk, decision: str) -> None:
    desk.system.open(TICKET, approved=None)
    before = desk.system.now_ms()
    desk.system.decide(TICKET, "jane", decision)
    (made,) = (await desk.source.read(TICKET)).decisions
    assert (made.user, made.decision) == ("jane", decision)
    assert before - 1000 <= made.at_ms <= desk.system.now_ms()
    assert made.exact is (desk.source.system != "servicenow")


@pytest.mark.parametrize("number", ["CHG-404", "CHG^numberSTARTSWITHCHG", "../CHG-1", "CHG-1\nX: y", ""])
async def test_a_ticket_that_is_not_there_is_not_found(desk, number: str) -> None:
    desk.system.open(TICKET)
    with pytest.raises(TicketNotFound):
        await desk.source.read(number)


# --- writing ------------------------------------------------------------------------------------------------------


async def test_a_note_is_in_the_ticket_once_however_often_it_is_given(desk) -> None:
    desk.system.open(TICKET)
    before = desk.system.now_ms()
    first = await desk.source.note(TICKET, NOTE)
    await desk.source.note(TICKET, NOTE)
    other = TicketNote("[omnirelay fo-2 plan]", "Another.\n\n[omnirelay fo-2 plan]")
    await desk.source.note(TICKET, other)
    assert desk.system.notes(TICKET) == [NOTE.text, other.text]
    assert before - 1000 <= first.at_ms <= desk.system.now_ms()
    assert first.url == (await desk.source.read(TICKET)).url


async def test_a_document_is_in_the_ticket_once_byte_for_byte(desk) -> None:
    desk.system.open(TICKET)
    await desk.source.attach(TICKET, REPORT)
    await desk.source.attach(TICKET, REPORT)
    await desk.source.attach(TICKET, TicketDocument("fo-1.json", "application/json", b"{}\n"))
    assert desk.system.documents(TICKET) == {"fo-1.md": REPORT.content, "fo-1.json": b"{}\n"}


async def test_a_link_leads_to_the_run_and_is_there_once(desk) -> None:
    desk.system.open(TICKET)
    await desk.source.link(TICKET, LINK)
    await desk.source.link(TICKET, LINK)
    found = desk.system.links(TICKET) or desk.system.notes(TICKET)
    assert len(found) == 1
    assert LINK.url in found[0]


async def test_nothing_can_be_put_into_a_ticket_that_is_not_there(desk) -> None:
    with pytest.raises(TicketNotFound):
        await desk.source.note("CHG-404", NOTE)
    with pytest.raises(TicketNotFound):
        await desk.source.attach("CHG-404", REPORT)
    with pytest.raises(TicketNotFound):
        await desk.source.link("CHG-404", LINK)


async def test_what_was_written_while_the_answer_was_lost_is_not_written_again(desk) -> None:
    desk.system.open(TICKET)
    if desk.source.system == "memory":
        desk.system.lose_the_answer_of_the_next_write()
    else:
        method = {"servicenow": "PATCH"}.get(desk.system.kind, "POST")
        desk.system.faults.append(Fault(method=method, lose_answer=True))
    try:
        await desk.source.note(TICKET, NOTE)
    except TicketUnavailable:
        await desk.source.note(TICKET, NOTE)
    assert desk.system.notes(TICKET) == [NOTE.text]


# --- when the system is not well ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_read_is_tried_again_after_a_passing_fault(remote, status: int) -> None:
    remote.system.faults += [Fault(status), Fault(status)]
    assert (await remote.source.read(TICKET)).number == TICKET


async def test_a_fault_that_does_not_pass_is_told_after_the_last_try(remote) -> None:
    remote.system.faults += [Fault(503)] * 20
    with pytest.raises(TicketUnavailable, match="503"):
        await remote.source.read(TICKET)
    assert len(remote.system.asked) == 3


@pytest.mark.parametrize("status", [429, 503])
async def test_nothing_is_asked_before_the_time_that_retry_after_names(remote, status: int) -> None:
    remote.system.faults.append(Fault(status, {"Retry-After": "1"}))
    began = time.monotonic()
    await remote.source.note(TICKET, NOTE)
    assert time.monotonic() - began >= 1
    assert remote.system.notes(TICKET) == [NOTE.text]


async def test_a_retry_after_beyond_the_deadline_is_told_at_once(remote) -> None:
    remote.system.faults.append(Fault(429, {"Retry-After": "3600"}))
    with pytest.raises(TicketUnavailable) as refused:
        await remote.source.read(TICKET)
    assert refused.value.details["retry_after_seconds"] == 3600
    assert len(remote.system.asked) == 1


async def test_a_retry_after_may_be_a_date(remote) -> None:
    remote.system.faults.append(Fault(503, {"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}))
    with pytest.raises(TicketUnavailable) as refused:
        await remote.source.read(TICKET)
    assert refused.value.details["retry_after_seconds"] > 1_000_000


async def test_a_system_that_hangs_costs_no_more_than_the_deadline(remote, tmp_path: Path) -> None:
    source = opened(remote.system, tmp_path, timeout="200ms", deadline="500ms")
    remote.system.faults += [Fault(hang=True)] * 20
    with pytest.raises(TicketUnavailable, match="did not answer within"):
        async with asyncio.timeout(20):
            await source.read(TICKET)
    await source.close()


async def test_a_caller_with_less_time_waits_less(remote) -> None:
    remote.system.faults += [Fault(hang=True)] * 20
    with pytest.raises(TicketUnavailable, match=r"within 0\.[12] s"):
        await remote.source.read(TICKET, within=0.2)


async def test_nobody_at_the_address_is_told(kind: str, tmp_path: Path) -> None:
    if kind == "memory":
        return
    server = SERVERS[kind]()
    with server.running():
        pass
    source = opened(server, tmp_path, retries=0)
    with pytest.raises(TicketUnavailable, match="refused") as told:
        await source.read(TICKET)
    assert server.url in told.value.operator_hint
    await source.close()


async def test_an_expired_credential_is_told_with_the_file_to_renew_and_a_new_one_needs_no_restart(remote) -> None:
    remote.system.secret = "the new one"
    with pytest.raises(TicketCredentialsRefused) as refused:
        await remote.source.read(TICKET)
    file = remote.directory / f"{remote.system.kind}.secret"
    assert str(file) in refused.value.operator_hint
    assert SECRET not in refused.value.message + refused.value.operator_hint
    assert len(remote.system.asked) == 1, "a refused credential is not tried again: accounts get locked"
    file.write_text("the new one")
    if isinstance(remote.system, WebhookServer):
        remote.system.signs_with = "the new one"
    assert (await remote.source.read(TICKET)).number == TICKET


@pytest.mark.parametrize("content", [None, "", "two\nlines"], ids=["missing", "empty", "not one line"])
async def test_a_credential_file_without_credential_is_told(remote, content: str | None) -> None:
    file = remote.directory / f"{remote.system.kind}.secret"
    file.unlink()
    if content is not None:
        file.write_text(content)
    with pytest.raises(TicketCredentialsRefused, match="credential"):
        await remote.source.read(TICKET)
    assert remote.system.asked == []


async def test_an_account_without_permission_is_told(remote) -> None:
    remote.system.faults.append(Fault(403))
    with pytest.raises(TicketRefused, match="forbids"):
        await remote.source.read(TICKET)


async def test_what_the_system_does_not_take_is_told_in_its_own_words(remote) -> None:
    words = {
        "servicenow": b'{"error":{"message":"Data Policy Exception","detail":"closed"},"status":"failure"}',
        "jira": b'{"errorMessages":["Data Policy Exception"],"errors":{"comment":"closed"}}',
        "webhook": b'{"message":"Data Policy Exception: closed"}',
    }
    remote.system.faults.append(Fault(400, body=words[remote.system.kind]))
    with pytest.raises(TicketRefused, match=r"400: Data Policy Exception.*closed"):
        await remote.source.note(TICKET, NOTE)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(302, {"Location": "https://login.example/"}),
        Fault(200, body=b"<html>Your instance is hibernating</html>"),
        Fault(200, body=b'{"surprise": 1}'),
        Fault(200, body=b"[]"),
        Fault(200, body=b"null"),
    ],
    ids=["redirect to a login", "a page", "another document", "a list", "null"],
)
async def test_an_answer_of_another_form_is_no_answer(remote, fault: Fault) -> None:
    remote.system.faults += [fault] * 3
    with pytest.raises(TicketUnavailable):
        await remote.source.read(TICKET)


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b'{"result": 7}', b'{"result": [null]}', b'{"comments": 7, "fields": 7}']
)
async def test_nor_is_it_when_something_is_written(remote, body: bytes) -> None:
    for write, what in ((remote.source.note, NOTE), (remote.source.attach, REPORT), (remote.source.link, LINK)):
        remote.system.faults += [Fault(200, body=body)] * 3
        with pytest.raises(TicketUnavailable):
            await write(TICKET, what)
        remote.system.faults.clear()


async def test_an_answer_without_end_is_cut_off(remote) -> None:
    remote.system.faults += [Fault(200, body=b"x" * (5 * 1024 * 1024))] * 3
    with pytest.raises(TicketUnavailable, match="more than"):
        await remote.source.read(TICKET)


async def test_the_environments_proxies_and_netrc_do_not_count(remote, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = remote.directory / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert (await remote.source.read(TICKET)).number == TICKET


async def test_the_event_loop_goes_on_while_the_system_hangs(remote) -> None:
    remote.system.faults += [Fault(hang=True)] * 20
    waiting = asyncio.create_task(remote.source.read(TICKET, within=1))
    turns = 0
    while not waiting.done():
        await asyncio.sleep(0)
        turns += 1
    with pytest.raises(TicketUnavailable):
        await waiting
    assert turns > 10


async def test_a_token_goes_as_bearer(tmp_path: Path) -> None:
    for kind in ("servicenow", "jira"):
        server = SERVERS[kind]()
        server.open(TICKET)
        with server.running():
            section = server.settings(tmp_path)
            del section[kind]["username"]
            source = open_source(TicketSettings.model_validate({**section, "retries": 0}))
            with pytest.raises(TicketCredentialsRefused):  # the servers here know basic authentication only
                await source.read(TICKET)
            await source.close()
        assert server.asked[0].headers["Authorization"] == f"Bearer {SECRET}"


# --- the signed webhook -------------------------------------------------------------------------------------------


@pytest.fixture
async def webhook(tmp_path: Path):
    server = WebhookServer()
    server.open(TICKET)
    with server.running():
        source = opened(server, tmp_path, retries=0)
        yield SimpleNamespace(system=server, source=source)
        await source.close()


async def test_an_answer_that_somebody_else_signed_is_no_answer(webhook) -> None:
    webhook.system.signs_with = "somebody else's"
    with pytest.raises(TicketUnavailable, match="signature is wrong"):
        await webhook.source.read(TICKET)


@pytest.mark.parametrize("off_ms", [-400_000, 400_000])
async def test_an_answer_from_outside_of_the_replay_window_is_no_answer(webhook, off_ms: int) -> None:
    webhook.system.signs_at_ms = off_ms
    with pytest.raises(TicketUnavailable, match="300 s are allowed"):
        await webhook.source.read(TICKET)


async def test_an_answer_that_is_not_signed_is_no_answer(webhook) -> None:
    webhook.system.faults.append(Fault(200, body=b"{}"))
    with pytest.raises(TicketUnavailable, match="not signed"):
        await webhook.source.read(TICKET)


async def test_an_answer_to_another_request_is_no_answer(webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = webhook.system.answer
    monkeypatch.setattr(
        webhook.system, "answer", lambda asked: (200, {**answer(asked)[1], "id": "the one that was recorded"})
    )
    with pytest.raises(TicketUnavailable, match="another request"):
        await webhook.source.read(TICKET)


async def test_the_secret_is_never_sent(webhook) -> None:
    await webhook.source.note(TICKET, NOTE)
    (asked,) = webhook.system.asked
    assert SECRET.encode() not in asked.body
    assert SECRET not in str(asked.headers)
