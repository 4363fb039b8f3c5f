from omnirelay.wire._generated.omnirelay.mesh.v1 import batch_pb2 as _batch_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProtocolVersion(_message.Message):
    __slots__ = ("major", "minor")
    MAJOR_FIELD_NUMBER: _ClassVar[int]
    MINOR_FIELD_NUMBER: _ClassVar[int]
    major: int
    minor: int
    def __init__(self, major: _Optional[int] = ..., minor: _Optional[int] = ...) -> None: ...

class ReplicateRequest(_message.Message):
    __slots__ = ("open", "ack", "interest")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    INTEREST_FIELD_NUMBER: _ClassVar[int]
    open: ReplicateOpen
    ack: ReplicateAck
    interest: ReplicateInterest
    def __init__(self, open: _Optional[_Union[ReplicateOpen, _Mapping]] = ..., ack: _Optional[_Union[ReplicateAck, _Mapping]] = ..., interest: _Optional[_Union[ReplicateInterest, _Mapping]] = ...) -> None: ...

class ReplicateOpen(_message.Message):
    __slots__ = ("cluster_id", "protocol", "applied", "digests", "credit_bytes", "origins", "seeds")
    class DigestsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    CREDIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    ORIGINS_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    protocol: ProtocolVersion
    applied: _batch_pb2.ClusterVersionVector
    digests: _containers.ScalarMap[str, bytes]
    credit_bytes: int
    origins: _containers.RepeatedScalarFieldContainer[str]
    seeds: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, cluster_id: _Optional[str] = ..., protocol: _Optional[_Union[ProtocolVersion, _Mapping]] = ..., applied: _Optional[_Union[_batch_pb2.ClusterVersionVector, _Mapping]] = ..., digests: _Optional[_Mapping[str, bytes]] = ..., credit_bytes: _Optional[int] = ..., origins: _Optional[_Iterable[str]] = ..., seeds: _Optional[_Iterable[str]] = ...) -> None: ...

class ReplicateInterest(_message.Message):
    __slots__ = ("origins",)
    ORIGINS_FIELD_NUMBER: _ClassVar[int]
    origins: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, origins: _Optional[_Iterable[str]] = ...) -> None: ...

class ReplicateAck(_message.Message):
    __slots__ = ("durable", "credit_bytes", "clock")
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    CREDIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    durable: _batch_pb2.ClusterVersionVector
    credit_bytes: int
    clock: ClockSample
    def __init__(self, durable: _Optional[_Union[_batch_pb2.ClusterVersionVector, _Mapping]] = ..., credit_bytes: _Optional[int] = ..., clock: _Optional[_Union[ClockSample, _Mapping]] = ...) -> None: ...

class ClockSample(_message.Message):
    __slots__ = ("heartbeat_sent_at_unix_ms", "received_at_unix_ms", "sent_at_unix_ms")
    HEARTBEAT_SENT_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    heartbeat_sent_at_unix_ms: int
    received_at_unix_ms: int
    sent_at_unix_ms: int
    def __init__(self, heartbeat_sent_at_unix_ms: _Optional[int] = ..., received_at_unix_ms: _Optional[int] = ..., sent_at_unix_ms: _Optional[int] = ...) -> None: ...

class ReplicateResponse(_message.Message):
    __slots__ = ("accepted", "batch", "heartbeat", "seed")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    accepted: ReplicateAccepted
    batch: _batch_pb2.Batch
    heartbeat: ReplicateHeartbeat
    seed: ReplicateSeed
    def __init__(self, accepted: _Optional[_Union[ReplicateAccepted, _Mapping]] = ..., batch: _Optional[_Union[_batch_pb2.Batch, _Mapping]] = ..., heartbeat: _Optional[_Union[ReplicateHeartbeat, _Mapping]] = ..., seed: _Optional[_Union[ReplicateSeed, _Mapping]] = ...) -> None: ...

class ReplicateSeed(_message.Message):
    __slots__ = ("origin", "sequence", "digest", "size", "committed_at_unix_ms", "dropped", "marks", "complete")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    MARKS_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    origin: str
    sequence: int
    digest: bytes
    size: int
    committed_at_unix_ms: int
    dropped: _containers.RepeatedCompositeFieldContainer[SeedDropped]
    marks: _containers.RepeatedCompositeFieldContainer[SeedMark]
    complete: bool
    def __init__(self, origin: _Optional[str] = ..., sequence: _Optional[int] = ..., digest: _Optional[bytes] = ..., size: _Optional[int] = ..., committed_at_unix_ms: _Optional[int] = ..., dropped: _Optional[_Iterable[_Union[SeedDropped, _Mapping]]] = ..., marks: _Optional[_Iterable[_Union[SeedMark, _Mapping]]] = ..., complete: _Optional[bool] = ...) -> None: ...

class SeedDropped(_message.Message):
    __slots__ = ("namespace", "epoch", "sequence")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    epoch: int
    sequence: int
    def __init__(self, namespace: _Optional[str] = ..., epoch: _Optional[int] = ..., sequence: _Optional[int] = ...) -> None: ...

class SeedMark(_message.Message):
    __slots__ = ("namespace", "epoch", "producer_id", "producer_sequence", "first_sequence", "count")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    epoch: int
    producer_id: str
    producer_sequence: int
    first_sequence: int
    count: int
    def __init__(self, namespace: _Optional[str] = ..., epoch: _Optional[int] = ..., producer_id: _Optional[str] = ..., producer_sequence: _Optional[int] = ..., first_sequence: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class ReplicateAccepted(_message.Message):
    __slots__ = ("cluster_id", "protocol", "origin")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    protocol: ProtocolVersion
    origin: str
    def __init__(self, cluster_id: _Optional[str] = ..., protocol: _Optional[_Union[ProtocolVersion, _Mapping]] = ..., origin: _Optional[str] = ...) -> None: ...

class ReplicateHeartbeat(_message.Message):
    __slots__ = ("head", "head_bytes", "sent_at_unix_ms")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    HEAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    head: _batch_pb2.ClusterVersionVector
    head_bytes: int
    sent_at_unix_ms: int
    def __init__(self, head: _Optional[_Union[_batch_pb2.ClusterVersionVector, _Mapping]] = ..., head_bytes: _Optional[int] = ..., sent_at_unix_ms: _Optional[int] = ...) -> None: ...
