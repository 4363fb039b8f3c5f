"""`make bench`: one table."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import backlog, playbooks, throughput

ROOT = Path(__file__).resolve().parent.parent / "build" / "bench"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--records", type=int, default=2_000_000, help="records of the throughput run")
    parser.add_argument("--backlog", type=int, default=1_000_000, help="records of the backlog run")
    parser.add_argument("--runs", type=int, default=3, help="throughput runs; the median is shown")
    parser.add_argument("--failovers", type=int, default=4, help="planned failovers by playbook")
    parser.add_argument("--only-playbooks", action="store_true", help="measure what Ansible adds, and nothing else")
    options = parser.parse_args()
    ROOT.mkdir(parents=True, exist_ok=True)
    table = Table(title="all processes on this machine, mutual TLS 1.3, fsync on both clusters", title_justify="left")
    for column in ("what", "figure", "how"):
        table.add_column(column)
    if not options.only_playbooks:
        runs = []
        for _ in range(options.runs):
            with Scratch() as directory:
                runs.append(throughput.measure(directory, options.records))
        for row in throughput.rows(runs):
            table.add_row(*row)
        with Scratch() as directory:
            for row in backlog.rows(backlog.measure(directory, options.backlog)):
                table.add_row(*row)
    with Scratch() as directory:
        for row in playbooks.rows(playbooks.measure(directory, options.failovers)):
            table.add_row(*row)
    Console(width=None).print(table)


class Scratch:
    """A directory on the disk that the checkout is on, not in a memory file system."""

    def __enter__(self) -> Path:
        self._path = Path(tempfile.mkdtemp(dir=ROOT))
        return self._path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path, ignore_errors=True)


main()
