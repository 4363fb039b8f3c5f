import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirelay.client.errors import AcknowledgedMissing, ProducerIdInUse
from omnirelay.client.outbox import Opened, Outbox, OutboxLimits, PublishResult
from omnirelay.errors import ConfigInvalid, Overloaded, Unreachable


def outbox(**limits):
    return Outbox("p1", OutboxLimits(**limits))


def opened(last, epoch=1, cluster="us-east"):
    return Opened(cluster, epoch, last)


def ack(sequence, duplicate=False):
    return PublishResult(sequence, 0, "us-east", 1, duplicate=duplicate)


def taken(box):
    return [entry.sequence for entry in iter(box.take, None)]


def offered(count, **limits):
    box = outbox(**limits)
    for number in range(count):
        box.offer(b"batch", 10 + number, float(number))
    return box


def test_nothing_is_sent_before_a_cluster_admits_the_producer():
    box = offered(2)
    assert (taken(box), box.unacknowledged, box.unsent) == ([], None, 2)


def test_numbering_goes_on_after_what_the_cluster_holds():
    box = offered(2)
    assert box.opened(opened(7), 5.0) == []
    assert (taken(box), box.unacknowledged, box.unsent) == ([8, 9], (8, 9), 0)


def test_an_acknowledgement_says_how_many_records_the_batch_has():
    box = offered(1)
    box.opened(opened(0), 1.0)
    box.take()
    assert (box.acknowledged(ack(1), 2.0).count, len(box)) == (10, 0)


def test_what_was_in_flight_is_sent_again_before_anything_new_with_its_number():
    box = offered(3)
    box.opened(opened(0), 1.0)
    taken(box)
    box.acknowledged(ack(1), 1.0)
    box.disconnected()
    box.offer(b"new", 1, 2.0)
    box.opened(opened(1), 3.0)
    assert taken(box) == [2, 3, 4]


def test_what_is_committed_already_is_resolved_on_reopening():
    box = offered(3)
    box.opened(opened(0), 1.0)
    taken(box)
    box.disconnected()
    results = box.opened(opened(2, epoch=2, cluster="eu-west"), 2.0)
    assert results == [PublishResult(n, 9 + n, "eu-west", 2, duplicate=True) for n in (1, 2)]
    assert taken(box) == [3]


def test_a_cluster_that_lacks_what_was_acknowledged_ends_it():
    box = offered(2)
    box.opened(opened(0), 1.0)
    taken(box)
    box.acknowledged(ack(1), 1.0)
    box.disconnected()
    with pytest.raises(AcknowledgedMissing):
        box.opened(opened(0), 2.0)


def test_the_same_with_nothing_waiting():
    box = offered(1)
    box.opened(opened(0), 1.0)
    taken(box)
    box.acknowledged(ack(1), 1.0)
    box.disconnected()
    with pytest.raises(AcknowledgedMissing):
        box.opened(opened(0), 2.0)


def test_a_cluster_that_holds_what_was_never_sent_ends_it():
    box = offered(1)
    box.opened(opened(0), 1.0)
    taken(box)
    box.disconnected()
    with pytest.raises(ProducerIdInUse):
        box.opened(opened(2), 2.0)


def test_a_duplicate_that_was_sent_once_is_somebody_elses():
    box = offered(2)
    box.opened(opened(0), 1.0)
    box.take()
    with pytest.raises(ProducerIdInUse):
        box.acknowledged(ack(1, duplicate=True), 1.0)
    box.disconnected()
    box.opened(opened(0), 2.0)
    box.take()
    assert box.acknowledged(ack(1, duplicate=True), 2.0).duplicate


@pytest.mark.parametrize("sequence", [0, 2])
def test_an_acknowledgement_out_of_turn_ends_the_connection(sequence):
    box = offered(2)
    box.opened(opened(0), 1.0)
    taken(box)
    with pytest.raises(Unreachable):
        box.acknowledged(ack(sequence), 1.0)


def test_an_acknowledgement_for_nothing_ends_the_connection():
    with pytest.raises(Unreachable):
        outbox().acknowledged(ack(1), 1.0)


