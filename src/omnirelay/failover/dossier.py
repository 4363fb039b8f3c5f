"""What a failover's change ticket holds of it, and what is still to be put there.

What is due follows from the failover's record alone, so whichever replicator looks next goes on where another ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from omnirelay.failover.modes import is_open
from omnirelay.failover.record import Failover, State

FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 300.0
TRIES_UNTIL_LONGEST = 8


@dataclass(frozen=True, slots=True)
class Posting:
    """One thing that the ticket holds."""

    key: str
    at: str
    """By the ticket system's clock."""
    name: str = ""
    """Of a document."""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Dossier:
    """Kept under a key of its own: what becomes of a ticket never changes the failover's record."""

    failover_id: str
    ticket: str
    system: str = ""
    url: str = ""
    posted: tuple[Posting, ...] = ()
    stale: tuple[str, ...] = ()
    """Users whose decision has stood in the ticket since before the plan was noted there."""
    problem: str = ""
    """Why the rest is not there yet."""
    hint: str = ""
    failed: int = 0
    """Attempts in a row."""
    failing_since: str = ""
    retry_at: str = ""
    gave_up: bool = False
    """Nothing is tried any more until somebody asks for it."""
    holder: str = ""
    """The cluster that is posting, until `held_until`."""
    held_until: str = ""

    def posting(self, key: str) -> Posting | None:
        return next((posting for posting in self.posted if posting.key == key), None)


def due(failover: Failover, dossier: Dossier | None) -> tuple[str, ...]:
    """Keys of what the ticket lacks, in the order in which it is to be put there."""
    held = {posting.key for posting in dossier.posted} if dossier else set()
    return tuple(key for key in _wanted(failover) if key not in held)


def _wanted(failover: Failover) -> Iterable[str]:
    yield "plan"
    yield "link"
    for number in range(1, len(failover.approvals) + 1):
        yield f"approval {number}"
    if failover.drain_started_at or failover.gather_started_at:
        yield "started"
    if failover.state is State.VERIFY_FAILED:
        yield from ("verify_failed.json", "verify_failed.md", "verify_failed")
    if not is_open(failover):
        yield from ("report.json", "report.md", "finished")


def posted(dossier: Dossier, postings: Iterable[Posting]) -> Dossier:
    """With these too; each key once."""
    held = {posting.key for posting in dossier.posted}
    return replace(dossier, posted=(*dossier.posted, *(p for p in postings if p.key not in held)))


def succeeded(dossier: Dossier) -> Dossier:
    return replace(dossier, problem="", hint="", failed=0, failing_since="", retry_at="", gave_up=False)


def pause_seconds(failed: int, asked_for: float | None) -> float:
    """Until the next try, after `failed` of them in a row; `asked_for` is what the ticket system said."""
    if asked_for is not None:
        return max(FIRST_PAUSE_SECONDS, min(asked_for, 12 * LONGEST_PAUSE_SECONDS))
    return float(min(FIRST_PAUSE_SECONDS * 2 ** min(failed, TRIES_UNTIL_LONGEST), LONGEST_PAUSE_SECONDS))
