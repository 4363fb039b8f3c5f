"""What can happen to a failover. Each machine's table takes the events that it knows."""

from __future__ import annotations

from enum import StrEnum


class Event(StrEnum):
    APPROVE = "approve"
    DENY = "deny"
    EXPIRE = "expire"
    ABORT = "abort"
    # planned
    DRAIN = "drain"
    REACHED = "reached"
    DRAIN_EXPIRED = "drain_expired"
    # emergency
    GATHER = "gather"
    GATHERED = "gathered"
    GATHER_EXPIRED = "gather_expired"
    FENCED = "fenced"
    # both
    PROMOTE = "promote"
    VERIFY = "verify"
    VERIFIED = "verified"
    VERIFY_FAILED = "verify_failed"
    COMPLETE = "complete"
