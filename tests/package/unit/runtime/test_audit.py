"""The audit chain as it is written: one entry beside each mutation, whoever else writes at the same time."""

import asyncio
import logging
import resource
from contextlib import asynccontextmanager, contextmanager

import pytest
from tests.package.unit.runtime.mesh import running_mesh
from tests.package.unit.runtime.virtual import LoopClock, in_virtual_time

from omnirelay.errors import CoordinationUnavailable
from omnirelay.failover import audit_chain
from omnirelay.ports.coordination import Compare, Delete, Put
from omnirelay.runtime.audit import Actor, AuditMirror, Auditor, Deed
from omnirelay.runtime.documents import audit_key
from omnirelay.testing.memory_coordination import MemoryCoordination

ALICE = Actor("alice", "mtls")


class Clock:
    def monotonic(self) -> float:
        return 0.0

    def wall_ms(self) -> int:
        return 1_769_828_645_678


@pytest.fixture
def memory():
    return MemoryCoordination(Clock())


@pytest.fixture
def auditor(memory):
    return Auditor(memory.client(), Clock())


class WatchedMirror(AuditMirror):
    """Tells a test when it has written."""

    def __init__(self, store, path) -> None:
        super().__init__(store, path)
        self.wrote = asyncio.Event()

    async def _write(self, values) -> None:
        await super()._write(values)
        self.wrote.set()


async def tell(auditor, *subjects, action="note"):
    for subject in subjects:
        await auditor.refused(ALICE, Deed(action, subject, why="naïve — “quoted”"))


async def do(auditor, subject, action):
    assert await auditor.commit([], [Put(subject, b"1")], ALICE, Deed(action, subject))


async def test_what_is_stored_is_a_chain_in_canonical_form(memory, auditor):
    assert await auditor.commit(
        [], [Put("a", b"1")], ALICE, Deed("put", "a", before={"z": None, "a": [1.5]}, after="ü")
    )
    await tell(auditor, "b")
    lines = [entry.value for entry in memory.list("audit/entries/").entries]
    head = await auditor.head()
    assert audit_chain.verify_copy([line + b"\n" for line in lines], head.digest) is None
    assert [entry.outcome for entry in await auditor.entries(0, 10)] == ["done", "refused"]


async def test_an_entry_and_what_it_tells_of_are_one_transaction(memory, auditor):
    before = memory.revision
    await auditor.commit([Compare("a", 0)], [Put("a", b"1")], ALICE, Deed("put", "a"))
    assert memory.revision == before + 1
    assert not await auditor.commit([Compare("a", 0)], [Put("a", b"2")], ALICE, Deed("put", "a"))
    assert memory.get("a").value == b"1"
    assert (await auditor.head()).number == 1


async def test_concurrent_writers_make_one_chain(memory):
    auditors = [Auditor(memory.client(), Clock()) for _ in range(5)]
    await asyncio.gather(*(tell(auditor, *"abc") for auditor in auditors))
    entries = await auditors[0].entries(0, 100)
    assert len(entries) == 15
    assert audit_chain.verify(entries) is None


class DistantStore:
    """Others get their turn between a call and its answer."""

    def __init__(self, client) -> None:
        self._client = client
        self.transactions = 0

    async def get(self, key):
        await asyncio.sleep(0)
        return await self._client.get(key)

    async def transact(self, compares, writes):
        self.transactions += 1
        await asyncio.sleep(0)
        return await self._client.transact(compares, writes)


async def test_fm01_writers_of_one_process_share_transactions_instead_of_making_each_other_fail(memory):
    store = DistantStore(memory.client())
    auditor = Auditor(store, Clock())
    names = [f"n{number}" for number in range(100)]
    committed = [auditor.commit([Compare(n, 0)], [Put(n, b"1")], ALICE, Deed("put", n)) for n in names]
    assert all(await asyncio.gather(*committed))
    assert store.transactions == 4  # the first, and the 99 others by the bound on operations
    entries = await Auditor(memory.client(), Clock()).entries(0, 200)
    assert [entry.subject for entry in entries] == names
    assert audit_chain.verify(entries) is None


