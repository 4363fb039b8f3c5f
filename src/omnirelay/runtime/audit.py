"""The audit chain beside every mutation: an entry is written in the same transaction as what it tells about."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnirelay.errors import Conflict, CoordinationUnavailable
from omnirelay.failover import audit_chain
from omnirelay.failover.audit_chain import AuditEntry
from omnirelay.model.times import rfc3339
from omnirelay.ports.clock import Clock
from omnirelay.ports.coordination import Compare, CoordinationStore, Put, WatchCompacted, Write
from omnirelay.runtime.documents import AUDIT, AUDIT_ENTRIES, AUDIT_HEAD, audit_key
from omnirelay.runtime.view import RETRY_SECONDS

ATTEMPTS = 50
"""How often a transaction is tried again when only the chain's head moved meanwhile."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something: a principal, and how that was proven (`mtls`, `token`, `system`)."""

    principal: str
    proof: str


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


class Auditor:
    def __init__(self, store: CoordinationStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.entries_written = 0

    async def commit(self, compares: Sequence[Compare], writes: Sequence[Write], actor: Actor, deed: Deed) -> bool:
        """Makes the writes and the entry one transaction. False when one of `compares` does not hold."""
        for _ in range(ATTEMPTS):
            head = await self._store.get(AUDIT_HEAD)
            previous = AUDIT.decode(head.value) if head else None
            entry = self._seal(previous, actor, deed, "done")
            outcome = await self._store.transact(
                [*compares, Compare(AUDIT_HEAD, head.revision if head else 0)], [*writes, *_puts(entry)]
            )
            if outcome.succeeded:
                self.entries_written += 1
                return True
            if not await self._hold(compares):
                return False
        raise Conflict("the audit chain was written by others all the time; try again")

    async def refused(self, actor: Actor, deed: Deed) -> None:
        """Records that a mutation was refused."""
        for _ in range(ATTEMPTS):
            head = await self._store.get(AUDIT_HEAD)
            entry = self._seal(AUDIT.decode(head.value) if head else None, actor, deed, "refused")
            outcome = await self._store.transact([Compare(AUDIT_HEAD, head.revision if head else 0)], _puts(entry))
            if outcome.succeeded:
                self.entries_written += 1
                return
        raise Conflict("the audit chain was written by others all the time; try again")

    async def entries(self, after: int, limit: int) -> list[AuditEntry]:
        """Up to `limit` entries with numbers beyond `after`."""
        snapshot = await self._store.list(AUDIT_ENTRIES)
        first = audit_key(after + 1)
        return [AUDIT.decode(entry.value) for entry in snapshot.entries if entry.key >= first][:limit]

    async def _hold(self, compares: Sequence[Compare]) -> bool:
        for compare in compares:
            entry = await self._store.get(compare.key)
            if (entry.revision if entry else 0) != compare.revision:
                return False
        return True

    def _seal(self, previous: AuditEntry | None, actor: Actor, deed: Deed, outcome: str) -> AuditEntry:
        return audit_chain.seal(
            previous,
            at=rfc3339(self._clock.wall_ms()),
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


def _puts(entry: AuditEntry) -> list[Write]:
    encoded = AUDIT.encode(entry)
    return [Put(audit_key(entry.number), encoded), Put(AUDIT_HEAD, encoded)]


class AuditMirror:
    """This cluster's own copy of the chain: one JSON object a line, for `omnirelay mesh audit verify`."""

    def __init__(self, store: CoordinationStore, path: Path) -> None:
        self._store = store
        self._path = path

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
        await asyncio.to_thread(self._append, values)

    def _append(self, values: Sequence[bytes]) -> None:
        have = _last_number(self._path)
        with self._path.open("ab") as file:
            for value in values:
                if json.loads(value)["number"] > have:
                    file.write(value + b"\n")


def _last_number(path: Path) -> int:
    """Of the last whole line; a line that a crash cut short is dropped, for it comes again."""
    if not path.exists():
        return 0
    content = path.read_bytes()
    whole, _, torn = content.rpartition(b"\n")
    if torn:
        path.write_bytes(whole + b"\n" if whole else b"")
    return int(json.loads(whole.rpartition(b"\n")[2])["number"]) if whole else 0
