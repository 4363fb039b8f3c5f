"""How much of the retention cap is held back for a peer, and from when on that is worth a word: pure."""

from __future__ import annotations

from enum import IntEnum


class Alarm(IntEnum):
    """From fine to too late."""

    NONE = 0
    HALF = 1
    HIGH = 2
    BEYOND = 3
    """What the peer would go on from may be gone: it must be re-seeded."""


HALF_RATIO = 0.5
HIGH_RATIO = 0.8


def alarm(ratio: float) -> Alarm:
    if ratio >= 1.0:
        return Alarm.BEYOND
    if ratio >= HIGH_RATIO:
        return Alarm.HIGH
    return Alarm.HALF if ratio >= HALF_RATIO else Alarm.NONE
