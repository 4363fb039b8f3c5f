"""Two-way message streams between processes, in the model's words.

Transport turns them into gRPC; a simulation passes the values on. `Duplex[In, Out]` is one side of a stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from omnirelay.model.batch import Batch
from omnirelay.model.log_state import Seed
from omnirelay.model.position import Cursor, Position
from omnirelay.model.version_vector import VersionVector

In_co = TypeVar("In_co", covariant=True)
Out_contra = TypeVar("Out_contra", contravariant=True)


class Duplex(Protocol[In_co, Out_contra]):
    async def receive(self) -> In_co | None:
        """The next message; None once the other side has finished. Raises the typed error that the other side ended
        with, or Unreachable."""
        ...

    async def send(self, message: Out_contra) -> None:
        """Waits while the other side does not take it. Raises like `receive`."""
        ...


# --- between replicators ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class ProtocolVersion:
    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


@dataclass(frozen=True, slots=True)
class Open:
    cluster: str
    protocol: ProtocolVersion
    applied: VersionVector
    digests: dict[str, bytes]
    credit_bytes: int
    origins: tuple[str, ...]
    seeds: tuple[str, ...] = ()
    """Origins of which a seed is accepted where the resume point is gone."""


@dataclass(frozen=True, slots=True)
class SeedPart:
    """A part of a seed; `complete` with the last one."""

    seed: Seed
    complete: bool


@dataclass(frozen=True, slots=True)
class ClockSample:
    """Milliseconds since the Unix epoch: the heartbeat's sending by the sender's clock, its arrival and this answer's
    sending by the receiver's."""

    heartbeat_sent_ms: int
    received_ms: int
    sent_ms: int


@dataclass(frozen=True, slots=True)
class Ack:
    durable: VersionVector
    credit_bytes: int
    clock: ClockSample | None = None


@dataclass(frozen=True, slots=True)
class Interest:
    origins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Accepted:
    cluster: str
    protocol: ProtocolVersion
    origin: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    head: VersionVector
    head_bytes: int
    """Of the sender's own origin."""
    sent_ms: int


FromReceiver = Open | Ack | Interest
FromSender = Accepted | Batch | Heartbeat | SeedPart


class PeerDialer(Protocol):
    async def dial(self, cluster: str, endpoint: str) -> Duplex[FromSender, FromReceiver]:
        """A stream to the replicator of `cluster`, whose certificate has been checked to name it. It is closed by
        cancelling, or by `close_stream`. Raises Unreachable, PeerIdentityMismatch."""
        ...

    async def close_stream(self, stream: Duplex[FromSender, FromReceiver]) -> None: ...


# --- producers and readers ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PublishOpen:
    namespace: str
    producer_id: str
    epoch: int
    remote_copies: int = 0
    """Other clusters that must hold a batch before it counts as remote; 0: the producer does not want to be told."""
    resends_to: int | None = None
    """The last batch that this process may send again; 0: it has sent nothing yet. What it sends beyond is new, so a
    replay must not take these numbers. None: what follows the last batch that the active holds is taken to be new."""


@dataclass(frozen=True, slots=True)
class ProducerBatch:
    producer_sequence: int
    records: bytes
    count: int
    """Counted by the transport, which has parsed the record set once."""


@dataclass(frozen=True, slots=True)
class PublishOpened:
    cluster: str
    epoch: int
    last_producer_sequence: int
    max_batch_bytes: int


@dataclass(frozen=True, slots=True)
class PublishAck:
    producer_sequence: int
    position: Position | None
    count: int
    epoch: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class PublishRemote:
    producer_sequence: int
    """Everything of the producer up to here is remote."""


@dataclass(frozen=True, slots=True)
class SubscribeRequest:
    namespace: str
    after: Cursor | None
    latest: bool
    consumer_id: str = ""
    """Names the reader among those of its principal; may be empty."""
    epoch: int = 0
    """The epoch that the reader knows; 0 if none."""


@dataclass(frozen=True, slots=True)
class AcknowledgeRequest:
    """A reader knows this epoch."""

    namespace: str
    consumer_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A batch that the reader was given, and that a fence has made invalid since."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class FenceNotice:
    cut: Cursor
    epoch: int


@dataclass(frozen=True, slots=True)
class Progress:
    delivered: Cursor
    epoch: int
