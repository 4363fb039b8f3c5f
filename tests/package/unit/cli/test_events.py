import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirelay.cli.events import delivery_json, parse_cursor, parse_record
from omnirelay.client import Cursor, Delivery, Record
from omnirelay.errors import BadRequest

RECORDS = st.builds(
    Record,
    st.binary(max_size=20),
    st.binary(max_size=20),
    st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5)), max_size=3).map(tuple),
    st.integers(0, 2**60),
)


@given(RECORDS)
def test_what_tail_prints_can_be_published(record):
    line = delivery_json(Delivery(record, Cursor(1, 2), "us-east", 1, "us-east"))
    assert line.pop("cursor") == "1:2"
    line.pop("origin")
    assert parse_record(json.dumps(line), 1) == record


def test_values_may_be_json():
    record = parse_record('{"key": "k", "value": {"a": [1]}, "headers": {"h": "x"}}', 1)
    assert record == Record(b"k", b'{"a":[1]}', (("h", b"x"),), 0)


@pytest.mark.parametrize(
    "line", ["x", "[]", "1", '{"k": 1}', '{"value": {"base64": "*"}}', '{"headers": 1}', '{"event_time_ms": "x"}']
)
def test_a_wrong_line_is_named(line):
    with pytest.raises(BadRequest, match="line 7"):
        parse_record(line, 7)


@pytest.mark.parametrize("text", ["1", "a:b", "1:", "-1:2"])
def test_a_cursor_has_a_form(text):
    with pytest.raises(BadRequest):
        parse_cursor(text)
    assert parse_cursor("1:2") == Cursor(1, 2)
