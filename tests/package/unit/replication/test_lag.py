"""Lag on one clock, never better than what is known; against a ledger that remembers everything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirelay.replication.lag import (
    UNKNOWN,
    CommitHistory,
    InboundLag,
    Lag,
    ReplicationStatus,
    skew_seconds,
    status_of,
)

# --- what a peer lacks of this cluster's log ----------------------------------------------------------------------


class Ledger:
    """Every commit, and the lag by its definition."""

    def __init__(self, sequence, size):
        self.start = (sequence, size)
        self.commits = []

    def lag(self, acknowledged, now):
        missing = [commit for commit in self.commits if commit[0] > acknowledged]
        if not missing:
            return Lag(0, 0, 0.0)
        head, head_size, _ = self.commits[-1]
        held_size = next((size for end, size, _ in self.commits if end == acknowledged), self.start[1])
        return Lag(head - acknowledged, head_size - held_size, now - missing[0][2])


commits = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 100), st.integers(0, 10)), max_size=30)
"""Records, bytes, seconds since the commit before."""


def recorded(batches, capacity=1000, sequence=7, size=70):
    history, ledger, now = CommitHistory(sequence, size, capacity), Ledger(sequence, size), 0.0
    for records, weight, passed in batches:
        now += passed
        sequence, size = sequence + records, size + weight
        history.committed(sequence, size, now)
        ledger.commits.append((sequence, size, now))
    return history, ledger, now


def ends(ledger):
    return [ledger.start[0], *(end for end, _, _ in ledger.commits)]


@given(commits, st.integers(0, 50))
def test_fm17_the_sender_s_figure_is_exact(batches, later):
    history, ledger, now = recorded(batches)
    for acknowledged in ends(ledger):
        assert history.measure(acknowledged, now + later) == ledger.lag(acknowledged, now + later)


@given(commits, st.integers(2, 6), st.integers(0, 50))
def test_a_thinned_history_is_bounded_and_never_shows_too_little(batches, capacity, later):
    history, ledger, now = recorded(batches, capacity)
    for acknowledged in ends(ledger):
        found, true = history.measure(acknowledged, now + later), ledger.lag(acknowledged, now + later)
        assert found.records == true.records
        assert found.size >= true.size
        assert found.seconds >= true.seconds
        assert found.level == true.level
    kept = {history.measure(acknowledged, now).size for acknowledged in ends(ledger)}
    assert len(kept) <= capacity + 1, "as many steps as are kept, and the head"


@given(commits, st.data())
def test_forgetting_what_all_peers_hold_changes_no_figure_beyond_it(batches, data):
    history, ledger, now = recorded(batches)
    confirmed = data.draw(st.sampled_from(ends(ledger)))
    history.forget(confirmed)
    for acknowledged in ends(ledger):
        if acknowledged >= confirmed:
            assert history.measure(acknowledged, now) == ledger.lag(acknowledged, now)


@given(commits, st.integers(0, 3))
def test_fm16_what_lies_before_the_history_is_unknown_but_for_its_count(batches, before):
    history, ledger, now = recorded(batches)
    behind = ledger.start[0] - 1 - before
    head = ends(ledger)[-1]
    assert history.measure(behind, now) == Lag(head - behind, None, None)


def test_an_old_backlog_that_was_looked_up_is_known_from_there_on():
    history = CommitHistory(sequence=10, size=100)
    history.committed(12, 130, now=50.0)
    history.older(after=4, size=30, committed_at=20.0)
    assert history.base == 4
    assert history.measure(4, now=60.0) == Lag(8, 100, 40.0)
    assert history.measure(10, now=60.0) == Lag(2, 30, 10.0)
    assert history.measure(7, now=60.0) == Lag(5, 100, 40.0), "between the two: no less than the truth"
    assert history.measure(3, now=60.0) == Lag(9, None, None)


def test_looking_up_less_than_is_known_changes_nothing():
    history = CommitHistory(sequence=10, size=100)
    history.older(after=10, size=999, committed_at=0.0)
    history.committed(11, 110, now=5.0)
    assert history.measure(10, now=6.0) == Lag(1, 10, 1.0)


def test_a_commit_that_is_told_twice_counts_once():
    history = CommitHistory(0, 0)
    history.committed(3, 30, now=1.0)
    history.committed(3, 30, now=9.0)
    assert history.measure(0, now=10.0) == Lag(3, 30, 9.0)


def test_fm17_a_reading_before_the_commit_is_0_and_not_negative():
    history = CommitHistory(0, 0)
    history.committed(1, 10, now=5.0)
    assert history.measure(0, now=4.0).seconds == 0.0


# --- what this cluster lacks of a peer's log ----------------------------------------------------------------------

FRESH = 2.0


def test_fm16_before_the_first_contact_everything_is_unknown():
    assert InboundLag().measure(now=1e9, fresh_seconds=FRESH) == UNKNOWN


def test_fm15_idle_and_level_with_fresh_contact_is_0():
    lag = InboundLag()
    lag.durable(applied=8, applied_size=80, now=1.0)
    for now in (1.0, 2.0, 3.0):
        lag.heard(head=8, head_size=80, now=now)
    assert lag.measure(4.0, FRESH) == Lag(0, 0, 0.0)


def test_fm18_after_a_while_of_silence_only_the_growing_time_is_known():
    lag = InboundLag()
    lag.heard(head=0, head_size=0, now=10.0)
    assert lag.measure(12.0, FRESH) == Lag(0, 0, 0.0)
    assert lag.measure(12.5, FRESH) == Lag(None, None, 2.5)
    assert lag.measure(70.0, FRESH) == Lag(None, None, 60.0)


def test_behind_is_counted_from_when_both_were_level():
    lag = InboundLag()
    lag.heard(head=0, head_size=0, now=10.0)
    lag.heard(head=5, head_size=50, now=11.0)
    lag.durable(applied=2, applied_size=20, now=11.5)
    assert lag.measure(12.0, FRESH) == Lag(3, 30, 2.0)
    lag.durable(applied=5, applied_size=50, now=12.0)
    assert lag.measure(12.0, FRESH) == Lag(0, 0, 0.0)


def test_fm16_never_level_since_the_start_leaves_the_time_unknown():
    lag = InboundLag()
    lag.heard(head=5, head_size=50, now=10.0)
    assert lag.measure(10.0, FRESH) == Lag(5, 50, None)


def test_a_batch_that_has_arrived_and_is_not_durable_counts_as_missing():
    lag = InboundLag()
    lag.heard(head=0, head_size=0, now=10.0)
    lag.arrived(sequence=3, size=30, now=10.5)
    assert (lag.measure(10.5, FRESH).records, lag.measure(10.5, FRESH).size) == (3, 30)
    lag.heard(head=3, head_size=30, now=11.0)
    lag.arrived(sequence=2, size=10, now=11.1)
    assert lag.measure(11.1, FRESH).size == 30, "an older one adds nothing"


happenings = st.lists(
    st.tuples(st.sampled_from(["heard", "arrived", "durable"]), st.integers(0, 20), st.integers(0, 5)), max_size=30
)


@given(happenings, st.integers(0, 10))
def test_fm17_inbound_lag_is_never_negative_and_never_too_small(events, later):
    """The true figures by a ledger of when each sequence was first heard of, which is no earlier than its commit."""
    lag, now, head, applied, heard_at = InboundLag(), 0.0, 0, 0, {}
    for name, sequence, passed in events:
        now += passed
        if name == "durable":
            applied = max(applied, sequence)
            lag.durable(sequence, sequence * 10, now)
        else:
            heard_at |= dict.fromkeys(range(head + 1, sequence + 1), now)
            head = max(head, sequence)
            lag.heard(sequence, sequence * 10, now) if name == "heard" else lag.arrived(sequence, 10, now)
    now += later
    found = lag.measure(now, FRESH)
    assert found.records in (None, max(0, head - applied))
    assert found.size is None or found.size >= 0
    missing = [at for s, at in heard_at.items() if s > applied]
    if missing and found.seconds is not None:
        assert found.seconds >= now - min(missing)
    if found.seconds is not None:
        assert found.seconds >= 0


@given(happenings, st.lists(st.integers(1, 100), min_size=2, max_size=5))
def test_fm18_while_nothing_is_heard_the_time_only_grows(events, pauses):
    lag, now = InboundLag(), 0.0
    lag.heard(0, 0, now)
    for name, sequence, passed in events:
        now += passed
        {
            "heard": lambda s, n: lag.heard(s, s, n),
            "arrived": lambda s, n: lag.arrived(s, 1, n),
            "durable": lambda s, n: lag.durable(s, s, n),
        }[name](sequence, now)
    shown = []
    for pause in pauses:
        now += FRESH + pause
        shown.append(lag.measure(now, FRESH).seconds)
    assert shown == sorted(shown)
    assert len(set(shown)) == len(shown)


# --- one word for a link ------------------------------------------------------------------------------------------

LEVEL, BEHIND = Lag(0, 0, 0.0), Lag(9, 90, 4.0)


@pytest.mark.parametrize(
    ("connected", "ever", "silent", "lag", "status"),
    [
        (False, False, None, UNKNOWN, ReplicationStatus.UNKNOWN),
        (False, True, 0.1, LEVEL, ReplicationStatus.DISCONNECTED),
        (True, True, None, LEVEL, ReplicationStatus.STALLED),
        (True, True, 2.1, LEVEL, ReplicationStatus.STALLED),
        (True, True, 2.0, LEVEL, ReplicationStatus.STREAMING),
        (True, True, 0.1, UNKNOWN, ReplicationStatus.UNKNOWN),
        (True, True, 0.1, BEHIND, ReplicationStatus.CATCHING_UP),
        (True, True, 0.1, Lag(9, 90, None), ReplicationStatus.CATCHING_UP),
        (True, True, 0.1, Lag(9, 90, 1.0), ReplicationStatus.STREAMING),
    ],
)
def test_status(connected, ever, silent, lag, status):
    assert status_of(connected, ever, silent, 2.0, lag, 1.0) is status


# --- clocks -------------------------------------------------------------------------------------------------------


@given(st.integers(-60_000, 60_000), st.integers(0, 500), st.integers(0, 500), st.integers(0, 1000))
def test_fm17_skew_is_found_within_half_the_round_trip(ahead_ms, there_ms, back_ms, pause_ms):
    sent = 1_000_000
    received = sent + there_ms + ahead_ms
    answered = received + pause_ms
    answer_received = answered - ahead_ms + back_ms
    found = skew_seconds(sent, received, answered, answer_received)
    assert abs(found - ahead_ms / 1000) <= (there_ms + back_ms) / 2000 + 1e-9


def test_fm16_one_heartbeat_tells_of_no_rate_and_the_second_of_all_of_it():
    lag = InboundLag()
    assert lag.rate is None
    lag.heard(1000, 0, 10.0)
    assert lag.rate is None, "it may have grown by that in a second or in a year"
    lag.heard(1050, 0, 10.5)
    assert lag.rate == 100.0
    lag.heard(1050, 0, 11.0)
    assert lag.rate == 90.0
