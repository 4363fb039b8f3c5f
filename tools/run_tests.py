"""Runs the gates, the collection's own tests and every tier of ours, and closes with one line that sums them up.

`run_tests.py TIER [-- PYTEST ARGUMENTS]` runs one tier alone.
"""

import argparse
import subprocess
import sys
import time

import check
import collection
import failure_modes
from outcome import BIN, REPORTS, ROOT, Outcome, environment, junit

# In the order in which they should fail: the quick ones first. The Makefile makes a target of each.
TIERS = {
    "unit": "tests/package/unit",
    "contract": "tests/package/contract",
    "simulation": "tests/simulation",
    "model": "tests/model",
    "integration": "tests/system/integration",
    "playbooks": "tests/system/playbooks",
}
# pytest has its own limit for each test; this one is for a run that has stopped answering altogether.
TIER_SECONDS = 45 * 60


def tier(name: str, arguments: list[str]) -> Outcome:
    print(f"== {name}: {TIERS[name]}", flush=True)
    report = REPORTS / f"{name}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    command = [BIN / "python", "-m", "pytest", "--quiet", f"--junitxml={report}", TIERS[name], *arguments]
    started = time.monotonic()
    try:
        status = subprocess.run(command, cwd=ROOT, env=environment(), timeout=TIER_SECONDS, check=False).returncode
    except subprocess.TimeoutExpired:
        return Outcome(failed=(f"{name}: gave up after {TIER_SECONDS // 60} minutes",))
    print(f"== {name}: {time.monotonic() - started:.0f} s", flush=True)
    return junit(name, [report], status)


def strays() -> Outcome:
    """A test outside every tier would never run, and nobody would notice."""
    known = [ROOT / folder for folder in (*TIERS.values(), "tests/unit", "tests/integration", "tests/sanity")]
    lost = [path for path in (ROOT / "tests").rglob("test_*.py") if not any(path.is_relative_to(k) for k in known)]
    return Outcome(failed=tuple(f"{path.relative_to(ROOT)}: belongs to no tier" for path in lost))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tier", nargs="?", choices=TIERS)
    parser.add_argument("arguments", nargs="*", help="for pytest, after --")
    chosen = parser.parse_args()
    if chosen.tier:
        return tier(chosen.tier, chosen.arguments).report()
    total = check.run() + collection.run() + strays()
    total += failure_modes.run([ROOT / folder for folder in TIERS.values()])
    for name in TIERS:
        total += tier(name, [])
    return total.report()


if __name__ == "__main__":
    sys.exit(main())
