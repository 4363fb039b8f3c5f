"""What was fenced and what was decided, as values: what is open, how it is graded, what a decision reaches."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirelay.errors import BadRequest, NotFound
from omnirelay.failover.divergence import (
    SETTLING,
    Decision,
    Divergence,
    Fate,
    FencedBatch,
    Resolution,
    Settled,
    divergence_id,
    exact_ranges,
    fenced_epochs,
    parse_divergence_id,
    require_open,
)
from omnirelay.failover.record import Grade
from omnirelay.model.position import Cursor
from omnirelay.model.routing import Ownership, Route

DISCARDED, EXPORTED, REPLAYING, REPLAYED = Resolution


def fenced(*batches, decision=None):
    """By (first, last) or (first, last, fate)."""
    made = (FencedBatch(first, last, "p", n, *fate) for n, (first, last, *fate) in enumerate(batches, 1))
    return Divergence("orders", 3, "us-east", tuple(made), decision)


def a_decision(resolution=DISCARDED, upto=100, **changes):
    return replace(Decision("orders", 3, resolution, upto, "alice", "now"), **changes)


class TestOpen:
    def test_everything_is_open_at_first(self):
        assert fenced((11, 12), (15, 15)).unresolved == 3

    @pytest.mark.parametrize("fate", [Fate.SUPERSEDED, Fate.REPLAYED])
    def test_what_the_log_accounts_for_is_not(self, fate):
        found = fenced((11, 12, fate), (15, 15))
        assert (found.unresolved, found.records) == (1, 3)
        assert (found.superseded, found.replayed) == ((2, 0) if fate is Fate.SUPERSEDED else (0, 2))

    @pytest.mark.parametrize("resolution", [DISCARDED, EXPORTED])
    def test_what_was_discarded_or_exported_is_not(self, resolution):
        assert fenced((11, 12), (15, 15), decision=a_decision(resolution)).unresolved == 0

    @pytest.mark.parametrize("resolution", [REPLAYING, REPLAYED])
    def test_a_replay_counts_by_what_it_has_published(self, resolution):
        found = fenced((11, 12, Fate.REPLAYED), (15, 15), decision=a_decision(resolution))
        assert found.unresolved == 1

    def test_what_arrived_later_is_open_again(self):
        assert fenced((11, 12), (15, 15), decision=a_decision(upto=12)).unresolved == 1

    def test_an_earlier_decision_stands_below_a_later_one(self):
        decision = a_decision(REPLAYING, 20, earlier=(Settled(DISCARDED, 12), Settled(EXPORTED, 15)))
        found = fenced((11, 12), (15, 15), (16, 20), (21, 21), decision=decision)
        assert [found.decided(batch) for batch in found.batches] == [DISCARDED, EXPORTED, REPLAYING, None]
        assert found.unresolved == 6

    def test_with_nothing_open_there_is_nothing_to_decide(self):
        require_open(fenced((11, 12)))
        with pytest.raises(BadRequest, match="no open records: exported"):
            require_open(fenced((11, 12), decision=a_decision(EXPORTED)))
        with pytest.raises(BadRequest, match="nothing to resolve"):
            require_open(fenced())


class TestWhatTheNextDecisionMustNotTouch:
    def test_discards_and_exports_accumulate(self):
        first = fenced((1, 1), decision=a_decision(DISCARDED, 5))
        assert first.settled == (Settled(DISCARDED, 5),)
        second = fenced((1, 1), decision=a_decision(EXPORTED, 9, earlier=first.settled))
        assert second.settled == (Settled(DISCARDED, 5), Settled(EXPORTED, 9))

    def test_a_replay_leaves_its_traces_in_the_log(self):
        earlier = (Settled(DISCARDED, 5),)
        assert fenced((1, 1), decision=a_decision(REPLAYED, 9, earlier=earlier)).settled == earlier

    def test_without_a_decision_there_is_nothing(self):
        assert fenced((1, 1)).settled == ()


class TestGrades:
    @pytest.mark.parametrize(
        ("fate", "resolution", "grade"),
        [
            (Fate.OPEN, None, Grade.FENCED),
            (Fate.OPEN, REPLAYING, Grade.FENCED),
            (Fate.OPEN, REPLAYED, Grade.FENCED),
            (Fate.OPEN, DISCARDED, Grade.DISCARDED),
            (Fate.OPEN, EXPORTED, Grade.EXPORTED),
            *((Fate.SUPERSEDED, resolution, Grade.SUPERSEDED) for resolution in (None, *Resolution)),
            *((Fate.REPLAYED, resolution, Grade.RECOVERED) for resolution in (None, *Resolution)),
        ],
    )
    def test_what_the_log_shows_comes_before_what_was_decided(self, fate, resolution, grade):
        decision = a_decision(resolution) if resolution else None
        [range_] = exact_ranges(fenced((11, 12, fate), decision=decision))
        assert (range_.grade, range_.exact) == (grade, True)

    def test_neighbours_of_one_grade_are_one_range(self):
        found = exact_ranges(fenced((11, 12), (13, 15), (17, 17), (18, 18, Fate.SUPERSEDED), (19, 20)))
        assert [(r.first, r.last, r.records, r.grade) for r in found] == [
            (11, 15, 5, Grade.FENCED),
            (17, 17, 1, Grade.FENCED),
            (18, 18, 1, Grade.SUPERSEDED),
            (19, 20, 2, Grade.FENCED),
        ]

    def test_a_part_of_them(self):
        found = exact_ranges(fenced((11, 12), (13, 15), (17, 17)), after=12, upto=15)
        assert [(r.first, r.last) for r in found] == [(13, 15)]


batches = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from(Fate)), max_size=12
)  # gap before, records, fate
decisions = st.none() | st.builds(
    a_decision,
    st.sampled_from(Resolution),
    st.integers(0, 40),
    earlier=st.lists(st.tuples(st.sampled_from(SETTLING), st.integers(0, 40)), max_size=3).map(
        lambda spans: tuple(Settled(r, upto) for r, upto in sorted(spans, key=lambda span: span[1]))
    ),
)


@given(batches, decisions)
def test_ranges_name_every_record_once_and_agree_with_what_is_open(spans, decision):
    place, made = 0, []
    for gap, records, fate in spans:
        made.append((place + gap + 1, place + gap + records, fate))
        place += gap + records
    found = fenced(*made, decision=decision)
    ranges = exact_ranges(found)
    named = [sequence for r in ranges for sequence in range(r.first, r.last + 1)]
    assert named == [sequence for first, last, _ in made for sequence in range(first, last + 1)]
    assert sum(r.records for r in ranges) == found.records
    assert sum(r.records for r in ranges if r.grade is Grade.FENCED) == found.unresolved
    assert sum(r.records for r in ranges if r.grade is Grade.RECOVERED) == found.replayed


class TestNames:
    def test_an_id_is_the_namespace_and_the_epoch(self):
        assert divergence_id("orders", 3) == fenced().id == "orders.3"
        assert parse_divergence_id("orders.eu.3") == ("orders.eu", 3)

    @pytest.mark.parametrize("text", ["", "orders", "orders.", "orders.x", "orders.-1", ".", "3"])
    def test_what_is_no_id(self, text):
        with pytest.raises(NotFound):
            parse_divergence_id(text)

    def test_every_epoch_that_a_later_cut_bounds(self):
        history = (
            Ownership(1, "a", "a"),
            Ownership(2, "b", "b", Cursor(1, 10)),
            Ownership(3, "c", "c", Cursor(1, 8)),
            Ownership(4, "a", "a~2", Cursor(3, 5)),
        )
        assert list(fenced_epochs(Route("n", history))) == [(1, "a", 8), (2, "b", 0), (3, "c", 5)]