@pytest.mark.parametrize("limits", [{"in_flight_batches": 2}, {"in_flight_bytes": 12}])
def test_what_is_in_flight_is_bounded(limits):
    box = offered(4, **limits)
    box.opened(opened(0), 1.0)
    assert taken(box) == [1, 2]
    box.acknowledged(ack(1), 1.0)
    assert taken(box) == [3]


@pytest.mark.parametrize("limits", [{"buffered_batches": 2}, {"buffered_bytes": 12}])
def test_what_is_buffered_is_bounded_and_a_refused_batch_leaves_no_trace(limits):
    box = offered(2, **limits)
    with pytest.raises(Overloaded):
        box.offer(b"batch", 1, 3.0)
    assert len(box) == 2
    box.opened(opened(0), 1.0)
    box.take()
    box.acknowledged(ack(1), 1.0)
    box.offer(b"batch", 1, 3.0)


def test_a_batch_beyond_every_bound_goes_alone():
    box = outbox(buffered_bytes=1, in_flight_bytes=1)
    box.offer(b"batch", 1, 0.0)
    box.opened(opened(0), 1.0)
    assert taken(box) == [1]


def test_patience_counts_from_the_last_acknowledgement():
    box = outbox(park_timeout_seconds=30)
    assert box.expires_at is None
    box.offer(b"a", 1, 100.0)
    box.offer(b"b", 1, 101.0)
    assert box.expires_at == 130.0
    box.opened(opened(0), 110.0)
    taken(box)
    box.acknowledged(ack(1), 120.0)
    assert box.expires_at == 150.0
    box.disconnected()
    assert box.expires_at == 150.0, "nothing is gained by connecting"
    box.opened(opened(1), 140.0)
    assert box.expires_at == 150.0


def test_a_connection_stalls_only_while_something_is_in_flight():
    box = outbox(stall_timeout_seconds=5)
    box.opened(opened(0), 0.0)
    assert box.stalls_at is None
    box.offer(b"a", 1, 1000.0)
    assert box.stalls_at is None
    box.take()
    assert box.stalls_at == 1005.0
    box.disconnected()
    assert box.stalls_at is None
    box.opened(opened(0), 1010.0)
    box.take()
    assert box.stalls_at == 1015.0, "a new connection gets its own time"


@pytest.mark.parametrize(
    "limits",
    [{"buffered_batches": 0}, {"stall_timeout_seconds": 0}, {"park_timeout_seconds": 1, "stall_timeout_seconds": 2}],
)
def test_impossible_limits_are_named(limits):
    with pytest.raises(ConfigInvalid):
        outbox(**limits)


@given(st.lists(st.sampled_from(["offer", "send", "commit", "ack", "cut", "cut before commit"]), max_size=80))
def test_every_batch_is_committed_once_in_order_whatever_is_cut(script):
    """The log is what a cluster keeps; an acknowledgement may be lost, and batches on the wire too."""
    box = outbox()
    log, wire, acks, results, offers = [], [], [], [], 0
    box.opened(opened(0), 0.0)

    def commit():
        entry = wire.pop(0)
        duplicate = entry.sequence <= len(log)
        if not duplicate:
            log.append(entry.records)
        acks.append(ack(entry.sequence, duplicate))

    for step in [*script, "cut", *["send", "commit", "ack"] * (len(script) + 1)]:
        if step == "offer":
            box.offer(b"%d" % offers, 1, 0.0)
            offers += 1
        elif step == "send" and (entry := box.take()):
            wire.append(entry)
        elif step == "commit" and wire:
            commit()
        elif step == "ack" and acks:
            results.append(box.acknowledged(acks.pop(0), 0.0))
        elif step.startswith("cut"):
            while wire and step == "cut":
                commit()
            wire, acks = [], []
            box.disconnected()
            results += box.opened(opened(len(log)), 0.0)
    assert log == [b"%d" % number for number in range(offers)]
    assert [result.producer_sequence for result in results] == list(range(1, offers + 1))
    assert len(box) == 0
