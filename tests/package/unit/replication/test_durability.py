"""What counts as remote (I4), against a mesh in miniature and readings of protocol.md by brute force."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.package.unit.replication import support
from tests.package.unit.replication.support import CLUSTERS, NAMESPACES, a_route, after, histories, long_histories

from omnirelay.model.position import START, Cursor
from omnirelay.model.routing import Ownership
from omnirelay.model.version_vector import VersionVector
from omnirelay.replication import durability
from omnirelay.replication.durability import RemoteProgress, remote_end

ONE_OWNER = a_route()
MOVED = a_route(Ownership(1, "a", "a"), Ownership(2, "b", "b", Cursor(1, 8)))


def held(**sequences):
    return VersionVector(sequences)


@pytest.mark.parametrize(("copies", "end"), [(1, Cursor(1, 9)), (2, Cursor(1, 5)), (3, START)])
def test_as_many_clusters_as_asked_for_must_have_it(copies, end):
    assert remote_end(ONE_OWNER, [held(a=5), held(a=9)], copies) == end


def test_nothing_is_remote_while_nobody_has_told_anything():
    assert remote_end(ONE_OWNER, [], 1) == START


def test_a_hole_in_an_earlier_epoch_holds_back_everything_behind_it():
    """Promoted, it would fence all of epoch 2 that it has: such a copy saves nothing."""
    assert remote_end(MOVED, [held(a=7, b=100)], 1) == Cursor(1, 7)
    assert remote_end(MOVED, [held(a=8, b=100)], 1) == Cursor(2, 100)


def test_what_lies_beyond_a_cut_is_nowhere_remote():
    assert remote_end(MOVED, [held(a=50)], 1) == Cursor(2, 0)


@pytest.mark.parametrize("namespace", NAMESPACES)
@given(history=histories | long_histories, copies=st.integers(1, 2))
def test_a_batch_is_remote_when_so_many_prefixes_have_it(namespace, history, copies):
    """By the active of each namespace, of which everybody's acknowledgements are known."""
    mesh = after(history)
    route = mesh.routes[namespace]
    others = [mesh.clusters[name] for name in CLUSTERS if name != route.active]
    end = remote_end(route, [cluster.held for cluster in others], copies)
    prefixes = [{batch.digest for batch in support.prefix(route, cluster.logs)[1]} for cluster in others]
    valid = support.in_order(route, mesh.everything())
    safe = {batch.digest for batch in valid if Cursor(batch.header.epoch, batch.header.last_sequence) <= end}
    assert safe == {b.digest for b in valid if sum(b.digest in prefix for prefix in prefixes) >= copies}
    logs = [{batch.digest for log in cluster.logs.values() for batch in log} for cluster in others]
    assert not safe or sum(safe <= log for log in logs) >= copies, "they have all that is before it, so none fences it"


# --- progress of one producer -------------------------------------------------------------------------------------


def progress(*marks):
    made = RemoteProgress()
    for sequence, end in marks:
        made.acknowledged(sequence, Cursor(1, end))
    return made


def test_only_what_is_new_is_told():
    told = progress((1, 10), (2, 20), (3, 30))
    assert [told.reached(Cursor(1, end)) for end in (9, 20, 29, 30, 99)] == [0, 2, 0, 3, 0]
    assert not told


def test_a_later_epoch_lies_beyond_all_of_an_earlier_one():
    assert progress((1, 10)).reached(Cursor(2, 0)) == 1


def test_a_batch_sent_again_is_told_with_the_one_that_is_known():
    told = progress((7, 70), (3, 70), (7, 70))
    assert (told.reached(Cursor(1, 70)), bool(told)) == (7, False)
    told.acknowledged(5, Cursor(1, 70))
    assert not told, "it has been told before"


@pytest.mark.parametrize("marks", range(1, 40))
@pytest.mark.parametrize("limit", [1, 2, 5, 8])
def test_the_last_batch_is_never_left_out(monkeypatch, marks, limit):
    monkeypatch.setattr(durability, "MARKS", limit)
    told = progress(*((number, number) for number in range(1, marks + 1)))
    assert told.reached(Cursor(1, marks)) == marks


@given(
    marks=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 5)), max_size=60),
    ends=st.lists(st.integers(0, 300), max_size=20),
    limit=st.sampled_from([1, 2, 3, 7, 1024]),
)
def test_what_is_told_is_true_grows_and_is_complete_in_the_end_however_few_marks_are_left(marks, ends, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durability, "MARKS", limit)
        told, sequence, place, places = RemoteProgress(), 0, 0, {0: 0}
        heard, known = [0], sorted(ends)
        for index, (more, further) in enumerate(marks):
            sequence, place = sequence + more, place + further
            places[sequence] = place
            told.acknowledged(sequence, Cursor(1, place))
            assert len(told._marks) <= limit
            if index < len(known) and (reached := told.reached(Cursor(1, known[index]))):
                assert reached > heard[-1]
                assert places[reached] <= known[index]
                heard.append(reached)
        heard.append(told.reached(Cursor(1, place)) or heard[-1])
        assert heard[-1] == sequence
