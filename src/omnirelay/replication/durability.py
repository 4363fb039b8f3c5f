"""What is remote: held durably by as many other clusters as a producer asks for, each within its unbroken prefix (I4).

The prefix matters, not the batch. A cluster that has a batch and lacks something valid before it would, if it were
promoted, fence the batch; a producer that had let go of it by then could not send it again.
"""

from __future__ import annotations

from collections.abc import Iterable

from omnirelay.model.position import START, Cursor
from omnirelay.model.routing import Route
from omnirelay.model.version_vector import VersionVector

MARKS = 1024
"""Batches of one producer that are told apart while they wait to become remote."""


def remote_end(route: Route, acknowledged: Iterable[VersionVector], copies: int) -> Cursor:
    """The end of the part of the order that at least `copies` (from 1) other clusters hold.

    `acknowledged`: what each of them has confirmed to hold durably; one that never confirmed anything may be left out.
    """
    ends = sorted((route.unbroken_prefix(vector) for vector in acknowledged), reverse=True)
    return ends[copies - 1] if len(ends) >= copies else START


class RemoteProgress:
    """Which of one producer's batches are remote, told in as few words as possible.

    A mark says that the producer's batches up to a number end at a place in the order. Both only grow, so a mark that
    is left out makes the word come later, with the next one, and never too early: beyond `MARKS` every second goes.
    """

    def __init__(self) -> None:
        self._marks: list[tuple[int, Cursor]] = []
        self._told = 0

    def __bool__(self) -> bool:
        """Whether anything waits to become remote."""
        return bool(self._marks)

    def acknowledged(self, producer_sequence: int, end: Cursor) -> None:
        """The producer was told that its batches up to here are durable locally. One that was sent again brings nothing
        new unless its first sending was not seen."""
        if producer_sequence <= (self._marks[-1][0] if self._marks else self._told):
            return
        self._marks.append((producer_sequence, end))
        if len(self._marks) > MARKS:
            del self._marks[-2::-2]

    def reached(self, end: Cursor) -> int:
        """What to tell the producer, given where the remote part of the order ends; 0 when there is nothing new."""
        count = 0
        while count < len(self._marks) and self._marks[count][1] <= end:
            count += 1
        if not count:
            return 0
        self._told = self._marks[count - 1][0]
        del self._marks[:count]
        return self._told
