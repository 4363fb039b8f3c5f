"""Change tickets before a failover: what the preflight judges."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from omnirelay.errors import BadRequest, NoTicketSource, OmniRelayError, TicketUnavailable
from omnirelay.failover.record import ApprovalSource, Failover, Mode, Request
from omnirelay.failover.ticket_check import NOT_ASKED, TicketReading
from omnirelay.model.ticket import TicketApproval
from omnirelay.ports.tickets import TicketSource

_log = logging.getLogger(__name__)
T = TypeVar("T")

EMERGENCY_READ_SECONDS = 1.0
"""An emergency waits no longer for its ticket."""


class TicketReader:
    """Asks for a plan's ticket. Never raises: that a ticket cannot be read is a finding too."""

    def __init__(self, source: TicketSource | None) -> None:
        self._source = source

    def require(self, request: Request) -> None:
        """Raises unless approvals can come from where the request says."""
        if request.approval_source is not ApprovalSource.TICKET:
            return
        if self._source is None:
            raise NoTicketSource("approvals cannot be read in the ticket: there is no ticket source")
        if not request.change_ticket:
            raise BadRequest("approvals shall come from the change ticket, and none is named", path="change_ticket")

    async def reading(self, request: Request) -> TicketReading:
        """For a new plan."""
        if self._source is None or not request.change_ticket:
            return replace(NOT_ASKED, configured=self._source is not None)
        within = EMERGENCY_READ_SECONDS if request.mode is Mode.EMERGENCY else None
        return await self._read(self._source, request, TicketReading(configured=True), within)

    async def again(self, failover: Failover) -> TicketReading:
        """For a plan that is about to begin. An emergency goes by what was read when it was planned."""
        request = failover.request
        if self._source is None or not request.change_ticket:
            return replace(NOT_ASKED, configured=self._source is not None)
        before = failover.ticket
        if before is not None and request.approval_source is ApprovalSource.TICKET:
            # The plan itself was not approved yet; by now its approvals say more than that reading does.
            before = replace(before, approval=TicketApproval.APPROVED, workable=True)
        base = TicketReading(configured=True, before=before, planning=False)
        if request.mode is Mode.EMERGENCY:
            return base if before is not None else replace(base, problem="it was not asked for again")
        return await self._read(self._source, request, base, None)

    @staticmethod
    async def _read(source: TicketSource, request: Request, base: TicketReading, within: float | None) -> TicketReading:
        try:
            ticket = await guarded(source.read(request.change_ticket, within))
        except OmniRelayError as error:
            return replace(base, problem=error.message, hint=error.operator_hint)
        return replace(base, ticket=ticket)


async def guarded(asking: Coroutine[Any, Any, T]) -> T:
    """A ticket system may answer with anything; none of it may end a replicator."""
    try:
        return await asking
    except OmniRelayError:
        raise
    except Exception as error:
        _log.exception("a ticket source has a defect")
        raise TicketUnavailable(f"the ticket source has a defect: {type(error).__name__}: {error}") from error
