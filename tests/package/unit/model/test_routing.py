"""Validity by the cuts of every later ownership, against a reading of protocol.md §3 by brute force."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omnirelay.model.position import START, Cursor
from omnirelay.model.routing import Ownership, Route, RoutingDocument

FAR = 12
"""Beyond every cut that is generated."""


@st.composite
def routes(draw):
    """Any history in which a cut lies in an earlier epoch than its ownership, as every promotion makes it."""
    history = [Ownership(1, "us-east", "us-east")]
    for epoch in range(2, draw(st.integers(1, 5)) + 1):
        cluster = draw(st.sampled_from(["us-east", "eu-west", "ap-south"]))
        cut = Cursor(draw(st.integers(1, epoch - 1)), draw(st.integers(0, FAR - 2)))
        history.append(Ownership(epoch, cluster, cluster, cut))
    return Route("default", tuple(history))


def is_valid_by_the_rule(route, epoch, sequence):
    """`valid iff (epoch, sequence) ≤ cut_k for every later ownership k`."""
    return all(
        (epoch, sequence) <= (later.cut.epoch, later.cut.sequence) for later in route.history if later.epoch > epoch
    )


THIRD_CLUSTER_IN_AN_EMERGENCY = Route(
    "default",
    (
        Ownership(1, "us-east", "us-east"),
        Ownership(2, "eu-west", "eu-west", Cursor(1, 9)),
        # Promoted in an emergency without the batches 5 to 9 that the second one had.
        Ownership(3, "ap-south", "ap-south", Cursor(1, 4)),
    ),
)


@given(routes())
@example(THIRD_CLUSTER_IN_AN_EMERGENCY)
def test_is_valid_follows_the_rule(route):
    for epoch in range(1, route.epoch + 1):
        for sequence in range(1, FAR + 1):
            assert route.is_valid(Cursor(epoch, sequence)) == is_valid_by_the_rule(route, epoch, sequence)


@given(routes())
@example(THIRD_CLUSTER_IN_AN_EMERGENCY)
def test_valid_end_is_the_last_valid_sequence(route):
    for epoch in range(1, route.epoch + 1):
        valid = [s for s in range(1, FAR + 1) if is_valid_by_the_rule(route, epoch, s)]
        unbounded = FAR in valid
        assert route.valid_end(epoch) == (None if unbounded else max(valid, default=0))


@given(routes())
def test_the_current_epoch_has_no_end(route):
    assert route.valid_end(route.epoch) is None
    assert route.is_valid(Cursor(route.epoch, FAR))


@given(routes())
def test_a_new_ownership_never_makes_a_fenced_batch_valid_again(route):
    shorter = Route(route.namespace, route.history[:-1])
    for epoch in range(1, route.epoch):
        for sequence in range(1, FAR + 1):
            assert not (route.is_valid(Cursor(epoch, sequence)) and not shorter.is_valid(Cursor(epoch, sequence)))


def test_fm13_what_a_third_cluster_was_promoted_without_stays_fenced():
    route = THIRD_CLUSTER_IN_AN_EMERGENCY
    assert route.valid_end(1) == 4, "the next ownership alone would have allowed 9"
    assert route.valid_end(2) == 0, "the third cluster's prefix ended before that epoch"
    assert not route.is_valid(Cursor(1, 5))
    assert not route.is_valid(Cursor(2, 1))
    assert route.is_valid(Cursor(1, 4))


def test_fm10_a_late_batch_beyond_the_cut_is_fenced():
    route = Route("default", (Ownership(1, "a", "a"), Ownership(2, "b", "b", Cursor(1, 7))))
    assert [route.is_valid(Cursor(1, s)) for s in (6, 7, 8)] == [True, True, False]


def test_the_last_ownership_is_current():
    route = THIRD_CLUSTER_IN_AN_EMERGENCY
    assert (route.epoch, route.active, route.current.origin) == (3, "ap-south", "ap-south")
    assert route.ownership(2) is route.history[1]
    assert route.ownership(4) is None


def test_the_document_knows_who_owns_what():
    def owned(name, cluster):
        return Route(name, (Ownership(1, "us-east", "us-east"), Ownership(2, cluster, cluster)))

    document = RoutingDocument(3, {"b": owned("b", "eu-west"), "a": owned("a", "eu-west"), "c": owned("c", "us-east")})
    assert document.owned_by("eu-west") == ["a", "b"]
    assert document.owned_by("us-east") == ["c"]
    assert document.owned_by("ap-south") == []


@pytest.mark.parametrize(
    ("low", "high"), [(START, Cursor(1, 1)), (Cursor(1, 9), Cursor(2, 1)), (Cursor(2, 1), Cursor(2, 2))]
)
def test_a_namespace_is_ordered_by_epoch_then_sequence(low, high):
    assert low < high
