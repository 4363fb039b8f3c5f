"""The audit chain: whatever is done to a copy, `verify` names the first place."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from omnirelay.failover.audit_chain import (
    START_DIGEST,
    AuditEntry,
    AuditFields,
    BrokenLink,
    decode,
    encode,
    seal,
    verify,
    verify_copy,
)


def content(number: int, **changed) -> AuditFields:
    return AuditFields(
        **{
            "number": number,
            "at": "2026-11-23T12:00:00Z",
            "actor": "spiffe://mesh/operator/ada",
            "identity_proof": "mtls",
            "action": "failover.promote",
            "subject": "failovers/fo-1",
            "why": "region evacuation – drill",
            "change_ticket": "CHG-1",
            "run_url": "https://ci.example/1",
            "before": {"epoch": number},
            "after": {"epoch": number + 1},
            "outcome": "done",
        }
        | changed
    )


def chain(contents: list[AuditFields]) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    for each in contents:
        entries.append(seal(entries[-1].digest if entries else START_DIGEST, each))
    return entries


at_any_speed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEXT = st.text(alphabet='aZ0 "\\/\n\x7fé\u2028☃😀', max_size=10)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def chains(draw, min_size=1):
    return chain(
        [
            content(
                number,
                actor=draw(TEXT),
                why=draw(TEXT),
                before=draw(JSON),
                outcome=draw(st.sampled_from(["done", "refused"])),
            )
            for number in range(1, draw(st.integers(min_size, 5)) + 1)
        ]
    )


class TestSeal:
    def test_the_digest_is_sha_256_of_the_canonical_form(self):
        """A fixed value: a change of the form would make every older chain read as forged."""
        entry = seal(START_DIGEST, content(1))
        assert entry.digest == "3bc1c24996739b9839659a1e3308feec40e6f5671efc201ca7af3fad7cec9012"

    def test_an_entry_names_the_one_before(self):
        first, second = chain([content(1), content(2)])
        assert (first.previous, second.previous) == (START_DIGEST, first.digest)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_what_json_cannot_hold_is_refused(self, value):
        with pytest.raises(ValueError, match="JSON"):
            seal(START_DIGEST, content(1, after={"lag_seconds": value}))


class TestVerify:
    @at_any_speed
    @given(chains(min_size=0))
    def test_a_chain_as_written(self, entries):
        head = entries[-1].digest if entries else START_DIGEST
        assert verify(entries, head) is None
        assert verify_copy([encode(entry) + b"\n" for entry in entries], head) is None
        assert [decode(encode(entry)) for entry in entries] == entries

    @at_any_speed
    @given(chains(), st.data())
    def test_any_altered_byte(self, entries, data):
        lines = [encode(entry) for entry in entries]
        at = data.draw(st.integers(0, len(lines) - 1))
        line = bytearray(lines[at])
        line[data.draw(st.integers(0, len(line) - 1))] ^= data.draw(st.integers(1, 255))
        lines[at] = bytes(line)
        broken = verify_copy(lines, entries[-1].digest)
        assert broken is not None
        assert broken.number == at + 1

    @at_any_speed
    @given(chains(), st.data())
    def test_a_removed_entry(self, entries, data):
        at = data.draw(st.integers(0, len(entries) - 1))
        broken = verify(entries[:at] + entries[at + 1 :], entries[-1].digest)
        assert broken is not None
        assert broken.number == at + 1

    @at_any_speed
    @given(chains(min_size=2), st.data())
    def test_any_other_order(self, entries, data):
        order = data.draw(st.permutations(range(len(entries))))
        assume(order != sorted(order))
        broken = verify([entries[place] for place in order])
        assert broken is not None
        assert broken.number == next(place for place, entry in enumerate(order) if place != entry) + 1

    @at_any_speed
    @given(chains(), st.data())
    def test_a_doubled_entry(self, entries, data):
        at = data.draw(st.integers(0, len(entries) - 1))
        broken = verify(entries[: at + 1] + entries[at:])
        assert broken is not None
        assert broken.number == at + 2

    @at_any_speed
    @given(chains(), st.data())
    def test_an_altered_field_that_was_sealed_again(self, entries, data):
        """Whoever alters an entry and mends its digest is found at the next one, or by the head."""
        at = data.draw(st.integers(0, len(entries) - 1))
        values = {field.name: getattr(entries[at], field.name) for field in dataclasses.fields(AuditFields)}
        forged = seal(entries[at].previous, AuditFields(**values | {"actor": entries[at].actor + "!"}))
        broken = verify([*entries[:at], forged, *entries[at + 1 :]], entries[-1].digest)
        assert broken is not None
        assert broken.number == at + 2

    def test_a_cut_off_end_needs_the_head_to_be_seen(self):
        entries = chain([content(1), content(2)])
        assert verify(entries[:1]) is None
        assert verify(entries[:1], entries[1].digest) == BrokenLink(
            2, f"the copy ends at entry 1, which is not the head {entries[1].digest}"
        )

    def test_the_reason_says_what_was_found(self):
        first, second = chain([content(1), content(2)])
        altered = dataclasses.replace(second, why="no reason at all")
        assert "and it claims" in verify([first, altered]).reason
        assert verify([second]).reason == "entry 2 stands in the place of entry 1"


class TestDecode:
    LINE = encode(chain([content(1)])[0])

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"[]",
            b"{}",
            b"\xff",
            b"[" * 100_000,
            json.dumps(json.loads(LINE)).encode(),
            LINE.replace(b'"why":', b'"why":"", "why":'),
            LINE.replace(b"\\u2013", "–".encode()),
            LINE.replace(b'"number":1', b'"number":NaN'),
        ],
        ids=["empty", "list", "no-fields", "not-utf-8", "nested", "spaces", "repeated-field", "not-ascii", "nan"],
    )
    def test_anything_but_the_canonical_form(self, line):
        with pytest.raises(ValueError):
            decode(line)
        broken = verify_copy([line])
        assert broken is not None
        assert (broken.number, broken.reason.partition(":")[0]) == (1, "not an entry")
