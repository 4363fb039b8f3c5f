"""A plan that its preflight refused. Nothing is stored of it, yet its change ticket tells that it was asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable
from dataclasses import asdict, dataclass

from omnirelay.failover.plan_hash import canonical_json
from omnirelay.failover.preflight import failed
from omnirelay.failover.record import Check, Failover, Request


@dataclass(frozen=True, slots=True)
class Refusal:
    request: Request
    """With target and namespaces spelt out."""
    source: str
    checks: tuple[Check, ...]
    """All that were taken; at least one failed."""
    requested_by: str
    run_url: str
    at: str
    """RFC 3339."""

    @property
    def id(self) -> str:
        """Of this very refusal."""
        return _digest(asdict(self))[:12]

    @property
    def digest(self) -> str:
        """`sha256:` over the canonical JSON of the checks, as whoever was refused is told them (`details.checks`)."""
        return f"sha256:{_digest([asdict(check) for check in self.checks])}"

    @property
    def kind(self) -> Hashable:
        """Equal where the same run tries again: what was measured moves by the second, what fails does not."""
        request = self.request
        asked = (request.change_ticket, request.mode, request.target, request.namespaces)
        return *asked, self.requested_by, self.run_url, tuple(failed(self.checks))

    def overtaken(self, failovers: Iterable[Failover]) -> bool:
        """The same was planned since."""
        return any(
            failover.request == self.request
            and failover.requested_by == self.requested_by
            and failover.created_at >= self.at
            for failover in failovers
        )


def _digest(value: object) -> str:
    return hashlib.sha256(canonical_json(value)).hexdigest()
