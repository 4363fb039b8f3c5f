"""Delivery of a namespace in its order: by epoch, then by sequence, only from the unbroken prefix (I6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from omnirelay.model.position import START, Cursor
from omnirelay.model.routing import Route
from omnirelay.model.version_vector import VersionVector


@dataclass(frozen=True, slots=True)
class Read:
    """Batches of `epoch` with sequences in (after, upto] are next."""

    epoch: int
    origin: str
    after: int
    upto: int

    @property
    def end(self) -> Cursor:
        return Cursor(self.epoch, self.upto)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing more lies in the unbroken prefix; it ends at `end`."""

    end: Cursor


@dataclass(frozen=True, slots=True)
class Fence:
    """What was delivered beyond `cut` is not valid any more, by the ownership of `epoch`."""

    cut: Cursor
    epoch: int


def next_step(route: Route, held: VersionVector, delivered: Cursor, scanned: Cursor) -> Read | Wait | Fence:
    """What a reader does next.

    `delivered` is the end of the last batch given to the reader; `scanned` how far the order has been looked through
    (beyond `delivered` where other namespaces' batches lie in between). `held` is what this cluster has durably.
    """
    if delivered != START and not route.is_valid(delivered):
        fence = min((o for o in route.history if o.epoch > delivered.epoch), key=lambda o: (o.cut, o.epoch))
        return Fence(fence.cut, fence.epoch)
    place = max(delivered, scanned)
    end_of_prefix = START
    for ownership in route.history:
        if ownership.epoch < place.epoch:
            continue
        after = place.sequence if ownership.epoch == place.epoch else 0
        valid_end = route.valid_end(ownership.epoch)
        have = held[ownership.origin]
        upto = have if valid_end is None else min(have, valid_end)
        if upto > after:
            return Read(ownership.epoch, ownership.origin, after, upto)
        end_of_prefix = Cursor(ownership.epoch, max(after, upto))
        if valid_end is None or have < valid_end:
            # Something of this epoch may still be missing: nothing later is in order.
            break
    return Wait(end_of_prefix)


def end_of_dropped(route: Route, dropped: Mapping[int, int]) -> Cursor:
    """The end of what retention has taken out of the order: beyond it everything is there. `dropped`: epoch → last
    sequence dropped, 0 for none."""
    ends = [START]
    for epoch, last in dropped.items():
        valid_end = route.valid_end(epoch)
        if end := last if valid_end is None else min(last, valid_end):
            ends.append(Cursor(epoch, end))
    return max(ends)
