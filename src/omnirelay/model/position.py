"""Places: in an origin's log, and in the order of a namespace."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """One record of an origin's log."""

    origin: str
    sequence: int


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A place in the order of a namespace: by epoch, then by sequence. `Cursor(0, 0)` is the start.

    Within an epoch one origin writes, so the pair is enough. A fence cut is a cursor too.
    """

    epoch: int = 0
    sequence: int = 0


START = Cursor()
