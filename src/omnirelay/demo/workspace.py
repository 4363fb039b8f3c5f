"""Where a demonstration lives: one directory of the checkout, used by one demonstration at a time.

Every process that a demonstration starts carries the directory's name in its environment. So the next one finds what a
killed one left running, and nothing else, whatever those processes are called and whoever has their numbers by now.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "OMNIRELAY_DEMO"
"""Environment variable of every process of a demonstration: its directory."""
KILL_SECONDS = 10.0


class DemoFailed(Exception):
    """The demonstration cannot go on, for a reason that its text gives to a person."""


@dataclass(frozen=True, slots=True)
class Workspace:
    checkout: Path

    @classmethod
    def find(cls) -> Workspace:
        """In the checkout that this code is run from: the collection is there."""
        for folder in Path(__file__).resolve().parents:
            if (folder / "galaxy.yml").is_file():
                return cls(folder)
        raise DemoFailed(
            "the demo runs from a checkout, where the playbooks are: clone the repository, then `make demo`"
        )

    @property
    def root(self) -> Path:
        return self.checkout / "build/demo"

    @property
    def mesh(self) -> Path:
        """What the replicators keep: certificates, configuration, data."""
        return self.root / "mesh"

    @property
    def ansible(self) -> Path:
        """Ansible's home, and the tree in which it finds the collection."""
        return self.root / "ansible"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def report(self) -> Path:
        return self.root / "report.json"

    @contextmanager
    def opened(self, *, keep: bool) -> Iterator[None]:
        """Starts from nothing; ends with logs and report, and with the mesh's data only if `keep`."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DemoFailed(f"another demo is running in {self.root}") from None
            self._clean()
            outer = os.environ.get(MARK)
            os.environ[MARK] = str(self.root)
            try:
                yield
            finally:
                if outer is None:
                    del os.environ[MARK]
                else:
                    os.environ[MARK] = outer
                self._leave(keep=keep)

    def _clean(self) -> None:
        """Whoever had the lock is gone, so what it left is stale."""
        kill_marked(self.root)
        for folder in (self.mesh, self.ansible, self.logs):
            shutil.rmtree(folder, ignore_errors=True)
        self.report.unlink(missing_ok=True)
        self.logs.mkdir()

    def _leave(self, *, keep: bool) -> None:
        for log in self.mesh.glob("*.log"):
            shutil.copy2(log, self.logs)
        if not keep:
            shutil.rmtree(self.mesh, ignore_errors=True)
            shutil.rmtree(self.ansible, ignore_errors=True)


def kill_marked(root: Path) -> list[int]:
    """Ends every process that carries the mark of `root`; returns once they are gone. Needs /proc."""
    found = [pid for pid, environment in _environments() if environment.get(MARK.encode()) == os.fsencode(root)]
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + KILL_SECONDS
    while any(_is_running(pid) for pid in found) and time.monotonic() < end:
        time.sleep(0.01)
    return found


def _environments() -> Iterator[tuple[int, Mapping[bytes, bytes]]]:
    """Of every other process of this user."""
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        with suppress(OSError):  # it has ended, or is somebody else's
            if pid != os.getpid():
                pairs = (entry.partition(b"=") for entry in (folder / "environ").read_bytes().split(b"\0"))
                yield pid, {name: value for name, _, value in pairs}


def _is_running(pid: int) -> bool:
    """A process that nobody has collected yet is over, too."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
