"""What a later ownership fenced: batches that are kept and readable, never delivered, and wait for a decision."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from omnirelay.errors import BadRequest, Conflict, NotFound
from omnirelay.failover.record import Grade, LossRange
from omnirelay.model.routing import Route


class Resolution(StrEnum):
    DISCARDED = "discarded"
    EXPORTED = "exported"
    REPLAYING = "replaying"
    """The active is to publish them again; it goes on where it stopped after a crash."""
    REPLAYED = "replayed"


@dataclass(frozen=True, slots=True)
class Settled:
    """What an earlier decision settled, up to `upto`; a later one does not touch it."""

    resolution: Resolution
    upto: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about a divergence, for its open records up to `upto`. Later ones, which arrive when an old
    active comes back in parts, are open again."""

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
    earlier: tuple[Settled, ...] = ()
    """Oldest first."""

    def of(self, batch: FencedBatch) -> Resolution | None:
        """What was decided about the batch; None if nothing was."""
        spans = (*self.earlier, Settled(self.resolution, self.upto))
        return next((span.resolution for span in spans if batch.last_sequence <= span.upto), None)


SETTLING = (Resolution.DISCARDED, Resolution.EXPORTED)
"""What ends the matter by being decided. A replay ends it batch by batch, as the log shows."""


class Fate(StrEnum):
    """What the later epochs say of a fenced batch. Its copy there may be fenced in turn: then it is that one's fate
    that counts, so that no record is accounted for twice."""

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
    dropped_to: int = 0
    """Retention has dropped what was fenced up to there."""
    blind: bool = False
    """Retention has dropped a part of what the mesh went on with: whether a producer has sent an open batch again
    cannot be told any more."""

    @property
    def id(self) -> str:
        return divergence_id(self.namespace, self.epoch)

    @property
    def place(self) -> tuple[str, str, int]:
        """The part of a log that it is about."""
        return self.namespace, self.origin, self.epoch

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
        return sum(batch.records for batch in self.batches if self.is_open(batch))

    def is_open(self, batch: FencedBatch) -> bool:
        return batch.fate is Fate.OPEN and self.decided(batch) not in SETTLING

    def decided(self, batch: FencedBatch) -> Resolution | None:
        return self.decision.of(batch) if self.decision else None

    @property
    def settled(self) -> tuple[Settled, ...]:
        """What the next decision must not touch."""
        decision = self.decision
        if decision is None:
            return ()
        if decision.resolution not in SETTLING:
            return decision.earlier
        return (*decision.earlier, Settled(decision.resolution, decision.upto))


def divergence_id(namespace: str, epoch: int) -> str:
    return f"{namespace}.{epoch}"


_EPOCH = re.compile("[0-9]{1,19}")


def parse_divergence_id(text: str) -> tuple[str, int]:
    """Raises NotFound for anything that cannot be an id."""
    namespace, dot, epoch = text.rpartition(".")
    if not dot or not _EPOCH.fullmatch(epoch):
        raise NotFound(f"there is no divergence {text!r}", kind="divergence", divergence_id=text)
    return namespace, int(epoch)


def fenced_epochs(route: Route) -> Iterable[tuple[int, str, int]]:
    """(epoch, origin, valid end) of every epoch that a later cut bounds."""
    for ownership in route.history[:-1]:
        end = route.valid_end(ownership.epoch)
        if end is not None:
            yield ownership.epoch, ownership.origin, end


def exact_ranges(
    divergence: Divergence, after: int = 0, upto: int | None = None, before: Iterable[LossRange] = ()
) -> tuple[LossRange, ...]:
    """What became of the fenced records after `after` and up to `upto`, in ranges of one grade each. What `before` knew
    to have been sent or published again is so still, also where retention has dropped the proof."""
    known = _Spans(r for r in before if r.grade in _GRADES.values() and r.place == divergence.place)
    ranges: list[LossRange] = []
    for batch in divergence.batches:
        if batch.last_sequence <= after or (upto is not None and batch.last_sequence > upto):
            continue
        first, records = batch.first_sequence, batch.records
        again = known.around(batch) if divergence.blind else None
        grade = again.grade if again is not None else _grade(batch, divergence.decided(batch))
        last = ranges[-1] if ranges else None
        if last is not None and last.grade is grade and last.last + 1 == first:
            first, records = last.first, last.records + records
            ranges.pop()
        ranges.append(
            LossRange(
                divergence.namespace,
                divergence.origin,
                divergence.epoch,
                first,
                batch.last_sequence,
                records,
                True,
                grade,
            )
        )
    return tuple(ranges)


def kept_from(divergence: Divergence, manifests: Iterable[LossRange]) -> int | None:
    """The first fenced record that retention must leave: all while anything is open, else what `manifests` do not tell
    the end of yet. None if it may drop them all."""
    if divergence.unresolved:
        return divergence.batches[0].first_sequence
    told = _Spans(r for r in manifests if r.exact and r.grade is not Grade.FENCED and r.place == divergence.place)
    return next((batch.first_sequence for batch in divergence.batches if told.around(batch) is None), None)


class _Spans:
    """Ranges that do not overlap, asked about batches in ascending order: one pass over both."""

    def __init__(self, ranges: Iterable[LossRange]) -> None:
        self._ranges = sorted(ranges, key=lambda range_: range_.first)
        self._at = 0

    def around(self, batch: FencedBatch) -> LossRange | None:
        while self._at < len(self._ranges) and self._ranges[self._at].last < batch.last_sequence:
            self._at += 1
        found = self._ranges[self._at] if self._at < len(self._ranges) else None
        return found if found is not None and found.first <= batch.first_sequence else None


_GRADES = {Fate.SUPERSEDED: Grade.SUPERSEDED, Fate.REPLAYED: Grade.RECOVERED}
_DECIDED = {Resolution.DISCARDED: Grade.DISCARDED, Resolution.EXPORTED: Grade.EXPORTED}


def _grade(batch: FencedBatch, decided: Resolution | None) -> Grade:
    if batch.fate is not Fate.OPEN:
        return _GRADES[batch.fate]
    return Grade.FENCED if decided is None else _DECIDED.get(decided, Grade.FENCED)


def require_comparable(divergence: Divergence) -> None:
    """Raises Conflict where a replay might double records (I13)."""
    if divergence.blind:
        raise Conflict(
            f"divergence {divergence.id} cannot be replayed: retention has dropped a part of what its producers may "
            "have sent again; export or discard it",
            divergence_id=divergence.id,
        )


def require_open(divergence: Divergence) -> None:
    """Raises BadRequest when there is nothing left to decide."""
    if not divergence.unresolved:
        what = divergence.decision.resolution if divergence.decision else "nothing to resolve"
        raise BadRequest(f"divergence {divergence.id} has no open records: {what}", divergence_id=divergence.id)
