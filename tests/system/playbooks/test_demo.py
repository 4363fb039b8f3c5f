"""`omnirelay demo` as a user runs it, in a copy of the checkout that nobody else touches."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.system.support.playbooks import CHECKOUT
from tests.system.support.waiting import until

pytestmark = pytest.mark.timeout(180)  # each test starts a mesh, one runs a whole demo

COMMAND = [sys.executable, "-m", "omnirelay.cli", "demo", "--seconds", "1"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a fresh clone holds, and what is not committed yet."""
    copy = tmp_path_factory.mktemp("clone") / "checkout"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (CHECKOUT / name).is_file():  # not deleted meanwhile
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, copy / name)
    return copy


def environment(checkout: Path) -> dict[str, str]:
    """A home and a directory for temporary files that are empty, so that whatever is written there is seen."""
    outside = {"HOME": checkout.parent / "home", "TMPDIR": checkout.parent / "tmp"}
    for folder in outside.values():
        folder.mkdir(exist_ok=True)
    return {
        **os.environ,
        **{name: str(folder) for name, folder in outside.items()},
        "PYTHONPATH": str(checkout / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@contextmanager
def demo(checkout: Path) -> Iterator[subprocess.Popen[str]]:
    # Whoever runs the tests in the background has Ctrl-C ignored, and children inherit that; a handler they do not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        COMMAND,
        cwd=checkout,
        env=environment(checkout),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def read_until(process: subprocess.Popen[str], text: str) -> None:
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return
    raise AssertionError(f"it never said {text!r}:\n{''.join(lines)}")


def left_running(checkout: Path) -> list[str]:
    """Processes that have to do with this copy, by their working directory, arguments or environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, variables = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(checkout) in command + variables and int(folder.name) != os.getpid():
            found.append(f"{folder.name}: {command.decode(errors='replace')}")
    return found


def files(checkout: Path) -> Mapping[Path, tuple[int, int]]:
    """Everything but build/, with size and time of the last change; and what lies beside the checkout."""
    paths = [path for path in checkout.parent.rglob("*") if (checkout / "build") not in (path, *path.parents)]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.is_file()}


@pytest.mark.parametrize(
    ("moment", "number", "status"),
    [
        ("publishing", signal.SIGINT, 130),
        ("publishing", signal.SIGTERM, 130),
        ("waits for approval", signal.SIGINT, 130),
        ("waits for approval", signal.SIGTERM, 130),
        ("kill -9", signal.SIGINT, 130),
    ],
)
def test_interrupted_it_leaves_no_process(checkout: Path, moment: str, number: signal.Signals, status: int) -> None:
    with demo(checkout) as process:
        read_until(process, moment)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == status, output
    assert left_running(checkout) == []


def test_a_whole_demo_after_a_killed_one(checkout: Path) -> None:
    with demo(checkout) as killed:
        read_until(killed, "TASK [(1/6) Preflight]")
        killed.kill()
    assert left_running(checkout), "the killed one's replicators are what the next one has to clear away"
    before = files(checkout)
    done = subprocess.run(
        [*COMMAND, "--output", "json"], cwd=checkout, env=environment(checkout), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    written = json.loads((checkout / "build/demo/report.json").read_text())
    assert json.loads(done.stdout) == written
    assert_good(written)
    until(lambda: not left_running(checkout), "no process is left")
    assert files(checkout) == before
    playbooks = ["emergency_failover", "failback", "planned_failover"]
    assert sorted(path.name for path in (checkout / "build/demo").iterdir()) == sorted(
        ["lock", "logs", "report.json", *(f"{name}-report.{kind}" for name in playbooks for kind in ("json", "md"))]
    )
    for name in playbooks:
        assert "PLAY RECAP" in (checkout / f"build/demo/logs/{name}.log").read_text()


def assert_good(report: dict[str, Any]) -> None:
    legs = [report[name] for name in ("planned", "emergency", "failback")]
    for part in (*legs, report["run"]):
        assert {name: part[name] for name in ("lost", "duplicated", "reordered")} == {
            "lost": 0, "duplicated": 0, "reordered": 0,
        }  # fmt: skip
        assert part["consistent"] is True
        assert part["acknowledged"] > 1000
    assert sum(leg["acknowledged"] for leg in legs) == report["run"]["acknowledged"]
    assert [(leg["epoch_before"], leg["epoch_after"]) for leg in legs] == [(1, 2), (2, 3), (3, 4)]
    assert len({leg["failover_id"] for leg in legs}) == 3
    planned, emergency, failback = legs
    for leg in (planned, failback):
        assert (leg["fenced"], leg["predicted_loss"]) == (0, 0)
        assert 0 < leg["measured_outage_seconds"] < 1.0
    for leg in (planned, emergency):
        assert 0 < leg["playbook_seconds"] < 15.0
    assert 0 < emergency["accepted_after_seconds"] < 8.0
    assert emergency["cut_off"] > 0
    assert emergency["manifest_records"] == emergency["cut_off"] + emergency["in_doubt"]
    assert emergency["manifest_exact"] is True
    assert report["audit"]["verified"] is True
    assert report["audit"]["entries"] > 30
    assert set(report) == {"planned", "emergency", "failback", "run", "audit"}
