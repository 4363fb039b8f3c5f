"""Remote durability on the wire; a producer that does not know of it is one that does not ask."""

from omnirelay.ports.streams import PublishOpen, PublishRemote
from omnirelay.transport.messages import decode_publish, encode_publish
from omnirelay.wire._generated.omnirelay.mesh.v1 import events_pb2


def test_a_producer_asks_for_copies():
    opening = events_pb2.PublishOpen(namespace="default", producer_id="p", epoch=3, remote_copies=2)
    assert decode_publish(events_pb2.PublishRequest(open=opening)) == PublishOpen("default", "p", 3, 2)


def test_a_producer_of_the_version_before_does_not_want_to_be_told():
    before = b"\x0a\x0e\x0a\x07default\x12\x01p\x18\x03"  # namespace, producer_id and epoch: all there was
    assert decode_publish(events_pb2.PublishRequest.FromString(before)) == PublishOpen("default", "p", 3, 0, None)


def test_a_producer_says_what_it_may_send_again_and_nothing_is_not_silence():
    for said in (0, 7):
        opening = events_pb2.PublishOpen(namespace="default", producer_id="p", resends_to=said)
        assert decode_publish(events_pb2.PublishRequest(open=opening)) == PublishOpen("default", "p", 0, 0, said)


def test_progress_is_a_message_of_its_own():
    sent = encode_publish(PublishRemote(7))
    assert sent.WhichOneof("message") == "remote"
    assert (sent.remote.producer_sequence, sent.HasField("ack"), sent.HasField("opened")) == (7, False, False)
