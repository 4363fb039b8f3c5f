"""I14: a dry run changes nothing, and promises only what the real run keeps."""

from __future__ import annotations

from collections.abc import Sequence

from omnirelay.ports.coordination import Change
from omnirelay.testing.simulation.checkers.base import Checker
from omnirelay.testing.simulation.operators import REHEARSAL


class RehearsalChecker(Checker):
    def stored(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.entry is not None and REHEARSAL.encode() in change.entry.value:
                self.fail("I14", f"a dry run has written {change.key}")

    def rehearsed(self, operator: str, what: str, refusal: str) -> None:
        self.fail("I14", f"{operator} was refused {what} ({refusal}), which the dry run found nothing against")
