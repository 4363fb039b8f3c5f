"""Emergencies driven by hand, and a load whose ledgers know where a record was committed and what a fence took back."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from tests.system.support.driving import Driver, admitting
from tests.system.support.ledgers import Comparison, ConsumingLedger, ProducingLedger, Sending, compare
from tests.system.support.load import IN_FLIGHT, Leg, Load
from tests.system.support.waiting import until

from omnirelay.client.consumer import Consumer
from omnirelay.client.outbox import PublishResult
from omnirelay.client.reader import Fence
from omnirelay.demo.mesh import CLIENT, LocalMesh
from omnirelay.errors import OmniRelayError, PreflightFailed
from omnirelay.model.position import Cursor, Position
from omnirelay.model.record import Record

ACCEPTED = 10_000_000
"""More than any test can lose."""
LEASE_TTL_SECONDS = 6.0
"""The default, which the meshes of these tests run with."""
WINDOW_SECONDS = LEASE_TTL_SECONDS + 2.0
"""Within so long after the death of the active another one takes writes."""


# --- the load --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class TakingBack(ConsumingLedger):
    """What a reader holds: records that a fence withdrew are given back."""

    places: list[Cursor] = field(default_factory=list)
    notices: list[tuple[Fence, list[bytes]]] = field(default_factory=list)
    """Each fence notice, and what this ledger had to give back for it."""

    def deliver_at(self, first: Cursor, values: Sequence[bytes]) -> None:
        self.places += [Cursor(first.epoch, first.sequence + index) for index in range(len(values))]
        self.deliver(values)

    def take_back(self, fence: Fence) -> None:
        kept = next((i for i, place in enumerate(self.places) if place > fence.cut), len(self.places))
        self.notices.append((fence, self.delivered[kept:]))
        del self.delivered[kept:], self.places[kept:]
        self.fences += 1


class Placed(ProducingLedger):
    """Knows the log position of each record whose acknowledgement told it."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[bytes, Position] = {}

    def placed(self, sending: Sending, result: PublishResult) -> None:
        self.acknowledged(sending, result.cluster, result.epoch)
        if result.position is not None:
            at = result.position
            for index, value in enumerate(sending.values):
                self.places[value] = Position(at.origin, at.sequence + index)


class DisasterLoad(Load):
    """A Load whose readers obey fences, and whose producers can be killed."""

    def __init__(self, mesh: LocalMesh, namespace: str = "default", endpoints: Sequence[str] = ()) -> None:
        super().__init__(mesh, namespace, endpoints)
        self.reading: dict[str, TakingBack] = {cluster: TakingBack(cluster) for cluster in mesh.clusters}
        self.consumed = dict(self.reading)

    @contextmanager
    def doomed(self, name: str, producers: int = 2, records: int = 5) -> Iterator[Doomed]:
        """Producers that work until `kill`, which leaves them no chance to send anything again."""
        leg = Doomed(self)
        leg.work = [
            self._start(self._produce(leg, f"{name}{number}", records, 0.01, 0)) for number in range(1, producers + 1)
        ]
        try:
            yield leg
        finally:
            leg.kill()

    async def _produce(self, leg: Leg, name: str, records: int, pause_seconds: float, padding: int) -> None:
        async with self._producer(name) as producer:
            while not leg.ended:
                if producer.unacknowledged < IN_FLIGHT:
                    sending = leg.ledger.sending(name, records, padding)
                    future = producer.send_nowait([Record(b"", value) for value in sending.values])
                    future.add_done_callback(_note(leg.ledger, sending))
                await asyncio.sleep(pause_seconds)

    def publish(self, ledger: ProducingLedger, producer: str, batches: int, records: int = 1, padding: int = 0) -> None:
        """As its base; many batches are in flight at once, and the producer is gone afterwards without a last word."""

        async def work() -> None:
            sender = self._producer(producer)
            try:
                await sender.__aenter__()
                waiting = []
                for _ in range(batches):
                    sending = ledger.sending(producer, records, padding)
                    while sender.unacknowledged >= IN_FLIGHT:
                        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                        waiting = [each for each in waiting if not each.done()]
                    future = sender.send_nowait([Record(b"", value) for value in sending.values])
                    future.add_done_callback(_note(ledger, sending))
                    waiting.append(future)
                await asyncio.gather(*waiting)
            finally:
                await sender.close()

        self._start(work()).result()

    async def _consume(self, cluster: str) -> None:
        ledger = self.reading[cluster]
        consumer = Consumer(
            [self.mesh.members[cluster].grpc],
            namespace=self.namespace,
            credentials=self.mesh.credentials(CLIENT),
            on_fence=ledger.take_back,
            reconnect_timeout_seconds=600.0,
        )
        async with consumer:
            async for batch in consumer.batches():
                ledger.deliver_at(batch.first, [record.value for record in batch.records])

    def holds(self, cluster: str) -> set[bytes]:
        return set(self.reading[cluster].delivered)


class Doomed(Leg):
    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self.ledger: Placed = Placed()
        self.work: list[Any] = []

    def kill(self) -> None:
        self.ended = True
        for each in self.work:
            each.cancel()


def _note(ledger: ProducingLedger, sending: Sending) -> Callable[[asyncio.Future[PublishResult]], None]:
    def note(done: asyncio.Future[PublishResult]) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        if isinstance(ledger, Placed):
            ledger.placed(sending, done.result())
        else:
            ledger.acknowledged(sending, done.result().cluster, done.result().epoch)

    return note


def compare_all(load: Load, *ledgers: ProducingLedger) -> Comparison:
    """Of several ledgers of one load together."""
    whole = ProducingLedger()
    for ledger in ledgers:
        whole.sendings += ledger.sendings
    return compare(whole, load.consumed)


