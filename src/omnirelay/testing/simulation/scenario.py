"""Scenarios: data files (TOML) that say how big the mesh is, how much happens, and what goes wrong how often."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from omnirelay.testing.simulation.faults import FAULTS


@dataclass(frozen=True, slots=True)
class Scenario:
    """Every field can be set in the file. Times are virtual seconds; means of exponential distributions."""

    name: str
    clusters: int = 3
    namespaces: int = 2
    producers: int = 3
    steps: int = 2_000
    """Messages, commits, store requests and faults, after which everything is healed and must settle."""
    offer_seconds: float = 0.5
    """Between two batches of one producer."""
    operators: int = 2
    """Who plan failovers."""
    rescuers: int = 0
    """Who promote in emergencies."""
    settlers: int = 0
    """Who decide about what diverged, until nothing is open, and go home."""
    operator_seconds: float = 4.0
    """Between two shifts of one operator."""
    dithers: float = 0.15
    """Probability that an operator takes seconds rather than tenths of one before the next call."""
    fault_seconds: float = 2.0
    """Between two faults."""
    lasting_seconds: float = 4.0
    """How long a fault lasts."""
    settle_seconds: float = 120.0
    """How long the healed mesh may take to become level."""
    faults: Mapping[str, float] = field(default_factory=dict)
    """Fault → weight. Without any nothing goes wrong."""
    seeds: int = 10
    """How many seeds a test run plays, from 0 on."""
    failed: tuple[int, ...] = ()
    """Seeds that once failed: these are played as well, or, in a regression's own file, alone with `seeds` 0."""

    @property
    def default_seeds(self) -> tuple[int, ...]:
        return (*range(self.seeds), *(seed for seed in self.failed if seed >= self.seeds))


def load(path: Path) -> Scenario:
    """Raises ValueError for what is no scenario."""
    content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    unknown = content.keys() - {f.name for f in fields(Scenario)}
    unknown |= content.get("faults", {}).keys() - FAULTS.keys()
    if unknown:
        raise ValueError(f"{path}: unknown: {', '.join(sorted(unknown))}")
    return Scenario(**{"name": path.stem, **content, "failed": tuple(content.get("failed", ()))})
