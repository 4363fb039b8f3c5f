"""Runs a playbook of the collection as an automation controller would: by its name, with no terminal, in an
environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omnirelay.demo.workspace import DemoFailed, Workspace

STOP_SECONDS = 5.0


@dataclass(slots=True)
class Playbook:
    """Iterate over it for the lines that it prints, as they come. `seconds` is there afterwards."""

    process: subprocess.Popen[str]
    begun: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    status: int = -1

    def __iter__(self) -> Iterator[str]:
        if self.process.stdout is None:
            raise AssertionError("the playbook's output is a pipe")
        for line in self.process.stdout:
            yield line.rstrip("\n")
        self.status = self.process.wait()
        self.ended = time.monotonic()

    @property
    def seconds(self) -> float:
        return self.ended - self.begun


@contextmanager
def running(
    workspace: Workspace, name: str, variables: Mapping[str, Any], environment: Mapping[str, str]
) -> Iterator[Playbook]:
    """`name`: the playbook's full name. Leaving the block ends it if it still runs."""
    command = [_executable(), name, "--extra-vars", f"@{_variables(workspace, variables)}"]
    process = subprocess.Popen(
        command,
        cwd=workspace.ansible,
        env={**_environment(workspace), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        # A session of its own: Ctrl-C reaches the demonstration, which ends the playbook and its workers in order.
        start_new_session=True,
    )
    try:
        yield Playbook(process)
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _executable() -> str:
    beside = Path(sys.executable).with_name("ansible-playbook")
    found = str(beside) if beside.exists() else shutil.which("ansible-playbook")
    if not found:
        raise DemoFailed("ansible-playbook is not installed: run `make demo`, which installs it")
    return found


def _environment(workspace: Workspace) -> dict[str, str]:
    """Nobody's own Ansible settings, and everything that Ansible writes below the workspace."""
    collections = workspace.ansible / "collections"
    link = collections / "ansible_collections/omnirelay/mesh"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(workspace.checkout)
    (workspace.ansible / "ansible.cfg").touch()
    own = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "OMNIRELAY_"))}
    return own | {
        "ANSIBLE_CONFIG": str(workspace.ansible / "ansible.cfg"),
        "ANSIBLE_HOME": str(workspace.ansible / "home"),
        "ANSIBLE_LOCAL_TEMP": str(workspace.ansible / "tmp"),
        "ANSIBLE_REMOTE_TMP": str(workspace.ansible / "tmp"),
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_NOCOWS": "true",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _variables(workspace: Workspace, variables: Mapping[str, Any]) -> Path:
    file = workspace.ansible / "variables.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(variables), encoding="utf-8")
    return file
