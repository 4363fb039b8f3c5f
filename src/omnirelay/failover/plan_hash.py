"""What an approval is bound to: a hash over everything that the plan will do.

Measured figures (lag, disk) are not in it: they change by the second and are checked again when the plan is used.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from omnirelay.failover.record import Epochs, Request


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def plan_hash(request: Request, source: str, expected_epochs: Epochs) -> str:
    content = {"request": asdict(request), "source": source, "expected_epochs": dict(expected_epochs)}
    return "sha256:" + hashlib.sha256(canonical_json(content)).hexdigest()
