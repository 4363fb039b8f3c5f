"""A ticket system in memory, behind the port."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from omnirelay.errors import OmniRelayError, TicketNotFound
from omnirelay.model.ticket import (
    Ticket,
    TicketApproval,
    TicketDecision,
    TicketDocument,
    TicketLink,
    TicketNote,
    TicketReceipt,
)


@dataclass
class Kept:
    """What the system holds of one ticket."""

    ticket: Ticket
    notes: dict[str, str] = field(default_factory=dict)
    """Marker → text, in the order in which they came."""
    documents: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, TicketLink] = field(default_factory=dict)


class MemoryTickets:
    """`now_ms` is the ticket system's clock. While `failure` is set every call raises it; `lose_answers` more writes
    happen and raise it all the same."""

    system = "memory"

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self.kept: dict[str, Kept] = {}
        self.failure: OmniRelayError | None = None
        self.lost_answer: OmniRelayError | None = None
        self.exact = True
        """Whether the times of decisions are."""
        self.calls: list[tuple[str, str]] = []

    def open(self, number: str, **fields: object) -> None:
        """A ticket that is approved and may be carried out, unless `fields` say otherwise."""
        approved = Ticket(
            number=number,
            system=self.system,
            url=f"https://tickets.example/{number}",
            state="Scheduled",
            approval=TicketApproval.APPROVED,
            workable=True,
            closed=False,
        )
        self.kept[number] = Kept(replace(approved, **fields))  # type: ignore[arg-type]  # fields of Ticket

    def decide(self, number: str, user: str, decision: str = "approve", comment: str = "") -> None:
        """Somebody decides in the ticket system."""
        kept = self.kept[number]
        made = TicketDecision(user, (), decision, self._now_ms(), comment, self.exact)
        approval = TicketApproval.APPROVED if decision == "approve" else TicketApproval.REJECTED
        kept.ticket = replace(
            kept.ticket,
            approval=approval,
            workable=decision == "approve",
            decisions=(*kept.ticket.decisions, made),
        )

    def touch(self, number: str) -> None:
        """Somebody edits the decisions' records, and decides nothing."""
        kept = self.kept[number]
        touched = tuple(d if d.exact else replace(d, at_ms=self._now_ms()) for d in kept.ticket.decisions)
        kept.ticket = replace(kept.ticket, decisions=touched)

    def take_back(self, number: str, user: str) -> None:
        """The decision of this person is asked for again."""
        kept = self.kept[number]
        left = tuple(d for d in kept.ticket.decisions if d.user != user)
        kept.ticket = replace(kept.ticket, decisions=left, approval=TicketApproval.PENDING, workable=False)

    async def read(self, number: str, within: float | None = None) -> Ticket:
        return self._find("read", number).ticket

    async def note(self, number: str, note: TicketNote) -> TicketReceipt:
        self._find("note", number).notes.setdefault(note.marker, note.text)
        return self._receipt(number)

    async def attach(self, number: str, document: TicketDocument) -> TicketReceipt:
        self._find("attach", number).documents.setdefault(document.name, document.content)
        return self._receipt(number)

    async def link(self, number: str, link: TicketLink) -> TicketReceipt:
        self._find("link", number).links[link.marker] = link
        return self._receipt(number)

    async def close(self) -> None:
        return None

    def _find(self, call: str, number: str) -> Kept:
        self.calls.append((call, number))
        if self.failure is not None:
            raise self.failure
        if number not in self.kept:
            raise TicketNotFound(f"there is no change ticket {number!r}", ticket=number, system=self.system)
        return self.kept[number]

    def _receipt(self, number: str) -> TicketReceipt:
        if self.lost_answer is not None:
            lost, self.lost_answer = self.lost_answer, None
            raise lost
        return TicketReceipt(self._now_ms(), self.kept[number].ticket.url)
