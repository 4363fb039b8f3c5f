"""Change tickets: filled in while a failover goes on, and asked for its approval where the plan says so.

A failover never waits for its ticket. What the ticket is to hold follows from the failover's record
(omnirelay.failover.dossier); each replicator that has a ticket source looks what is missing and posts it, one of them
at a time, and what fails is tried again for a bounded time and stands as pending meanwhile. Of a plan that was refused
there is no record: the replicator that refused it posts one note, from its memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from omnirelay.errors import BadRequest, Conflict, NoTicketSource, OmniRelayError, TicketNotFound, TicketRefused
from omnirelay.failover import dossier as dossiers
from omnirelay.failover import report, ticket_notes
from omnirelay.failover.acknowledgement import noticed
from omnirelay.failover.approvals import bound_decisions, decide, principal_of
from omnirelay.failover.dossier import Dossier, Posting
from omnirelay.failover.modes import is_open
from omnirelay.failover.record import Approval, ApprovalSource, Failover, State
from omnirelay.model.readers import Acknowledgement
from omnirelay.model.ticket import Ticket, TicketDocument, TicketLink, TicketReceipt
from omnirelay.model.times import rfc3339, to_ms
from omnirelay.ports.clock import Clock
from omnirelay.ports.coordination import Compare, CoordinationStore, Put
from omnirelay.ports.tickets import TicketSource
from omnirelay.runtime.audit import Actor, Auditor, Deed
from omnirelay.runtime.documents import TICKETS
from omnirelay.runtime.failovers import Failovers
from omnirelay.runtime.ticket_reader import guarded
from omnirelay.runtime.view import MeshView

_log = logging.getLogger(__name__)

ATTEMPTS = 20
TICK_SECONDS = 1.0
HOLD_SECONDS = 120.0
"""For so long nobody else posts for a failover; whoever died while it posted is waited for no longer."""
OLD_SECONDS = 3600.0
"""What ended so long ago, before there was a ticket source, is not posted by itself."""

AuditRange = tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class TicketDuty:
    """The ticket source of a replicator, and how it is used."""

    source: TicketSource
    report: Callable[[Failover, AuditRange, Acknowledgement | None], bytes]
    """The evidence as JSON, the very bytes that are attached."""
    people: Mapping[str, str] = field(default_factory=dict)
    """Ticket system's user → principal."""
    poll_seconds: float = 5.0
    give_up_seconds: float = 86_400.0


