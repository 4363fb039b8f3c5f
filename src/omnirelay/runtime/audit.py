"""The audit chain beside every mutation: an entry is written in the same transaction as what it tells about."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnirelay.errors import Conflict, CoordinationUnavailable
from omnirelay.failover import audit_chain
from omnirelay.failover.audit_chain import AuditEntry, AuditFields, AuditOutcome, IdentityProof
from omnirelay.model.times import rfc3339
from omnirelay.ports.clock import Clock
from omnirelay.ports.coordination import Compare, CoordinationStore, Put, WatchCompacted, Write
from omnirelay.runtime.convoy import Convoy, Passenger
from omnirelay.runtime.documents import AUDIT_ENTRIES, AUDIT_HEAD, audit_key
from omnirelay.runtime.view import RETRY_SECONDS

_log = logging.getLogger(__name__)

ATTEMPTS = 50
"""How often a transaction is tried again when only the chain's head moved meanwhile."""

GROUP_OPERATIONS = 100
GROUP_BYTES = 500_000
"""What mutations may share a transaction, well below what the store takes."""

BLOCK_DIGITS = 2
BLOCK = 10**BLOCK_DIGITS
"""How many entries one reading brings: those whose keys differ in the last digits only."""
BLOCKS_AT_ONCE = 20
"""How many of them one search reads; more than a full page needs."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something: a principal, and how that was proven (`mtls`, `token`, `system`)."""

    principal: str
    proof: IdentityProof


@dataclass(frozen=True, slots=True)
class Deed:
    """What an audit entry tells, beside when and in which place of the chain."""

    action: str
    subject: str
    why: str = ""
    change_ticket: str = ""
    run_url: str = ""
    before: Any = None
    after: Any = None


@dataclass(frozen=True, slots=True)
class _Mutation:
    """What waits to be written together with its entry."""

    compares: Sequence[Compare]
    writes: Sequence[Write]
    told: Sequence[tuple[Actor, Deed]]
    outcome: AuditOutcome

    @property
    def operations(self) -> int:
        return len(self.compares) + len(self.writes) + len(self.told)

    @property
    def size(self) -> int:
        return sum(len(write.value) for write in self.writes if isinstance(write, Put))

    def keys(self) -> set[str]:
        return {compare.key for compare in self.compares} | {write.key for write in self.writes}


