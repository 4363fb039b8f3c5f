"""The streams' messages: protobuf ↔ the model's words. Batches keep their bytes."""

from __future__ import annotations

from omnirelay.errors import BadRequest
from omnirelay.model.batch import Batch
from omnirelay.model.log_state import Head, ProducerMark, Seed, SeedMark
from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.streams import (
    Accepted,
    Ack,
    AcknowledgeRequest,
    ClockSample,
    FenceNotice,
    FromReceiver,
    FromSender,
    Heartbeat,
    Interest,
    Open,
    ProducerBatch,
    Progress,
    ProtocolVersion,
    PublishAck,
    PublishOpen,
    PublishOpened,
    PublishRemote,
    SeedPart,
    SubscribeRequest,
    Withdrawn,
)
from omnirelay.wire import codec
from omnirelay.wire._generated.omnirelay.mesh.v1 import batch_pb2, events_pb2, replication_pb2

# --- replication -------------------------------------------------------------------------------------------------


def encode_from_receiver(message: FromReceiver) -> replication_pb2.ReplicateRequest:
    if isinstance(message, Ack):
        clock = message.clock
        return replication_pb2.ReplicateRequest(
            ack=replication_pb2.ReplicateAck(
                durable=codec.vector_to_message(message.durable),
                credit_bytes=message.credit_bytes,
                clock=replication_pb2.ClockSample(
                    heartbeat_sent_at_unix_ms=clock.heartbeat_sent_ms,
                    received_at_unix_ms=clock.received_ms,
                    sent_at_unix_ms=clock.sent_ms,
                )
                if clock
                else None,
            )
        )
    if isinstance(message, Interest):
        return replication_pb2.ReplicateRequest(interest=replication_pb2.ReplicateInterest(origins=message.origins))
    return replication_pb2.ReplicateRequest(
        open=replication_pb2.ReplicateOpen(
            cluster_id=message.cluster,
            protocol=_version(message.protocol),
            applied=codec.vector_to_message(message.applied),
            digests=message.digests,
            credit_bytes=message.credit_bytes,
            origins=message.origins,
            seeds=message.seeds,
        )
    )


def decode_from_receiver(message: replication_pb2.ReplicateRequest) -> FromReceiver:
    match message.WhichOneof("message"):
        case "ack":
            ack = message.ack
            clock = ClockSample(
                ack.clock.heartbeat_sent_at_unix_ms, ack.clock.received_at_unix_ms, ack.clock.sent_at_unix_ms
            )
            return Ack(
                codec.vector_from_message(ack.durable), ack.credit_bytes, clock if ack.HasField("clock") else None
            )
        case "interest":
            return Interest(tuple(message.interest.origins))
        case "open":
            opening = message.open
            return Open(
                opening.cluster_id,
                ProtocolVersion(opening.protocol.major, opening.protocol.minor),
                codec.vector_from_message(opening.applied),
                dict(opening.digests),
                opening.credit_bytes,
                tuple(opening.origins),
                tuple(opening.seeds),
            )
        case _:
            raise BadRequest("the request holds no message that this version knows")


def encode_from_sender(message: FromSender) -> replication_pb2.ReplicateResponse:
    if isinstance(message, Batch):
        return replication_pb2.ReplicateResponse(batch=codec.batch_to_message(message))
    if isinstance(message, Heartbeat):
        return replication_pb2.ReplicateResponse(
            heartbeat=replication_pb2.ReplicateHeartbeat(
                head=codec.vector_to_message(message.head),
                head_bytes=message.head_bytes,
                sent_at_unix_ms=message.sent_ms,
            )
        )
    if isinstance(message, SeedPart):
        return replication_pb2.ReplicateResponse(seed=_encode_seed(message))
    return replication_pb2.ReplicateResponse(
        accepted=replication_pb2.ReplicateAccepted(
            cluster_id=message.cluster, protocol=_version(message.protocol), origin=message.origin
        )
    )


def decode_from_sender(message: replication_pb2.ReplicateResponse) -> FromSender:
    match message.WhichOneof("message"):
        case "batch":
            return codec.batch_from_message(message.batch)
        case "heartbeat":
            beat = message.heartbeat
            return Heartbeat(codec.vector_from_message(beat.head), beat.head_bytes, beat.sent_at_unix_ms)
        case "seed":
            return _decode_seed(message.seed)
        case "accepted":
            accepted = message.accepted
            version = ProtocolVersion(accepted.protocol.major, accepted.protocol.minor)
            return Accepted(accepted.cluster_id, version, accepted.origin)
        case _:
            raise BadRequest("the response holds no message that this version knows")


