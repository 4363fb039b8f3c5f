"""The planned failover: zero loss, or it undoes itself (I9).

    awaiting_approval   the plan is stored; producers work
    approved            enough people agreed to this plan's hash
    draining            the intent is stored with its deadline; the source closes, writes the barrier, signs that it did
    drained             the target has proven that it holds the barrier; nobody admits writes
    promoted            ownership, epoch, cut and routing changed in one compare-and-set (I8); the target admits writes
    verified            a canary went through the new active and came back to the old one
    verify_failed       the canary did not come back in time: writes go on, the way home is not proven; it may be
                        verified again, or completed for a reason when the old active is gone for good
    completed           the report is closed
    aborted             undone before promotion, by a person or by the drain's deadline; the source admits writes

Before promotion everything can be undone; after it the only way is forward, or a new failover. `drain_expired` is
the source's own undo: it is the same compare-and-set on the same key as `promote`, so one excludes the other (I10).
"""

from __future__ import annotations

from omnirelay.failover.events import Event
from omnirelay.failover.machine import Machine
from omnirelay.failover.record import PlanStep, State

MACHINE: Machine[State, Event] = Machine(
    "planned",
    {
        State.AWAITING_APPROVAL: {
            Event.APPROVE: State.APPROVED,
            Event.DENY: State.DENIED,
            Event.EXPIRE: State.EXPIRED,
            Event.ABORT: State.ABORTED,
        },
        State.APPROVED: {
            Event.DRAIN: State.DRAINING,
            Event.DENY: State.DENIED,
            Event.EXPIRE: State.EXPIRED,
            Event.ABORT: State.ABORTED,
        },
        State.DRAINING: {
            Event.REACHED: State.DRAINED,
            Event.DRAIN_EXPIRED: State.ABORTED,
            Event.ABORT: State.ABORTED,
        },
        State.DRAINED: {
            Event.PROMOTE: State.PROMOTED,
            Event.DRAIN_EXPIRED: State.ABORTED,
            Event.ABORT: State.ABORTED,
        },
        State.PROMOTED: {
            Event.VERIFY: State.PROMOTED,
            Event.VERIFIED: State.VERIFIED,
            Event.VERIFY_FAILED: State.VERIFY_FAILED,
        },
        State.VERIFY_FAILED: {
            Event.VERIFY: State.PROMOTED,
            Event.COMPLETE: State.COMPLETED,
        },
        State.VERIFIED: {
            Event.COMPLETE: State.COMPLETED,
        },
        State.COMPLETED: {},
        State.ABORTED: {},
        State.DENIED: {},
        State.EXPIRED: {},
    },
)

HOLDS_LOCK = frozenset({State.DRAINING, State.DRAINED, State.PROMOTED, State.VERIFY_FAILED, State.VERIFIED})
"""States in which the failover holds its namespaces against every other operation."""

SOURCE_CLOSED = frozenset({State.DRAINING, State.DRAINED})
"""States in which the source admits no writes for the namespaces."""


STEPS = ("preflight", "drain", "promote", "verify", "complete")
"""What a driver calls, in order; approval is somebody else's call."""


def plan_steps(source: str, target: str, drain_timeout_seconds: float) -> tuple[PlanStep, ...]:
    """The steps as they are shown to whoever approves."""
    return (
        PlanStep("preflight", f"Check {source}, {target}, replication and coordination again", "nothing changes"),
        PlanStep(
            "drain",
            f"{source} admits no new writes, commits what is in flight and writes a barrier; {target} catches up to it",
            f"{source} admits writes again by itself after {drain_timeout_seconds:g} s, or at once by abort",
        ),
        PlanStep(
            "promote",
            f"Ownership, epoch and routing move to {target} in one change; producers follow",
            f"a new failover back to {source}",
        ),
        PlanStep("verify", f"A canary write through {target} is seen on {source}; digests agree", "nothing changes"),
        PlanStep("complete", "The record is closed and the report written", "nothing changes"),
    )
