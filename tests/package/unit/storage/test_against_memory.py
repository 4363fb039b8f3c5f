"""Any sequence of changes leaves the SQLite log as it leaves the one in memory, which computes by definition."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from omnirelay.errors import OmniRelayError
from omnirelay.model.batch import BatchKind
from omnirelay.model.position import Cursor
from omnirelay.model.routing import Ownership, Route
from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.log import EpochGuard, LogStore, Retention
from omnirelay.storage import SqliteLog
from omnirelay.testing.batches import Chain
from omnirelay.testing.memory_log import MemoryDisk, MemoryLog
from omnirelay.wire.codec import decode_header

ORIGINS = ("us", "eu", "ap")
NAMESPACES = ("default", "other")
BIG = 1 << 30

Act = Callable[[LogStore], Awaitable[object]]


@dataclass
class History:
    """Turns drawn numbers into changes that make sense where the run has come to."""

    chains: dict[str, Chain] = field(default_factory=lambda: {origin: Chain(origin) for origin in ORIGINS})
    routes: dict[str, Route] = field(
        default_factory=lambda: {n: Route(n, (Ownership(1, "us", "us"),)) for n in NAMESPACES}
    )
    clock: int = 0

    def append(self, namespace: str, back: int, producer: str, kind: BatchKind, count: int, guarded: bool) -> Act:
        """By the owner of the current epoch, or of one before it."""
        owner = self.routes[namespace].history[max(-1 - back, -len(self.routes[namespace].history))]
        self.clock += 1
        chain = self.chains[owner.origin]
        before = chain.head
        batch = chain.next(
            namespace=namespace, epoch=owner.epoch, producer=producer, kind=kind, count=count, commit_time_ms=self.clock
        )
        guard = EpochGuard(namespace, owner.epoch) if guarded else None
        if guarded and back and len(self.routes[namespace].history) > 1:
            chain.head = before  # it will be refused
        return lambda log: log.append(batch, guard)

    def install(self, namespace: str, back: int, permille: int) -> Act:
        """The next epoch, cut somewhere in the current one or one before it."""
        route = self.routes[namespace]
        cut_in = route.history[max(-1 - back, -len(route.history))]
        cut = Cursor(cut_in.epoch, self.chains[cut_in.origin].head.sequence * permille // 1000)
        epoch = route.epoch + 1
        origin = ORIGINS[epoch % len(ORIGINS)]
        self.routes[namespace] = Route(namespace, (*route.history, Ownership(epoch, origin, origin, cut)))
        routes = dict(self.routes)
        return lambda log: log.install(routes)

    def cursor(self, peer: str, origin: str, permille: int) -> Act:
        vector = VersionVector({origin: self.chains[origin].head.sequence * permille // 1000})
        return lambda log: log.record_cursor(peer, vector)

    def retain(self, age: int, max_bytes: int, extra: int) -> Act:
        rule = Retention(now_ms=self.clock, max_age_ms=age, max_bytes=max_bytes, cap_bytes=max_bytes + extra)
        return lambda log: log.retain(rule)


namespaces, permilles = st.sampled_from(NAMESPACES), st.integers(0, 1000)
backs = st.sampled_from([0, 0, 0, 1, 2])
changes = st.one_of(
    st.tuples(
        st.just("append"),
        namespaces,
        backs,
        st.sampled_from("pqr"),
        st.sampled_from([BatchKind.DATA, BatchKind.DATA, *BatchKind]),
        st.integers(1, 5),
        st.booleans(),
    ),
    st.tuples(st.just("install"), namespaces, backs, permilles),
    st.tuples(st.just("cursor"), st.sampled_from(("b", "c")), st.sampled_from(ORIGINS), permilles),
    st.tuples(st.just("retain"), st.integers(0, 20), st.integers(0, 2_000), st.integers(0, 2_000)),
    st.tuples(st.just("reopen")),
)


@given(st.lists(changes, max_size=40))
@settings(max_examples=60, deadline=None)
def test_both_logs_tell_the_same(run: list[tuple[object, ...]]) -> None:
    asyncio.run(_compare(run))


async def _compare(run: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        disk, history = MemoryDisk(), History()

        async def open_both() -> tuple[LogStore, LogStore]:
            sqlite = await SqliteLog.open(Path(folder), cluster="us", decode_header=decode_header, tail_bytes=4_000)
            return sqlite, await MemoryLog.open(disk)

        sqlite, memory = await open_both()
        try:
            for name, *arguments in run:
                if name == "reopen":
                    await sqlite.close()
                    await memory.close()
                    sqlite, memory = await open_both()
                else:
                    act: Act = getattr(history, str(name))(*arguments)
                    assert await outcome(act(sqlite)) == await outcome(act(memory))
                assert sqlite.heads == memory.heads
            assert await sqlite.load() == await memory.load()
            for read in reads(history):
                assert await outcome(read(sqlite)) == await outcome(read(memory))
        finally:
            await sqlite.close()
            await memory.close()


def reads(history: History) -> list[Act]:
    """Everything that can be asked at every place."""
    places = [(origin, at) for origin, chain in history.chains.items() for at in range(chain.head.sequence + 2)]
    found: list[Act] = []
    for origin, at in places:
        found += [
            lambda log, o=origin, a=at: log.read(o, a, 300),
            lambda log, o=origin, a=at: log.digest_at(o, a),
            lambda log, o=origin, a=at: log.backlog_bytes(o, a),
        ]
        found += [
            lambda log, n=name, e=owner.epoch, o=origin, a=at: log.read_namespace(n, e, o, a, a + 9, BIG)
            for name, route in history.routes.items()
            for owner in route.history
            if owner.origin == origin
        ]
    return found


async def outcome(call: Awaitable[object]) -> object:
    try:
        return await call
    except OmniRelayError as error:
        return type(error), error.details
