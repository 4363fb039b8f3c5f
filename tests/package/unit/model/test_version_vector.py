"""The laws of protocol.md §1: a partial order, pointwise, and a join semilattice under merge."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from omnirelay.model.version_vector import Comparison, VersionVector

ORIGINS = ("ap-south", "eu-west", "us-east", "us-east~2")
entries = st.dictionaries(st.sampled_from(ORIGINS), st.integers(0, 4))
vectors = st.builds(VersionVector, entries)


def at_least_everywhere(a, b):
    """`descends`, read from the definition alone."""
    return all(a[origin] >= b[origin] for origin in ORIGINS)


@given(vectors, vectors)
def test_descends_is_pointwise(a, b):
    assert a.descends(b) == at_least_everywhere(a, b)


@given(vectors)
def test_descends_is_reflexive(a):
    assert a.descends(a)


@given(vectors, vectors)
def test_descends_is_antisymmetric(a, b):
    assert (a.descends(b) and b.descends(a)) == (a == b)


@given(vectors, vectors, vectors)
def test_descends_is_transitive(a, b, c):
    low, middle, high = a, a.merge(b), a.merge(b).merge(c)
    assert high.descends(middle)
    assert middle.descends(low)
    assert high.descends(low)


@given(vectors, vectors)
def test_exactly_one_comparison_holds(a, b):
    holds = {
        Comparison.EQUAL: a == b,
        Comparison.DOMINATES: a.dominates(b),
        Comparison.DOMINATED: b.dominates(a),
        Comparison.CONCURRENT: a.concurrent(b),
    }
    assert [comparison for comparison, is_so in holds.items() if is_so] == [a.compare(b)]


@given(vectors, vectors)
def test_comparing_the_other_way_round_gives_the_mirror_image(a, b):
    mirror = {Comparison.DOMINATES: Comparison.DOMINATED, Comparison.DOMINATED: Comparison.DOMINATES}
    assert b.compare(a) == mirror.get(a.compare(b), a.compare(b))


@given(vectors, vectors)
def test_merge_is_commutative(a, b):
    assert a.merge(b) == b.merge(a)


@given(vectors, vectors, vectors)
def test_merge_is_associative(a, b, c):
    assert a.merge(b).merge(c) == a.merge(b.merge(c))


@given(vectors)
def test_merge_is_idempotent_and_the_empty_vector_is_its_unit(a):
    assert a.merge(a) == a
    assert a.merge(VersionVector()) == a


@given(vectors, vectors, vectors)
def test_merge_is_the_least_upper_bound(a, b, bound):
    merged = a.merge(b)
    assert merged.descends(a)
    assert merged.descends(b)
    assert bound.descends(merged) == (bound.descends(a) and bound.descends(b))


@given(entries)
def test_zeros_are_as_good_as_absent(numbers):
    vector = VersionVector(numbers)
    bare = VersionVector({origin: n for origin, n in numbers.items() if n})
    assert vector == bare
    assert hash(vector) == hash(bare)
    assert dict(vector) == {origin: n for origin, n in numbers.items() if n}
    assert len(vector) == len(dict(vector))


@given(entries)
def test_the_order_of_construction_shows_nowhere(numbers):
    turned = VersionVector(dict(reversed(numbers.items())))
    assert turned == VersionVector(numbers)
    assert hash(turned) == hash(VersionVector(numbers))
    assert list(turned) == sorted(turned)


def test_an_unknown_origin_is_at_0_and_not_contained():
    vector = VersionVector({"us-east": 3})
    assert (vector["eu-west"], "eu-west" in vector, "us-east" in vector) == (0, False, True)


@given(vectors, st.sampled_from(ORIGINS), st.integers(0, 4))
def test_advance_moves_one_origin_and_only_forward(vector, origin, sequence):
    assume(sequence >= vector[origin])
    moved = vector.advance(origin, sequence)
    assert {o: moved[o] for o in ORIGINS} == {o: vector[o] for o in ORIGINS} | {origin: sequence}
    assert moved.descends(vector)


def test_advance_refuses_to_go_back():
    with pytest.raises(ValueError, match="us-east would go back from 3 to 2"):
        VersionVector({"us-east": 3}).advance("us-east", 2)


def test_a_negative_sequence_is_no_vector():
    with pytest.raises(ValueError, match="negative"):
        VersionVector({"us-east": -1})


@given(vectors)
def test_no_operation_changes_its_operand(vector):
    before = dict(vector)
    vector.merge(VersionVector({"eu-west": 9}))
    vector.advance("us-east", 9)
    assert dict(vector) == before


def test_a_vector_is_not_equal_to_a_plain_mapping():
    assert VersionVector({"us-east": 1}) != {"us-east": 1}
