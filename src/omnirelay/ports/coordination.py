"""The coordination store: a small, consistent key-value store with revisions, transactions, watches and leases.

The semantics are etcd's, so that etcd is an adapter of little code and no surprise: one revision counter for the
whole store, each transaction one revision, compares on a key's last revision, watches that start from a revision
and miss nothing, keys that live as long as their lease.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    key: str
    value: bytes
    revision: int
    """Store revision at which the key was last written."""
    lease: int = 0
    """The lease the key lives by; 0 if none."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    entries: Sequence[Entry]
    """In key order."""
    revision: int
    """Store revision of this reading; a watch from `revision + 1` continues it without a gap."""


@dataclass(frozen=True, slots=True)
class Compare:
    """Holds when the key was last written at `revision`; 0 means that it does not exist."""

    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class Put:
    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    key: str


Write = Put | Delete


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a transaction did. `revision` is the store's after it."""

    succeeded: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """One key written, or deleted (`entry` is None)."""

    key: str
    entry: Entry | None
    revision: int


class CoordinationStore(Protocol):
    """Every call raises CoordinationUnavailable within a bounded time when the store does not answer. What it asked
    for may have happened all the same: read to find out. After `close` every call raises it.

    Keys are text, not empty and without NUL; prefixes too, but the empty prefix stands for all keys. Cancelling
    a call is safe for the store, and leaves open whether it happened.
    """

    async def get(self, key: str) -> Entry | None: ...

    async def list(self, prefix: str) -> Snapshot: ...

    async def transact(self, compares: Sequence[Compare], writes: Sequence[Write]) -> Outcome:
        """All compares hold and all writes happen, or nothing does. At most 128 operations (compares and writes
        together) and 1.5 MB, each key written at most once; more raises BadRequest. A Put with an unknown lease fails
        the transaction. Deleting a key that does not exist is no change, and without a change there is no new
        revision."""
        ...

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Sequence[Change]]:
        """Changes from that revision (at least 1, may be yet to come) on, one element per store revision that touches
        the prefix, in order; within an element in the order of the writes. When the revisions asked for are not
        kept any more the iterator raises WatchCompacted: list again and watch from there.

        Cancelling the wait for an element loses nothing: ask for the next one again. After CoordinationUnavailable,
        go on with the same iterator, or watch again from the revision after the last element. `close` ends the
        iteration."""
        ...

    async def grant_lease(self, ttl_seconds: float) -> int:
        """A new lease's id (> 0). The time is finite and more than 0, or BadRequest is raised. A lease that runs out
        ends by itself, and its keys are deleted in one revision; leases that run out together may share one."""
        ...

    async def keep_alive(self, lease: int) -> bool:
        """Renews for another full ttl; False when the lease is gone."""
        ...

    async def revoke_lease(self, lease: int) -> None:
        """Ends the lease and deletes its keys, in one revision. A lease that is gone is no error."""
        ...

    async def close(self) -> None: ...


class WatchCompacted(Exception):
    """The revisions that a watch asked for have been dropped."""
