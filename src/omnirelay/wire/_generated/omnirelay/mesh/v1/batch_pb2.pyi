from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BatchKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BATCH_KIND_UNSPECIFIED: _ClassVar[BatchKind]
    BATCH_KIND_DATA: _ClassVar[BatchKind]
    BATCH_KIND_BARRIER: _ClassVar[BatchKind]
    BATCH_KIND_CANARY: _ClassVar[BatchKind]

class Durability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DURABILITY_UNSPECIFIED: _ClassVar[Durability]
    DURABILITY_LOCAL: _ClassVar[Durability]
    DURABILITY_REMOTE: _ClassVar[Durability]
BATCH_KIND_UNSPECIFIED: BatchKind
BATCH_KIND_DATA: BatchKind
BATCH_KIND_BARRIER: BatchKind
BATCH_KIND_CANARY: BatchKind
DURABILITY_UNSPECIFIED: Durability
DURABILITY_LOCAL: Durability
DURABILITY_REMOTE: Durability

class ClusterVersionVector(_message.Message):
    __slots__ = ("sequences",)
    class SequencesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    sequences: _containers.ScalarMap[str, int]
    def __init__(self, sequences: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Position(_message.Message):
    __slots__ = ("origin", "sequence")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    origin: str
    sequence: int
    def __init__(self, origin: _Optional[str] = ..., sequence: _Optional[int] = ...) -> None: ...

class Cursor(_message.Message):
    __slots__ = ("epoch", "sequence")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    sequence: int
    def __init__(self, epoch: _Optional[int] = ..., sequence: _Optional[int] = ...) -> None: ...

class RecordHeader(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: bytes
    def __init__(self, name: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("key", "value", "headers", "event_time_unix_ms")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    headers: _containers.RepeatedCompositeFieldContainer[RecordHeader]
    event_time_unix_ms: int
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., headers: _Optional[_Iterable[_Union[RecordHeader, _Mapping]]] = ..., event_time_unix_ms: _Optional[int] = ...) -> None: ...

class RecordSet(_message.Message):
    __slots__ = ("records",)
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[Record]
    def __init__(self, records: _Optional[_Iterable[_Union[Record, _Mapping]]] = ...) -> None: ...

class BatchHeader(_message.Message):
    __slots__ = ("origin", "first_sequence", "count", "namespace", "epoch", "commit_time_unix_ms", "producer_id", "producer_sequence", "vector", "kind")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    COMMIT_TIME_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    origin: str
    first_sequence: int
    count: int
    namespace: str
    epoch: int
    commit_time_unix_ms: int
    producer_id: str
    producer_sequence: int
    vector: ClusterVersionVector
    kind: BatchKind
    def __init__(self, origin: _Optional[str] = ..., first_sequence: _Optional[int] = ..., count: _Optional[int] = ..., namespace: _Optional[str] = ..., epoch: _Optional[int] = ..., commit_time_unix_ms: _Optional[int] = ..., producer_id: _Optional[str] = ..., producer_sequence: _Optional[int] = ..., vector: _Optional[_Union[ClusterVersionVector, _Mapping]] = ..., kind: _Optional[_Union[BatchKind, str]] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("header", "records", "digest")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    header: bytes
    records: bytes
    digest: bytes
    def __init__(self, header: _Optional[bytes] = ..., records: _Optional[bytes] = ..., digest: _Optional[bytes] = ...) -> None: ...