def first_acknowledged_at(ledger: ProducingLedger, cluster: str, since: float) -> float | None:
    """When a producer first heard of `cluster` that a write is durable there."""
    times = [s.acknowledged_at for s in ledger.sendings if s.cluster == cluster and (s.acknowledged_at or 0.0) > since]
    return min((t for t in times if t is not None), default=None)


# --- driving ---------------------------------------------------------------------------------------------------------


def emergency(target: str, namespaces: Sequence[str] = ("default",), **more: Any) -> dict[str, Any]:
    asked = {
        "mode": "emergency",
        "target": target,
        "namespaces": list(namespaces),
        "reason": "the source is gone",
        "change_ticket": "CHG-911",
        "accept_data_loss": ACCEPTED,
    }
    return {**asked, **more}


def carry_out(mesh: LocalMesh, at: str, planned: Mapping[str, Any]) -> dict[str, Any]:
    """The steps of an emergency whose plan stands. Answers the completed record."""
    with mesh.control(clusters=[at]) as client:
        for step in ("promote", "verify", "complete"):
            answer = client.step(planned["id"], step, wait_seconds=30.0)
            assert answer.done, (step, answer.failover["state"], answer.failover["problem"])
        return answer.failover


def promote(mesh: LocalMesh, target: str, at: str = "", **more: Any) -> dict[str, Any]:
    """A whole emergency, planned again until the source counts as gone."""
    at = at or target
    return carry_out(mesh, at, Driver(mesh, at).plan(emergency(target, **more)))


def fail_back(mesh: LocalMesh, at: str, failover_id: str, **more: Any) -> dict[str, Any]:
    """Home again, with its approval. Answers the completed record."""
    driver = Driver(mesh, at)
    return driver.carry_on(driver.plan({**going_home(failover_id), **more})["id"])


def going_home(failover_id: str) -> dict[str, Any]:
    return {"mode": "failback", "target": "", "reverses": failover_id, "reason": "home", "change_ticket": "CHG-912"}


def divergences(mesh: LocalMesh, at: str) -> list[dict[str, Any]]:
    with mesh.control(clusters=[at]) as client:
        return client.divergences()


def unresolved(mesh: LocalMesh, at: str) -> list[dict[str, Any]]:
    return [each for each in divergences(mesh, at) if each["unresolved"]]


@dataclass(frozen=True, slots=True)
class Exported:
    sequence: int
    value: bytes
    fate: str


def exported(mesh: LocalMesh, at: str, id: str) -> list[Exported]:
    """Every fenced record that `at` holds, read without deciding anything."""
    with mesh.control(clusters=[at]) as client:
        lines = [json.loads(line) for line in client.export(id, dry_run=True)]
    return [Exported(line["sequence"], base64.b64decode(line["value"]), line["fate"]) for line in lines]


def manifest(mesh: LocalMesh, at: str, failover_id: str) -> list[dict[str, Any]]:
    with mesh.control(clusters=[at]) as client:
        return list(client.failover(failover_id).body["manifest"])


def exact_manifest(mesh: LocalMesh, at: str, failover_id: str, records: int) -> list[dict[str, Any]]:
    """Waits until the manifest is exact and counts so many records."""

    def graded() -> list[dict[str, Any]]:
        ranges = manifest(mesh, at, failover_id)
        whole = all(each["exact"] for each in ranges) and sum(each["records"] for each in ranges) == records
        return ranges if whole else []

    return until(graded, f"the manifest is exact and counts {records} records", seconds=60.0)


def ranges_of(sequences: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of each run."""
    ordered = sorted(sequences)
    ends = [i for i, (one, next_) in enumerate(pairwise(ordered)) if next_ != one + 1]
    starts = [0, *(i + 1 for i in ends)]
    return [(ordered[a], ordered[b]) for a, b in zip(starts, [*ends, len(ordered) - 1], strict=True)] if ordered else []


def merged(ranges: Iterable[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """The sequences of a manifest in runs, whatever their grades."""
    return ranges_of(n for each in ranges for n in range(each["first"], each["last"] + 1))


def grades(ranges: Iterable[Mapping[str, Any]]) -> Counter[str]:
    count: Counter[str] = Counter()
    for each in ranges:
        count[each["grade"]] += each["records"]
    return count


def failed(error: OmniRelayError) -> dict[str, dict[str, Any]]:
    """The checks that a refused plan fails, by their ids."""
    return {check["id"]: check for check in error.details["checks"] if check["status"] == "fail"}


def why_not_home(mesh: LocalMesh, at: str, failover_id: str) -> set[str]:
    """The checks that a failback fails now."""
    with mesh.control(clusters=[at]) as client:
        try:
            client.plan_failover({**going_home(failover_id), "dry_run": True})
        except PreflightFailed as error:
            return set(failed(error))
    return set()


def resolve_all(mesh: LocalMesh, at: str, failover_id: str, verb: Literal["replay", "discard"] = "replay") -> None:
    """Once the old active is back with all of its tail: decides what is open, so that nothing is."""
    until(lambda: why_not_home(mesh, at, failover_id) <= {"divergence_resolved"}, "the old active is back and level")
    with mesh.control(clusters=[at]) as client:
        for each in unresolved(mesh, at):
            (client.replay if verb == "replay" else client.discard)(each["id"], reason="system test")
    until(lambda: not unresolved(mesh, at), "nothing that diverged is open")


def only_active(mesh: LocalMesh, namespace: str = "default") -> str:
    (active,) = until(lambda: admitting(mesh, namespace), "somebody admits writes")
    return active
