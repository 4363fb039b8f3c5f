"""Typed errors ↔ gRPC status.

An error travels as google.rpc.Status in the trailing metadata: ErrorInfo (reason = the error's code, domain
"omnirelay", metadata = its details as strings) and, when trying again helps, RetryInfo. Details come back as
strings: a reader converts what it needs, as a generic client must.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from omnirelay.errors import (
    AccessDenied,
    BadRequest,
    MessageTooLarge,
    NotFound,
    OmniRelayError,
    Overloaded,
    Unauthenticated,
    Unreachable,
    from_code,
)

DOMAIN = "omnirelay"
DETAILS_KEY = "grpc-status-details-bin"
DEFAULT_RETRY_SECONDS = 0.1
"""For a retryable error whose details give no `retry_after_seconds`."""
_TEXT_LIMIT = 1024
"""Characters of the message and of each detail: peers accept 8 KiB of trailing metadata by default."""

Metadata = tuple[tuple[str, bytes], ...]


def to_rpc_status(error: OmniRelayError) -> tuple[grpc.StatusCode, str, Metadata]:
    """Arguments for `context.abort`: status code, message, trailing metadata."""
    code = grpc.StatusCode[error.grpc]
    message = error.message[:_TEXT_LIMIT]
    number: int = code.value[0]
    status = status_pb2.Status(code=number, message=message)
    info = error_details_pb2.ErrorInfo(
        reason=error.code, domain=DOMAIN, metadata={name: _text(value) for name, value in error.details.items()}
    )
    status.details.add().Pack(info)
    if error.retryable:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(_retry_seconds(error.details) * 1e9))
        status.details.add().Pack(retry)
    return code, message, ((DETAILS_KEY, status.SerializeToString()),)


def from_rpc_error(error: grpc.aio.AioRpcError) -> OmniRelayError:
    """The typed error behind a failed call; whatever the other side did not explain itself is judged by its code."""
    details = error.details() or error.code().name
    return _explained(error) or _unexplained(error.code(), details)


def _explained(error: grpc.aio.AioRpcError) -> OmniRelayError | None:
    for name, value in error.trailing_metadata() or ():
        if name != DETAILS_KEY or not isinstance(value, bytes):
            continue
        try:
            status = status_pb2.Status.FromString(value)
            for detail in status.details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info) and info.domain == DOMAIN:
                    return from_code(info.reason, status.message, dict(info.metadata))
        except DecodeError:
            return None
    return None


def _unexplained(code: grpc.StatusCode, details: str) -> OmniRelayError:
    match code:
        case grpc.StatusCode.UNAUTHENTICATED:
            return Unauthenticated(details)
        case grpc.StatusCode.PERMISSION_DENIED:
            return AccessDenied(details)
        case grpc.StatusCode.NOT_FOUND:
            return NotFound(details)
        case grpc.StatusCode.INVALID_ARGUMENT:
            return BadRequest(details)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            # gRPC itself ends a call so when a message exceeds the receiver's limit; sending it again cannot help.
            return MessageTooLarge(details) if "larger than max" in details else Overloaded(details)
        case _:
            # Refused, reset, timed out, cut off half-way, or no replicator at all: try elsewhere.
            return Unreachable(f"{code.name}: {details}")


def _retry_seconds(details: Mapping[str, Any]) -> float:
    try:
        return max(0.0, float(details["retry_after_seconds"]))
    except (KeyError, TypeError, ValueError):
        return DEFAULT_RETRY_SECONDS


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), default=str)
    return text[:_TEXT_LIMIT]
