"""The one clock that all processes of a machine share and that nobody can set."""

from __future__ import annotations

import time
from pathlib import Path


def boottime() -> float:
    """Seconds since the machine booted, with the time it slept: a lease runs out while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Names the boot that `boottime` counts from."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
