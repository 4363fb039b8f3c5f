"""A peer's progress, as scripts whose whole trace is compared, and as properties over random exchanges."""

from hypothesis import given
from hypothesis import strategies as st
from tests.package.unit.replication.support import a_header, a_log, sealed

from omnirelay.model.version_vector import VersionVector
from omnirelay.replication.progress import PeerProgress

WEIGHT = a_log(counts=(1,))[0].size
"""Of the batches in these scripts; credit is given in such units."""


class Sender:
    """Sends from whole logs as the replicator does: reads some batches, then sends those that are still due."""

    def __init__(self, applied=None, credit=10, origins=("a",), lengths=None):
        self.logs = {o: a_log(o, (1,) * n) for o, n in (lengths or {"a": 5}).items()}
        self.progress = PeerProgress(VersionVector(applied), credit * WEIGHT, origins)
        self.trace = []

    @property
    def heads(self):
        return VersionVector({origin: len(log) for origin, log in self.logs.items()})

    def read(self, most=2):
        """The next reading, not yet sent; None when there is nothing to send."""
        wanted = self.progress.next_read(self.heads)
        if wanted is None:
            return None
        origin, after, credit = wanted
        return self.logs[origin][after : after + max(1, min(most, credit // WEIGHT))]

    def send(self, batches):
        for batch in batches or ():
            if not self.progress.due(batch):
                break
            self.progress.sent(batch)
            self.trace.append(f"{batch.header.origin}{batch.header.first_sequence}")

    def pump(self, most=2):
        """Sends until there is nothing to send or no credit; returns what was sent."""
        before = len(self.trace)
        while (batches := self.read(most)) is not None:
            self.send(batches)
        return " ".join(self.trace[before:]) or "-"

    def acknowledge(self, credit=0, **durable):
        self.progress.acknowledged(VersionVector(durable), credit * WEIGHT)


def script(sender, *lines):
    """Runs `pump`, `ack a=3 +2`, `want a b` and gives what each line led to."""
    told = []
    for line in lines:
        verb, *words = line.split()
        if verb == "ack":
            durable = {o: int(n) for o, _, n in (w.partition("=") for w in words if "=" in w)}
            credit = sum(int(w) for w in words if w.startswith("+"))
            sender.acknowledge(credit, **durable)
        elif verb == "want":
            sender.progress.interest(words)
        told.append(f"{line} → {sender.pump()}")
    return told


def test_script_catching_up_on_credit():
    assert script(
        Sender({"a": 1}, credit=2, lengths={"a": 7}),
        "pump",
        "pump",
        "ack a=2 +1",
        "ack a=4 +2",
        "ack a=6 +9",
        "ack a=7 +1",
    ) == [
        "pump → a2 a3",
        "pump → -",
        "ack a=2 +1 → a4",
        "ack a=4 +2 → a5 a6",
        "ack a=6 +9 → a7",
        "ack a=7 +1 → -",
    ]


def test_script_a_relay_serves_an_origin_until_its_own_link_is_back():
    assert script(
        Sender({"b": 2}, lengths={"a": 2, "b": 4}),
        "pump",
        "want a b",
        "want a",
        "ack a=2 b=3",
        "want a b",
    ) == [
        "pump → a1 a2",
        "want a b → b3 b4",
        "want a → -",
        "ack a=2 b=3 → -",
        # Wanted anew: b4 was sent, but the receiver does not hold it.
        "want a b → b4",
    ]


def test_script_origins_take_turns():
    assert script(
        Sender(credit=100, origins=("a", "b", "c"), lengths={"a": 5, "b": 3, "c": 1}),
        "pump",
    ) == ["pump → a1 a2 b1 b2 c1 a3 a4 b3 a5"]


def test_nothing_is_sent_without_credit():
    sender = Sender(credit=0)
    assert sender.pump() == "-"
    sender.acknowledge(credit=1)
    assert sender.pump() == "a1"


def test_an_origin_that_is_not_wanted_is_not_sent():
    assert Sender(origins=(), lengths={"a": 3}).pump() == "-"


def test_an_acknowledgement_does_not_take_back_an_earlier_one():
    sender = Sender()
    sender.acknowledge(a=3)
    sender.acknowledge(a=1)
    assert sender.progress.durable["a"] == 3
    assert sender.pump() == "a4 a5"


def test_a_relay_may_be_faster_than_a_reading():
    """The receiver confirms from elsewhere what was read and not yet sent: the rest of the reading is not due."""
    sender = Sender(lengths={"a": 5})
    reading = sender.read(most=4)
    sender.acknowledge(a=3)
    sender.send(reading)
    assert sender.trace == []
    assert sender.pump() == "a4 a5"


def test_an_interest_declared_anew_in_mid_reading_leaves_no_gap():
    sender = Sender(lengths={"a": 6})
    assert sender.pump(most=9) == "a1 a2 a3 a4 a5 a6"
    sender.logs["a"] = a_log("a", (1,) * 8)
    reading = sender.read()
    sender.progress.interest([])
    sender.progress.interest(["a"])
    sender.send(reading)
    assert sender.pump() == "a1 a2 a3 a4", "as far as the credit goes"


def test_what_is_no_longer_wanted_is_not_sent_though_it_was_read():
    sender = Sender(lengths={"a": 3})
    reading = sender.read()
    sender.progress.interest([])
    sender.send(reading)
    assert sender.trace == []


def test_an_origin_named_twice_gets_one_turn():
    assert Sender(origins=("a", "b", "a"), lengths={"a": 4, "b": 2}).progress.origins == ("a", "b")


# --- any exchange -------------------------------------------------------------------------------------------------

steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(1, 4)),
        st.tuples(st.just("send"), st.none()),
        st.tuples(st.just("acknowledge"), st.tuples(st.sampled_from("abc"), st.integers(0, 8), st.integers(0, 3))),
        st.tuples(st.just("want"), st.lists(st.sampled_from("abc"), unique=True)),
    ),
    max_size=40,
)


