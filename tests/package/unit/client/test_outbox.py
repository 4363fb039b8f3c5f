import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnirelay.client.errors import AcknowledgedMissing, ProducerIdInUse
from omnirelay.client.outbox import Opened, Outbox, OutboxLimits, PublishResult
from omnirelay.errors import ConfigInvalid, Overloaded, Unreachable


def outbox(durability="local", **limits):
    return Outbox("p1", OutboxLimits(**limits), durability)


def opened(last, epoch=1, cluster="us-east"):
    return Opened(cluster, epoch, last)


def ack(sequence, duplicate=False):
    return PublishResult(sequence, 0, "us-east", 1, duplicate=duplicate)


def taken(box):
    return [entry.sequence for entry in iter(box.take, None)]


def offered(count, durability="local", **limits):
    box = outbox(durability, **limits)
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
    (result,) = box.acknowledged(ack(1), 2.0)
    assert (result.count, result.durability, len(box)) == (10, "local", 0)


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


def acknowledged(count, durability="local", **limits):
    """So many batches, all acknowledged; the connection is still open."""
    box = offered(count, durability, **limits)
    box.opened(opened(0), 1.0)
    for sequence in taken(box):
        box.acknowledged(ack(sequence), 1.0)
    return box


# --- what is kept -------------------------------------------------------------------------------------------------


def test_what_a_new_active_lacks_is_sent_again_before_anything_else():
    box = acknowledged(3)
    box.offer(b"in flight", 1, 1.0)
    taken(box)
    box.disconnected()
    box.offer(b"new", 1, 2.0)
    assert box.opened(opened(1, epoch=2, cluster="eu-west"), 3.0) == []
    assert (box.kept, taken(box)) == (3, [2, 3, 4, 5])


def test_the_application_is_told_once_of_a_batch_that_is_acknowledged_twice():
    box = acknowledged(2)
    box.disconnected()
    box.opened(opened(0), 2.0)
    taken(box)
    assert [box.acknowledged(ack(sequence), 3.0) for sequence in (1, 2)] == [[], []]
    assert (len(box), box.kept, box.unacknowledged) == (0, 2, None)


def test_what_was_replayed_before_it_is_sent_again_is_a_duplicate_and_nobody_elses():
    """An operator may publish a fenced batch again under its producer's number."""
    box = acknowledged(1)
    box.disconnected()
    box.opened(opened(0), 2.0)
    taken(box)
    assert box.acknowledged(ack(1, duplicate=True), 3.0) == []
    assert box.kept == 1


def test_what_may_be_sent_again_ends_with_what_was_sent_by_this_process():
    box = outbox()
    assert box.resends_to == 0
    box.opened(opened(4), 0.0)
    assert box.resends_to == 0, "what an earlier process sent is that one's"
    box.offer(b"x", 1, 0.0)
    taken(box)
    box.disconnected()
    assert box.resends_to == 5


def test_what_is_remote_is_not_kept():
    box = acknowledged(3)
    assert box.remote(2, 2.0) == []
    assert (box.kept, box.at_risk) == (1, 0)


def test_what_exceeds_the_bound_is_at_risk_until_it_is_remote():
    box = acknowledged(5, kept_batches=2)
    assert (box.kept, box.at_risk) == (2, 3)
    box.remote(2, 2.0)
    assert (box.kept, box.at_risk) == (2, 1)
    box.remote(5, 2.0)
    assert (box.kept, box.at_risk) == (0, 0)


def test_bytes_are_bounded_too():
    assert acknowledged(5, kept_bytes=12).kept == 2


def test_who_keeps_nothing_risks_everything_that_is_not_remote():
    box = acknowledged(3, kept_batches=0)
    assert (box.kept, box.at_risk) == (0, 3)


def test_what_an_earlier_process_sent_is_not_at_risk_of_this_one():
    box = offered(2, kept_batches=1)
    box.opened(opened(7), 1.0)
    for sequence in taken(box):
        box.acknowledged(ack(sequence), 1.0)
    assert box.at_risk == 1


@pytest.mark.parametrize(("remote", "at_risk"), [(0, 3), (2, 1), (3, 0)])
def test_a_cluster_that_lacks_what_was_acknowledged_and_is_not_kept_ends_it(remote, at_risk):
    box = acknowledged(5, kept_batches=2)
    box.remote(remote, 1.0)
    box.disconnected()
    with pytest.raises(AcknowledgedMissing) as caught:
        box.opened(opened(0), 2.0)
    assert caught.value.details == {
        "producer_id": "p1", "last_producer_sequence": 0, "missing": 3, "at_risk": at_risk, "kept": 2,
    }  # fmt: skip


def test_the_same_with_nothing_waiting():
    box = acknowledged(1)
    box.remote(1, 1.0)
    box.disconnected()
    with pytest.raises(AcknowledgedMissing):
        box.opened(opened(0), 2.0)


def test_a_cluster_may_not_call_remote_what_it_has_not_acknowledged():
    box = acknowledged(1)
    box.offer(b"batch", 1, 1.0)
    taken(box)
    with pytest.raises(Unreachable):
        box.remote(2, 2.0)


def test_a_new_active_says_again_what_is_remote():
    box = acknowledged(3)
    box.disconnected()
    box.opened(opened(3), 2.0)
    box.remote(3, 2.0)
    assert box.kept == 0


# --- waiting for remote -------------------------------------------------------------------------------------------


def test_with_remote_durability_the_application_is_told_when_a_batch_is_remote():
    box = acknowledged(3, "remote")
    assert (len(box), box.unacknowledged, box.kept) == (3, (1, 3), 3)
    results = box.remote(2, 2.0)
    assert [(r.producer_sequence, r.count, r.durability) for r in results] == [(1, 10, "remote"), (2, 11, "remote")]
    assert (len(box), box.unacknowledged) == (1, (3, 3))


