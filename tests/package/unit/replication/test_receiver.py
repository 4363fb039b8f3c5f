"""What a receiver does with one batch (I3), and what many in any order lead to."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.package.unit.replication.support import a_header, a_log, a_picture, a_route, sealed

from omnirelay.model.position import Cursor
from omnirelay.model.routing import Ownership
from omnirelay.replication.receiver import Decision, receive

LOG = a_log(counts=(2, 1, 3))  # sequences 1-2, 3, 4-6
FENCED_FROM_4 = a_route(Ownership(1, "a", "a"), Ownership(2, "b", "b", Cursor(1, 3)))


def picture_after(batches, *routes):
    picture = a_picture(*routes)
    for batch in batches:
        picture.queued(batch)
    return picture


def test_the_next_batch_is_applied():
    assert receive(picture_after(LOG[:1]), LOG[1]) is Decision.APPLY


def test_the_first_batch_of_an_origin_is_applied():
    assert receive(a_picture(), LOG[0]) is Decision.APPLY


@pytest.mark.parametrize("batch", LOG)
def test_fm26_what_is_held_already_is_a_duplicate(batch):
    assert receive(picture_after(LOG), batch) is Decision.DUPLICATE


def test_fm26_a_batch_beyond_the_next_is_a_gap():
    assert receive(picture_after(LOG[:1]), LOG[2]) is Decision.GAP


def test_a_duplicate_is_harmless_whatever_it_holds():
    assert receive(picture_after(LOG), replace(LOG[0], digest=bytes(32))) is Decision.DUPLICATE


@pytest.mark.parametrize(
    "damage",
    [{"records": b"other"}, {"header_bytes": b"other"}, {"digest": bytes(32)}],
    ids=["records", "header", "digest"],
)
def test_fm38_a_batch_that_does_not_prove_itself_is_corrupt(damage):
    assert receive(picture_after(LOG[:1]), replace(LOG[1], **damage)) is Decision.CORRUPT


def test_fm35_a_batch_of_another_history_is_corrupt():
    other = a_log(counts=(2,), size=9)
    assert receive(picture_after(other), LOG[1]) is Decision.CORRUPT


def test_a_batch_that_overlaps_the_head_is_corrupt():
    previous = LOG[0].digest
    assert receive(picture_after(LOG[:1]), sealed(a_header(first=2, count=2), previous)) is Decision.CORRUPT


def test_a_batch_of_no_records_is_never_applied():
    picture = picture_after(LOG[:1])
    assert receive(picture, sealed(a_header(first=3, count=0), LOG[0].digest)) is Decision.DUPLICATE


def test_a_later_epoch_waits_for_the_coordination_state():
    later = sealed(a_header(epoch=2))
    assert receive(a_picture(), later) is Decision.UNKNOWN_EPOCH


def test_a_new_namespace_waits_for_the_coordination_state():
    assert receive(a_picture(), sealed(a_header(namespace="new"))) is Decision.UNKNOWN_EPOCH


def test_an_altered_epoch_is_not_believed():
    batch = replace(LOG[0], header=replace(LOG[0].header, epoch=9), header_bytes=b"altered")
    assert receive(a_picture(), batch) is Decision.CORRUPT, "the digest comes before the epoch"


def test_an_origin_that_never_owned_the_epoch_is_illegal():
    assert receive(a_picture(), sealed(a_header(origin="b"))) is Decision.ILLEGAL


def test_an_epoch_that_nobody_owned_is_illegal():
    route = a_route(Ownership(2, "a", "a"))
    assert receive(a_picture(route), sealed(a_header(epoch=1))) is Decision.ILLEGAL


def test_fm35_an_owner_s_other_incarnation_is_illegal():
    assert receive(a_picture(), sealed(a_header(origin="a~2"))) is Decision.ILLEGAL


def test_fm10_a_late_batch_beyond_the_cut_is_fenced():
    assert receive(picture_after(LOG[:2], FENCED_FROM_4), LOG[2]) is Decision.FENCED


def test_fm10_what_lies_within_the_cut_is_still_applied():
    assert receive(picture_after(LOG[:1], FENCED_FROM_4), LOG[1]) is Decision.APPLY


def test_a_batch_that_straddles_the_cut_is_fenced():
    route = a_route(Ownership(1, "a", "a"), Ownership(2, "b", "b", Cursor(1, 5)))
    assert receive(picture_after(LOG[:2], route), LOG[2]) is Decision.FENCED


# --- any interleaving ---------------------------------------------------------------------------------------------

LONG = a_log(counts=(1, 2, 1, 3, 1, 1, 2, 1))
sendings = st.lists(st.tuples(st.integers(0, len(LONG) - 1), st.sampled_from(["whole", "whole", "whole", "damaged"])))


@given(sendings)
def test_i3_however_batches_come_the_picture_is_gapless_and_its_digest_proves_it(sent):
    """Lost, doubled, reordered or damaged on the way: what is held is the beginning of the origin's log."""
    picture, held = a_picture(), 0
    for index, state in sent:
        batch = LONG[index] if state == "whole" else replace(LONG[index], records=b"damaged")
        decision = receive(picture, batch)
        if index < held:
            assert decision is Decision.DUPLICATE
        elif index > held:
            assert decision is Decision.GAP
        elif state == "damaged":
            assert decision is Decision.CORRUPT
        else:
            assert decision is Decision.APPLY
            picture.queued(batch)
            held += 1
        head = picture.head("a")
        assert head.sequence == (LONG[held - 1].header.last_sequence if held else 0)
        assert head.digest == (LONG[held - 1].digest if held else bytes(32))
        assert head.size == sum(b.size for b in LONG[:held])


@given(st.permutations(range(len(LONG))), st.integers(0, 6))
def test_i3_deciding_alone_changes_nothing(order, held):
    picture = picture_after(LONG[:held])
    before = (picture.vector, picture.head("a"), picture.last_of("one", "p"))
    for index in order:
        receive(picture, LONG[index])
    assert (picture.vector, picture.head("a"), picture.last_of("one", "p")) == before
