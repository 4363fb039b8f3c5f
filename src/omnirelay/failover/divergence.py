"""What a later ownership fenced: batches that are kept and readable, never delivered, and wait for a decision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from omnirelay.errors import BadRequest, NotFound
from omnirelay.failover.record import Grade, LossRange
from omnirelay.model.routing import Route


class Resolution(StrEnum):
    DISCARDED = "discarded"
    EXPORTED = "exported"
    REPLAYING = "replaying"
    """The active is to publish them again; it goes on where it stopped after a crash."""
    REPLAYED = "replayed"


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about a divergence, for its records up to `upto`. Later ones, which arrive when an old active
    comes back in parts, are open again."""

    namespace: str
    epoch: int
    resolution: Resolution
    upto: int
    by: str
    at: str
    reason: str = ""
    replayed: int = 0
    """Records published again."""
    superseded: int = 0
    """Records whose producers had sent them again themselves."""


class Fate(StrEnum):
    """What the valid part of the order says of a fenced batch."""

    OPEN = "open"
    SUPERSEDED = "superseded"
    """Its producer has sent it again: the same number, the same records."""
    REPLAYED = "replayed"
    """It has been published again, with its provenance."""


@dataclass(frozen=True, slots=True)
class FencedBatch:
    """The place and producer of one fenced batch of data."""

    first_sequence: int
    last_sequence: int
    producer_id: str
    producer_sequence: int
    fate: Fate = Fate.OPEN

    @property
    def records(self) -> int:
        return self.last_sequence - self.first_sequence + 1


@dataclass(frozen=True, slots=True)
class Divergence:
    """The fenced batches of one epoch of a namespace, as far as one cluster holds them."""

    namespace: str
    epoch: int
    origin: str
    batches: tuple[FencedBatch, ...]
    decision: Decision | None = None

    @property
    def id(self) -> str:
        return divergence_id(self.namespace, self.epoch)

    @property
    def records(self) -> int:
        return sum(batch.records for batch in self.batches)

    @property
    def superseded(self) -> int:
        return sum(batch.records for batch in self.batches if batch.fate is Fate.SUPERSEDED)

    @property
    def replayed(self) -> int:
        return sum(batch.records for batch in self.batches if batch.fate is Fate.REPLAYED)

    @property
    def last_sequence(self) -> int:
        return self.batches[-1].last_sequence if self.batches else 0

    @property
    def unresolved(self) -> int:
        """Records that nobody has decided about; a replay counts batch by batch, as it proceeds."""
        decided = self.decision is not None and self.decision.resolution in (Resolution.DISCARDED, Resolution.EXPORTED)
        done = self.decision.upto if self.decision and decided else 0
        return sum(b.records for b in self.batches if b.last_sequence > done and b.fate is Fate.OPEN)


def divergence_id(namespace: str, epoch: int) -> str:
    return f"{namespace}.{epoch}"


def parse_divergence_id(text: str) -> tuple[str, int]:
    """Raises NotFound for anything that cannot be an id."""
    namespace, dot, epoch = text.rpartition(".")
    if not dot or not epoch.isdigit():
        raise NotFound(f"there is no divergence {text!r}", kind="divergence", divergence_id=text)
    return namespace, int(epoch)


def fenced_epochs(route: Route) -> Iterable[tuple[int, str, int]]:
    """(epoch, origin, valid end) of every epoch that a later cut bounds."""
    for ownership in route.history[:-1]:
        end = route.valid_end(ownership.epoch)
        if end is not None:
            yield ownership.epoch, ownership.origin, end


def exact_manifest(divergence: Divergence) -> tuple[LossRange, ...]:
    """What became of an emergency's cut-off records, in ranges of one grade each."""
    decision = divergence.decision
    ranges: list[LossRange] = []
    for batch in divergence.batches:
        grade = _grade(batch, decision)
        last = ranges[-1] if ranges else None
        if last is not None and last.grade is grade and last.last + 1 == batch.first_sequence:
            ranges[-1] = LossRange(
                last.namespace, last.origin, last.epoch, last.first, batch.last_sequence, last.records + batch.records,
                True, grade,
            )  # fmt: skip
        else:
            ranges.append(
                LossRange(
                    divergence.namespace,
                    divergence.origin,
                    divergence.epoch,
                    batch.first_sequence,
                    batch.last_sequence,
                    batch.records,
                    True,
                    grade,
                )
            )
    return tuple(ranges)


def _grade(batch: FencedBatch, decision: Decision | None) -> Grade:
    if batch.fate is Fate.SUPERSEDED:
        return Grade.SUPERSEDED
    if batch.fate is Fate.REPLAYED:
        return Grade.RECOVERED
    if decision is None or batch.last_sequence > decision.upto:
        return Grade.FENCED
    return {Resolution.DISCARDED: Grade.DISCARDED, Resolution.EXPORTED: Grade.EXPORTED}.get(
        decision.resolution, Grade.FENCED
    )


def require_open(divergence: Divergence) -> None:
    """Raises BadRequest when there is nothing left to decide."""
    if not divergence.unresolved:
        what = divergence.decision.resolution if divergence.decision else "nothing to resolve"
        raise BadRequest(f"divergence {divergence.id} has no open records: {what}", divergence_id=divergence.id)
