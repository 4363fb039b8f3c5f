import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirelay.errors import MalformedBatch
from omnirelay.model.batch import Batch, BatchHeader, BatchKind
from omnirelay.model.position import Cursor, Position
from omnirelay.model.record import Record
from omnirelay.model.version_vector import VersionVector
from omnirelay.wire import codec
from omnirelay.wire._generated.omnirelay.mesh.v1 import batch_pb2 as pb

U64 = st.integers(0, 2**64 - 1)
I64 = st.integers(-(2**63), 2**63 - 1)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
VECTORS = st.dictionaries(NAMES, U64, max_size=5).map(VersionVector)
RECORDS = st.builds(
    Record,
    st.binary(max_size=40),
    st.binary(max_size=400),
    st.lists(st.tuples(NAMES, st.binary(max_size=20)), max_size=3).map(tuple),
    I64,
)
HEADERS = st.builds(
    BatchHeader,
    origin=NAMES,
    first_sequence=st.integers(1, 2**64 - 1),
    count=st.integers(1, 2**32 - 1),
    namespace=NAMES,
    epoch=U64,
    commit_time_ms=I64,
    producer_id=st.text(st.characters(codec="utf-8"), max_size=20),
    producer_sequence=U64,
    vector=VECTORS,
    kind=st.sampled_from(BatchKind),
)


@given(HEADERS)
def test_a_header_comes_back_as_it_went(header):
    assert codec.decode_header(codec.encode_header(header)) == header


@given(HEADERS)
def test_equal_headers_have_equal_bytes(header):
    assert codec.encode_header(header) == codec.encode_header(codec.decode_header(codec.encode_header(header)))


@given(st.lists(RECORDS, max_size=20))
def test_records_come_back_in_order(records):
    assert codec.decode_record_set(codec.encode_record_set(records)) == records


@given(st.lists(RECORDS, min_size=1, max_size=20))
def test_the_count_is_that_of_the_records(records):
    assert codec.count_records(codec.encode_record_set(records)) == len(records)


@given(VECTORS)
def test_a_vector_comes_back_as_it_went(vector):
    assert codec.vector_from_message(codec.vector_to_message(vector)) == vector


@given(HEADERS, st.binary(max_size=50), st.binary(min_size=32, max_size=32))
def test_a_batch_keeps_the_bytes_that_its_digest_covers(header, records, digest):
    batch = Batch(header, codec.encode_header(header), records, digest)
    message = pb.Batch.FromString(codec.batch_to_message(batch).SerializeToString())
    assert codec.batch_from_message(message) == batch


@given(st.binary(max_size=200))
def test_rubbish_is_refused_by_type_or_is_well_formed(data):
    for decode in (codec.decode_header, codec.decode_record_set, codec.count_records):
        with contextlib.suppress(MalformedBatch):
            decode(data)


def test_places_come_back_as_they_went():
    assert codec.cursor_from_message(codec.cursor_to_message(Cursor(2, 17))) == Cursor(2, 17)
    assert codec.position_from_message(codec.position_to_message(Position("us-east~2", 9))) == Position("us-east~2", 9)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xff", id="rubbish"),
        pytest.param(codec.encode_record_set([Record(b"k", b"v")])[:-1], id="truncated"),
        pytest.param(codec.encode_record_set([Record(b"k", b"v")]) + b"\x10\x01", id="unknown field after the records"),
        pytest.param(codec.encode_record_set([Record(b"k", b"v")]) + b"\x00", id="trailing zero byte"),
    ],
)
def test_what_is_not_a_record_set_has_no_count(data):
    with pytest.raises(MalformedBatch):
        codec.count_records(data)


def test_a_record_may_have_fields_of_a_later_version():
    record = pb.Record(key=b"k").SerializeToString() + b"\x78\x01"
    assert codec.count_records(b"\x0a" + bytes([len(record)]) + record) == 1


@pytest.mark.parametrize("kind", [0, 4, 99])
def test_a_header_of_an_unknown_kind_is_refused(kind):
    message = pb.BatchHeader(origin="a", namespace="n", first_sequence=1, count=1, kind=kind)
    with pytest.raises(MalformedBatch, match=f"kind {kind}"):
        codec.decode_header(message.SerializeToString())


@pytest.mark.parametrize("missing", ["origin", "namespace", "first_sequence", "count"])
def test_a_header_that_places_nothing_is_refused(missing):
    message = pb.BatchHeader(origin="a", namespace="n", first_sequence=1, count=1, kind=pb.BATCH_KIND_DATA)
    message.ClearField(missing)
    with pytest.raises(MalformedBatch):
        codec.decode_header(message.SerializeToString())


def test_a_header_may_have_fields_of_a_later_version():
    message = pb.BatchHeader(origin="a", namespace="n", first_sequence=1, count=1, kind=pb.BATCH_KIND_DATA)
    assert codec.decode_header(message.SerializeToString() + b"\xf8\x06\x01").origin == "a"


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_batch_with_half_a_digest_is_refused(size):
    header = pb.BatchHeader(origin="a", namespace="n", first_sequence=1, count=1, kind=pb.BATCH_KIND_DATA)
    with pytest.raises(MalformedBatch, match="digest"):
        codec.batch_from_message(pb.Batch(header=header.SerializeToString(), digest=bytes(size)))


def replayed(records):
    header = BatchHeader("us-east", 7, len(records), "default", 3, 0, "p", 1, VersionVector())
    data = codec.encode_record_set(records)
    return data, codec.with_provenance(data, header)


def test_each_record_of_a_replayed_batch_bears_its_place():
    _, found = replayed([Record(b"", bytes(200))] * 3)
    places = [dict(record.headers) for record in codec.decode_record_set(found)]
    assert [place["omnirelay-sequence"] for place in places] == [b"7", b"8", b"9"]
    assert places[2]["omnirelay-origin"] == b"us-east"


@pytest.mark.parametrize("count", [400_000, 10_000, 2_000])
def test_provenance_of_many_small_records_does_not_outgrow_a_message(count):
    data, found = replayed([Record(b"k", b"v")] * count)
    assert len(found) <= max(2 * len(data), 64 * 1024)
    first, second, *_ = codec.decode_record_set(found)
    assert dict(first.headers)["omnirelay-sequence"] == b"7"
    assert dict(first.headers)["omnirelay-count"] == str(count).encode()
    assert second.headers == ()
    assert found == replayed([Record(b"k", b"v")] * count)[1], "a replay is recognised by its bytes"
