"""A seed on the wire, and that a receiver of the version before gets none."""

from omnirelay.model.log_state import Head, ProducerMark, Seed, SeedMark
from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.streams import Open, ProtocolVersion, SeedPart
from omnirelay.transport.messages import (
    decode_from_receiver,
    decode_from_sender,
    encode_from_receiver,
    encode_from_sender,
)
from omnirelay.wire._generated.omnirelay.mesh.v1 import replication_pb2


def test_fm25_a_seed_survives_the_wire():
    marks = (SeedMark("default", 3, "p", ProducerMark(9, 40, 2)), SeedMark("orders", 1, "q", ProducerMark(1, 7, 1)))
    seed = Seed("us-east~2", Head(41, bytes(range(32)), 9000, 1_700_000_000_000), (("default", 3, 41),), marks)
    part = SeedPart(seed, True)
    sent = encode_from_sender(part).SerializeToString()
    assert decode_from_sender(replication_pb2.ReplicateResponse.FromString(sent)) == part


def test_fm25_a_receiver_says_what_it_accepts_a_seed_of_and_by_default_of_nothing():
    opening = Open("ap-south", ProtocolVersion(1, 1), VersionVector(), {}, 1, ("us-east",), ("us-east",))
    assert decode_from_receiver(encode_from_receiver(opening)) == opening
    before = replication_pb2.ReplicateRequest(open=replication_pb2.ReplicateOpen(cluster_id="ap-south"))
    assert decode_from_receiver(before).seeds == ()
