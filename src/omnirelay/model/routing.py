"""Who owns what: the epoch history of each namespace, and the one document that holds all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from omnirelay.model.position import START, Cursor
from omnirelay.model.version_vector import VersionVector


@dataclass(frozen=True, slots=True)
class Ownership:
    """One epoch of a namespace."""

    epoch: int
    cluster: str
    origin: str
    """The log that this epoch's batches are in: the cluster with its incarnation."""
    cut: Cursor = START
    """Fence cut: the end of the new owner's unbroken prefix when it was promoted."""


@dataclass(frozen=True, slots=True)
class Route:
    """A namespace with all its ownerships, oldest first; the last one is current."""

    namespace: str
    history: tuple[Ownership, ...]

    @property
    def current(self) -> Ownership:
        return self.history[-1]

    @property
    def epoch(self) -> int:
        return self.current.epoch

    @property
    def active(self) -> str:
        return self.current.cluster

    def ownership(self, epoch: int) -> Ownership | None:
        return next((o for o in self.history if o.epoch == epoch), None)

    def valid_end(self, epoch: int) -> int | None:
        """Last sequence of `epoch` that may be valid: the least over the cuts of **all** later ownerships.

        None while no later ownership bounds it; 0 when a later cut excludes the whole epoch. Looking only at the
        next ownership is not enough: a third cluster may have been promoted without what the second one had.
        """
        return _bounded(epoch, min((o.cut for o in self.history if o.epoch > epoch), default=None))

    def _valid_ends(self) -> list[int | None]:
        """`valid_end` of every ownership, in one pass from the newest on."""
        ends, least = [], None
        for ownership in reversed(self.history):
            ends.append(_bounded(ownership.epoch, least))
            least = ownership.cut if least is None else min(least, ownership.cut)
        return ends[::-1]

    def unbroken_prefix(self, held: VersionVector) -> Cursor:
        """The end of the longest part of the order, from its start, that `held` covers."""
        end = START
        for ownership, valid_end in zip(self.history, self._valid_ends(), strict=True):
            have = held[ownership.origin]
            if valid_end == 0:
                continue
            end = Cursor(ownership.epoch, have if valid_end is None else min(have, valid_end))
            if valid_end is None or have < valid_end:
                break
        return end

    def is_valid(self, place: Cursor) -> bool:
        """A batch is valid iff its (epoch, sequence) is within the cut of every later ownership."""
        return all(place <= o.cut for o in self.history if o.epoch > place.epoch)


def _bounded(epoch: int, cut: Cursor | None) -> int | None:
    """Where `cut`, the least of the later ones, ends the epoch; None where it does not."""
    if cut is None or cut.epoch > epoch:
        return None
    return cut.sequence if cut.epoch == epoch else 0


@dataclass(frozen=True, slots=True)
class RoutingDocument:
    """The whole mesh's routing; replaced as a whole, so readers see a switch entirely or not at all (I8)."""

    version: int = 0
    routes: Mapping[str, Route] = field(default_factory=dict)

    def owned_by(self, cluster: str) -> list[str]:
        return sorted(name for name, route in self.routes.items() if route.active == cluster)
