import json
from collections import Counter

import pytest

from omnirelay.demo.workload import BATCH_RECORDS, SHARES, Kind, Workload, identity
from omnirelay.model.record import Record

COUNT = 40_000
NOW_MS = 1_800_000_000_000


def header(record, name):
    return dict(record.headers)[name].decode()


@pytest.fixture(scope="module")
def records():
    workload = Workload(7, "p1")
    return [workload.record(NOW_MS + number) for number in range(COUNT)]


@pytest.fixture(scope="module")
def sizes(records):
    return sorted(len(record.value) for record in records)


def of(records, *kinds):
    return [record for record in records if header(record, "ce_type") in kinds]


def test_equal_seeds_make_equal_records():
    first, second = Workload(3, "p1"), Workload(3, "p1")
    assert [first.batch(NOW_MS) for _ in range(50)] == [second.batch(NOW_MS) for _ in range(50)]


@pytest.mark.parametrize("other", [Workload(4, "p1"), Workload(3, "p2")], ids=["seed", "producer"])
def test_another_seed_or_producer_makes_other_values(other):
    here = Workload(3, "p1")
    assert [here.record(NOW_MS).value for _ in range(20)] != [other.record(NOW_MS).value for _ in range(20)]


def test_a_record_of_a_seed_never_changes():
    record = Workload(1, "demo-1").record(NOW_MS)
    assert (record.key, record.value) == (
        b"lease/s000/r0007",
        b'{"lease":"s000/r0007","holder":"n01.eu-west-1","epoch":1,"until":1800000010000,"n":3223}',
    )


def test_renewals_dominate(records):
    kinds = Counter(header(record, "ce_type") for record in records)
    assert {kind: kinds[kind] / COUNT for kind in Kind} == pytest.approx(SHARES, abs=0.005)


def test_a_few_shards_take_most_of_the_traffic(records):
    shards = [count for _, count in Counter(header(record, "ce_source") for record in records).most_common()]
    assert shards[0] / COUNT == pytest.approx(0.19, abs=0.01)
    assert sum(shards[:51]) / COUNT == pytest.approx(0.74, abs=0.01)
    assert len(shards) == 512


@pytest.mark.parametrize(
    ("share", "low", "high"), [(0.5, 80, 100), (0.9, 100, 135), (0.96, 200, 380), (0.992, 700, 3000)]
)
def test_percentiles_of_sizes(sizes, share, low, high):
    assert low <= sizes[int(share * COUNT)] <= high


@pytest.mark.parametrize(
    ("kinds", "low", "high"),
    [
        ((Kind.RENEWED, Kind.RELEASED), 80, 135),
        ((Kind.GRANTED,), 200, 380),
        ((Kind.MOVED,), 380, 800),
        ((Kind.MEMBERSHIP,), 800, 4096),
    ],
)
def test_sizes_of_each_kind(records, kinds, low, high):
    found = [len(record.value) for record in of(records, *kinds)]
    assert low <= min(found)
    assert max(found) <= high


def test_batches_are_small():
    workload = Workload(7, "p1")
    counts = Counter(len(workload.batch(NOW_MS)) for _ in range(5_000))
    assert (min(counts), max(counts)) == BATCH_RECORDS
    assert sum(size * times for size, times in counts.items()) / 5_000 == pytest.approx(12.5, abs=0.3)


def test_values_are_json_and_event_time_is_the_callers(records):
    assert all(json.loads(record.value) for record in records)
    assert [record.event_time_ms for record in records] == [NOW_MS + number for number in range(COUNT)]


def test_a_shard_moves_from_its_owner_with_the_next_epoch(records):
    epochs = {}
    for record in of(records, Kind.MOVED):
        move = json.loads(record.value)
        assert move["from"]["epoch"] == epochs.get(record.key, 1)
        assert move["to"]["epoch"] == move["from"]["epoch"] + 1
        epochs[record.key] = move["to"]["epoch"]


def test_a_lease_is_granted_once_then_renewed_and_after_its_release_never_seen_again(records):
    granted, released = set(), set()
    for record in of(records, Kind.GRANTED, Kind.RENEWED, Kind.RELEASED):
        assert record.key not in released
        kind = header(record, "ce_type")
        if kind == Kind.GRANTED:
            assert record.key not in granted
            granted.add(record.key)
        if kind == Kind.RELEASED:
            released.add(record.key)


def test_a_record_tells_its_producer_and_its_number(records):
    assert [identity(record) for record in records[:3]] == [("p1", 0), ("p1", 1), ("p1", 2)]


def test_a_record_of_somebody_else_is_refused():
    with pytest.raises(ValueError, match="ce_id"):
        identity(Record(b"k", b"v", (("other", b"x/1"),)))
