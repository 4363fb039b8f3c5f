"""What can go wrong. Each fault begins at once and says how to end it; how often each comes is the scenario's affair.

Nothing in here knows what is right: see `checkers`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from omnirelay.testing.memory_coordination import Fault as StoreFault
from omnirelay.testing.simulation.cluster import Cluster
from omnirelay.testing.simulation.loop import Process
from omnirelay.testing.simulation.network import Network
from omnirelay.testing.simulation.workload import SimulatedProducer


@dataclass(frozen=True, slots=True)
class Victims:
    """What faults can strike."""

    clusters: dict[str, Cluster]
    network: Network
    producers: list[SimulatedProducer]
    buried: list[Process]
    """Where the dead are kept until the end."""


@dataclass(frozen=True, slots=True)
class Trouble:
    what: str
    end: Callable[[], None]


Fault = Callable[[Victims, random.Random], Trouble | None]
"""None when it strikes nothing."""


def crash(victims: Victims, rng: random.Random) -> Trouble | None:
    """kill -9; started again later."""
    return _down(victims, rng, power_cut=False)


def power_cut(victims: Victims, rng: random.Random) -> Trouble | None:
    """As `crash`, but a prefix of what waited for the disk has reached it, and peers hear nothing."""
    return _down(victims, rng, power_cut=True)


def disaster(victims: Victims, rng: random.Random) -> Trouble | None:
    """A site loses power, and with it go the producers: what only this cluster had is kept by nobody."""
    for producer in victims.producers:
        if rng.random() < 0.7:
            victims.buried.append(producer.kill())
            producer.start()
    return _down(victims, rng, power_cut=True)


def stop(victims: Victims, rng: random.Random) -> Trouble | None:
    """SIGTERM: the process gives its lease back and ends in order."""
    cluster = _cluster(victims, rng)
    if cluster.replicator is None or not cluster.process.runs:
        return None
    cluster.stop()

    def end() -> None:
        cluster.kill()  # whatever has not ended by now
        cluster.start()

    return Trouble(f"{cluster.name} is stopped", end)


def restarted_producer(victims: Victims, rng: random.Random) -> Trouble | None:
    """A producer is killed and at once started again; what it had sent may still be on its way."""
    producer = rng.choice(victims.producers)
    victims.buried.append(producer.kill())
    producer.start()
    return Trouble(f"{producer.name} is killed and started again", lambda: None)


def pause(victims: Victims, rng: random.Random) -> Trouble | None:
    """A process stands still while time goes on."""
    cluster = _cluster(victims, rng)
    if not cluster.up or cluster.process.paused:
        return None
    process = cluster.process
    cluster.pause(True)

    def end() -> None:
        if cluster.process is process and cluster.up:
            cluster.pause(False)

    return Trouble(f"{cluster.name} stands still", end)


def partition(victims: Victims, rng: random.Random) -> Trouble | None:
    """Two clusters lose each other, both ways."""
    one, other = _pair(victims, rng)
    return _cut(victims.network, f"{one} and {other} are cut off from each other", (one, other), (other, one))


def one_way(victims: Victims, rng: random.Random) -> Trouble | None:
    one, other = _pair(victims, rng)
    return _cut(victims.network, f"{one} does not reach {other}", (one, other))


def isolation(victims: Victims, rng: random.Random) -> Trouble | None:
    """A cluster loses all its peers."""
    one = _cluster(victims, rng).name
    links = [link for other in victims.clusters if other != one for link in ((one, other), (other, one))]
    return _cut(victims.network, f"{one} is cut off from its peers", *links)


def slow_link(victims: Victims, rng: random.Random) -> Trouble | None:
    one, other = _pair(victims, rng)
    delay = rng.choice((0.05, 0.3, 1.5))
    victims.network.slow(one, other, delay)
    return Trouble(f"{one} to {other} takes {delay} s", lambda: victims.network.slow(one, other, None))


def broken_stream(victims: Victims, rng: random.Random) -> Trouble | None:
    one, other = _pair(victims, rng)
    victims.network.snap(one, other)
    return Trouble(f"streams between {one} and {other} break", lambda: None)


def leaks(victims: Victims, rng: random.Random) -> Trouble | None:
    """Replicated batches are left out or come twice."""
    victims.network.leaks = 0.1

    def end() -> None:
        victims.network.leaks = 0.0

    return Trouble("links leave out and repeat batches", end)


def clock_jump(victims: Victims, rng: random.Random) -> Trouble | None:
    """A wall clock jumps, and stays there."""
    cluster = _cluster(victims, rng)
    cluster.clock.skew_seconds = rng.choice((-3600.0, -5.0, -0.3, 0.0, 0.3, 5.0, 3600.0))
    return Trouble(f"the clock of {cluster.name} is {cluster.clock.skew_seconds:+g} s off", lambda: None)


def slow_disk(victims: Victims, rng: random.Random) -> Trouble | None:
    cluster = _cluster(victims, rng)
    cluster.disk_fault(seconds=rng.choice((0.05, 0.5, 3.0)))
    return Trouble(f"commits of {cluster.name} take {cluster.disk.seconds} s", cluster.disk_fault)


def full_disk(victims: Victims, rng: random.Random) -> Trouble | None:
    cluster = _cluster(victims, rng)
    cluster.disk_fault(full=True)
    return Trouble(f"the disk of {cluster.name} is full", cluster.disk_fault)


def trim(victims: Victims, rng: random.Random) -> Trouble | None:
    """What every peer has confirmed is dropped; clocks that jump make it old at once."""
    cluster = _cluster(victims, rng)
    cluster.trim()
    return Trouble(f"retention comes round at {cluster.name}", lambda: None)


def store_unreachable(victims: Victims, rng: random.Random) -> Trouble | None:
    return _store(victims, [_cluster(victims, rng)], StoreFault.UNAVAILABLE)


def store_mute(victims: Victims, rng: random.Random) -> Trouble | None:
    """The store does as it is asked, and its answers are lost."""
    return _store(victims, [_cluster(victims, rng)], StoreFault.ANSWER_LOST)


def store_down(victims: Victims, rng: random.Random) -> Trouble | None:
    """For all clusters at once."""
    return _store(victims, list(victims.clusters.values()), StoreFault.UNAVAILABLE)


def slow_store(victims: Victims, rng: random.Random) -> Trouble | None:
    cluster = _cluster(victims, rng)
    cluster.store_slow(rng.choice((0.1, 0.6)))
    return Trouble(f"the store is slow for {cluster.name}", lambda: cluster.store_slow(None))


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        crash,
        power_cut,
        disaster,
        stop,
        restarted_producer,
        pause,
        partition,
        one_way,
        isolation,
        slow_link,
        broken_stream,
        leaks,
        clock_jump,
        slow_disk,
        full_disk,
        trim,
        store_unreachable,
        store_mute,
        store_down,
        slow_store,
    )
}


def _cluster(victims: Victims, rng: random.Random) -> Cluster:
    return rng.choice(list(victims.clusters.values()))


def _pair(victims: Victims, rng: random.Random) -> tuple[str, str]:
    one, other = rng.sample(list(victims.clusters), 2)
    return one, other


def _down(victims: Victims, rng: random.Random, power_cut: bool) -> Trouble | None:
    cluster = _cluster(victims, rng)
    if not cluster.up:
        return None
    cluster.kill(power_cut)
    return Trouble(f"{cluster.name} {'loses power' if power_cut else 'is killed'}", cluster.start)


def _cut(network: Network, what: str, *links: tuple[str, str]) -> Trouble:
    for link in links:
        network.cut(*link)

    def end() -> None:
        for link in links:
            network.heal(*link)

    return Trouble(what, end)


def _store(victims: Victims, clusters: list[Cluster], fault: StoreFault) -> Trouble:
    for cluster in clusters:
        cluster.store_fault(fault)

    def end() -> None:
        for cluster in clusters:
            cluster.store_fault(None)

    names = ", ".join(cluster.name for cluster in clusters)
    return Trouble(f"the store is {fault.value} for {names}", end)
