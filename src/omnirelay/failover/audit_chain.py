"""The audit chain: each entry is sealed with the digest of the one before it.

An entry's digest covers all its other fields, the previous digest among them, in one canonical form: JSON with sorted
keys, no spaces, ASCII only. So a copy can be checked anywhere with nothing but SHA-256, and altering, removing,
inserting or moving an entry breaks the chain at that place. What no chain shows by itself is a cut-off end: for that
a copy is compared with a head digest known from elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal

START_DIGEST = "0" * 64
"""What entry number 1 is chained to."""

IdentityProof = Literal["mtls", "token", "system"]
AuditOutcome = Literal["done", "refused"]
Json = Any
"""A JSON value: what json.loads returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFields:
    """One mutation, or the refusal of one."""

    number: int
    """Counts from 1 without a gap."""
    at: str
    """RFC 3339."""
    actor: str
    identity_proof: IdentityProof
    action: str
    subject: str
    why: str
    change_ticket: str
    run_url: str
    before: Json
    after: Json
    outcome: AuditOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry(AuditFields):
    previous: str
    """Digest of the entry before, hexadecimal."""
    digest: str
    """SHA-256 of this entry without this field, hexadecimal."""


@dataclass(frozen=True, slots=True)
class BrokenLink:
    """The first place where a copy is not the chain that was written."""

    number: int
    """The entry that belongs there."""
    reason: str


def seal(previous_digest: str, content: AuditFields) -> AuditEntry:
    """The entry that follows the one with this digest. Raises ValueError for what JSON cannot hold (NaN, infinity)."""
    values = _values(content) | {"previous": previous_digest}
    return AuditEntry(**values, digest=_digest(values))


def verify(entries: Iterable[AuditEntry], head: str | None = None) -> BrokenLink | None:
    """Checks a whole chain from its first entry; `head` is the digest that its last entry must have, where known."""
    number, previous = 0, START_DIGEST
    for entry in entries:
        reason = _flaw(entry, number + 1, previous)
        if reason:
            return BrokenLink(number + 1, reason)
        number, previous = entry.number, entry.digest
    if head is not None and head != previous:
        return BrokenLink(number + 1, f"the copy ends at entry {number}, which is not the head {head}")
    return None


def verify_copy(lines: Iterable[bytes], head: str | None = None) -> BrokenLink | None:
    """`verify` for a file of encoded entries, one a line."""
    number = 0

    def entries() -> Iterator[AuditEntry]:
        nonlocal number
        for line in lines:
            number += 1
            yield decode(line.removesuffix(b"\n"))

    try:
        return verify(entries(), head)
    except ValueError as error:
        return BrokenLink(number, f"not an entry: {error}")


def encode(entry: AuditEntry) -> bytes:
    """The entry in canonical form."""
    return _canonical(_values(entry))


def decode(line: bytes) -> AuditEntry:
    """An entry from its canonical form. Raises ValueError for any other bytes, also for ones of the same meaning."""
    try:
        values = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(values, dict) or values.keys() != {field.name for field in fields(AuditEntry)}:
        raise ValueError("the fields are not those of an entry")
    if _canonical(values) != line:
        raise ValueError("the form is not canonical")
    return AuditEntry(**values)


def _flaw(entry: AuditEntry, number: int, previous: str) -> str | None:
    if entry.number != number:
        return f"entry {entry.number} stands in the place of entry {number}"
    if entry.previous != previous:
        return f"it follows {entry.previous}, and the entry before it has {previous}"
    values = _values(entry)
    claimed = values.pop("digest")
    actual = _digest(values)
    if claimed != actual:
        return f"its content has the digest {actual}, and it claims {claimed}"
    return None


def _values(content: AuditFields) -> dict[str, Json]:
    return {field.name: getattr(content, field.name) for field in fields(content)}


def _digest(values: dict[str, Json]) -> str:
    return hashlib.sha256(_canonical(values)).hexdigest()


def _canonical(values: dict[str, Json]) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
