"""Admission at the active (I1, I5), and the picture it decides on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.package.unit.replication.support import a_header, a_log, a_picture, a_route, sealed

from omnirelay.errors import ProducerGap, StaleEpoch, UnknownNamespace
from omnirelay.model.batch import BatchKind
from omnirelay.model.log_state import LogState, ProducerMark
from omnirelay.model.position import Cursor, Position
from omnirelay.model.routing import Ownership
from omnirelay.model.version_vector import VersionVector
from omnirelay.replication.admission import Duplicate, admit, check_epoch, control_header
from omnirelay.replication.picture import LogPicture, counts_for_producer

OWNER = Ownership(1, "a", "a")
MOVED = a_route(OWNER, Ownership(2, "b", "b", Cursor(1, 3)))


def send(picture, number, count=1, producer="p", ownership=OWNER, now_ms=0):
    """What admission says; what it admits is queued."""
    decided = admit(picture, ownership, "one", producer, number, count, now_ms)
    if not isinstance(decided, Duplicate):
        picture.queued(sealed(decided, picture.head(decided.origin).digest))
    return decided


def test_an_admitted_batch_follows_the_head():
    picture = a_picture()
    first, second = send(picture, 1, count=3), send(picture, 2, count=2)
    assert (first.first_sequence, first.last_sequence) == (1, 3)
    assert (second.first_sequence, second.last_sequence) == (4, 5)
    assert (second.origin, second.epoch, second.namespace, second.kind) == ("a", 1, "one", BatchKind.DATA)
    assert second.vector == VersionVector({"a": 3}), "what its origin held at commit"


def test_commit_times_never_go_back_even_when_the_clock_does():
    picture = a_picture()
    assert [send(picture, n, now_ms=now).commit_time_ms for n, now in ((1, 500), (2, 400), (3, 600))] == [500, 500, 600]


def test_a_missing_batch_is_named():
    picture = a_picture()
    send(picture, 1)
    with pytest.raises(ProducerGap, match="batch 3 of producer p follows 1") as refused:
        send(picture, 3)
    assert refused.value.details == {"producer_id": "p", "last_producer_sequence": 1}


def test_a_producer_begins_at_1():
    with pytest.raises(ProducerGap, match="follows 0"):
        send(a_picture(), 2)


def test_the_last_batch_again_is_located():
    picture = a_picture()
    send(picture, 1, count=4)
    send(picture, 2, count=2)
    assert send(picture, 2, count=2) == Duplicate(Position("a", 5), Cursor(1, 6))


def test_an_older_batch_again_is_a_duplicate_without_a_place():
    picture = a_picture()
    send(picture, 1)
    send(picture, 2)
    assert send(picture, 1) == Duplicate(None, Cursor(1, 2))


def test_producers_do_not_see_each_other():
    picture = a_picture()
    send(picture, 1)
    assert send(picture, 1, producer="q").first_sequence == 2


def test_a_retry_at_the_next_owner_is_located_in_the_log_of_the_first():
    picture = a_picture(MOVED)
    for batch in a_log(counts=(1, 2)):
        picture.queued(batch)
    assert send(picture, 2, ownership=MOVED.current) == Duplicate(Position("a", 2), Cursor(1, 3))
    assert send(picture, 3, ownership=MOVED.current).origin == "b"


def test_fm10_a_fenced_batch_does_not_count_so_its_retry_is_admitted():
    picture = a_picture(MOVED)
    for batch in a_log(counts=(3, 1)):
        picture.queued(batch)
    assert picture.last_of("one", "p").producer_sequence == 1
    assert send(picture, 2, ownership=MOVED.current).producer_sequence == 2


@given(st.lists(st.tuples(st.sampled_from("pq"), st.integers(1, 6), st.integers(1, 3)), max_size=40))
def test_i5_each_number_of_a_producer_is_admitted_once_and_in_order(tries):
    picture, admitted = a_picture(), {"p": [], "q": []}
    for producer, number, count in tries:
        last = len(admitted[producer])
        if number > last + 1:
            with pytest.raises(ProducerGap, match=f"follows {last}"):
                send(picture, number, count, producer)
            continue
        decided = send(picture, number, count, producer)
        if isinstance(decided, Duplicate):
            assert number <= last
            assert (decided.position is not None) == (number == last)
            if decided.position:
                assert decided.position.sequence == admitted[producer][-1].first_sequence
        else:
            assert number == last + 1
            admitted[producer].append(decided)
    headers = sorted((h for hs in admitted.values() for h in hs), key=lambda h: h.first_sequence)
    ends = [0, *(h.last_sequence for h in headers)]
    assert [h.first_sequence for h in headers] == [end + 1 for end in ends[:-1]], "gapless"


def test_a_control_batch_stands_outside_the_producers_numbers():
    picture = a_picture()
    send(picture, 1)
    header = control_header(picture, OWNER, "one", BatchKind.BARRIER, "fo-1", 7)
    assert (header.kind, header.count, header.producer_id, header.producer_sequence) == (
        BatchKind.BARRIER,
        1,
        "fo-1",
        0,
    )
    picture.queued(sealed(header, picture.head("a").digest))
    assert picture.last_of("one", "fo-1") is None
    assert send(picture, 2).first_sequence == 3


@pytest.mark.parametrize("claimed", [0, 2])
def test_a_producer_may_claim_no_epoch_or_the_current_one(claimed):
    assert check_epoch(MOVED.current, claimed) is None


@pytest.mark.parametrize("claimed", [1, 3])
def test_fm19_any_other_epoch_is_refused_with_the_current_one(claimed):
    with pytest.raises(StaleEpoch) as refused:
        check_epoch(MOVED.current, claimed)
    assert refused.value.details == {"epoch": 2, "cluster": "b"}


# --- the picture --------------------------------------------------------------------------------------------------


def test_a_picture_does_not_change_the_state_it_was_loaded_from():
    marks = {"one": {1: {"p": ProducerMark(1, 1, 1)}}}
    state = LogState(routes={"one": a_route()}, producers=marks)
    picture = LogPicture(state)
    for batch in a_log():
        picture.queued(batch)
    assert marks == {"one": {1: {"p": ProducerMark(1, 1, 1)}}}
    assert state.heads == {}


def test_an_unknown_namespace_is_named_beside_the_known_ones():
    with pytest.raises(UnknownNamespace) as refused:
        a_picture().route("two")
    assert refused.value.operator_hint == "The mesh has these namespaces: one."
    with pytest.raises(UnknownNamespace, match="no namespace 'two'"):
        LogPicture(LogState()).route("two")


def test_the_newest_epoch_that_knows_a_producer_counts():
    marks = {"one": {1: {"p": ProducerMark(9, 3, 1), "q": ProducerMark(4, 2, 1)}, 2: {"p": ProducerMark(12, 7, 1)}}}
    picture = LogPicture(LogState(routes={"one": MOVED}, producers=marks))
    last = {producer: picture.last_of("one", producer) for producer in "pqr"}
    assert (last["p"].producer_sequence, last["p"].position) == (12, Position("b", 7))
    assert (last["q"].producer_sequence, last["q"].position) == (4, Position("a", 2))
    assert last["r"] is None


@pytest.mark.parametrize(
    ("cut", "stands"),
    [(Cursor(1, 3), True), (Cursor(1, 2), False), (Cursor(1, 0), False)],
)
def test_a_new_history_that_fences_a_mark_asks_for_a_new_picture(cut, stands):
    picture = a_picture()
    for batch in a_log(counts=(1, 2)):  # the last one is 2-3
        picture.queued(batch)
    route = a_route(OWNER, Ownership(2, "b", "b", cut))
    assert picture.install({"one": route}) is stands
    assert picture.route("one") is route


@pytest.mark.parametrize(
    ("header", "counts"),
    [
        (a_header(first=3), True),
        (a_header(first=4), False),
        (a_header(first=3, count=2), False),
        (a_header(first=1, kind=BatchKind.BARRIER), False),
        (a_header(first=1, kind=BatchKind.CANARY), False),
    ],
    ids=["within the cut", "beyond", "across", "barrier", "canary"],
)
def test_only_valid_data_counts_for_its_producer(header, counts):
    assert counts_for_producer(MOVED, header) is counts
    assert counts_for_producer(None, header) is False
