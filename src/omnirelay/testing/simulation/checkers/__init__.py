"""What must hold. Each checker watches raw logs, the raw store and what clients are told; none asks the product how it
is doing, and what is valid is worked out in `facts` by the definition. A checker that finds something calls `fail`, and
the run ends there.

    I1   one writer                logs (an epoch's owner alone writes in it), admission (one at a time)
    I2   fence at the resource     logs (the epoch on the disk at each append)
    I3   gapless                   logs
    I4   acknowledged = durable    admission (local: valid, on the disk; remote: in so many prefixes), convergence
    I5   exactly once              logs (valid once, in order), admission (nobody is turned away), convergence
    I6   one order                 deliveries (at cluster and reader), switches (the cut ends the unbroken prefix)
    I7   nothing vanishes          logs, deliveries (readers are told what is taken back), emergencies (manifests are
                                   exact, decisions audited, every record is valid or said to be gone)
    I8   atomic switch             switches
    I9   planned means lossless    switches, admission (nothing behind the barrier)
    I10  no stuck drain            drains, convergence
    I11  waits for no source       emergencies
    I12  convergence               convergence, and `mesh`, which waits for it
    I13  refuse when unsure        emergencies (approval, acceptance, epochs, locks, a known target)
    I14  one code path             rehearsals (a dry run writes nothing and promises only what is kept)
"""

from __future__ import annotations

from omnirelay.testing.simulation.checkers.admission import AdmissionChecker
from omnirelay.testing.simulation.checkers.base import Checker, Violation
from omnirelay.testing.simulation.checkers.convergence import ConvergenceChecker
from omnirelay.testing.simulation.checkers.deliveries import DeliveryChecker
from omnirelay.testing.simulation.checkers.drains import DrainChecker
from omnirelay.testing.simulation.checkers.emergencies import EmergencyChecker
from omnirelay.testing.simulation.checkers.facts import Facts
from omnirelay.testing.simulation.checkers.logs import LogChecker
from omnirelay.testing.simulation.checkers.rehearsals import RehearsalChecker
from omnirelay.testing.simulation.checkers.switches import SwitchChecker

CHECKERS: tuple[type[Checker], ...] = (
    LogChecker,
    AdmissionChecker,
    SwitchChecker,
    DrainChecker,
    EmergencyChecker,
    DeliveryChecker,
    RehearsalChecker,
    ConvergenceChecker,
)

__all__ = ["CHECKERS", "Checker", "Facts", "Violation"]
