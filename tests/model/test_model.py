"""Searches the model of the protocol in failover.pml exhaustively with spin, and proves that the search can fail."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

MODEL = Path(__file__).with_name("failover.pml")
MISSING = [program for program in ("spin", "gcc") if shutil.which(program) is None]

# The longest search takes under a minute of processor time; the limit leaves room for a machine that is shared.
pytestmark = pytest.mark.timeout(900)
searches = pytest.mark.skipif(
    bool(MISSING),
    reason=f"{' and '.join(MISSING)} not installed: apt-get install {' '.join(MISSING)} (requirements/debian.txt)",
)

SAFETY = ("-DSAFETY", "-DNOREDUCE")
LIVENESS = ("-DNOREDUCE", "-DNFAIR=3")
MEMORY_MB = 3500
DEPTH = 10_000
"""More than the longest way through the model; a search that would need more does not count as complete."""


@dataclass(frozen=True)
class Search:
    errors: int
    states: int
    seconds: float
    complete: bool
    unreached: frozenset[str]
    output: str


def search(folder: Path, *bounds: str, live: bool = False) -> Search:
    """Generates, compiles and runs the verifier for the model with these macros."""
    macros = [f"-D{bound}" for bound in ((*bounds, "LIVE") if live else bounds)]
    _run(folder, "spin", *macros, "-a", str(MODEL))
    kind = LIVENESS if live else SAFETY
    _run(folder, "gcc", "-O1", "-w", *kind, f"-DMEMLIM={MEMORY_MB}", "-o", "pan", "pan.c")
    output = _run(folder, "./pan", f"-m{DEPTH}", "-w25", *(("-a", "-f") if live else ()))
    errors, states = re.search(r"errors: (\d+)", output), re.search(r"(\d+) states, stored", output)
    seconds = re.search(r"elapsed time ([\d.e+]+) seconds", output)
    assert errors, output
    assert states, output
    return Search(
        int(errors[1]),
        int(states[1]),
        float(seconds[1]) if seconds else 0.0,
        "Warning: Search not completed" not in output and "max search depth too small" not in output,
        frozenset(re.findall(r"failover\.pml:\d+, state \d+, \"(.+)\"", output)) - {"-end-"},
        output,
    )


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@searches
@pytest.mark.parametrize(
    "bounds",
    [
        # There and back again, planned and unplanned, and a third cluster that missed what lay between.
        pytest.param(("EPOCHS=3", "BATCHES=1", "PLANS=2"), id="three epochs"),
        # A tail of several batches that is acknowledged, replicated or neither, at different places.
        pytest.param(("EPOCHS=2", "BATCHES=2", "PLANS=2"), id="two batches"),
    ],
)
def test_every_reachable_state_keeps_the_invariants(
    bounds: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = search(tmp_path, *bounds)
    _tell(capsys, bounds, found)
    assert found.errors == 0, found.output
    assert found.complete, found.output
    # What is never reached is not verified: every action of the model must have happened somewhere.
    assert not found.unreached, found.output


@searches
def test_every_drain_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """I10, for agents that go on acting and a source that dies twice at any moments."""
    bounds = ("EPOCHS=2", "BATCHES=1", "PLANS=2")
    found = search(tmp_path, *bounds, live=True)
    _tell(capsys, (*bounds, "LIVE"), found)
    assert found.errors == 0, found.output
    assert found.complete, found.output


PLANTED = {
    "PROMOTE_UNCHECKED": 2,
    "ACK_WITHOUT_LEASE": 2,
    "UNDO_WITHOUT_CAS": 2,
    "SPLIT_SWITCH": 2,
    "REOPENED_BY_RECORD": 2,
    "RESTART_OPEN": 2,
    "NO_MARGIN": 2,
    "CLAIM_DURING_FENCE": 2,
    "REVOKED_CLAIM_RENEWED": 2,
    "REVOCATION_FORGOTTEN": 2,
    "PROMOTION_IS_NO_REVOCATION": 3,
    "CUT_BEFORE_GATHER": 2,
    "CUT_BY_VECTOR": 3,
    "ONLY_NEXT_OWNERSHIP": 3,
    "FREEZE_OLD_OWNER_ONLY": 3,
    "REACHED_BY_ORIGIN": 3,
}
"""Each planted error, and how many epochs its shortest counterexample needs. README.md says what each of them is."""


@searches
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_error_has_a_counterexample(bug: str, tmp_path: Path) -> None:
    found = search(tmp_path, f"EPOCHS={PLANTED[bug]}", "BATCHES=1", "PLANS=1", f"BUG_{bug}")
    assert found.errors > 0, found.output
    assert "assertion violated" in found.output


@searches
def test_a_drain_without_a_deadline_need_not_end(tmp_path: Path) -> None:
    found = search(tmp_path, "EPOCHS=2", "BATCHES=1", "PLANS=1", "BUG_NO_DEADLINE", live=True)
    assert found.errors > 0, found.output
    assert "acceptance cycle" in found.output


def test_every_planted_error_is_tried_and_explained() -> None:
    named = set(re.findall(r"BUG_([A-Z_]*[A-Z])", MODEL.read_text()))
    assert named == {*PLANTED, "NO_DEADLINE"}
    readme = MODEL.with_name("README.md").read_text()
    assert [name for name in named if f"`{name}`" not in readme] == []


def _tell(capsys: pytest.CaptureFixture[str], bounds: tuple[str, ...], found: Search) -> None:
    with capsys.disabled():
        print(f"\n  {' '.join(bounds)}: {found.states} states, all of them, in {found.seconds:.0f} s")
