"""Disks that can be filled, in the two ways that a test can do it."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SMALL_BYTES = 16 << 20


@contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """A file system of SMALL_BYTES at `path`. Only root may mount; raises PermissionError otherwise."""
    path.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES},mode=700", "tmpfs", str(path)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise PermissionError(done.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(path: Path) -> Path:
    """Takes all space that is left on the disk of `path`. Answers the file that holds it."""
    filler = path / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return filler


def limit_files(pid: int, size: int | None) -> None:
    """No file of the process may grow beyond `size` bytes; None takes the limit away again."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


def largest_file(pid: int, but: Path) -> int:
    """Bytes of the largest file that the process has open outside the folder `but`."""
    sizes = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = entry.readlink()
            if target.is_file() and not target.is_relative_to(but):
                sizes.append(target.stat().st_size)
        except OSError:
            continue
    return max(sizes)
