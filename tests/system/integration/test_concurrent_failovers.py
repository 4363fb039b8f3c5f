"""Many operations at once on a mixed-active mesh: each cluster is active for some namespaces, passive for the others,
and each pair of clusters moves namespaces in both directions at the same time (I8; fm01)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Self

import pytest
from tests.system.support.disasters import (
    WINDOW_SECONDS,
    DisasterLoad,
    compare_all,
    exact_manifest,
    exported,
    fail_back,
    first_acknowledged_at,
    promote,
    resolve_all,
)
from tests.system.support.driving import Driver, admitting, request
from tests.system.support.ledgers import ProducingLedger
from tests.system.support.load import PATIENT, Leg
from tests.system.support.waiting import until

from omnirelay.client.producer import Producer
from omnirelay.demo.mesh import CLIENT, LocalMesh
from omnirelay.model.record import Record

pytestmark = pytest.mark.timeout(300)

CLUSTERS = ("us-east", "eu-west", "ap-south", "sa-east")
PAIRS = [(source, target) for source in CLUSTERS for target in CLUSTERS if source != target]
MOVES = {f"n{number:02}": PAIRS[number % len(PAIRS)] for number in range(20)}
"""Namespace → from where to where it moves: 20 pairs, in every direction between 4 clusters."""
STAYING = {f"s{number}": cluster for number, cluster in enumerate(CLUSTERS)}
"""One namespace for each cluster that nobody touches."""
OUTAGE_SECONDS = 2.0
PAUSE_SECONDS = 0.2
"""Between two batches of a producer: finer than what is measured, and 24 of them leave the machine to the failovers."""


def owned(namespaces: Mapping[str, str]) -> dict[str, list[str]]:
    return {cluster: [name for name, owner in namespaces.items() if owner == cluster] for cluster in CLUSTERS}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    owners = owned({**{name: source for name, (source, _) in MOVES.items()}, **STAYING})
    with LocalMesh(tmp_path_factory.mktemp("mixed") / "m", clusters=CLUSTERS, owners=owners) as mesh:
        yield mesh


class LightLoad:
    """One producer for each namespace, all in one thread; a batch of one record every PAUSE_SECONDS."""

    def __init__(self, mesh: LocalMesh, namespaces: Sequence[str]) -> None:
        self.ledgers = {name: ProducingLedger() for name in namespaces}
        self._mesh = mesh
        self._ended = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="light-load")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join()

    def flowing(self) -> None:
        begin = {name: len(ledger.sendings) for name, ledger in self.ledgers.items()}

        def answered() -> bool:
            return all(
                any(s.acknowledged_at for s in ledger.sendings[begin[name] :]) for name, ledger in self.ledgers.items()
            )

        until(answered, "every producer is acknowledged again")

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for name, ledger in self.ledgers.items():
                group.create_task(self._produce(name, ledger))

    async def _produce(self, namespace: str, ledger: ProducingLedger) -> None:
        producer = f"light-{namespace}"
        async with Producer(
            self._mesh.endpoints,
            producer_id=producer,
            namespace=namespace,
            credentials=self._mesh.credentials(CLIENT),
            limits=PATIENT,
        ) as sender:
            waiting = set()
            while not self._ended:
                sending = ledger.sending(producer, 1)

                async def send(sending=sending) -> None:
                    result = await sender.send([Record(b"", value) for value in sending.values])
                    ledger.acknowledged(sending, result.cluster, result.epoch)

                waiting.add(asyncio.create_task(send()))
                waiting = {task for task in waiting if not task.done() or task.result()}
                await asyncio.sleep(PAUSE_SECONDS)
            await asyncio.gather(*waiting)


def test_twenty_pairs_fail_over_at_the_same_time_and_none_disturbs_another(mixed: LocalMesh) -> None:
    names = [*MOVES, *STAYING]
    together = threading.Barrier(len(MOVES))

    def move(namespace: str) -> dict[str, object]:
        source, target = MOVES[namespace]
        # Any cluster may drive: half of them do from a third one's API.
        at = target if int(namespace[1:]) % 2 else next(c for c in CLUSTERS if c not in (source, target))
        driver = Driver(mixed, at)
        planned = driver.plan(request(target, [namespace], drain_timeout_seconds=60.0, verify_timeout_seconds=60.0))
        driver.take("approve", planned)
        with driver.client() as client:
            client.version()  # connected, so that the clients' handshakes are no part of the outage
            together.wait(120)
            for step in ("drain", "promote"):
                client.step(planned["id"], step, wait_seconds=60.0)
            together.wait(120)  # the drivers' new connections for the rest are no part of it either
        return driver.carry_on(planned["id"])

    with LightLoad(mixed, names) as load:
        load.flowing()
        with ThreadPoolExecutor(len(MOVES)) as pool:
            done = dict(zip(MOVES, pool.map(move, MOVES), strict=True))
        load.flowing()
    outages = {name: load.ledgers[name].longest_gap for name in names}
    print("outages: " + ", ".join(f"{name} {seconds:.2f}" for name, seconds in outages.items()))
    assert {name: record["state"] for name, record in done.items()} == dict.fromkeys(MOVES, "completed")
    assert {name: seconds for name, seconds in outages.items() if seconds >= OUTAGE_SECONDS} == {}
    for name, (_, target) in MOVES.items():
        assert admitting(mixed, name) == [target]
    for name, owner in STAYING.items():
        assert admitting(mixed, name) == [owner]
        assert {s.cluster for s in load.ledgers[name].sendings} == {owner}
    for name in names:
        with DisasterLoad(mixed, name) as reading:
            reading.settle(load.ledgers[name])
            seen = reading.compare(load.ledgers[name])
        assert seen.faultless, (name, seen)


# --- a part of what a cluster owns -----------------------------------------------------------------------------------

HOME, TARGET, OTHER = CLUSTERS[:3]
OWNERS = {HOME: ("stays", "east1", "east2"), TARGET: ("west",), OTHER: ("south",)}
NAMESPACES = [name for names in OWNERS.values() for name in names]


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    directory = tmp_path_factory.mktemp("partial") / "m"
    with LocalMesh(directory, clusters=(HOME, TARGET, OTHER), owners=OWNERS) as mesh:
        yield mesh


@pytest.fixture
def loads(partial: LocalMesh) -> Iterator[dict[str, DisasterLoad]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(DisasterLoad(partial, name)) for name in NAMESPACES}


@pytest.fixture
def legs(loads: dict[str, DisasterLoad]) -> Iterator[dict[str, Leg]]:
    """One living producer for each namespace."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(load.producing(producers=1, records=1, pause_seconds=PAUSE_SECONDS))
            for name, load in loads.items()
        }


