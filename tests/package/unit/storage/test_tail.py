"""The tail: what it covers, and that it stays within its bound."""

from __future__ import annotations

from omnirelay.model.batch import Batch
from omnirelay.storage.tail import Tail, fitting
from omnirelay.testing.batches import Chain

PLENTY = 1 << 30


def tail_of(batches: list[Batch], max_bytes: int = PLENTY) -> Tail:
    tail = Tail(max_bytes)
    for batch in batches:
        tail.push(batch)
    return tail


def after(tail: Tail, sequence: int) -> list[Batch] | None:
    found = tail.after(sequence)
    return None if found is None else list(found)


def test_it_answers_only_for_what_it_holds_entirely() -> None:
    chain = Chain("us")
    batches = [chain.next(count=10) for _ in range(4)]
    tail = tail_of(batches[1:])
    assert after(tail, 0) is None
    assert after(tail, 9) is None
    assert after(tail, 10) == batches[1:]
    assert after(tail, 19) == batches[1:]
    assert after(tail, 20) == batches[2:]
    assert after(tail, 40) == []
    assert after(Tail(PLENTY), 0) is None


def test_the_oldest_leave_when_it_is_full() -> None:
    batches = Chain("us").take(10)
    each = batches[-1].size + 1_024
    tail = tail_of(batches, max_bytes=3 * each)
    assert after(tail, 7) == batches[7:]
    assert after(tail, 6) is None


def test_a_batch_larger_than_the_bound_is_not_kept() -> None:
    chain = Chain("us")
    tail = tail_of([chain.next(), chain.next(records=bytes(10_000))], max_bytes=9_000)
    assert after(tail, 1) is None
    following = chain.next()
    tail.push(following)
    assert after(tail, 2) == [following]


def test_what_retention_dropped_leaves() -> None:
    batches = Chain("us").take(4)
    tail = tail_of(batches)
    tail.drop(before=3)
    assert after(tail, 1) is None
    assert after(tail, 2) == batches[2:]


def test_fitting_takes_one_and_then_what_fits() -> None:
    batches = Chain("us").take(3)
    assert fitting([], 100) == []
    assert fitting(batches, 0) == batches[:1]
    assert fitting(batches, batches[0].size + batches[1].size) == batches[:2]
