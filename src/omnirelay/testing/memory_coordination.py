"""CoordinationStore in memory: one store, any number of clients in one process, faults on demand.

Time is the clock's; only the wait for the next lease to run out is the event loop's. Under a loop of virtual time
whose clock is the loop's, nothing here depends on the machine.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TypeVar

from omnirelay.coordination import limits
from omnirelay.coordination.watch import Horizon, Page, Watch
from omnirelay.errors import CoordinationUnavailable
from omnirelay.ports.clock import Clock
from omnirelay.ports.coordination import Change, Compare, Delete, Entry, Outcome, Put, Snapshot, WatchCompacted, Write

T = TypeVar("T")

_SHORTEST_WAIT_SECONDS = 0.001
"""Keeps a timer that fires a rounding error too early from being set again and again at the same instant."""


class Fault(Enum):
    UNAVAILABLE = "unavailable"
    """Requests do not reach the store."""
    ANSWER_LOST = "answer_lost"
    """Requests are carried out, and their answers do not come back."""


@dataclass(slots=True)
class _Lease:
    ttl_seconds: float
    deadline: float


class MemoryCoordination:
    """The store itself. Its methods are transactions; programs hold a `client`."""

    def __init__(self, clock: Clock, *, keep_revisions: int = 10_000) -> None:
        self._clock = clock
        self._revision = 1
        self._entries: dict[str, Entry] = {}
        self._changes: deque[tuple[Change, ...]] = deque(maxlen=keep_revisions)
        self._leases: dict[int, _Lease] = {}
        self._last_lease = 0
        self._timer: asyncio.TimerHandle | None = None
        self._context = copy_context()
        """The timer is the store's, not that of the program whose call sets it."""
        self._clients: dict[MemoryClient, None] = {}

    def client(self) -> MemoryClient:
        client = MemoryClient(self)
        self._clients[client] = None
        return client

    def forget(self, client: MemoryClient) -> None:
        self._clients.pop(client, None)

    def expire_leases(self) -> None:
        """Ends the leases that are due, in one revision. Every call does so first; a test that moves its clock by
        hand calls it to let watches see it."""
        now = self._clock.monotonic()
        self._end_leases([lease for lease, state in self._leases.items() if state.deadline <= now])

    @property
    def revision(self) -> int:
        return self._revision

    # --- what clients ask -------------------------------------------------------------------------------------

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def list(self, prefix: str) -> Snapshot:
        entries = (self._entries[key] for key in sorted(self._entries) if key.startswith(prefix))
        return Snapshot(tuple(entries), self._revision)

    def transact(self, compares: Sequence[Compare], writes: Sequence[Write]) -> Outcome:
        holds = all(self._revision_of(compare.key) == compare.revision for compare in compares)
        leases_live = all(write.lease in self._leases for write in writes if isinstance(write, Put) and write.lease)
        if not (holds and leases_live):
            return Outcome(False, self._revision)
        self._apply(writes)
        return Outcome(True, self._revision)

    def changes_from(self, prefix: str, from_revision: int) -> Page:
        oldest = self._revision - len(self._changes) + 1
        if from_revision < oldest:
            raise WatchCompacted(f"revision {from_revision} is asked for; kept are those from {oldest}")
        later = list(self._changes)[from_revision - oldest :]
        touching = (tuple(change for change in element if change.key.startswith(prefix)) for element in later)
        return Page([element for element in touching if element], max(self._revision + 1, from_revision))

    def grant_lease(self, ttl_seconds: float) -> int:
        self._last_lease += 1
        self._leases[self._last_lease] = _Lease(ttl_seconds, self._clock.monotonic() + ttl_seconds)
        self._set_timer()
        return self._last_lease

    def keep_alive(self, lease: int) -> bool:
        state = self._leases.get(lease)
        if state is None:
            return False
        state.deadline = self._clock.monotonic() + state.ttl_seconds
        return True

    def revoke_lease(self, lease: int) -> None:
        self._end_leases([lease])

    # --- how it is done ---------------------------------------------------------------------------------------

    def _revision_of(self, key: str) -> int:
        entry = self._entries.get(key)
        return entry.revision if entry else 0

    def _apply(self, writes: Sequence[Write]) -> None:
        effective = [write for write in writes if isinstance(write, Put) or write.key in self._entries]
        if not effective:
            return
        self._revision += 1
        self._changes.append(tuple(self._write(write) for write in effective))
        for client in self._clients:
            client.notice(self._revision)

    def _write(self, write: Write) -> Change:
        if isinstance(write, Delete):
            del self._entries[write.key]
            return Change(write.key, None, self._revision)
        entry = Entry(write.key, bytes(write.value), self._revision, write.lease)
        self._entries[write.key] = entry
        return Change(write.key, entry, self._revision)

    def _end_leases(self, leases: Sequence[int]) -> None:
        ended = {lease for lease in leases if self._leases.pop(lease, None)}
        self._apply([Delete(entry.key) for entry in self.list("").entries if entry.lease in ended])

    def _set_timer(self) -> None:
        """One timer, for the lease that is due first. After a renewal it fires early, and is set again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._leases:
            wait = min(state.deadline for state in self._leases.values()) - self._clock.monotonic()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(wait, _SHORTEST_WAIT_SECONDS), self._on_timer, context=self._context)

    def _on_timer(self) -> None:
        self.expire_leases()
        self._set_timer()


class MemoryClient:
    """One program's handle on the store, with a network of its own: `latency_seconds` each way, and `fault`.

    Even without latency a request gives way to other tasks before it is carried out and before its answer arrives,
    as a real one does.
    """

    def __init__(self, store: MemoryCoordination) -> None:
        self.latency_seconds = 0.0
        self._store = store
        self._fault: Fault | None = None
        self._closed = False
        self._horizon = Horizon()
        self._horizon.reach(store.revision)

    @property
    def fault(self) -> Fault | None:
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        self._fault = fault
        if fault is None:
            self._horizon.reach(self._store.revision)
        else:
            self._horizon.fail(_message(fault))

    async def get(self, key: str) -> Entry | None:
        return await self._call(partial(self._store.get, limits.check_key(key)))

    async def list(self, prefix: str) -> Snapshot:
        return await self._call(partial(self._store.list, limits.check_prefix(prefix)))

    async def transact(self, compares: Sequence[Compare], writes: Sequence[Write]) -> Outcome:
        limits.check_transaction(compares, writes)
        return await self._call(partial(self._store.transact, tuple(compares), tuple(writes)))

    def watch(self, prefix: str, from_revision: int) -> Watch:
        return Watch(limits.check_prefix(prefix), limits.check_start(from_revision), self._horizon, self._changes)

    async def grant_lease(self, ttl_seconds: float) -> int:
        return await self._call(partial(self._store.grant_lease, limits.check_ttl(ttl_seconds)))

    async def keep_alive(self, lease: int) -> bool:
        return await self._call(partial(self._store.keep_alive, lease))

    async def revoke_lease(self, lease: int) -> None:
        await self._call(partial(self._store.revoke_lease, lease))

    async def close(self) -> None:
        self._closed = True
        self._horizon.close()
        self._store.forget(self)

    def notice(self, revision: int) -> None:
        """The store tells each client of a new revision."""
        if self._fault is None:
            self._horizon.reach(revision)

    async def _changes(self, prefix: str, from_revision: int) -> Page:
        return await self._call(partial(self._store.changes_from, prefix, from_revision))

    async def _call(self, request: Callable[[], T]) -> T:
        if self._closed:
            raise CoordinationUnavailable("the coordination store's client is closed")
        await asyncio.sleep(self.latency_seconds)
        if self._fault is Fault.UNAVAILABLE:
            raise CoordinationUnavailable(_message(self._fault))
        self._store.expire_leases()
        answer = request()
        await asyncio.sleep(self.latency_seconds)
        if self._fault is not None:
            raise CoordinationUnavailable(_message(self._fault))
        return answer


def _message(fault: Fault) -> str:
    return f"the coordination store does not answer (fault: {fault.value})"
