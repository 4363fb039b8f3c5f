"""What must hold. Each checker watches raw logs, the raw store and what clients are told; none asks the product how it
is doing. A checker that finds something calls `fail`, and the run ends there.
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
