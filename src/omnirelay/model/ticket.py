"""A change ticket as the mesh reads it, and what the mesh puts into it.

Times are milliseconds since the Unix epoch by the ticket system's own clock, so that two of them can be compared.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum


class TicketApproval(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class TicketDecision:
    """What one person decided in the ticket system."""

    user: str
    """As the ticket system identifies them: a login name, an e-mail address or an account id."""
    names: tuple[str, ...]
    """Everything else that the ticket system calls them: e-mail address, display name."""
    decision: str
    """`approve` or `deny`."""
    at_ms: int
    comment: str = ""
    exact: bool = True
    """False: `at_ms` may be later than the decision, because any change of its record moves it."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket says at the moment at which it was read."""

    number: str
    system: str
    url: str
    """For people."""
    state: str
    """In the ticket system's own words."""
    approval: TicketApproval
    workable: bool
    """Its state is one in which the change may be carried out."""
    closed: bool
    """It is over: closed or cancelled."""
    starts_ms: int | None = None
    ends_ms: int | None = None
    """The window; None where the ticket names no such limit."""
    decisions: tuple[TicketDecision, ...] = ()


@dataclass(frozen=True, slots=True)
class TicketNote:
    """Text for the ticket. A ticket never holds two notes with the same marker."""

    marker: str
    """Stands in the text, at its end."""
    text: str


@dataclass(frozen=True, slots=True)
class TicketDocument:
    """A file for the ticket. A ticket never holds two with the same name."""

    name: str
    media_type: str
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class TicketLink:
    """Where the run can be seen. A ticket never holds two with the same marker."""

    marker: str
    url: str
    title: str


@dataclass(frozen=True, slots=True)
class TicketReceipt:
    """The ticket holds what was given to it."""

    at_ms: int
    """Not before it was put there, by the ticket system's clock."""
    url: str
    """The ticket, for people."""