def cluster_of(leg: Leg, since: float) -> set[str]:
    return {s.cluster for s in leg.ledger.sendings if (s.acknowledged_at or 0.0) > since and s.sent_at > since}


def flowing(legs: Mapping[str, Leg]) -> None:
    for leg in legs.values():
        leg.flowing()


def test_a_planned_failover_and_a_failback_of_one_namespace_leave_the_others_where_they_are(
    partial: LocalMesh, legs: dict[str, Leg]
) -> None:
    flowing(legs)
    began_at = ProducingLedger.now()
    driver = Driver(partial, OTHER)
    moved = driver.carry_on(driver.plan(request(TARGET, ["east1"]))["id"])
    assert moved["state"] == "completed"
    flowing(legs)
    assert admitting(partial, "east1") == [TARGET]
    returned = fail_back(partial, OTHER, moved["id"])
    assert returned["state"] == "completed"
    flowing(legs)
    assert admitting(partial, "east1") == [HOME]
    for name, leg in legs.items():
        expected = {HOME, TARGET} if name == "east1" else {c for c, names in OWNERS.items() if name in names}
        assert cluster_of(leg, began_at) == expected, name


def test_break_glass_for_one_namespace_takes_only_that_one_from_a_living_cluster(
    partial: LocalMesh, legs: dict[str, Leg]
) -> None:
    flowing(legs)
    began_at = ProducingLedger.now()
    failover = promote(partial, TARGET, namespaces=["east2"], break_glass=True)
    flowing(legs)
    assert admitting(partial, "east2") == [TARGET]
    resolve_all(partial, TARGET, failover["id"])
    fail_back(partial, TARGET, failover["id"])
    flowing(legs)
    for name, leg in legs.items():
        expected = {HOME, TARGET} if name == "east2" else {c for c, names in OWNERS.items() if name in names}
        assert cluster_of(leg, began_at) == expected, name


