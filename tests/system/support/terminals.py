"""A person at a terminal: what a command shows there, and what is typed."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pexpect
from tests.system.support.waiting import until

ANSWER_SECONDS = 60
"""Far beyond what anything takes to ask or to end."""
CTRL_C, CTRL_D, ENTER = "\x03", "\x04", "\r"


@dataclass(frozen=True, slots=True)
class Terminal:
    child: pexpect.spawn
    shown: io.StringIO

    def until(self, text: str) -> None:
        """Reads up to this text. Raises AssertionError with everything shown when it does not come."""
        try:
            self.child.expect_exact(text)
        except pexpect.ExceptionPexpect as error:
            raise AssertionError(f"it never showed {text!r}:\n{self.shown.getvalue()}") from error

    def until_it_reads(self) -> None:
        """What is typed while the question is being put, Ansible throws away. Once it reads, it does not block."""
        info = Path(f"/proc/{self.child.pid}/fdinfo/0")
        until(lambda: int(info.read_text().split()[3], 8) & os.O_NONBLOCK, "it reads what is typed")

    def type(self, keys: str) -> None:
        self.child.send(keys)

    def finish(self) -> tuple[int, str]:
        """Exit status, and everything that was shown."""
        try:
            self.child.expect(pexpect.EOF)
        except pexpect.TIMEOUT as error:
            raise AssertionError(f"it does not end:\n{self.shown.getvalue()}") from error
        self.child.close()
        return os.waitstatus_to_exitcode(self.child.status), self.shown.getvalue().replace("\r\n", "\n")


@contextmanager
def terminal(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> Iterator[Terminal]:
    """The command in a session of its own that this terminal controls; what still runs at the end is killed."""
    shown = io.StringIO()
    child = pexpect.spawn(
        command[0],
        list(command[1:]),
        cwd=str(cwd),
        env=dict(env),
        timeout=ANSWER_SECONDS,
        encoding="utf-8",
        codec_errors="replace",
        dimensions=(50, 250),
    )
    child.logfile_read = shown
    child.delaybeforesend = None
    try:
        yield Terminal(child, shown)
    finally:
        child.close(force=True)