def _encode_seed(part: SeedPart) -> replication_pb2.ReplicateSeed:
    seed, floor = part.seed, part.seed.floor
    return replication_pb2.ReplicateSeed(
        origin=seed.origin,
        sequence=floor.sequence,
        digest=floor.digest,
        size=floor.size,
        committed_at_unix_ms=floor.commit_time_ms,
        dropped=[replication_pb2.SeedDropped(namespace=n, epoch=e, sequence=s) for n, e, s in seed.dropped],
        marks=[
            replication_pb2.SeedMark(
                namespace=each.namespace,
                epoch=each.epoch,
                producer_id=each.producer_id,
                producer_sequence=each.mark.producer_sequence,
                first_sequence=each.mark.first_sequence,
                count=each.mark.count,
            )
            for each in seed.marks
        ],
        complete=part.complete,
    )


def _decode_seed(message: replication_pb2.ReplicateSeed) -> SeedPart:
    if len(message.digest) != codec.DIGEST_BYTES:
        raise BadRequest(f"the seed's digest has {len(message.digest)} bytes, not {codec.DIGEST_BYTES}")
    floor = Head(message.sequence, message.digest, message.size, message.committed_at_unix_ms)
    dropped = tuple((each.namespace, each.epoch, each.sequence) for each in message.dropped)
    marks = tuple(
        SeedMark(
            each.namespace,
            each.epoch,
            each.producer_id,
            ProducerMark(each.producer_sequence, each.first_sequence, each.count),
        )
        for each in message.marks
    )
    return SeedPart(Seed(message.origin, floor, dropped, marks), message.complete)


def _version(version: ProtocolVersion) -> replication_pb2.ProtocolVersion:
    return replication_pb2.ProtocolVersion(major=version.major, minor=version.minor)


# --- events ------------------------------------------------------------------------------------------------------


def decode_publish(message: events_pb2.PublishRequest) -> PublishOpen | ProducerBatch:
    """Parses a batch's records once, to count and check them. Raises MalformedBatch."""
    match message.WhichOneof("message"):
        case "batch":
            records = message.batch.records
            return ProducerBatch(message.batch.producer_sequence, records, codec.count_records(records))
        case "open":
            opening = message.open
            resends_to = opening.resends_to if opening.HasField("resends_to") else None
            return PublishOpen(opening.namespace, opening.producer_id, opening.epoch, opening.remote_copies, resends_to)
        case _:
            raise BadRequest("the request holds no message that this version knows")


def encode_publish(message: PublishOpened | PublishAck | PublishRemote) -> events_pb2.PublishResponse:
    if isinstance(message, PublishAck):
        return events_pb2.PublishResponse(
            ack=events_pb2.PublishAck(
                producer_sequence=message.producer_sequence,
                position=codec.position_to_message(message.position) if message.position else None,
                count=message.count,
                epoch=message.epoch,
                durability=batch_pb2.DURABILITY_LOCAL,
                duplicate=message.duplicate,
            )
        )
    if isinstance(message, PublishRemote):
        return events_pb2.PublishResponse(remote=events_pb2.PublishRemote(producer_sequence=message.producer_sequence))
    return events_pb2.PublishResponse(
        opened=events_pb2.PublishOpened(
            cluster_id=message.cluster,
            epoch=message.epoch,
            last_producer_sequence=message.last_producer_sequence,
            max_batch_bytes=message.max_batch_bytes,
        )
    )


def decode_subscribe(message: events_pb2.SubscribeRequest) -> SubscribeRequest:
    after = codec.cursor_from_message(message.after) if message.HasField("after") else None
    latest = message.start_at == events_pb2.START_AT_LATEST
    return SubscribeRequest(message.namespace, after, latest, message.consumer_id, message.epoch)


def decode_acknowledge(message: events_pb2.AcknowledgeRequest) -> AcknowledgeRequest:
    return AcknowledgeRequest(message.namespace, message.consumer_id, message.epoch)


def encode_subscribe(
    message: Batch | Withdrawn | FenceNotice | Progress, vector: VersionVector
) -> events_pb2.SubscribeResponse:
    response = events_pb2.SubscribeResponse(vector=codec.vector_to_message(vector))
    if isinstance(message, Batch):
        response.batch.CopyFrom(codec.batch_to_message(message))
    elif isinstance(message, Withdrawn):
        response.withdrawn.CopyFrom(codec.batch_to_message(message.batch))
    elif isinstance(message, FenceNotice):
        response.fence.cut.CopyFrom(codec.cursor_to_message(message.cut))
        response.fence.epoch = message.epoch
    else:
        response.progress.delivered.CopyFrom(codec.cursor_to_message(message.delivered))
        response.progress.epoch = message.epoch
    return response
