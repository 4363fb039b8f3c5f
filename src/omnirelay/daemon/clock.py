"""The machine's clocks."""

from __future__ import annotations

import time


class SystemClock:
    def monotonic(self) -> float:
        """Boot time, which counts while the machine is suspended: a lease does not stand still then."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000