class TicketDesk:
    """One per replicator that has a ticket source."""

    def __init__(
        self,
        cluster: str,
        duty: TicketDuty | None,
        store: CoordinationStore,
        view: MeshView,
        auditor: Auditor,
        failovers: Failovers,
        clock: Clock,
    ) -> None:
        self._cluster = cluster
        self._duty = duty
        self._store = store
        self._view = view
        self._auditor = auditor
        self._failovers = failovers
        self._clock = clock
        self._actor = Actor(f"cluster/{cluster}", "system")
        self._polled_at: dict[str, float] = {}

    async def run(self) -> None:
        """Until cancelled; ends at once without a ticket source."""
        if self._duty is None:
            return
        while True:
            seen = self._view.changed.version
            await self.look()
            await self._view.changed.wait_beyond(seen, TICK_SECONDS)

    async def look(self) -> None:
        """Does what is due now."""
        if self._duty is None:
            return
        for failover in list(self._view.failovers.values()):
            try:
                await self._serve(self._duty, failover)
            except OmniRelayError as error:
                _log.warning("ticket of failover %s: %s", failover.id, error.message)
        try:
            await self._tell_of_refusal(self._duty)
        except OmniRelayError as error:
            _log.warning("ticket of a refused plan: %s", error.message)

    async def ask_for(
        self, failover_id: str, change_ticket: str, actor: Actor, dry_run: bool
    ) -> tuple[Failover, Dossier]:
        """What is pending is tried at once, also what was given up. Names the ticket of a failover that has none.

        Raises NoTicketSource, NotFound, BadRequest without any ticket, Conflict when there is another one.
        """
        failover, _ = await self._failovers.load(failover_id)
        if self._duty is None:
            raise NoTicketSource("nothing can be posted: there is no ticket source", failover_id=failover_id)
        held = self._view.tickets.get(failover_id)
        known = held.ticket if held else failover.request.change_ticket
        if change_ticket and known and change_ticket != known:
            raise Conflict(f"failover {failover_id} has change ticket {known}", change_ticket=known)
        if not known and not change_ticket:
            raise BadRequest(f"failover {failover_id} has no change ticket; name one", path="change_ticket")
        deed = _deed("failover.ticket", failover, known or change_ticket, {"pending": dossiers.due(failover, held)})
        if dry_run:
            return failover, dossiers.succeeded(held or Dossier(failover_id, known or change_ticket))
        return failover, await self._change(failover_id, known or change_ticket, dossiers.succeeded, actor, deed)

    # --- one failover --------------------------------------------------------------------------------------------

    async def _serve(self, duty: TicketDuty, failover: Failover) -> None:
        held = self._view.tickets.get(failover.id)
        number = held.ticket if held else failover.request.change_ticket
        if not number or (held is None and self._is_old(failover)):
            return
        missing = dossiers.due(failover, held)
        if missing and self._may_try(held) and await self._hold(failover, number):
            await self._post_all(duty, failover, number, missing)
            held = self._view.tickets.get(failover.id)
        if self._waits_for_approval(failover, held):
            await self._look_for_approvals(duty, failover, number)

    def _is_old(self, failover: Failover) -> bool:
        age = self._clock.wall_ms() - to_ms(failover.journal[-1].at)
        return not is_open(failover) and age > OLD_SECONDS * 1000

    def _may_try(self, held: Dossier | None) -> bool:
        if held is None:
            return True
        others = held.holder not in ("", self._cluster) and held.held_until > self._now()
        return not others and not held.gave_up and held.retry_at <= self._now()

    async def _hold(self, failover: Failover, number: str) -> bool:
        """Whether this replicator may post. It is a courtesy, not a lock: the ticket source looks before it posts."""
        until = rfc3339(self._clock.wall_ms() + int(HOLD_SECONDS * 1000))
        mine = await self._change(
            failover.id,
            number,
            lambda d: replace(d, holder=self._cluster, held_until=until) if self._may_try(d) else d,
        )
        return mine.holder == self._cluster

    async def _post_all(self, duty: TicketDuty, failover: Failover, number: str, missing: tuple[str, ...]) -> None:
        done: list[Posting] = []
        url = ""
        failure: OmniRelayError | None = None
        held = self._view.tickets.get(failover.id) or Dossier(failover.id, number)
        stale = held.stale
        for key in missing:
            try:
                receipt, posting = await self._post(duty, failover, number, key, (*held.posted, *done))
                if key == "plan" and failover.request.approval_source is ApprovalSource.TICKET:
                    stale = await self._standing(duty, number, receipt)
            except TicketRefused as error:
                failure = error  # of this one; the others may well be taken
                continue
            except OmniRelayError as error:
                failure = error
                break
            done.append(posting)
            url = receipt.url
        deed = _deed("ticket.posted", failover, number, {p.key: p.sha256 for p in done})

        def settle(dossier: Dossier) -> Dossier:
            settled = dossiers.posted(replace(dossier, holder="", held_until=""), done)
            settled = replace(settled, url=url or settled.url, system=duty.source.system, stale=stale)
            return self._failed(duty, settled, failure) if failure else dossiers.succeeded(settled)

        await self._change(failover.id, number, settle, self._actor, deed if done else None)
        if failure is not None:
            _log.warning("change ticket %s of failover %s: %s", number, failover.id, failure.message)

    def _failed(self, duty: TicketDuty, dossier: Dossier, failure: OmniRelayError) -> Dossier:
        since = dossier.failing_since or self._now()
        pause = dossiers.pause_seconds(dossier.failed, failure.details.get("retry_after_seconds"))
        now_ms = self._clock.wall_ms()
        return replace(
            dossier,
            problem=failure.message,
            hint=type(failure)(
                failure.message, **{"failover_id": dossier.failover_id, **failure.details}
            ).operator_hint,
            failed=dossier.failed + 1,
            failing_since=since,
            retry_at=rfc3339(now_ms + int(pause * 1000)),
            gave_up=now_ms - to_ms(since) > duty.give_up_seconds * 1000,
        )

    async def _post(
        self, duty: TicketDuty, failover: Failover, number: str, key: str, held: tuple[Posting, ...]
    ) -> tuple[TicketReceipt, Posting]:
        source = duty.source
        stem, _, kind = key.partition(".")
        if kind:
            document = await self._document(duty, failover, stem, kind)
            receipt = await guarded(source.attach(number, document))
            return receipt, Posting(key, rfc3339(receipt.at_ms), document.name, document.sha256)
        if key == "link":
            link = TicketLink(
                ticket_notes.marker(failover.id, key), self._run_url(failover), ticket_notes.link_title(failover)
            )
            receipt = await guarded(source.link(number, link))
            return receipt, Posting(key, rfc3339(receipt.at_ms), link.url)
        if key == "plan":
            note = ticket_notes.plan_note(failover)
        elif key == "started":
            note = ticket_notes.started_note(failover)
        elif key.startswith("approval "):
            note = ticket_notes.approval_note(failover, int(key.removeprefix("approval ")))
        else:
            documents = [posting for posting in held if posting.key in (f"{_report(key)}.json", f"{_report(key)}.md")]
            note = ticket_notes.end_note(failover, key, await self._audit_range(failover), documents)
        receipt = await guarded(source.note(number, note))
        return receipt, Posting(key, rfc3339(receipt.at_ms))

    @staticmethod
    async def _standing(duty: TicketDuty, number: str, noted: TicketReceipt) -> tuple[str, ...]:
        """Who had decided when the plan was noted."""
        ticket = await guarded(duty.source.read(number))
        return tuple(sorted({d.user for d in ticket.decisions if d.at_ms <= noted.at_ms}))

    async def _document(self, duty: TicketDuty, failover: Failover, stem: str, kind: str) -> TicketDocument:
        """Named after its digest, so that a report which grew meanwhile is another document."""
        audit = await self._audit_range(failover)
        readers = noticed(failover, self._view.evidence())
        if kind == "json":
            content, media_type = duty.report(failover, audit, readers), "application/json"
        else:
            content, media_type = report.markdown(failover, audit, readers).encode(), "text/markdown"
        digest = TicketDocument("", media_type, content).sha256[:8]
        return TicketDocument(f"omnirelay-{failover.id}-{stem}-{digest}.{kind}", media_type, content)

    async def _audit_range(self, failover: Failover) -> AuditRange:
        return await self._auditor.range_of(f"failovers/{failover.id}", "failover.plan")

    def _run_url(self, failover: Failover) -> str:
        """The run, where whoever began it has named it; else the failover in the control API."""
        if ticket_notes.is_address(failover.run_url):
            return failover.run_url
        descriptor = self._view.clusters.get(failover.request.target) or self._view.clusters.get(self._cluster)
        control = descriptor.endpoints.control if descriptor else ""
        return f"{control.rstrip('/')}/control/failovers/{failover.id}"

    # --- refused plans -------------------------------------------------------------------------------------------

    async def _tell_of_refusal(self, duty: TicketDuty) -> None:
        """Of one at a time: failovers come first."""
        waiting = self._failovers.refusals.due()
        if waiting is None:
            return
        refusal = waiting.refusal
        number = refusal.request.change_ticket
        if refusal.overtaken(self._view.failovers.values()):
            waiting.settled = True
            return
        try:
            await guarded(duty.source.note(number, ticket_notes.refusal_note(refusal)))
        except OmniRelayError as error:
            if isinstance(error, TicketNotFound | TicketRefused):  # the same note again would be refused again
                waiting.settled = True
            else:
                asked_for = error.details.get("retry_after_seconds")
                self._failovers.refusals.put_off(waiting, asked_for, duty.give_up_seconds)
            raise
        waiting.settled = True
        deed = Deed(
            "ticket.posted",
            f"tickets/{refusal.id}",
            change_ticket=number,
            run_url=refusal.run_url,
            after={"refused": refusal.digest},
        )
        await self._auditor.commit([], [], self._actor, deed)

    # --- approvals -----------------------------------------------------------------------------------------------

    def _waits_for_approval(self, failover: Failover, held: Dossier | None) -> bool:
        if failover.request.approval_source is not ApprovalSource.TICKET or held is None:
            return False
        return failover.state is State.AWAITING_APPROVAL and held.posting("plan") is not None

    async def _look_for_approvals(self, duty: TicketDuty, failover: Failover, number: str) -> None:
        now = self._clock.monotonic()
        if now - self._polled_at.get(failover.id, -duty.poll_seconds) < duty.poll_seconds:
            return
        self._polled_at[failover.id] = now
        try:
            ticket = await guarded(duty.source.read(number))
            await self._take_over(duty, failover, ticket)
        except OmniRelayError as error:
            await self._tell(failover, number, error)
        else:
            await self._tell(failover, number, None)

    async def _take_over(self, duty: TicketDuty, failover: Failover, ticket: Ticket) -> None:
        noted = {
            other.failover_id: to_ms(plan.at)
            for other in self._view.tickets.values()
            if other.ticket == failover.request.change_ticket and (plan := other.posting("plan"))
        }
        mine = noted.pop(failover.id)
        stale = self._view.tickets[failover.id].stale
        standing = tuple(user for user in stale if user in {decision.user for decision in ticket.decisions})
        if standing != stale:  # whose decision was taken back can decide anew
            await self._change(failover.id, ticket.number, lambda d: replace(d, stale=standing))
        for decision in bound_decisions(ticket.decisions, mine, noted.values(), standing):
            principal = principal_of(decision, ticket.system, duty.people, failover.requested_by)
            comment = f"in {ticket.number} at {rfc3339(decision.at_ms)}" + (
                f": {decision.comment}" if decision.comment else ""
            )
            approval = Approval(
                principal, decision.decision, failover.plan.hash, self._now(), comment, "ticket", ticket.number
            )

            def change(before: Failover, approval: Approval = approval) -> Failover:
                decided = decide(before, approval)
                return replace(decided, ticket=replace(ticket, decisions=())) if decided != before else before

            actor = Actor(principal, "system")
            await self._failovers.mutate(failover.id, change, actor, f"failover.{decision.decision}", comment)

    async def _tell(self, failover: Failover, number: str, error: OmniRelayError | None) -> None:
        """Shows in the dossier why no approval came from the ticket."""
        problem, hint = (error.message, error.operator_hint) if error else ("", "")
        await self._change(failover.id, number, lambda d: d if d.failed else replace(d, problem=problem, hint=hint))

    # --- writing -------------------------------------------------------------------------------------------------

    async def _change(
        self,
        failover_id: str,
        number: str,
        change: Callable[[Dossier], Dossier],
        actor: Actor | None = None,
        deed: Deed | None = None,
    ) -> Dossier:
        """By compare-and-set, with an audit entry where there is a deed. Brings the view up to it."""
        key = TICKETS.key(failover_id)
        for _ in range(ATTEMPTS):
            entry = await self._store.get(key)
            before = TICKETS.decode(entry.value) if entry else Dossier(failover_id, number)
            after = change(before)
            if entry is not None and after == before:
                return after
            compares, writes = [Compare(key, entry.revision if entry else 0)], [Put(key, TICKETS.encode(after))]
            if actor is not None and deed is not None:
                written = await self._auditor.commit(compares, writes, actor, deed)
            else:
                written = (await self._store.transact(compares, writes)).succeeded
            if written:
                await self._view.refresh()
                return after
        raise Conflict(f"the ticket of failover {failover_id} was changed by others all the time")

    def _now(self) -> str:
        return rfc3339(self._clock.wall_ms())


def _report(key: str) -> str:
    """Which documents belong to a note about an end."""
    return "report" if key == "finished" else key


def _deed(action: str, failover: Failover, number: str, after: Any) -> Deed:
    """Its subject is the ticket: the failover's own story in the audit chain ends with the failover."""
    return Deed(
        action=action,
        subject=f"tickets/{failover.id}",
        change_ticket=number,
        run_url=failover.run_url,
        after=after,
    )
