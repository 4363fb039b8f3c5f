"""Every scenario, over its seeds. `make soak SEEDS=N` plays more."""

import os
from pathlib import Path

import pytest

from omnirelay.testing.simulation.run import run_all
from omnirelay.testing.simulation.scenario import load

FOLDER = Path(__file__).parent / "scenarios"
PROCESSES = min(2, os.cpu_count() or 1)


@pytest.mark.timeout(900)  # hundreds of seeds, about half a minute of CPU for each hundred thousand steps
@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.toml")), ids=lambda path: path.stem)
def test_every_invariant_holds(path: Path):
    scenario = load(path)
    reports = list(run_all(scenario, scenario.default_seeds, PROCESSES))
    failed = [report.explain(path.relative_to(Path.cwd())) for report in reports if report.failed]
    assert not failed, "\n\n".join(failed[:3])
    assert all(report.events >= scenario.steps for report in reports)
    # A run in which nothing happened would hold everything.
    assert sum(report.acknowledged for report in reports) > 10 * len(reports)
    if scenario.seeds:
        assert sum(report.failovers for report in reports) > len(reports) // 2
    if scenario.seeds and scenario.rescuers:
        assert sum(report.emergencies for report in reports) > len(reports) // 2
        assert all(sum(getattr(r, what) for r in reports) for what in ("failbacks", "fenced", "decisions", "replays"))
