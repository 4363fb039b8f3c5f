"""What talks to a mesh from outside: producers and consumers (gRPC, asyncio), and the control API (HTTPS).

Names are loaded when they are first used, so that a program that only speaks to the control API never pays for gRPC.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omnirelay.client.consumer import Consumer
    from omnirelay.client.control import ControlClient
    from omnirelay.client.credentials import Credentials
    from omnirelay.client.errors import AcknowledgedMissing, ProducerIdInUse, Unacknowledged
    from omnirelay.client.outbox import OutboxLimits, PublishResult
    from omnirelay.client.producer import Producer
    from omnirelay.client.reader import DeliveredBatch, Delivery, Fence
    from omnirelay.model.position import Cursor
    from omnirelay.model.record import Record

_HOMES = {
    "AcknowledgedMissing": "omnirelay.client.errors",
    "Consumer": "omnirelay.client.consumer",
    "ControlClient": "omnirelay.client.control",
    "Credentials": "omnirelay.client.credentials",
    "Cursor": "omnirelay.model.position",
    "DeliveredBatch": "omnirelay.client.reader",
    "Delivery": "omnirelay.client.reader",
    "Fence": "omnirelay.client.reader",
    "OutboxLimits": "omnirelay.client.outbox",
    "Producer": "omnirelay.client.producer",
    "ProducerIdInUse": "omnirelay.client.errors",
    "PublishResult": "omnirelay.client.outbox",
    "Record": "omnirelay.model.record",
    "Unacknowledged": "omnirelay.client.errors",
}

__all__ = [
    "AcknowledgedMissing",
    "Consumer",
    "ControlClient",
    "Credentials",
    "Cursor",
    "DeliveredBatch",
    "Delivery",
    "Fence",
    "OutboxLimits",
    "Producer",
    "ProducerIdInUse",
    "PublishResult",
    "Record",
    "Unacknowledged",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
