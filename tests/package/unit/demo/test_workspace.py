import os
import subprocess
import sys

import pytest

from omnirelay.demo.workspace import MARK, DemoFailed, Workspace, kill_marked

SLEEPER = [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(600)"]


def sleeper(mark):
    """A process that has come so far that its environment can be read."""
    process = subprocess.Popen(SLEEPER, env={**os.environ, MARK: str(mark)}, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_a_killed_demos_processes_end_and_no_others(tmp_path):
    with sleeper(tmp_path / "mine") as mine, sleeper(tmp_path / "other") as other:
        try:
            assert kill_marked(tmp_path / "mine") == [mine.pid]
            assert mine.wait(5) == -9
            assert other.poll() is None
        finally:
            other.kill()


def test_it_starts_from_nothing_and_leaves_logs_and_report(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.mesh.mkdir(parents=True)
    (workspace.mesh / "stale").touch()
    workspace.report.touch()
    with workspace.opened(keep=False):
        assert not workspace.mesh.exists()
        assert not workspace.report.exists()
        assert os.environ[MARK] == str(workspace.root)
        workspace.mesh.mkdir()
        (workspace.mesh / "us-east.log").write_text("said")
        workspace.report.touch()
    assert MARK not in os.environ
    assert not workspace.mesh.exists()
    assert (workspace.logs / "us-east.log").read_text() == "said"
    assert workspace.report.exists()


def test_the_data_stays_when_asked_for(tmp_path):
    workspace = Workspace(tmp_path)
    with workspace.opened(keep=True):
        workspace.mesh.mkdir()
    assert workspace.mesh.exists()


def test_two_demos_do_not_share_a_checkout(tmp_path):
    first, second = Workspace(tmp_path).opened(keep=False), Workspace(tmp_path).opened(keep=False)
    with first, pytest.raises(DemoFailed, match="another demo"), second:
        pass


def test_the_checkout_is_found_from_the_code():
    assert (Workspace.find().checkout / "src/omnirelay/demo").is_dir()