def test_what_waits_to_be_remote_is_buffered_and_never_dropped():
    box = acknowledged(2, "remote", buffered_batches=2, kept_batches=0)
    assert (box.has_room(1), box.at_risk) == (False, 0)
    box.remote(1, 2.0)
    assert box.has_room(1)


def test_what_was_found_on_reopening_waits_to_be_remote_too():
    box = offered(2, "remote")
    box.opened(opened(0), 1.0)
    taken(box)
    box.disconnected()
    assert box.opened(opened(2), 2.0) == []
    assert [(r.producer_sequence, r.duplicate, r.durability) for r in box.remote(2, 3.0)] == [
        (1, True, "remote"),
        (2, True, "remote"),
    ]


def test_patience_counts_from_what_the_application_was_told():
    box = acknowledged(2, "remote", park_timeout_seconds=30)
    assert box.expires_at == 30.0, "an acknowledgement is not what it waits for"
    box.remote(1, 20.0)
    assert box.expires_at == 50.0


# --- trust --------------------------------------------------------------------------------------------------------


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
    assert box.acknowledged(ack(1, duplicate=True), 2.0)[0].duplicate


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
    [
        {"buffered_batches": 0},
        {"kept_bytes": -1},
        {"stall_timeout_seconds": 0},
        {"park_timeout_seconds": 1, "stall_timeout_seconds": 2},
    ],
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
            results += box.acknowledged(acks.pop(0), 0.0)
        elif step.startswith("cut"):
            while wire and step == "cut":
                commit()
            wire, acks = [], []
            box.disconnected()
            results += box.opened(opened(len(log)), 0.0)
    assert log == [b"%d" % number for number in range(offers)]
    assert [result.producer_sequence for result in results] == list(range(1, offers + 1))
    assert len(box) == 0


class Failing:
    """A mesh whose active may be lost at any moment, a producer, and everything on the way between them.

    `log` is what is valid; the first `replicated` batches of it are in the prefix of the best other cluster, which is
    the one that is promoted. One remote copy bears one loss: the next comes when what was called remote is so again.
    """

    def __init__(self, durability, **limits):
        self.box = outbox(durability, **limits)
        self.log, self.replicated, self.offers = [], 0, 0
        self.called_remote = 0
        self.results = []
        self.reopen()

    def reopen(self):
        self.wire, self.answers = [], []
        self.box.disconnected()
        self.results += self.box.opened(opened(len(self.log)), 0.0)
        self.report()

    def report(self):
        """What the active knows of its peer, told behind the acknowledgements."""
        self.answers.append(self.replicated)
        self.called_remote = max(self.called_remote, self.replicated)

    def offer(self):
        self.box.offer(b"%d" % self.offers, 1, 0.0)
        self.offers += 1

    def send(self):
        if entry := self.box.take():
            self.wire.append(entry)

    def commit(self):
        if self.wire:
            entry = self.wire.pop(0)
            assert entry.sequence <= len(self.log) + 1, "never out of order"
            duplicate = entry.sequence <= len(self.log)
            if not duplicate:
                self.log.append(entry.records)
            self.answers.append(ack(entry.sequence, duplicate))

    def replicate(self):
        self.replicated = min(self.replicated + 1, len(self.log))
        self.report()

    def answer(self):
        if self.answers:
            said = self.answers.pop(0)
            self.results += self.box.remote(said, 0.0) if isinstance(said, int) else self.box.acknowledged(said, 0.0)

    def cut(self):
        self.reopen()

    def lose(self):
        """The active, with everything that the best of the others lacks."""
        if self.replicated < self.called_remote:
            return
        del self.log[self.replicated :]
        self.replicated = 0
        self.reopen()

    def end(self):
        self.reopen()
        for _ in range(2 * self.offers + 1):
            for step in (self.send, self.commit, self.replicate, self.answer, self.answer):
                step()
        while self.answers:
            self.answer()


scripts = st.lists(
    st.sampled_from(["offer", "offer", "send", "send", "commit", "commit", "answer", "replicate", "cut", "lose"]),
    max_size=100,
)


@pytest.mark.parametrize("durability", ["local", "remote"])
@settings(max_examples=300)
@given(script=scripts)
def test_while_the_producer_lives_every_batch_is_valid_once_in_order(durability, script):
    mesh = Failing(durability)
    for step in script:
        getattr(mesh, step)()
    mesh.end()
    assert mesh.log == [b"%d" % number for number in range(mesh.offers)]
    assert [result.producer_sequence for result in mesh.results] == list(range(1, mesh.offers + 1))
    assert {result.durability for result in mesh.results} <= {durability}
    assert (len(mesh.box), mesh.box.kept, mesh.box.at_risk) == (0, 0, 0)


@settings(max_examples=300)
@given(script=scripts)
def test_what_a_full_producer_had_to_drop_is_all_that_a_loss_can_cost_and_is_counted(script):
    mesh = Failing("local", kept_batches=1)
    at_risk, lost = 0, None
    try:
        for step in script:
            at_risk = mesh.box.at_risk
            getattr(mesh, step)()
        mesh.end()
    except AcknowledgedMissing as error:
        lost = error.details
    if lost:
        assert 0 < lost["missing"] == lost["at_risk"] <= at_risk
    else:
        assert mesh.log == [b"%d" % number for number in range(mesh.offers)]
        assert [result.producer_sequence for result in mesh.results] == list(range(1, mesh.offers + 1))
