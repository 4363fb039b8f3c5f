"""Batches: the unit of storage and transfer, and the chain digest that ties an origin's batches together."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum

from omnirelay.model.version_vector import VersionVector

GENESIS_DIGEST = bytes(32)
"""What an origin's first batch is chained to."""


class BatchKind(IntEnum):
    """Numbers are those of omnirelay.mesh.v1.BatchKind."""

    DATA = 1
    BARRIER = 2
    CANARY = 3


@dataclass(frozen=True, slots=True)
class BatchHeader:
    origin: str
    first_sequence: int
    count: int
    namespace: str
    epoch: int
    commit_time_ms: int
    """By the origin's clock, milliseconds since the Unix epoch."""
    producer_id: str
    producer_sequence: int
    vector: VersionVector
    kind: BatchKind = BatchKind.DATA

    @property
    def last_sequence(self) -> int:
        return self.first_sequence + self.count - 1


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it is stored and sent: the header beside the bytes that the digest covers."""

    header: BatchHeader
    header_bytes: bytes
    records: bytes
    digest: bytes

    @property
    def size(self) -> int:
        """Bytes of header, records and digest: what credits and lag in bytes count."""
        return len(self.header_bytes) + len(self.records) + len(self.digest)


def chain_digest(previous: bytes, header_bytes: bytes, records: bytes) -> bytes:
    """SHA-256 over the previous digest, the header's length (8 bytes, big-endian), header and records.

    The length keeps the boundary between header and records inside what is proven.
    """
    digest = hashlib.sha256(previous)
    digest.update(len(header_bytes).to_bytes(8, "big"))
    digest.update(header_bytes)
    digest.update(records)
    return digest.digest()
