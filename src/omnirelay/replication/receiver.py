"""What a receiver does with one batch of another origin (I1, I3, I6, I7)."""

from __future__ import annotations

from enum import Enum

from omnirelay.model.batch import Batch, chain_digest
from omnirelay.model.position import Cursor
from omnirelay.replication.picture import LogPicture


class Decision(Enum):
    APPLY = "apply"
    FENCED = "fenced"
    """Valid history, invalid content: store and count it, never deliver it."""
    DUPLICATE = "duplicate"
    GAP = "gap"
    """Something before it is missing: subscribe again from the vector."""
    UNKNOWN_EPOCH = "unknown_epoch"
    """Read the coordination state, then decide again."""
    CORRUPT = "corrupt"
    """Does not prove itself: fetch again, alarm."""
    ILLEGAL = "illegal"
    """Its origin did not own that epoch: refuse the peer, alarm."""


def receive(picture: LogPicture, batch: Batch) -> Decision:
    """The decision for `batch`, given everything applied or queued so far.

    Order matters: position comes first, because an older batch is harmless whatever it holds; the digest comes
    before the epoch, because an altered header must not be believed.
    """
    header = batch.header
    head = picture.head(header.origin)
    if header.last_sequence <= head.sequence:
        return Decision.DUPLICATE
    if header.first_sequence > head.sequence + 1:
        return Decision.GAP
    if header.first_sequence <= head.sequence or header.count < 1:
        return Decision.CORRUPT
    if batch.digest != chain_digest(head.digest, batch.header_bytes, batch.records):
        return Decision.CORRUPT
    route = picture.routes.get(header.namespace)
    if route is None or header.epoch > route.epoch:
        return Decision.UNKNOWN_EPOCH
    ownership = route.ownership(header.epoch)
    if ownership is None or ownership.origin != header.origin:
        return Decision.ILLEGAL
    if not route.is_valid(Cursor(header.epoch, header.last_sequence)):
        return Decision.FENCED
    return Decision.APPLY