class Auditor:
    def __init__(self, store: CoordinationStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._convoy = Convoy[_Mutation, bool](_together, self._write)
        """Ends with False when one of the compares does not hold, or only the chain's head moved meanwhile."""
        self.entries_written = 0

    async def commit(self, compares: Sequence[Compare], writes: Sequence[Write], actor: Actor, deed: Deed) -> bool:
        """Makes the writes and the entry one transaction, which may hold other callers' writes and entries as well.
        False when one of `compares` does not hold."""
        return await self.commit_all(compares, writes, [(actor, deed)])

    async def commit_all(
        self, compares: Sequence[Compare], writes: Sequence[Write], told: Sequence[tuple[Actor, Deed]]
    ) -> bool:
        """As `commit`, with an entry for each deed."""
        for _ in range(ATTEMPTS):
            if await self._convoy.join(_Mutation(compares, writes, told, "done")):
                return True
            if not await self._hold(compares):
                return False
        raise Conflict("the audit chain was written by others all the time; try again")

    async def refused(self, actor: Actor, deed: Deed) -> None:
        """Records that a mutation was refused."""
        for _ in range(ATTEMPTS):
            if await self._convoy.join(_Mutation((), (), [(actor, deed)], "refused")):
                return
        raise Conflict("the audit chain was written by others all the time; try again")

    async def head(self) -> AuditEntry | None:
        """The last entry; None while there is none."""
        head, _ = await self._head()
        return head

    async def entries(self, after: int, limit: int) -> list[AuditEntry]:
        """Up to `limit` entries with numbers beyond `after`; the cost follows `limit`, not the chain's length."""
        return (await self.search(after, limit, {}))[0]

    async def search(self, after: int, limit: int, wanted: Mapping[str, str]) -> tuple[list[AuditEntry], int]:
        """Up to `limit` entries with numbers beyond `after` whose fields are those of `wanted`, and the number of the
        last entry that was looked at: where little fits, one search reads only so much of a long chain."""
        head = await self.head()
        end = head.number if head else 0
        found: list[AuditEntry] = []
        seen = after
        for _ in range(BLOCKS_AT_ONCE):
            if seen >= end:
                break
            number = seen + 1
            for entry in await self._block(number):
                if entry.number >= number:
                    seen = entry.number
                    if all(getattr(entry, name) == value for name, value in wanted.items()):
                        found.append(entry)
                    if len(found) == limit:
                        return found, seen
            # Also where entries are missing: whoever reads on must get on.
            seen = max(seen, min(end, number - number % BLOCK + BLOCK - 1))
        return found, seen

    async def range_of(self, subject: str, first_action: str) -> tuple[int, int] | None:
        """Numbers of the first and the last entry about what became of `subject`, whose story begins with
        `first_action`. A refusal changes nothing, so it does not prolong the story of what has ended.

        Reads backwards from the head, so a young subject is found at once in an old chain.
        """
        head = await self.head()
        number = head.number if head else 0
        about: list[AuditEntry] = []
        while number > 0 and not any(entry.action == first_action for entry in about):
            block = await self._block(number)
            about = [entry for entry in block if (entry.subject, entry.outcome) == (subject, "done")] + about
            number -= number % BLOCK + 1
        return (about[0].number, about[-1].number) if about else None

    async def _block(self, number: int) -> list[AuditEntry]:
        """All entries whose numbers agree with `number` but for their last digits: one key prefix, one reading."""
        snapshot = await self._store.list(audit_key(number)[:-BLOCK_DIGITS])
        return [audit_chain.decode(entry.value) for entry in snapshot.entries]

    async def _head(self) -> tuple[AuditEntry | None, int]:
        head = await self._store.get(AUDIT_HEAD)
        return (audit_chain.decode(head.value), head.revision) if head else (None, 0)

    async def _write(self, group: Sequence[Passenger[_Mutation, bool]]) -> None:
        """Tells each what became of the transaction; those that were in it without fault try again."""
        written = await self._transact([passenger.what for passenger in group])
        for passenger in group:
            passenger.done.set_result(written)

    async def _transact(self, group: Sequence[_Mutation]) -> bool:
        entry, revision = await self._head()
        now = rfc3339(self._clock.wall_ms())
        compares, writes = [Compare(AUDIT_HEAD, revision)], list[Write]()
        encoded = b""
        for mutation in group:
            compares += mutation.compares
            writes += mutation.writes
            for actor, deed in mutation.told:
                entry = _seal(entry, now, actor, deed, mutation.outcome)
                encoded = audit_chain.encode(entry)
                writes.append(Put(audit_key(entry.number), encoded))
        outcome = await self._store.transact(compares, [*writes, Put(AUDIT_HEAD, encoded)])
        self.entries_written += sum(len(mutation.told) for mutation in group) if outcome.succeeded else 0
        return outcome.succeeded

    async def _hold(self, compares: Sequence[Compare]) -> bool:
        for compare in compares:
            entry = await self._store.get(compare.key)
            if (entry.revision if entry else 0) != compare.revision:
                return False
        return True


def _together(waiting: Sequence[Passenger[_Mutation, bool]]) -> list[Passenger[_Mutation, bool]]:
    """Which can share a transaction: none looks at a key of another, and one that is large goes alone."""
    group: list[Passenger[_Mutation, bool]] = []
    keys: set[str] = set()
    operations = size = 0
    for passenger in waiting:
        mutation = passenger.what
        operations, size = operations + mutation.operations, size + mutation.size
        if group and (operations > GROUP_OPERATIONS or size > GROUP_BYTES):
            break
        if keys.isdisjoint(mutation.keys()):
            group.append(passenger)
        keys |= mutation.keys()
    return group


def _seal(previous: AuditEntry | None, at: str, actor: Actor, deed: Deed, outcome: AuditOutcome) -> AuditEntry:
    content = AuditFields(
        number=previous.number + 1 if previous else 1,
        at=at,
        actor=actor.principal,
        identity_proof=actor.proof,
        action=deed.action,
        subject=deed.subject,
        why=deed.why,
        change_ticket=deed.change_ticket,
        run_url=deed.run_url,
        before=deed.before,
        after=deed.after,
        outcome=outcome,
    )
    return audit_chain.seal(previous.digest if previous else audit_chain.START_DIGEST, content)


class AuditMirror:
    """This cluster's own copy of the chain: one JSON object a line, for `omnirelay mesh audit verify`."""

    def __init__(self, store: CoordinationStore, path: Path) -> None:
        self._store = store
        self._path = path
        self._end = _End(0, 0)
        self.problem = ""
        """Why the copy cannot be written at the moment; empty when it can."""

    async def run(self) -> None:
        """Copies entries as they come until cancelled."""
        while True:
            try:
                snapshot = await self._store.list(AUDIT_ENTRIES)
                await self._write([entry.value for entry in snapshot.entries])
                async for changes in self._store.watch(AUDIT_ENTRIES, snapshot.revision + 1):
                    await self._write([change.entry.value for change in changes if change.entry])
            except WatchCompacted:
                continue
            except CoordinationUnavailable:
                await asyncio.sleep(RETRY_SECONDS)

    async def _write(self, values: Sequence[bytes]) -> None:
        """Tries until the disk takes it: what comes meanwhile waits in the store."""
        while True:
            try:
                await asyncio.to_thread(self._append, values)
            except OSError as error:
                if not self.problem:
                    _log.error("%s cannot be written: %s", self._path, error)
                self.problem = str(error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self.problem = ""
                return

    def _append(self, values: Sequence[bytes]) -> None:
        """All or nothing. Raises OSError."""
        if (size := _size(self._path)) != self._end.size:
            self._end = _whole_lines(self._path) if size else _End(0, 0)
        have, size = self._end.number, self._end.size
        numbered = {int(json.loads(value)["number"]): value + b"\n" for value in values}
        new = {number: line for number, line in numbered.items() if number > have}
        try:
            with self._path.open("ab") as file:
                file.writelines(new.values())
        except OSError:
            if _size(self._path) > size:
                os.truncate(self._path, size)
            raise
        self._end = _End(max(new, default=have), size + sum(map(len, new.values())))


@dataclass(frozen=True, slots=True)
class _End:
    """Where a copy ends: the number of its last entry, and its bytes."""

    number: int
    size: int


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _whole_lines(path: Path) -> _End:
    """Where the copy's last whole line ends. One that a crash cut short is cut off, for it comes again."""
    whole, line_end, torn = path.read_bytes().rpartition(b"\n")
    size = len(whole) + len(line_end)
    if torn:
        os.truncate(path, size)
    return _End(int(json.loads(whole.rpartition(b"\n")[2])["number"]) if whole else 0, size)
