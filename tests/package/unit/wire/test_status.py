import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import AioRpcError, Metadata

from omnirelay import errors
from omnirelay.wire import status


def received(error):
    code, message, metadata = status.to_rpc_status(error)
    return AioRpcError(code, Metadata(), Metadata(*metadata), details=message)


@pytest.mark.parametrize("cls", errors.error_table().values(), ids=lambda cls: cls.code)
def test_every_error_of_the_table_travels(cls):
    back = status.from_rpc_error(received(cls("what happened", cluster="eu-west", epoch=3)))
    assert (type(back), back.message, back.details) == (cls, "what happened", {"cluster": "eu-west", "epoch": "3"})


def test_an_error_of_a_later_version_keeps_its_code():
    told = status_pb2.Status(code=9, message="no")
    told.details.add().Pack(error_details_pb2.ErrorInfo(reason="from_the_future", domain=status.DOMAIN))
    metadata = Metadata((status.DETAILS_KEY, told.SerializeToString()))
    back = status.from_rpc_error(AioRpcError(grpc.StatusCode.FAILED_PRECONDITION, Metadata(), metadata, details="no"))
    assert (type(back), back.details) == (errors.OmniRelayError, {"code": "from_the_future"})


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (errors.NotActive("moved"), status.DEFAULT_RETRY_SECONDS),
        (errors.Draining("moving", retry_after_seconds=0.25), 0.25),
        (errors.Draining("moving", retry_after_seconds="soon"), status.DEFAULT_RETRY_SECONDS),
        (errors.BadRequest("never"), None),
    ],
)
def test_retry_info_is_there_when_trying_again_helps(error, seconds):
    [(_, data)] = status.to_rpc_status(error)[2]
    retry = error_details_pb2.RetryInfo()
    found = [detail.Unpack(retry) for detail in status_pb2.Status.FromString(data).details]
    assert any(found) == (seconds is not None)
    assert retry.retry_delay.ToTimedelta().total_seconds() == (seconds or 0)


def test_details_that_are_not_text_travel_as_json_and_long_ones_are_cut():
    back = status.from_rpc_error(received(errors.Conflict("x" * 5000, held=["a", 1], text="y" * 5000)))
    assert back.details["held"] == '["a",1]'
    assert (len(back.message), len(back.details["text"])) == (1024, 1024)


@pytest.mark.parametrize(
    ("code", "details", "cls"),
    [
        (grpc.StatusCode.UNAVAILABLE, "connection refused", errors.Unreachable),
        (grpc.StatusCode.CANCELLED, "", errors.Unreachable),
        (grpc.StatusCode.INTERNAL, "RST_STREAM", errors.Unreachable),
        (grpc.StatusCode.UNIMPLEMENTED, "", errors.Unreachable),
        (grpc.StatusCode.UNAUTHENTICATED, "who?", errors.Unauthenticated),
        (grpc.StatusCode.PERMISSION_DENIED, "", errors.AccessDenied),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 4)", errors.MessageTooLarge),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", errors.Overloaded),
    ],
)
def test_a_failure_without_details_is_judged_by_its_code(code, details, cls):
    error = status.from_rpc_error(AioRpcError(code, Metadata(), Metadata(), details=details))
    assert type(error) is cls
    assert cls is not errors.MessageTooLarge or "{" not in error.operator_hint, "gRPC tells no more than its sizes"


@pytest.mark.parametrize("value", [b"\xff\xff", status_pb2.Status(code=14, message="other's").SerializeToString()])
def test_details_that_are_not_ours_are_passed_over(value):
    metadata = Metadata((status.DETAILS_KEY, value), ("other", "text"))
    error = AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), metadata, details="gone")
    assert type(status.from_rpc_error(error)) is errors.Unreachable
