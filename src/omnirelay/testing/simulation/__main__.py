"""Plays scenarios: many seeds to look for trouble, or one to look at it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

from omnirelay.testing.simulation.mutants import MUTANTS
from omnirelay.testing.simulation.run import Report, run, run_all
from omnirelay.testing.simulation.scenario import load


@click.command(help=__doc__)
@click.argument("scenarios", type=click.Path(exists=True, path_type=Path), nargs=-1, required=True)
@click.option("--seed", type=int, help="this one alone, with its trace")
@click.option("--seeds", type=int, help="so many, from --first on; the scenario's own number otherwise")
@click.option("--first", type=int, default=0, show_default=True)
@click.option("--steps", type=int, help="instead of the scenario's own")
@click.option("--processes", type=int, default=2, show_default=True)
@click.option("--mutant", type=click.Choice(sorted(MUTANTS)), help="plant this bug")
def main(
    scenarios: tuple[Path, ...],
    seed: int | None,
    seeds: int | None,
    first: int,
    steps: int | None,
    processes: int,
    mutant: str | None,
) -> None:
    failed = 0
    for path in scenarios:
        scenario = load(path)
        scenario = replace(scenario, steps=steps or scenario.steps)
        if seed is not None:
            report = run(scenario, seed, mutant)
            click.echo(report.explain(path) if report.failed else "\n".join((*report.trace, _line(report))))
            failed += report.failed
            continue
        wanted = scenario.default_seeds if seeds is None else range(first, first + seeds)
        reports = []
        for report in run_all(scenario, wanted, processes, mutant):
            reports.append(report)
            if report.failed:
                click.echo(report.explain(path))
        failed += sum(report.failed for report in reports)
        click.echo(_sum(scenario.name, reports))
    sys.exit(1 if failed else 0)


def _line(report: Report) -> str:
    return (
        f"{report.scenario}, seed {report.seed}: holds; {report.events} steps, {report.virtual_seconds:.0f} s, "
        f"{_what([report])}, digest {report.digest}"
    )


def _sum(name: str, reports: list[Report]) -> str:
    steps, callbacks = sum(r.events for r in reports), sum(r.callbacks for r in reports)
    seconds = sum(r.cpu_seconds for r in reports) or 1.0
    return (
        f"{name}: {len(reports)} seeds, {sum(r.failed for r in reports)} failed; "
        f"{steps} steps ({callbacks} callbacks) in {seconds:.0f} s of CPU, {steps / seconds:.0f} steps/s; "
        f"{_what(reports)}"
    )


def _what(reports: list[Report]) -> str:
    counted = ("faults", "failovers", "emergencies", "failbacks", "batches", "fenced", "decisions", "replays")
    return ", ".join(f"{sum(getattr(report, name) for report in reports)} {name}" for name in counted)


if __name__ == "__main__":
    main()
