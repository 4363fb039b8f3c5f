"""The checkers' own test: each planted bug must be found within the default seeds, by the invariant that it breaks."""

import os
from pathlib import Path

import pytest

from omnirelay.testing.simulation.mutants import MUTANTS
from omnirelay.testing.simulation.run import run_all
from omnirelay.testing.simulation.scenario import load

SCENARIOS = Path(__file__).parent / "scenarios"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_is_caught(name: str):
    path = SCENARIOS / f"{MUTANTS[name].scenario}.toml"
    scenario = load(path)
    for report in run_all(scenario, scenario.default_seeds, min(2, os.cpu_count() or 1), name):
        if report.failed:
            assert report.invariant in MUTANTS[name].breaks, report.explain(path)
            return
    pytest.fail(f"{len(scenario.default_seeds)} seeds do not find {name}")
