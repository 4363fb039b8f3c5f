"""The ticket system, as the control plane uses it: read a change, and put into it what happened."""

from __future__ import annotations

from typing import Protocol

from omnirelay.model.ticket import Ticket, TicketDocument, TicketLink, TicketNote, TicketReceipt


class TicketSource(Protocol):
    """Every call ends within a bounded time. It raises

    - TicketUnavailable when the ticket system does not answer, or not as it should; `retry_after_seconds` is in the
      details where it asked for that much patience;
    - TicketCredentialsRefused when it does not accept who we are;
    - TicketNotFound when it has no such ticket;
    - TicketRefused when it does not take what was sent.

    What writes may be repeated: it looks first, and what the ticket holds already is not put there again, also when
    the answer to an earlier call was lost. Calls for the same ticket are made one after the other.
    """

    @property
    def system(self) -> str:
        """`servicenow`, `jira`, `webhook`; the first part of an approver's principal."""
        ...

    async def read(self, number: str, within: float | None = None) -> Ticket:
        """`within`: seconds that this call may take, where that is less than what is configured."""
        ...

    async def note(self, number: str, note: TicketNote) -> TicketReceipt: ...

    async def attach(self, number: str, document: TicketDocument) -> TicketReceipt: ...

    async def link(self, number: str, link: TicketLink) -> TicketReceipt:
        """With the ticket system's own kind of link; as a note where it has none."""
        ...

    async def close(self) -> None: ...
