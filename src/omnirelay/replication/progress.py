"""A peer's progress as its sender sees it: what it wants, was sent, holds, and still accepts."""

from __future__ import annotations

from collections.abc import Iterable

from omnirelay.model.batch import Batch
from omnirelay.model.version_vector import VersionVector


class PeerProgress:
    """One stream to one receiver. The receiver's opening vector is where sending starts, so no probing is needed.

    Credit is counted in bytes and may go below zero by at most one batch, so that a batch larger than what is left
    can still be sent; memory in flight is bounded by credit plus one batch.
    """

    def __init__(self, applied: VersionVector, credit_bytes: int, origins: Iterable[str]) -> None:
        self.durable = applied
        self._sent = applied
        self._credit = credit_bytes
        self._origins = tuple(dict.fromkeys(origins))
        self._turn = 0

    @property
    def origins(self) -> tuple[str, ...]:
        return self._origins

    def interest(self, origins: Iterable[str]) -> None:
        """The receiver's new wish. What it stops wanting and later wants again starts from what it then holds."""
        wanted = tuple(dict.fromkeys(origins))
        for origin in wanted:
            if origin not in self._origins:
                self._sent = VersionVector({**self._sent, origin: self.durable[origin]})
        self._origins = wanted
        self._turn = 0

    def acknowledged(self, durable: VersionVector, credit_bytes: int) -> None:
        """An acknowledgement never takes back what an earlier one confirmed."""
        self.durable = self.durable.merge(durable)
        self._sent = self._sent.merge(self.durable)
        self._credit += credit_bytes

    def next_read(self, heads: VersionVector) -> tuple[str, int, int] | None:
        """(origin, after, credit) of the next reading, taking wanted origins in turn; None when there is nothing to
        send or no credit to send it."""
        if self._credit <= 0:
            return None
        for step in range(len(self._origins)):
            origin = self._origins[(self._turn + step) % len(self._origins)]
            if heads[origin] > self._sent[origin]:
                self._turn = (self._turn + step + 1) % len(self._origins)
                return origin, self._sent[origin], self._credit
        return None

    def seeded(self, origin: str, sequence: int) -> None:
        """A seed is on its way: sending goes on behind it."""
        self._sent = self._sent.advance(origin, max(sequence, self._sent[origin]))

    def due(self, batch: Batch) -> bool:
        """Whether the batch is still the next one to send. A reading takes time: meanwhile the receiver may have got
        the batch from a relay, or have declared another interest."""
        header, sent = batch.header, self._sent[batch.header.origin]
        return header.origin in self._origins and header.first_sequence <= sent + 1 <= header.last_sequence

    def sent(self, batch: Batch) -> None:
        """A batch that is due is on its way."""
        self._sent = self._sent.advance(batch.header.origin, batch.header.last_sequence)
        self._credit -= batch.size
