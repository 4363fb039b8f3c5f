"""The decision alone; what it does to a log is in the contract suite."""

from __future__ import annotations

import pytest

from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.log import Retention
from omnirelay.storage.retention import Candidate, droppable

NEVER = 1 << 60


def log(*times: int) -> list[Candidate]:
    """Batches of 10 records and 100 bytes, committed at these times."""
    return [Candidate(10 * number, 100, at) for number, at in enumerate(times, start=1)]


def rule(max_age_ms: int = NEVER, max_bytes: int = NEVER, cap_bytes: int = NEVER) -> Retention:
    return Retention(now_ms=1_000, max_age_ms=max_age_ms, max_bytes=max_bytes, cap_bytes=cap_bytes)


@pytest.mark.parametrize(
    ("limits", "going"),
    [
        (rule(), {}),
        (rule(max_age_ms=700), {"us": 2, "eu": 1}),
        (rule(max_age_ms=900), {}),
        (rule(max_bytes=600), {}),
        (rule(max_bytes=599), {"us": 1}),
        (rule(max_bytes=400), {"us": 1, "eu": 1}),
        (rule(max_bytes=250), {"us": 2, "eu": 2}),
    ],
)
def test_the_oldest_go_first_by_age_or_size(limits: Retention, going: dict[str, int]) -> None:
    oldest = {"us": log(100, 200, 500, 900), "eu": log(150, 400, 950)}
    assert droppable(oldest, 600, {}, limits) == going


def test_every_cursor_must_have_passed() -> None:
    oldest = {"us": log(1, 2, 3, 4), "eu": log(1, 2, 3, 4)}
    cursors = {"a": VersionVector({"us": 25, "eu": 40}), "b": VersionVector({"us": 40, "eu": 10})}
    assert droppable(oldest, 800, cursors, rule(max_age_ms=0)) == {"us": 2, "eu": 1}


def test_beyond_the_cap_no_cursor_counts_until_the_log_is_within_it() -> None:
    assert droppable({"us": log(1, 2, 3, 4)}, 400, {"a": VersionVector()}, rule(cap_bytes=200)) == {"us": 2}


def test_an_old_batch_behind_a_young_one_stays() -> None:
    """A clock that jumped must not make a hole."""
    assert droppable({"us": log(900, 100, 950)}, 300, {}, rule(max_age_ms=500)) == {}


def test_it_ends_where_the_candidates_of_an_origin_do() -> None:
    """The next batch of that origin might be older than those of the others."""
    assert droppable({"us": log(1), "eu": log(2, 3)}, 10_000, {}, rule(max_bytes=0)) == {"us": 1}


def test_nothing_is_dropped_of_nothing() -> None:
    assert droppable({"us": []}, 0, {}, rule(max_age_ms=0, max_bytes=0, cap_bytes=0)) == {}