def test_fm13_a_dead_clusters_namespaces_go_to_different_targets_with_a_manifest_for_each(
    partial: LocalMesh, loads: dict[str, DisasterLoad], legs: dict[str, Leg]
) -> None:
    """The namespaces share the dead cluster's log, so the ranges of each are full of holes."""
    goes = {"east1": TARGET, "east2": OTHER}
    untouched = {name: leg for name, leg in legs.items() if name in ("west", "south")}
    flowing(legs)
    began_at = ProducingLedger.now()
    with ExitStack() as stack:
        dead = {name: stack.enter_context(loads[name].doomed(f"doomed-{name}-", 1)) for name in goes}
        flowing(dead)
        for cluster in (TARGET, OTHER):
            partial.pause(cluster)
        until(lambda: all(len(leg.ledger.promised) > 100 for leg in dead.values()), "the lag has grown")
        partial.kill(HOME)
        for leg in dead.values():
            leg.kill()
        killed_at = ProducingLedger.now()
        for cluster in (TARGET, OTHER):
            partial.resume(cluster)
    with ThreadPoolExecutor(len(goes)) as pool:
        both = pool.map(lambda name: promote(partial, goes[name], namespaces=[name]), goes)
        done = dict(zip(goes, both, strict=True))
    for name, target in goes.items():
        first = until(lambda n=name, t=target: first_acknowledged_at(legs[n].ledger, t, killed_at), "it takes writes")
        print(f"{name} takes writes after {first - killed_at:.2f} s")
        assert first - killed_at < WINDOW_SECONDS
    flowing({**untouched, **{name: legs[name] for name in goes}})

    partial.start(HOME)
    flowing(legs)
    assert admitting(partial, "stays") == [HOME], "what was not taken away is served again where it was"
    for name, target in goes.items():
        failover = done[name]
        resolve_all(partial, target, failover["id"], "replay")
        epoch = failover["plan"]["routing"][0]["epoch_before"]
        tail = exported(partial, target, f"{name}.{epoch}")
        said = exact_manifest(partial, target, failover["id"], len(tail))
        assert {e["namespace"] for e in said} == {name}
        assert {n for e in said for n in range(e["first"], e["last"] + 1)} == {record.sequence for record in tail}
        places = {n: v for v, at in dead[name].ledger.places.items() for n in [at.sequence]}
        for record in tail:
            if record.sequence in places:
                assert places[record.sequence] == record.value
    with ThreadPoolExecutor(len(goes)) as pool:
        assert list(pool.map(lambda n: fail_back(partial, goes[n], done[n]["id"])["state"], goes)) == ["completed"] * 2
    flowing(legs)
    for name in goes:
        legs[name].end()
        loads[name].settle(dead[name].ledger)
    for name in ("east1", "east2", "stays"):
        assert admitting(partial, name) == [HOME]
    for name, leg in untouched.items():
        assert len(cluster_of(leg, began_at)) == 1, name
    for name in goes:
        until(lambda n=name: legs[n].ledger.unanswered == 0, "everything is answered")
        loads[name].settle(legs[name].ledger)
        seen = compare_all(loads[name], legs[name].ledger, dead[name].ledger)
        assert seen.faultless, (name, seen)
