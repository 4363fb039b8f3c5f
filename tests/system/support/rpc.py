"""Calls to a replicator's gRPC port with nothing of the client library: what is sent is exactly what a test says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from omnirelay.client.credentials import Credentials
from omnirelay.errors import error_table
from omnirelay.wire._generated.omnirelay.mesh.v1 import batch_pb2, events_pb2, events_pb2_grpc

MAX_MESSAGE_BYTES = 64 << 20
CALL_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came until the call ended, or was ended by the test: the messages, and the typed error."""

    messages: tuple[Any, ...] = ()
    status: grpc.StatusCode = grpc.StatusCode.OK
    code: str = ""
    """`reason` of google.rpc.ErrorInfo; empty where the call carried none."""
    text: str = ""
    details: dict[str, str] = field(default_factory=dict)
    retry: bool = False

    @property
    def hint(self) -> str:
        """What the error table tells whoever meets this code."""
        error = error_table().get(self.code)
        return error(self.text, **self.details).operator_hint if error else ""


@contextmanager
def channel(address: str, credentials: Credentials | None, name: str = "") -> Iterator[grpc.Channel]:
    """`name`: the name to expect in the server's certificate, when that is not the address."""
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if name:
        options.append(("grpc.ssl_target_name_override", name))
    if credentials is None:
        opened = grpc.insecure_channel(address, options)
    else:
        key, chain = (path.read_bytes() if path else None for path in (credentials.key, credentials.cert))
        opened = grpc.secure_channel(
            address, grpc.ssl_channel_credentials(credentials.ca.read_bytes(), key, chain), options
        )
    with opened:
        yield opened


def answer_of(call: Any, most: int = 1_000_000) -> Answer:
    """Reads up to `most` messages; a call that is not over by then is ended."""
    messages: list[Any] = []
    try:
        for message in call:
            messages.append(message)
            if len(messages) >= most:
                call.cancel()
                return Answer(tuple(messages))
    except grpc.RpcError as error:
        return _failed(error, tuple(messages))
    return Answer(tuple(messages))


def _failed(error: Any, messages: tuple[Any, ...]) -> Answer:
    code, details, retry = "", {}, False
    for name, value in error.trailing_metadata() or ():
        if name != "grpc-status-details-bin":
            continue
        for detail in status_pb2.Status.FromString(value).details:
            info, retry_info = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                code, details = info.reason, dict(info.metadata)
            retry = retry or detail.Unpack(retry_info)
    return Answer(messages, error.code(), code, error.details() or "", details, retry)


def open_message(namespace: str = "default", producer: str = "probe", epoch: int = 0) -> events_pb2.PublishRequest:
    opening = events_pb2.PublishOpen(namespace=namespace, producer_id=producer, epoch=epoch)
    return events_pb2.PublishRequest(open=opening)


def batch_message(sequence: int, records: bytes) -> events_pb2.PublishRequest:
    batch = events_pb2.ProducerBatch(producer_sequence=sequence, records=records)
    return events_pb2.PublishRequest(batch=batch)


def record_set(*values: bytes) -> bytes:
    return batch_pb2.RecordSet(records=[batch_pb2.Record(value=value) for value in values]).SerializeToString()


def publish(address: str, credentials: Credentials | None, requests: Iterable[events_pb2.PublishRequest]) -> Answer:
    """One Publish call that sends exactly `requests`, then says that it is done."""
    with channel(address, credentials) as opened:
        stub = events_pb2_grpc.EventServiceStub(opened)
        return answer_of(stub.Publish(iter(list(requests)), timeout=CALL_SECONDS))


def subscribe(address: str, credentials: Credentials, request: events_pb2.SubscribeRequest, most: int) -> Answer:
    with channel(address, credentials) as opened:
        stub = events_pb2_grpc.EventServiceStub(opened)
        return answer_of(stub.Subscribe(request, timeout=CALL_SECONDS), most)


def read_all(address: str, credentials: Credentials, namespace: str = "default") -> list[batch_pb2.Batch]:
    """Every batch of a namespace that the cluster delivers, from the start until it says that there is no more."""
    batches: list[batch_pb2.Batch] = []
    with channel(address, credentials) as opened:
        call = events_pb2_grpc.EventServiceStub(opened).Subscribe(
            events_pb2.SubscribeRequest(namespace=namespace), timeout=CALL_SECONDS
        )
        for response in call:
            if response.HasField("progress"):
                call.cancel()
                return batches
            if response.HasField("batch"):
                batches.append(response.batch)
    raise AssertionError("the stream ended by itself")