async def test_one_that_does_not_hold_fails_alone_of_those_in_its_transaction(memory):
    auditor = Auditor(DistantStore(memory.client()), Clock())
    expected = {"a": 0, "b": 7, "c": 0}
    committed = [auditor.commit([Compare(n, r)], [Put(n, b"1")], ALICE, Deed("put", n)) for n, r in expected.items()]
    assert await asyncio.gather(*committed) == [True, False, True]
    assert memory.get("b") is None


async def test_mutations_of_one_key_never_share_a_transaction(memory):
    auditor = Auditor(DistantStore(memory.client()), Clock())
    committed = [auditor.commit([Compare("a", 0)], [Put("a", v)], ALICE, Deed("put", "a")) for v in (b"1", b"2", b"3")]
    assert await asyncio.gather(*committed) == [True, False, False]
    assert memory.get("a").value == b"1"


async def test_a_large_mutation_goes_alone(memory):
    store = DistantStore(memory.client())
    auditor = Auditor(store, Clock())
    committed = [auditor.commit([], [Put(n, bytes(400_000))], ALICE, Deed("put", n)) for n in "abc"]
    assert all(await asyncio.gather(*committed))
    assert store.transactions == 3


async def test_those_that_were_taken_along_hear_although_the_one_whose_turn_it_was_gives_up(memory):
    store = DistantStore(memory.client())
    auditor = Auditor(store, Clock())
    tasks = [asyncio.create_task(auditor.commit([], [Put(n, b"1")], ALICE, Deed("put", n))) for n in "abc"]
    while store.transactions < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    tasks[1].cancel()  # it takes "c" along
    assert await asyncio.gather(tasks[0], tasks[2]) == [True, True]
    assert memory.get("c").value == b"1"


async def test_an_unreachable_store_fails_everybody_and_nobody_hangs(memory):
    client = memory.client()
    auditor = Auditor(DistantStore(client), Clock())
    await client.close()
    committed = [auditor.commit([], [Put(n, b"1")], ALICE, Deed("put", n)) for n in "abc"]
    results = await asyncio.gather(*committed, return_exceptions=True)
    assert [type(result) for result in results] == [CoordinationUnavailable] * 3


@pytest.mark.parametrize(
    ("after", "limit"), [(0, 1), (0, 99), (0, 100), (0, 250), (98, 3), (99, 2), (100, 1), (249, 5)]
)
async def test_pages_cross_the_blocks_that_are_read_at_once(auditor, after, limit):
    await tell(auditor, *["s"] * 250)
    numbers = [entry.number for entry in await auditor.entries(after, limit)]
    assert numbers == list(range(after + 1, min(250, after + limit) + 1))


async def test_nothing_beyond_the_head(auditor):
    assert await auditor.entries(0, 10) == []
    await tell(auditor, "s")
    assert await auditor.entries(1, 10) == []


async def test_the_story_of_a_subject_is_found_across_blocks(auditor):
    await tell(auditor, *["other"] * 97)
    await do(auditor, "mine", "begin")
    await tell(auditor, *["other"] * 150)
    await do(auditor, "mine", "end")
    await tell(auditor, "other", "mine")  # what is refused after its end is not its story any more
    assert await auditor.range_of("mine", "begin") == (98, 249)
    assert await auditor.range_of("nobody", "begin") is None


async def test_the_mirror_is_a_copy_that_verifies_and_goes_on_after_a_crash(memory, auditor, tmp_path):
    path = tmp_path / "audit.jsonl"
    await tell(auditor, *"abc")
    for torn in (b"", b'{"number":'):
        with path.open("ab") as file:
            file.write(torn)
        mirror = WatchedMirror(memory.client(), path)
        running = asyncio.create_task(mirror.run())
        await tell(auditor, "d")
        head = await auditor.head()
        while not path.read_bytes().endswith(audit_chain.encode(head) + b"\n"):
            await mirror.wrote.wait()
            mirror.wrote.clear()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert audit_chain.verify_copy(path.read_bytes().splitlines(keepends=True), head.digest) is None


