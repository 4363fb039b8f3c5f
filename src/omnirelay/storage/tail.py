"""The latest batches of each origin in memory: what replication and readers at the head are served from."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator

from omnirelay.model.batch import Batch

_OBJECT_BYTES = 1024
"""What a batch costs beside its bytes, roughly: headers and vectors are objects too."""


class Tail:
    """The consecutive batches at the end of one origin's log, within `max_bytes` of memory."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._batches: deque[Batch] = deque()

    def push(self, batch: Batch) -> None:
        self._batches.append(batch)
        self._bytes += batch.size + _OBJECT_BYTES
        while self._bytes > self._max_bytes:
            self._pop()

    def drop(self, before: int) -> None:
        """Forgets the batches that end before the sequence."""
        while self._batches and self._batches[0].header.last_sequence < before:
            self._pop()

    def after(self, sequence: int) -> Iterator[Batch] | None:
        """All batches that hold anything beyond the sequence; None if some of them are not here."""
        if not self._batches or self._batches[0].header.first_sequence > sequence + 1:
            return None
        start = bisect_right(self._batches, sequence, key=lambda batch: batch.header.last_sequence)
        return (self._batches[i] for i in range(start, len(self._batches)))

    def _pop(self) -> None:
        self._bytes -= self._batches.popleft().size + _OBJECT_BYTES


def fitting(batches: Iterable[Batch], max_bytes: int) -> list[Batch]:
    """The first batch if there is one, then as many as fit."""
    taken: list[Batch] = []
    for batch in batches:
        max_bytes -= batch.size
        if taken and max_bytes < 0:
            break
        taken.append(batch)
    return taken
