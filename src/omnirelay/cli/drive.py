"""Carries a failover of any mode from whatever state it is in to its end.

The failover itself lives in the mesh; this only asks for the next step, so it can be interrupted anywhere and taken
up by anybody: `omnirelay mesh failovers resume ID`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from omnirelay.errors import ApprovalDenied, Incomplete, NotApproved, PlanExpired, Refused, Unavailable

if TYPE_CHECKING:
    from omnirelay.client.control import ControlClient

T = TypeVar("T")

NEXT_STEP = {
    "approved": "drain",
    "draining": "drain",
    "drained": "promote",
    "gathering": "promote",
    "fencing": "promote",
    "fenced": "promote",
    "promoted": "verify",
    "verify_failed": "verify",
    "verified": "complete",
}
HAPPENED = {
    ("gather", "started"): "gathering: {target} catches up from the most advanced cluster in reach",
    ("gather", "gathered"): "fencing: waiting for the lease of {source} to end",
    ("fence", "revoked"): "fencing: the claim of {source} was taken away; waiting until it cannot be valid any more",
    ("fence", "demoted"): "fencing: {source} lives and has closed; nobody needs to wait for its lease",
    ("fence", "fenced"): "fenced: the cut stands",
}
"""Step and event of the journal → what whoever waits is told of an emergency."""
FINAL_STATES = frozenset({"completed", "aborted", "denied", "expired"})
APPROVAL_POLL_SECONDS = 1.0
RETRY_SECONDS = 0.25
STEP_WAIT_SECONDS = 30.0
LIVE_WAIT_SECONDS = 1.0
"""Of a step whose progress is told."""
PATIENCE_SECONDS = 60.0
"""How long endpoints that do not answer are asked again once a drain may have begun."""


@dataclass
class Driver:
    client: ControlClient
    say: Callable[[str], None]
    """Told once for each thing that happened."""
    approval_timeout_seconds: float
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    _failing_since: float | None = field(default=None, init=False)
    _told: int = field(default=0, init=False)
    """So many entries of the journal."""

    def run(self, failover: dict[str, Any]) -> dict[str, Any]:
        """Returns the completed failover. Raises what a step was refused with, ApprovalDenied, PlanExpired, NotApproved
        after the approval timeout, Refused when it was aborted, Incomplete when the mesh cannot be reached half-way.
        """
        if failover["state"] == "awaiting_approval":
            failover = self._await_approval(failover)
        while failover["state"] not in FINAL_STATES:
            failover = self._step(failover, next_step(failover))
        return _completed(failover)

    def _await_approval(self, failover: dict[str, Any]) -> dict[str, Any]:
        failover_id = failover["id"]
        self.say(f"waiting for approval by someone other than {failover.get('requested_by')}:\n    {_where(failover)}")
        deadline = self.clock() + self.approval_timeout_seconds
        while failover["state"] == "awaiting_approval":
            if self.clock() >= deadline:
                raise NotApproved(
                    f"nobody approved {failover_id} within {self.approval_timeout_seconds:g} s; it stays open, and "
                    f"once approved goes on with: omnirelay mesh failovers resume {failover_id}",
                    failover_id=failover_id,
                    requested_by=failover.get("requested_by"),
                )
            self.sleep(APPROVAL_POLL_SECONDS)
            failover = self._patiently(failover_id, lambda: self.client.failover(failover_id).body) or failover
        approvers = [entry["principal"] for entry in failover.get("approvals", []) if entry["decision"] == "approve"]
        if approvers:
            self.say(f"approved by {', '.join(approvers)}")
        return failover

    def _step(self, failover: dict[str, Any], step: str) -> dict[str, Any]:
        failover_id = failover["id"]
        started = self.clock()
        wait = LIVE_WAIT_SECONDS if failover["mode"] == "emergency" and step == "promote" else STEP_WAIT_SECONDS
        self._told = len(failover["journal"])
        while True:
            answer = self._patiently(failover_id, lambda: self.client.step(failover_id, step, wait_seconds=wait))
            if answer is None:
                continue
            self._tell(answer.failover)
            if answer.done:
                self.say(f"{step}: {answer.failover['state']} ({self.clock() - started:.2f} s)")
                return answer.failover

    def _tell(self, failover: dict[str, Any]) -> None:
        for entry in failover["journal"][self._told :]:
            if line := HAPPENED.get((entry["step"], entry["event"])):
                self.say(line.format(source=failover["source"], target=failover["target"]))
        self._told = max(self._told, len(failover["journal"]))

    def _patiently(self, failover_id: str, ask: Callable[[], T]) -> T | None:
        """The answer, or None where no endpoint answers and there is patience left. Raises Incomplete without."""
        try:
            answer = ask()
        except Unavailable as error:
            now = self.clock()
            self._failing_since = now if self._failing_since is None else self._failing_since
            if now - self._failing_since >= PATIENCE_SECONDS:
                raise Incomplete(
                    f"the mesh cannot be reached: {error.message}; failover {failover_id} may stand between two steps",
                    failover_id=failover_id,
                ) from error
            self.sleep(RETRY_SECONDS)
            return None
        self._failing_since = None
        return answer


def next_step(failover: dict[str, Any]) -> str:
    """What carries it on. An emergency does not drain: its promotion gathers, fences and promotes."""
    if failover["mode"] == "emergency" and failover["state"] == "approved":
        return "promote"
    return NEXT_STEP[failover["state"]]


def _completed(failover: dict[str, Any]) -> dict[str, Any]:
    failover_id, problem = failover["id"], failover.get("problem") or "no reason was given"
    match failover["state"]:
        case "completed":
            return failover
        case "denied":
            deniers = [entry["principal"] for entry in failover.get("approvals", []) if entry["decision"] == "deny"]
            raise ApprovalDenied(f"failover {failover_id} was denied", principal=", ".join(deniers))
        case "expired":
            raise PlanExpired(f"the plan of {failover_id} expired", expires_at=failover["plan"]["expires_at"])
        case state:
            raise Refused(f"failover {failover_id} is {state}: {problem}", failover_id=failover_id)


def _where(failover: dict[str, Any]) -> str:
    """Where the approval is given."""
    if failover.get("approval_source") == "ticket":
        return f"change ticket {failover['change_ticket']} {(failover.get('ticket') or {}).get('url', '')}".rstrip()
    return f"omnirelay mesh failovers approve {failover['id']}"