@asynccontextmanager
async def mirrored(path):
    """A mirror that runs, and the writer of what it copies."""
    memory = MemoryCoordination(LoopClock())
    mirror, auditor = AuditMirror(memory.client(), path), Auditor(memory.client(), LoopClock())
    running = asyncio.create_task(mirror.run())
    try:
        yield mirror, auditor
        assert not running.done(), running.exception()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@contextmanager
def no_file_beyond(size):
    """Writing stops in the middle of a line, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@in_virtual_time
async def test_fm36_a_copy_that_cannot_be_written_ended_the_replicator(tmp_path, caplog):
    path = tmp_path / "audit.jsonl"
    async with mirrored(path) as (mirror, auditor):
        await tell(auditor, *"ab")
        await asyncio.sleep(1)
        whole = path.read_bytes()
        with no_file_beyond(len(whole) + 50), caplog.at_level(logging.INFO, "omnirelay.runtime.audit"):
            await tell(auditor, *"cd")
            await asyncio.sleep(60)
            assert path.read_bytes() == whole, "a line that was cut short makes the copy unreadable"
            assert "File too large" in mirror.problem
            assert len(caplog.records) == 1, "it is tried again and again, and told once"
        await asyncio.sleep(1)
        assert mirror.problem == ""
        head = await auditor.head()
        assert head.number == 4
        assert audit_chain.verify_copy(path.read_bytes().splitlines(keepends=True), head.digest) is None


@in_virtual_time
async def test_the_copy_is_read_once_and_not_for_each_entry(tmp_path, monkeypatch):
    path = tmp_path / "audit.jsonl"
    async with mirrored(path) as (_, auditor):
        await tell(auditor, "a")
        await asyncio.sleep(1)
        monkeypatch.setattr(type(path), "read_bytes", None)
        await tell(auditor, *"bc")
        await asyncio.sleep(1)
        monkeypatch.undo()
        assert len(path.read_bytes().splitlines()) == 3


@in_virtual_time
async def test_a_cluster_without_a_copy_says_so(tmp_path):
    path = tmp_path / "eu-west.jsonl"
    path.mkdir()
    async with running_mesh(tmp_path) as mesh:
        reports = mesh["us-east"].replicator.view.reports
        assert mesh["eu-west"].alive
        assert reports["eu-west"].problems == (f"copy of the audit chain: [Errno 21] Is a directory: '{path}'",)
        path.rmdir()
        await asyncio.sleep(3)
        assert mesh["us-east"].replicator.view.reports["eu-west"].problems == ()


async def test_a_search_that_finds_little_looks_at_so_many_blocks_and_says_where_to_go_on(auditor, monkeypatch):
    monkeypatch.setattr("omnirelay.runtime.audit.BLOCKS_AT_ONCE", 2)
    for number in range(1, 251):
        await tell(auditor, "rare" if number in (50, 201) else "common")
    found, seen = await auditor.search(0, 10, {"subject": "rare"})
    assert ([entry.number for entry in found], seen) == ([50], 199)
    found, seen = await auditor.search(seen, 10, {"subject": "rare"})
    assert ([entry.number for entry in found], seen) == ([201], 250)
    assert await auditor.search(0, 1, {"subject": "rare"}) == ([await entry_of(auditor, 50)], 50)


async def entry_of(auditor, number):
    return (await auditor.entries(number - 1, 1))[0]


async def test_a_chain_with_a_hole_is_read_to_its_end(auditor, memory):
    for _ in range(220):
        await tell(auditor, "common")
    await memory.client().transact([], [Delete(audit_key(number)) for number in range(100, 200)])
    found, seen = await auditor.search(0, 1000, {})
    assert (len(found), seen) == (120, 220)
