"""Producers and consumers in processes of their own, and what a process costs."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from omnirelay.client.consumer import Consumer
from omnirelay.client.credentials import Credentials
from omnirelay.client.producer import Producer
from omnirelay.model.record import Record

PIPELINE = 64
"""Batches that the producer has in flight at once."""

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one process so far: processor seconds, and the most memory it ever held, bytes."""

    cpu_seconds: float
    peak_bytes: int


def cost_of(pid: int) -> Cost:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    peak = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return Cost((int(fields[11]) + int(fields[12])) / _TICKS, int(peak.split()[1]) * 1024)


@dataclass(frozen=True, slots=True)
class Load:
    """`batches` batches of `size` records, each with a value of `value_bytes`."""

    batches: int
    size: int = 1000
    value_bytes: int = 100

    @property
    def records(self) -> int:
        return self.batches * self.size


class Worker:
    """A process that gets ready, starts when told, and reports (began, ended, processor seconds)."""

    def __init__(self, work: object, *args: object) -> None:
        self._ours, theirs = multiprocessing.get_context("spawn").Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=work, args=(theirs, *args), daemon=True)
        self._process.start()

    def wait_ready(self) -> None:
        assert self._ours.recv() == "ready"

    def go(self) -> None:
        self._ours.send("go")

    def result(self) -> tuple[float, float, float]:
        result: tuple[float, float, float] = self._ours.recv()
        self._process.join()
        return result


def produce(pipe: Connection, endpoints: Sequence[str], credentials: Credentials, load: Load, name: str) -> None:
    asyncio.run(_produce(pipe, endpoints, credentials, load, name))


async def _produce(pipe: Connection, endpoints: Sequence[str], credentials: Credentials, load: Load, name: str) -> None:
    value = os.urandom(load.value_bytes)
    records = [Record(f"key-{i % 97:03d}".encode(), value, (), 1_700_000_000_000 + i) for i in range(load.size)]
    async with Producer(endpoints, producer_id=name, credentials=credentials) as producer:
        await producer.opened()
        pipe.send("ready")
        await asyncio.to_thread(pipe.recv)
        turns = iter(range(load.batches))

        async def send() -> None:
            for _ in turns:
                await producer.send(records)

        began = time.monotonic()
        await asyncio.gather(*(send() for _ in range(PIPELINE)))
        ended = time.monotonic()
    pipe.send((began, ended, time.process_time()))


def consume(pipe: Connection, endpoint: str, credentials: Credentials, records: int) -> None:
    asyncio.run(_consume(pipe, endpoint, credentials, records))


async def _consume(pipe: Connection, endpoint: str, credentials: Credentials, records: int) -> None:
    async with Consumer([endpoint], credentials=credentials) as consumer:
        pipe.send("ready")
        await asyncio.to_thread(pipe.recv)
        began, got = time.monotonic(), 0
        async for batch in consumer.batches():
            got += len(batch.records)
            if got >= records:
                break
    pipe.send((began, time.monotonic(), time.process_time()))
