"""Sustained throughput: one producer at the active cluster, one consumer at a passive one, until the last record."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.processes import Load, Worker, consume, cost_of, produce
from omnirelay.demo.mesh import LocalMesh


@dataclass(frozen=True, slots=True)
class Run:
    records: int
    seconds: float
    """From the first send to the last record at the consumer of the other cluster."""
    acknowledged_seconds: float
    """From the first send to the last acknowledgement."""
    cpu_seconds: dict[str, float]
    peak_bytes: dict[str, int]

    @property
    def rate(self) -> float:
        return self.records / self.seconds


def measure(directory: Path, records: int) -> Run:
    load = Load(records // 1000)
    with LocalMesh(directory, clusters=("us-east", "eu-west")) as mesh:
        credentials = mesh.credentials("demo")
        producing = Worker(produce, [mesh.members["us-east"].grpc], credentials, load, "bench")
        consuming = Worker(consume, mesh.members["eu-west"].grpc, credentials, load.records)
        workers = {"producer": producing, "consumer": consuming}
        for worker in workers.values():
            worker.wait_ready()
        pids = {name: member.process.pid for name, member in mesh.members.items() if member.process}
        before = {name: cost_of(pid) for name, pid in pids.items()}
        for worker in (consuming, producing):
            worker.go()
        began, acknowledged, produce_cpu = producing.result()
        _, received, consume_cpu = consuming.result()
        after = {name: cost_of(pid) for name, pid in pids.items()}
    cpu = {f"replicator {name}": after[name].cpu_seconds - before[name].cpu_seconds for name in pids}
    cpu |= {"producer": produce_cpu, "consumer": consume_cpu}
    peak = {name: cost.peak_bytes for name, cost in after.items()}
    return Run(load.records, received - began, acknowledged - began, cpu, peak)


def rows(runs: Sequence[Run]) -> list[tuple[str, str, str]]:
    rates = sorted(run.rate for run in runs)
    middle = min(runs, key=lambda run: abs(run.rate - statistics.median(rates)))
    shares = ", ".join(f"{name} {seconds / middle.seconds:.0%}" for name, seconds in middle.cpu_seconds.items())
    return [
        (
            "replicated end to end",
            f"{statistics.median(rates):,.0f} records/s",
            f"{rates[0]:,.0f} to {rates[-1]:,.0f} in {len(runs)} runs of {middle.records:,} records, batches of 1,000",
        ),
        (
            "acknowledged",
            f"{middle.records / middle.acknowledged_seconds:,.0f} records/s",
            "the same run, until the last acknowledgement",
        ),
        ("processor time", shares, "of one core, the same run"),
        (
            "most memory of a replicator",
            f"{max(max(run.peak_bytes.values()) for run in runs) / 2**20:,.0f} MiB",
            "over all runs",
        ),
    ]
