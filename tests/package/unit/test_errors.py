"""The table of errors is what API, command line, modules and runbooks answer with."""

import string

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnirelay import errors
from omnirelay.errors import OmniRelayError, error_table, from_code

EXIT_CODES = {1, 2, 3, 4, 5, 6, 7, 8}
"""The documented ones, without 0; 1 is a defect."""

SHARED = {"NotActive": "WriteRefused", "Unreachable": "Unavailable"}
"""Classes that share their parent's code, as one word for the same thing."""


def all_classes():
    return [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, OmniRelayError)]


every_class = pytest.mark.parametrize("cls", all_classes(), ids=lambda cls: cls.__name__)


@every_class
def test_a_code_belongs_to_one_class(cls):
    others = {other.__name__ for other in all_classes() if other.code == cls.code and other is not cls}
    related = {child for pair in SHARED.items() if cls.__name__ in pair for child in pair} - {cls.__name__}
    assert others == related


@every_class
def test_the_table_finds_every_code(cls):
    found = error_table()[cls.code]
    assert issubclass(found, cls)
    assert found.code == cls.code


@every_class
def test_a_code_is_a_stable_word(cls):
    assert cls.code
    assert set(cls.code) <= set(string.ascii_lowercase + "_")


@every_class
def test_statuses_exist_and_fit_each_other(cls):
    assert 400 <= cls.http < 600
    assert cls.grpc in grpc.StatusCode.__members__
    assert cls.grpc not in {"OK", "UNKNOWN", "CANCELLED"}
    assert cls.exit_code in EXIT_CODES
    if cls.http != 409:
        assert (cls.http >= 500) == (cls.grpc in {"INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "DATA_LOSS"})


@every_class
def test_what_can_never_succeed_is_not_retryable(cls):
    if cls.grpc in {"INVALID_ARGUMENT", "PERMISSION_DENIED", "UNAUTHENTICATED", "NOT_FOUND", "DATA_LOSS"}:
        assert not cls.retryable
    if cls.grpc in {"UNAVAILABLE", "RESOURCE_EXHAUSTED"}:
        assert cls.retryable


@every_class
def test_a_hint_is_a_sentence_or_a_command(cls):
    assert len(cls.hint) > 15
    assert cls.hint[0].isupper() or cls.hint[0] == "{"
    assert cls.hint.endswith(".") or "omnirelay " in cls.hint or cls.hint.endswith("}")


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())
names = st.sampled_from(["principal", "failover_id", "message", "self", "{", "a.b", ""]) | st.text(max_size=8)


@every_class
@settings(max_examples=10)
@given(details=st.dictionaries(names, values, max_size=4))
def test_a_hint_can_always_be_shown(cls, details):
    hint = cls("what happened").operator_hint
    assert hint == cls.hint, "unknown details stay as they are"
    told = cls("what happened", **details)
    assert told.details == details
    assert isinstance(told.operator_hint, str)


def test_a_hint_takes_its_details():
    error = errors.PlanHashMismatch("no", plan_hash="sha256:ab", failover_id="fo-{x}")
    assert error.operator_hint.startswith("Read the plan again and approve its hash sha256:ab:")
    assert error.operator_hint.endswith("failovers show fo-{x}")


def test_an_error_reads_as_its_message():
    assert str(errors.NotFound("no such cluster", kind="clusters")) == "no such cluster"


def test_fm38_whatever_names_another_process_gives_its_details():
    assert from_code("conflict", "no", {"message": "m", "self": "s"}).details == {"message": "m", "self": "s"}


@pytest.mark.parametrize("cls", error_table().values(), ids=lambda cls: cls.code)
def test_an_error_of_another_process_comes_back(cls):
    back = from_code(cls.code, "what happened", {"cluster": "eu-west"})
    assert (type(back), back.message, back.details) == (cls, "what happened", {"cluster": "eu-west"})


def test_an_error_of_a_later_version_keeps_its_code():
    back = from_code("from_the_future", "no", {"a": 1})
    assert (type(back), back.details) == (OmniRelayError, {"a": 1, "code": "from_the_future"})


def test_the_tree_in_the_docstring_names_every_branch():
    branches = [cls.__name__ for cls in OmniRelayError.__subclasses__() if cls.__module__ == errors.__name__]
    assert [name for name in branches if f"── {name}" not in (errors.__doc__ or "")] == []
