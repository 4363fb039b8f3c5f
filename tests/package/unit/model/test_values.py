"""The small values: names, times, batches, heads."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirelay.errors import BadRequest
from omnirelay.model import ids, times
from omnirelay.model.batch import GENESIS_DIGEST, Batch, BatchHeader, chain_digest
from omnirelay.model.log_state import Head, LogState
from omnirelay.model.position import Position
from omnirelay.model.version_vector import VersionVector

# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a", "us-east", "0", "a" * 63, "x--y"])
@pytest.mark.parametrize("check", [ids.cluster_id, ids.namespace])
def test_dns_labels_are_names(check, text):
    assert check(text) == text


@pytest.mark.parametrize("text", ["", "-a", "a-", "US", "a.b", "a~2", "a" * 64, "a\n", "ä", "a b"])
@pytest.mark.parametrize("check", [ids.cluster_id, ids.namespace])
def test_fm38_anything_else_is_refused(check, text):
    with pytest.raises(BadRequest):
        check(text)


@pytest.mark.parametrize("text", ["p", "orders/7:a", "~" * 128])
def test_producer_ids_are_printable(text):
    assert ids.producer_id(text) == text


@pytest.mark.parametrize("text", ["", " ", "a b", "a\n", "é", "p" * 129, "\x7f"])
def test_fm38_other_producer_ids_are_refused(text):
    with pytest.raises(BadRequest):
        ids.producer_id(text)


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True), st.integers(1, 99))
def test_fm35_an_incarnation_has_an_origin_of_its_own_and_the_same_cluster(cluster, incarnation):
    origin = ids.origin_of(cluster, incarnation)
    assert ids.cluster_of(origin) == cluster
    assert origin != ids.origin_of(cluster, incarnation + 1)


def test_the_first_incarnation_bears_the_cluster_id():
    assert (ids.origin_of("us-east", 1), ids.origin_of("us-east", 2)) == ("us-east", "us-east~2")


# --- times --------------------------------------------------------------------------------------------------------

moments = st.integers(0, 4_102_444_800_000)


@given(moments)
def test_a_time_survives_being_written(ms):
    assert times.to_ms(times.rfc3339(ms)) == ms


@given(moments, moments)
def test_text_order_is_time_order(a, b):
    assert (times.rfc3339(a) < times.rfc3339(b)) == (a < b)


def test_times_are_utc_with_milliseconds():
    assert times.rfc3339(1_769_828_645_678) == "2026-01-31T03:04:05.678Z"
    assert times.to_ms("2026-01-31T04:04:05.678+01:00") == 1_769_828_645_678


# --- batches ------------------------------------------------------------------------------------------------------

texts = st.binary(max_size=20)


def a_header(first=1, count=1):
    return BatchHeader("us-east", first, count, "default", 1, 0, "p", 1, VersionVector())


def test_the_last_sequence_counts_records():
    assert a_header(first=5, count=3).last_sequence == 7


def test_a_batch_weighs_all_its_bytes():
    assert Batch(a_header(), b"hh", b"rrr", bytes(32)).size == 37


def test_the_chain_digest_is_as_written_down():
    expected = hashlib.sha256(GENESIS_DIGEST + (2).to_bytes(8, "big") + b"hh" + b"rrr").digest()
    assert chain_digest(GENESIS_DIGEST, b"hh", b"rrr") == expected


@given(texts, texts, st.integers(0, 20), st.integers(0, 20))
def test_the_border_between_header_and_records_is_proven(header, records, old, new):
    whole = header + records
    old, new = min(old, len(whole)), min(new, len(whole))
    same = chain_digest(GENESIS_DIGEST, whole[:old], whole[old:]) == chain_digest(
        GENESIS_DIGEST, whole[:new], whole[new:]
    )
    assert same == (old == new)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5), st.data())
def test_fm37_a_change_anywhere_shows_in_the_last_digest(history, data):
    def last(batches):
        digest = GENESIS_DIGEST
        for header, records in batches:
            digest = chain_digest(digest, header, records)
        return digest

    at = data.draw(st.integers(0, len(history) - 1))
    changed = [*history]
    changed[at] = (history[at][0], history[at][1] + b"!")
    assert last(changed) != last(history)


# --- what a log holds ---------------------------------------------------------------------------------------------


def test_the_vector_of_a_log_is_its_heads():
    state = LogState(heads={"us-east": Head(sequence=4), "eu-west": Head()})
    assert state.vector == VersionVector({"us-east": 4})
    assert LogState().vector == VersionVector()


def test_positions_order_within_their_origin():
    assert sorted([Position("b", 1), Position("a", 2), Position("a", 1)]) == [
        Position("a", 1),
        Position("a", 2),
        Position("b", 1),
    ]