@given(steps)
def test_no_batch_twice_no_gap_and_no_more_than_credit_allows(exchange):
    """Whatever happens between a reading and its sending. `beyond` is where the next batch of an origin must start."""
    sender = Sender(credit=3, origins=("a", "b"), lengths={"a": 8, "b": 8, "c": 8})
    granted, reading, wanted = 3, None, {"a", "b"}
    sent = dict.fromkeys("abc", 0)
    durable = dict.fromkeys("abc", 0)
    for name, argument in exchange:
        if name == "read":
            reading = sender.read(argument)
        elif name == "send":
            already = len(sender.trace)
            sender.send(reading)
            for label in sender.trace[already:]:
                origin, sequence = label[0], int(label[1:])
                assert origin in wanted
                assert sequence == sent[origin] + 1, "twice, or a gap"
                sent[origin] = sequence
            reading = None
        elif name == "acknowledge":
            origin, upto, credit = argument
            granted += credit
            sender.acknowledge(credit, **{origin: upto})
            durable[origin] = max(durable[origin], upto)
            sent[origin] = max(sent[origin], upto)
        else:
            sender.progress.interest(argument)
            for origin in set(argument) - wanted:
                sent[origin] = durable[origin]
            wanted = set(argument)
    assert len(sender.trace) <= granted


@given(st.integers(1, 2000), st.lists(st.integers(0, 500), min_size=1, max_size=8))
def test_credit_is_exceeded_by_less_than_one_batch(credit, sizes):
    log = [sealed(a_header(first=n), records=bytes(size)) for n, size in enumerate(sizes, 1)]
    progress, left = PeerProgress(VersionVector(), credit, ("a",)), credit
    while (wanted := progress.next_read(VersionVector({"a": len(log)}))) is not None:
        origin, after, allowed = wanted
        assert (origin, allowed) == ("a", left)
        assert left > 0
        progress.sent(log[after])
        left -= log[after].size
    assert left <= 0 or progress.next_read(VersionVector({"a": len(log) + 1})) == ("a", len(log), left)


@given(st.permutations("abc"), st.integers(1, 6))
def test_fairness_no_origin_gets_a_second_turn_before_every_other_had_one(order, length):
    sender = Sender(credit=1000, origins=order, lengths=dict.fromkeys("abc", length))
    sender.pump(most=1)
    turns = [label[0] for label in sender.trace]
    assert turns == list(order) * length
