"""Admission of a producer's batch at the active cluster: which number it gets, or why it gets none (I1, I5).

Whether this cluster may admit at all (lease, drain) is decided before, in omnirelay.failover.lease.
"""

from __future__ import annotations

from dataclasses import dataclass

from omnirelay.errors import ProducerGap, StaleEpoch
from omnirelay.model.batch import BatchHeader, BatchKind
from omnirelay.model.position import Cursor, Position
from omnirelay.model.routing import Ownership
from omnirelay.replication.picture import LogPicture


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The producer has sent this batch before; `position` locates it if it was the producer's last one."""

    position: Position | None
    end: Cursor
    """Of the producer's last batch, in the order; this one lies there or before."""


def admit(
    picture: LogPicture,
    ownership: Ownership,
    namespace: str,
    producer_id: str,
    producer_sequence: int,
    count: int,
    now_ms: int,
) -> BatchHeader | Duplicate:
    """The header under which the batch is to be committed, or what is known of its first sending.

    Raises ProducerGap when a batch before this one is missing.
    """
    newest = picture.last_of(namespace, producer_id)
    last = newest.producer_sequence if newest else 0
    if newest and producer_sequence <= last:
        return Duplicate(newest.position if producer_sequence == last else None, newest.end)
    if producer_sequence != last + 1:
        raise ProducerGap(
            f"batch {producer_sequence} of producer {producer_id} follows {last}",
            producer_id=producer_id,
            last_producer_sequence=last,
        )
    return _next_header(picture, ownership, namespace, producer_id, producer_sequence, count, now_ms, BatchKind.DATA)


def control_header(
    picture: LogPicture, ownership: Ownership, namespace: str, kind: BatchKind, subject: str, now_ms: int
) -> BatchHeader:
    """The header of a barrier or canary: one record, named after what it serves, outside the producers' numbers."""
    return _next_header(picture, ownership, namespace, subject, 0, 1, now_ms, kind)


def check_epoch(ownership: Ownership, claimed: int) -> None:
    """A producer that knows an epoch must know the current one. Raises StaleEpoch."""
    if claimed and claimed != ownership.epoch:
        raise StaleEpoch(
            f"the fencing token {claimed} is not the current one ({ownership.epoch})",
            epoch=ownership.epoch,
            cluster=ownership.cluster,
        )


def _next_header(
    picture: LogPicture,
    ownership: Ownership,
    namespace: str,
    producer_id: str,
    producer_sequence: int,
    count: int,
    now_ms: int,
    kind: BatchKind,
) -> BatchHeader:
    head = picture.head(ownership.origin)
    return BatchHeader(
        origin=ownership.origin,
        first_sequence=head.sequence + 1,
        count=count,
        namespace=namespace,
        epoch=ownership.epoch,
        # An origin's commit times never go back, even when its clock does.
        commit_time_ms=max(now_ms, head.commit_time_ms),
        producer_id=producer_id,
        producer_sequence=producer_sequence,
        vector=picture.vector,
        kind=kind,
    )
