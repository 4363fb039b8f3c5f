"""What a gate or a tier of tests came to, so that one line can sum them all up."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv/bin"
REPORTS = ROOT / "build/test"


@dataclass(frozen=True, slots=True)
class Outcome:
    passed: int = 0
    failed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def report(self) -> int:
        """Prints the closing line, under the names behind its numbers; returns the exit status."""
        for name in self.skipped:
            print(f"SKIPPED {name}")
        for name in self.failed:
            print(f"FAILED {name}")
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        print(f"{self.passed} passed, {len(self.failed)} failed{skipped}")
        return 1 if self.failed or not self.passed else 0


def gate(
    name: str,
    command: Sequence[str | Path],
    *,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    refuse: Sequence[str] = (),
) -> Outcome:
    """Runs a command that either passes or fails, and shows its output only if it fails.

    `refuse`: texts that mean that the tool did nothing, whatever exit status it claims.
    """
    started = time.monotonic()
    result = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    reasons = [f"says {text!r}" for text in refuse if text in result.stdout]
    if result.returncode:
        reasons.insert(0, f"exit status {result.returncode}")
    seconds = time.monotonic() - started
    print(f"{'FAILED' if reasons else 'ok':6} {name} ({seconds:.1f} s)", flush=True)
    if not reasons:
        return Outcome(passed=1)
    sys.stdout.write(result.stdout)
    sys.stdout.flush()
    return Outcome(failed=(f"{name}: {', '.join(reasons)}",))


def junit(tier: str, reports: Sequence[Path], status: int) -> Outcome:
    """Reads the reports of a tier whose runner ended with `status`; no test, or no report, is a failure."""
    total = Outcome()
    for case in (case for report in reports if report.exists() for case in ElementTree.parse(report).iter("testcase")):
        name = f"{tier}: {case.get('classname')}::{case.get('name')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            total += Outcome(failed=(name,))
        elif skipped is not None:
            total += Outcome(skipped=(f"{name}: {skipped.get('message') or 'no reason given'}",))
        else:
            total += Outcome(passed=1)
    if not (total.passed or total.failed or total.skipped):
        return Outcome(failed=(f"{tier}: no test ran (exit status {status})",))
    if status and not total.failed:
        total += Outcome(failed=(f"{tier}: its runner ended with exit status {status}",))
    return total


def environment(**changes: str) -> dict[str, str]:
    """This process's environment, with .venv first on PATH and without stand-ins for Pythons that may not exist."""
    path = [str(BIN), *(entry for entry in os.environ["PATH"].split(os.pathsep) if not entry.endswith("/shims"))]
    return {**os.environ, "PATH": os.pathsep.join(dict.fromkeys(path)), **changes}
