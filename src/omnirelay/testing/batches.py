"""Batches that are chained as a log wants them, without a replicator to make them."""

from __future__ import annotations

from collections import Counter

from omnirelay.model.batch import Batch, BatchHeader, BatchKind, chain_digest
from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.log import Head
from omnirelay.wire.codec import encode_header


class Chain:
    """Makes the batches of one origin, each following the one made before.

    The records are opaque bytes: what only stores and moves them does not notice.
    """

    def __init__(self, origin: str, head: Head | None = None) -> None:
        self.origin = origin
        self.head = head or Head()
        self._produced: Counter[tuple[str, str]] = Counter()

    def next(
        self,
        *,
        count: int = 1,
        namespace: str = "default",
        epoch: int = 1,
        producer: str = "p",
        kind: BatchKind = BatchKind.DATA,
        records: bytes = b"records",
        commit_time_ms: int = 1_000,
    ) -> Batch:
        """The next batch; the producer's sequence counts its batches in the namespace."""
        self._produced[namespace, producer] += 1
        header = BatchHeader(
            origin=self.origin,
            first_sequence=self.head.sequence + 1,
            count=count,
            namespace=namespace,
            epoch=epoch,
            commit_time_ms=commit_time_ms,
            producer_id=producer,
            producer_sequence=self._produced[namespace, producer],
            vector=VersionVector({self.origin: self.head.sequence}),
            kind=kind,
        )
        header_bytes = encode_header(header)
        batch = Batch(header, header_bytes, records, chain_digest(self.head.digest, header_bytes, records))
        self.head = head_after(self.head, batch)
        return batch

    def take(self, batches: int) -> list[Batch]:
        """So many batches of different content."""
        return [self.next(records=b"records %d" % number) for number in range(batches)]


def head_after(head: Head, batch: Batch) -> Head:
    return Head(batch.header.last_sequence, batch.digest, head.size + batch.size, batch.header.commit_time_ms)
