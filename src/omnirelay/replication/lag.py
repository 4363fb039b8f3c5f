"""Lag, on one clock, and never better than what is known.

The sender's figure is exact: it knows when it committed a batch and when the acknowledgement came, both by its own
monotonic clock. The receiver's figure is the time since it was last known to be level; it goes on growing when the
source falls silent, which the sender's cannot. Unknown is None, never 0.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from omnirelay.model.lag import UNKNOWN, Lag, ReplicationStatus

RATE_SECONDS = 5.0
"""How fast the moving average of a peer's rate follows."""


class CommitHistory:
    """When each recent batch of the own origin was committed; shared by all peers' measurements.

    Bounded: beyond `capacity` entries every second one is merged into its successor, which keeps the *older* time, so
    a lag read from a thinned history is never too small.
    """

    def __init__(self, sequence: int, size: int, capacity: int = 16_384) -> None:
        """`sequence` and `size` are the origin's head when this begins; sizes count its bytes from its start."""
        self._capacity = capacity
        self._base = (sequence, size)
        self._ends: list[int] = []
        self._sizes: list[int] = []
        self._times: list[float] = []

    @property
    def head(self) -> tuple[int, int]:
        """(sequence, size) of the last commit."""
        return (self._ends[-1], self._sizes[-1]) if self._ends else self._base

    @property
    def base(self) -> int:
        """The sequence from which on commit times are known."""
        return self._base[0]

    def committed(self, last_sequence: int, size: int, now: float) -> None:
        if last_sequence <= self.head[0]:
            return
        self._ends.append(last_sequence)
        self._sizes.append(size)
        self._times.append(now)
        if len(self._ends) > self._capacity:
            self._thin()

    def older(self, after: int, size: int, committed_at: float) -> None:
        """Teaches where `after` ends in bytes and when the batch behind it was committed, for what lies before this
        history began. Everything between is taken to be as old as that batch."""
        if after < self._base[0]:
            self._ends.insert(0, self._base[0])
            self._sizes.insert(0, self._base[1])
            self._times.insert(0, committed_at)
            self._base = (after, size)

    def measure(self, acknowledged: int, now: float) -> Lag:
        """The lag of a peer that holds the origin up to `acknowledged`."""
        head, head_size = self.head
        if acknowledged >= head:
            return Lag(0, 0, 0.0)
        if acknowledged < self._base[0]:
            return Lag(head - acknowledged, None, None)
        index = bisect_right(self._ends, acknowledged)
        held_size = self._sizes[index - 1] if index else self._base[1]
        return Lag(head - acknowledged, head_size - held_size, max(0.0, now - self._times[index]))

    def forget(self, acknowledged: int) -> None:
        """Drops what every peer has confirmed."""
        index = bisect_right(self._ends, acknowledged)
        if index:
            self._base = (self._ends[index - 1], self._sizes[index - 1])
            del self._ends[:index], self._sizes[:index], self._times[:index]

    def _thin(self) -> None:
        paired = len(self._ends) - len(self._ends) % 2
        self._times = self._times[0:paired:2] + self._times[paired:]
        self._ends = self._ends[1:paired:2] + self._ends[paired:]
        self._sizes = self._sizes[1:paired:2] + self._sizes[paired:]


@dataclass(slots=True)
class InboundLag:
    """The receiver's own figure for one peer's origin."""

    applied: int = 0
    applied_size: int = 0
    head: int = 0
    head_size: int = 0
    last_contact: float | None = None
    """Monotonic time of the last message from the peer."""
    level_at: float | None = None
    """Monotonic time at which this side was last known to hold everything the peer had."""
    rate: float | None = None
    """Records a second that the peer's log grew by lately; a moving average over heartbeats. None before there are two
    of them: one tells of no growth."""
    beat_at: float | None = None
    beat_head: int = 0

    def heard(self, head: int, head_size: int, now: float) -> None:
        """A heartbeat with the peer's head."""
        if self.beat_at is not None and now > self.beat_at:
            seen = (max(head, self.beat_head) - self.beat_head) / (now - self.beat_at)
            weight = min(1.0, (now - self.beat_at) / RATE_SECONDS)
            self.rate = seen if self.rate is None else self.rate + weight * (seen - self.rate)
        self.beat_at, self.beat_head = now, max(head, self.beat_head)
        self.head = max(self.head, head)
        self.head_size = max(self.head_size, head_size)
        self.last_contact = now
        self._check(now)

    def arrived(self, sequence: int, size: int, now: float) -> None:
        """A batch of `size` bytes that ends at `sequence` has come in, not yet durable."""
        if sequence > self.head:
            # The stream has no gaps, so what was the head until now ends where this batch begins.
            self.head, self.head_size = sequence, self.head_size + size
        self.last_contact = now

    def durable(self, applied: int, applied_size: int, now: float) -> None:
        self.applied = max(self.applied, applied)
        self.applied_size = max(self.applied_size, applied_size)
        self.head_size = max(self.head_size, self.applied_size)
        self._check(now)

    def measure(self, now: float, fresh_seconds: float) -> Lag:
        """Contact older than `fresh_seconds` leaves only the growing time known."""
        if self.last_contact is None:
            return UNKNOWN
        silent = now - self.last_contact > fresh_seconds
        behind = max(0, self.head - self.applied)
        seconds = None if self.level_at is None else now - self.level_at
        if silent:
            return Lag(None, None, seconds)
        if behind == 0:
            return Lag(0, 0, 0.0)
        return Lag(behind, max(0, self.head_size - self.applied_size), seconds)

    def _check(self, now: float) -> None:
        if self.applied >= self.head:
            self.level_at = now


def status_of(
    connected: bool,
    ever: bool,
    silent_seconds: float | None,
    stall_seconds: float,
    lag: Lag,
    catching_up_seconds: float,
) -> ReplicationStatus:
    """One word for a link, from its facts. `silent_seconds` is the time since the last sign of progress or life."""
    if not connected:
        return ReplicationStatus.DISCONNECTED if ever else ReplicationStatus.UNKNOWN
    if silent_seconds is None or silent_seconds > stall_seconds:
        return ReplicationStatus.STALLED
    if lag.records is None:
        return ReplicationStatus.UNKNOWN
    if lag.seconds is None or lag.seconds > catching_up_seconds:
        return ReplicationStatus.CATCHING_UP
    return ReplicationStatus.STREAMING


def skew_seconds(sent_ms: int, received_ms: int, answered_ms: int, answer_received_ms: int) -> float:
    """How far the peer's clock is ahead of ours, by one exchange (the offset formula of NTP, RFC 5905 §8); wrong by at
    most half the round trip. Clock readings in milliseconds: ours, the peer's, the peer's, ours."""
    return ((received_ms - sent_ms) + (answered_ms - answer_received_ms)) / 2000.0
