"""What the coordination store takes: the same for every adapter, and never more than etcd takes.

A store that took more than etcd would let a program work on one machine and fail on many.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from omnirelay.errors import BadRequest
from omnirelay.ports.coordination import Compare, Put, Write

MAX_OPERATIONS = 128
"""Compares and writes of one transaction together."""
MAX_TRANSACTION_BYTES = 1_500_000
"""Keys and values of one transaction together; below etcd's 1.5 MiB by more than its framing needs."""


def check_transaction(compares: Sequence[Compare], writes: Sequence[Write]) -> None:
    """Raises BadRequest for a transaction that no adapter may take."""
    operations = len(compares) + len(writes)
    if operations > MAX_OPERATIONS:
        raise BadRequest(f"a transaction of {operations} operations; at most {MAX_OPERATIONS} are taken")
    keys = [check_key(write.key) for write in writes]
    if len(set(keys)) < len(keys):
        raise BadRequest(f"a transaction writes {_first_repeated(keys)!r} twice")
    size = sum(_size(check_key(compare.key)) for compare in compares) + sum(map(_size, keys))
    size += sum(len(write.value) for write in writes if isinstance(write, Put))
    if size > MAX_TRANSACTION_BYTES:
        raise BadRequest(f"a transaction of {size} bytes; at most {MAX_TRANSACTION_BYTES} are taken")


def check_key(key: str) -> str:
    """Not empty, no NUL, encodable. Raises BadRequest."""
    if not key:
        raise BadRequest("a key is empty")
    return check_prefix(key)


def check_prefix(prefix: str) -> str:
    """Like a key, but the empty prefix stands for all keys. Raises BadRequest."""
    try:
        prefix.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(f"key {prefix[:80]!r} is not valid Unicode") from error
    if "\0" in prefix:
        raise BadRequest(f"key {prefix[:80]!r} contains a NUL character")
    return prefix


def check_ttl(ttl_seconds: float) -> float:
    """More than 0 and finite. Raises BadRequest."""
    if not 0 < ttl_seconds < math.inf:
        raise BadRequest(f"a lease of {ttl_seconds} s; it must be finite and more than 0")
    return ttl_seconds


def check_start(from_revision: int) -> int:
    """A watch starts at a revision that exists or is to come. Raises BadRequest."""
    if from_revision < 1:
        raise BadRequest(f"a watch from revision {from_revision}; the first revision is 1")
    return from_revision


def _size(key: str) -> int:
    return len(key.encode())


def _first_repeated(keys: Iterable[str]) -> str:
    seen: set[str] = set()
    return next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]
