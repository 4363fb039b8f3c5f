"""A backlog: the passive cluster is down while the active one takes records, then it catches up."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from bench.processes import Load, Worker, cost_of, produce
from omnirelay.demo.mesh import LocalMesh


@dataclass(frozen=True, slots=True)
class Backlog:
    records: int
    catch_up_seconds: float
    """From the start of the passive cluster's process until it holds everything durably."""
    peak_bytes: dict[str, int]


def measure(directory: Path, records: int) -> Backlog:
    load = Load(records // 1000)
    with LocalMesh(directory, clusters=("us-east", "eu-west")) as mesh:
        mesh.kill("eu-west")
        producing = Worker(produce, [mesh.members["us-east"].grpc], mesh.credentials("demo"), load, "bench")
        producing.wait_ready()
        producing.go()
        producing.result()
        began = time.monotonic()
        mesh.start("eu-west")
        with mesh.control() as client:
            while client.replication("eu-west")["vector"].get("us-east", 0) < load.records:
                time.sleep(0.1)
        ended = time.monotonic()
        peak = {name: cost_of(m.process.pid).peak_bytes for name, m in mesh.members.items() if m.process}
    return Backlog(load.records, ended - began, peak)


def rows(result: Backlog) -> list[tuple[str, str, str]]:
    memory = ", ".join(f"{name} {peak / 2**20:,.0f} MiB" for name, peak in result.peak_bytes.items())
    return [
        ("memory with a backlog", memory, f"{result.records:,} records behind, and while they are replicated"),
        (
            "catching up",
            f"{result.records / result.catch_up_seconds:,.0f} records/s",
            "from the start of the passive cluster's process",
        ),
    ]
