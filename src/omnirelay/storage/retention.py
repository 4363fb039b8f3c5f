"""Which of the oldest batches may go: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.log import Retention


@dataclass(frozen=True, slots=True)
class Candidate:
    """A retained batch, without its content."""

    last_sequence: int
    size: int
    commit_time_ms: int


def droppable(
    oldest: Mapping[str, Sequence[Candidate]], total: int, cursors: Mapping[str, VersionVector], rule: Retention
) -> dict[str, int]:
    """Origin → how many of its oldest batches may go.

    `oldest` holds the beginning of each origin's log, `total` is the size of all retained batches in bytes. The
    batch with the earliest commit time goes first, over all origins. Where one origin's candidates end, the
    answer ends too, for that origin's next batch might have been the next to go: the caller asks again.
    """
    going = dict.fromkeys(oldest, 0)
    open_origins = {origin for origin, batches in oldest.items() if batches}
    while open_origins:
        origin = min(open_origins, key=lambda o: (oldest[o][going[o]].commit_time_ms, o))
        batch = oldest[origin][going[origin]]
        due = rule.now_ms - batch.commit_time_ms > rule.max_age_ms or total > rule.max_bytes
        passed = rule.passed(cursors, origin, batch.last_sequence)
        kept = origin in rule.keep_from and batch.last_sequence >= rule.keep_from[origin]
        if kept or (not (due and passed) and total <= rule.cap_bytes):
            open_origins.discard(origin)
            continue
        going[origin] += 1
        total -= batch.size
        if going[origin] == len(oldest[origin]):
            break
    return {origin: count for origin, count in going.items() if count}
