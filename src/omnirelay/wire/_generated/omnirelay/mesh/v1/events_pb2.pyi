from omnirelay.wire._generated.omnirelay.mesh.v1 import batch_pb2 as _batch_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StartAt(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    START_AT_UNSPECIFIED: _ClassVar[StartAt]
    START_AT_EARLIEST: _ClassVar[StartAt]
    START_AT_LATEST: _ClassVar[StartAt]
START_AT_UNSPECIFIED: StartAt
START_AT_EARLIEST: StartAt
START_AT_LATEST: StartAt

class PublishRequest(_message.Message):
    __slots__ = ("open", "batch")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    open: PublishOpen
    batch: ProducerBatch
    def __init__(self, open: _Optional[_Union[PublishOpen, _Mapping]] = ..., batch: _Optional[_Union[ProducerBatch, _Mapping]] = ...) -> None: ...

class PublishOpen(_message.Message):
    __slots__ = ("namespace", "producer_id", "epoch", "remote_copies", "resends_to")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REMOTE_COPIES_FIELD_NUMBER: _ClassVar[int]
    RESENDS_TO_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    producer_id: str
    epoch: int
    remote_copies: int
    resends_to: int
    def __init__(self, namespace: _Optional[str] = ..., producer_id: _Optional[str] = ..., epoch: _Optional[int] = ..., remote_copies: _Optional[int] = ..., resends_to: _Optional[int] = ...) -> None: ...

class ProducerBatch(_message.Message):
    __slots__ = ("producer_sequence", "records")
    PRODUCER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    producer_sequence: int
    records: bytes
    def __init__(self, producer_sequence: _Optional[int] = ..., records: _Optional[bytes] = ...) -> None: ...

class PublishResponse(_message.Message):
    __slots__ = ("opened", "ack", "remote")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    REMOTE_FIELD_NUMBER: _ClassVar[int]
    opened: PublishOpened
    ack: PublishAck
    remote: PublishRemote
    def __init__(self, opened: _Optional[_Union[PublishOpened, _Mapping]] = ..., ack: _Optional[_Union[PublishAck, _Mapping]] = ..., remote: _Optional[_Union[PublishRemote, _Mapping]] = ...) -> None: ...

class PublishOpened(_message.Message):
    __slots__ = ("cluster_id", "epoch", "last_producer_sequence", "max_batch_bytes")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LAST_PRODUCER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_BYTES_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    epoch: int
    last_producer_sequence: int
    max_batch_bytes: int
    def __init__(self, cluster_id: _Optional[str] = ..., epoch: _Optional[int] = ..., last_producer_sequence: _Optional[int] = ..., max_batch_bytes: _Optional[int] = ...) -> None: ...

class PublishAck(_message.Message):
    __slots__ = ("producer_sequence", "position", "count", "epoch", "durability", "duplicate")
    PRODUCER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    producer_sequence: int
    position: _batch_pb2.Position
    count: int
    epoch: int
    durability: _batch_pb2.Durability
    duplicate: bool
    def __init__(self, producer_sequence: _Optional[int] = ..., position: _Optional[_Union[_batch_pb2.Position, _Mapping]] = ..., count: _Optional[int] = ..., epoch: _Optional[int] = ..., durability: _Optional[_Union[_batch_pb2.Durability, str]] = ..., duplicate: _Optional[bool] = ...) -> None: ...

class PublishRemote(_message.Message):
    __slots__ = ("producer_sequence",)
    PRODUCER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    producer_sequence: int
    def __init__(self, producer_sequence: _Optional[int] = ...) -> None: ...

class SubscribeRequest(_message.Message):
    __slots__ = ("namespace", "after", "start_at", "consumer_id", "epoch")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    START_AT_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    after: _batch_pb2.Cursor
    start_at: StartAt
    consumer_id: str
    epoch: int
    def __init__(self, namespace: _Optional[str] = ..., after: _Optional[_Union[_batch_pb2.Cursor, _Mapping]] = ..., start_at: _Optional[_Union[StartAt, str]] = ..., consumer_id: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class AcknowledgeRequest(_message.Message):
    __slots__ = ("namespace", "consumer_id", "epoch")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    consumer_id: str
    epoch: int
    def __init__(self, namespace: _Optional[str] = ..., consumer_id: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class AcknowledgeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SubscribeResponse(_message.Message):
    __slots__ = ("vector", "batch", "fence", "progress", "withdrawn")
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    FENCE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    vector: _batch_pb2.ClusterVersionVector
    batch: _batch_pb2.Batch
    fence: FenceNotice
    progress: SubscribeProgress
    withdrawn: _batch_pb2.Batch
    def __init__(self, vector: _Optional[_Union[_batch_pb2.ClusterVersionVector, _Mapping]] = ..., batch: _Optional[_Union[_batch_pb2.Batch, _Mapping]] = ..., fence: _Optional[_Union[FenceNotice, _Mapping]] = ..., progress: _Optional[_Union[SubscribeProgress, _Mapping]] = ..., withdrawn: _Optional[_Union[_batch_pb2.Batch, _Mapping]] = ...) -> None: ...

class FenceNotice(_message.Message):
    __slots__ = ("cut", "epoch")
    CUT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    cut: _batch_pb2.Cursor
    epoch: int
    def __init__(self, cut: _Optional[_Union[_batch_pb2.Cursor, _Mapping]] = ..., epoch: _Optional[int] = ...) -> None: ...

class SubscribeProgress(_message.Message):
    __slots__ = ("delivered", "epoch")
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    delivered: _batch_pb2.Cursor
    epoch: int
    def __init__(self, delivered: _Optional[_Union[_batch_pb2.Cursor, _Mapping]] = ..., epoch: _Optional[int] = ...) -> None: ...
