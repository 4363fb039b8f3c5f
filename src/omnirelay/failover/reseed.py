"""A cluster that fell behind retention goes on behind a seed, once a person has decided that it shall."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reseed:
    """The intent, as it is stored until the cluster has carried it out."""

    cluster: str
    origins: tuple[str, ...]
    """The logs of which it accepts a seed."""
    by: str
    at: str
    change_ticket: str
    reason: str
