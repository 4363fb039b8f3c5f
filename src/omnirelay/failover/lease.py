"""Lease arithmetic: until when an active may admit writes, by its own monotonic clock.

The holder counts from the moment it *sent* the last successful renewal, the store from the moment it received it, so
the holder's end is always the earlier one; the margin covers clocks that run at different speeds.
"""

from __future__ import annotations

from dataclasses import dataclass

from omnirelay.errors import ConfigInvalid


@dataclass(frozen=True, slots=True)
class Timing:
    """All in seconds."""

    lease_ttl: float = 6.0
    lease_margin: float = 1.0
    heartbeat: float = 0.5
    stall_threshold: float = 2.0
    emergency_deadline: float = 10.0

    @property
    def renew_interval(self) -> float:
        return self.lease_ttl / 3


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim as its holder sees it. `renewed_at` is the monotonic time at which the last renewal that succeeded was
    sent."""

    id: int
    renewed_at: float

    def admits_until(self, timing: Timing) -> float:
        return self.renewed_at + timing.lease_ttl - timing.lease_margin

    def admits(self, now: float, timing: Timing) -> bool:
        return now < self.admits_until(timing)


def check_timing(timing: Timing) -> None:
    """renew interval < ttl − margin < emergency deadline, heartbeat < stall threshold < ttl, and a margin above 0.
    Raises ConfigInvalid."""
    self_fence = timing.lease_ttl - timing.lease_margin
    chain = (
        ("timing.heartbeat", timing.heartbeat, "timing.stall_threshold", timing.stall_threshold),
        ("timing.stall_threshold", timing.stall_threshold, "timing.lease_ttl", timing.lease_ttl),
        ("a third of timing.lease_ttl", timing.renew_interval, "timing.lease_ttl - timing.lease_margin", self_fence),
        # Without a margin the holder would stop when, or after, the store gives the lease to another.
        ("timing.lease_ttl - timing.lease_margin", self_fence, "timing.lease_ttl", timing.lease_ttl),
        ("timing.lease_ttl - timing.lease_margin", self_fence, "timing.emergency_deadline", timing.emergency_deadline),
    )
    for low_name, low, high_name, high in chain:
        if not 0 < low < high:
            raise ConfigInvalid(
                f"{low_name} ({low:g}s) must be above 0 and below {high_name} ({high:g}s)", path=low_name
            )
