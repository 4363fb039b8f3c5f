"""The emergency failover: the source is gone or distrusted, and whoever decides accepts what may be lost.

    awaiting_approval   the plan is stored with its evidence and predicted loss
    approved            the loss is accepted in writing, or the glass is broken
    gathering           the target catches up from the most advanced cluster in reach; the source never counts
    fencing             the source's claims are taken away; the target waits until no lease of it can still be valid,
                        and gathers what others in reach took until then
    fenced              the target applies nothing more of the old owner's log and has taken the cut
    promoted            ownership, epoch, cut and routing changed in one compare-and-set (I8); the target admits writes
    verified            a canary went through the new active and was seen by another cluster, if one is alive
    completed           the loss manifest is written; it is graded again when the old active returns
    aborted             undone before promotion: the source, if it lives, may claim again. Any cluster does it for a
                        target that is gone

The target's own replicator takes the steps from gathering to promoted, so nothing waits on whoever asked. No step waits
on the source (I11): its lease ends by time. Until then it may acknowledge what others take, so the cut is taken after
that, and after the gather, never before: what arrives in between would be fenced although the new active holds it.
"""

from __future__ import annotations

from omnirelay.failover.events import Event
from omnirelay.failover.machine import Machine
from omnirelay.failover.record import PlanStep, State

MACHINE: Machine[State, Event] = Machine(
    "emergency",
    {
        State.AWAITING_APPROVAL: {
            Event.APPROVE: State.APPROVED,
            Event.DENY: State.DENIED,
            Event.EXPIRE: State.EXPIRED,
            Event.ABORT: State.ABORTED,
        },
        State.APPROVED: {
            Event.GATHER: State.GATHERING,
            Event.DENY: State.DENIED,
            Event.EXPIRE: State.EXPIRED,
            Event.ABORT: State.ABORTED,
        },
        State.GATHERING: {
            Event.GATHERED: State.FENCING,
            Event.GATHER_EXPIRED: State.ABORTED,
            Event.ABORT: State.ABORTED,
        },
        State.FENCING: {
            Event.FENCED: State.FENCED,
            Event.GATHER_EXPIRED: State.ABORTED,
            Event.ABORT: State.ABORTED,
        },
        State.FENCED: {
            Event.PROMOTE: State.PROMOTED,
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

SOURCE_BARRED = frozenset({State.GATHERING, State.FENCING, State.FENCED})
"""States in which the source admits nothing and may not claim the namespaces."""

TARGET_HOLDS = frozenset({State.FENCED})
"""States in which the target applies nothing of the old owner's log: the cut stands. It begins a moment earlier, where
it takes the cut."""

HOLDS_LOCK = SOURCE_BARRED | {State.PROMOTED, State.VERIFY_FAILED, State.VERIFIED}

STEPS = ("preflight", "promote", "verify", "complete")


def plan_steps(source: str, target: str, lease_ttl_seconds: float) -> tuple[PlanStep, ...]:
    """The steps as they are shown to whoever accepts the loss."""
    return (
        PlanStep(
            "gather", f"{target} catches up from the most advanced cluster in reach", "abort: nothing has changed"
        ),
        PlanStep(
            "fence",
            f"The claims of {source} are taken away; {target} waits until its lease has ended, {lease_ttl_seconds:g} s "
            "at the most, and takes the cut",
            f"abort: {source} may claim again",
        ),
        PlanStep(
            "promote",
            f"Ownership, epoch and routing move to {target} in one change; what {source} has beyond the cut is fenced",
            f"a failback to {source}, once what diverged is resolved",
        ),
        PlanStep("verify", f"A canary write through {target} is seen by another cluster", "nothing changes"),
        PlanStep("complete", "The loss manifest is written", "nothing changes"),
    )
