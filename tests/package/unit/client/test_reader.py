"""What a reader makes of batches, fences and withdrawals."""

from __future__ import annotations

from omnirelay.client.reader import Reader
from omnirelay.model.batch import GENESIS_DIGEST, Batch, BatchHeader
from omnirelay.model.position import Cursor
from omnirelay.model.record import Record
from omnirelay.model.version_vector import VersionVector
from omnirelay.wire import codec


def batch(epoch: int, first: int, *values: bytes) -> Batch:
    header = BatchHeader("us-east", first, len(values), "default", epoch, 0, "p", 1, VersionVector())
    records = codec.encode_record_set([Record(b"k", value) for value in values])
    return Batch(header, codec.encode_header(header), records, GENESIS_DIGEST)


def test_a_fence_names_exactly_the_records_beyond_the_cut_that_the_reader_had_dealt_with() -> None:
    reader = Reader(Cursor(1, 7))
    reader.withdraw(batch(1, 4, b"4", b"5"))
    reader.withdraw(batch(1, 6, b"6", b"7", b"8"))
    fence = reader.fence(Cursor(1, 4), 2)
    assert [(each.cursor.sequence, each.record.value) for each in fence.withdrawn] == [(5, b"5"), (6, b"6"), (7, b"7")]
    assert fence.rolled_back
    assert reader.cursor == Cursor(1, 4)


def test_a_second_fence_does_not_withdraw_the_same_records_again() -> None:
    reader = Reader(Cursor(1, 7))
    reader.withdraw(batch(1, 6, b"6", b"7"))
    assert len(reader.fence(Cursor(1, 5), 2).withdrawn) == 2
    assert reader.fence(Cursor(1, 5), 3).withdrawn == ()


def test_a_reader_that_had_not_come_to_the_cut_has_nothing_to_undo() -> None:
    reader = Reader(Cursor(1, 3))
    fence = reader.fence(Cursor(1, 5), 2)
    assert not fence.rolled_back
    assert fence.withdrawn == ()
    assert reader.cursor == Cursor(1, 3)
