"""Which machine a failover runs on. Planned and emergency are two machines; a failback is a planned failover."""

from __future__ import annotations

from omnirelay.failover import emergency, planned
from omnirelay.failover.events import Event
from omnirelay.failover.machine import Machine
from omnirelay.failover.record import Failover, Mode, State

_MACHINES = {Mode.PLANNED: planned.MACHINE, Mode.EMERGENCY: emergency.MACHINE, Mode.FAILBACK: planned.MACHINE}

HOLDS_LOCK = planned.HOLDS_LOCK | emergency.HOLDS_LOCK
"""States in which a failover of any mode holds its namespaces against every other operation."""

SOURCE_CLOSED = planned.SOURCE_CLOSED | emergency.SOURCE_BARRED
"""States in which the source admits no writes for the namespaces."""


def machine(failover: Failover) -> Machine[State, Event]:
    return _MACHINES[failover.request.mode]


def is_open(failover: Failover) -> bool:
    """Something can still happen to it."""
    return not machine(failover).final(failover.state)
