from itertools import chain

import pytest

from omnirelay.demo.ledger import Ledger, Verdict, judge, longest_gap
from omnirelay.model.position import Cursor
from omnirelay.model.record import Record


def record(producer, serial, value=b"v"):
    return Record(b"k", value, (("ce_id", f"{producer}/{serial}".encode()),))


P = [record("p", serial) for serial in range(6)]
Q = [record("q", serial) for serial in range(6)]
FAULTLESS = Verdict(acknowledged=12, lost=0, duplicated=0, reordered=0, fenced=0, consistent=True)


def verdict(*deliveries, sent=(P, Q), acknowledged=(P, Q)):
    """Of producers p and q, and one cluster for each list of records delivered."""
    ledger = Ledger(["p", "q"], [f"c{number}" for number, _ in enumerate(deliveries)])
    for producer, records, durable in zip("pq", sent, acknowledged, strict=True):
        marks = ledger.send(producer, records)
        ledger.acknowledge(producer, marks[: len(durable)], 0.0)
    for cluster, delivered in zip(ledger.received, deliveries, strict=True):
        ledger.deliver(cluster, Cursor(1, 1), delivered)
    return judge(ledger)


def interleaved():
    return list(chain.from_iterable(zip(P, Q, strict=True)))


def test_everything_is_delivered_once_and_in_order_everywhere():
    assert verdict(interleaved(), interleaved()) == FAULTLESS


def test_lost_counts_acknowledged_records_that_any_cluster_lacks():
    assert verdict(P[1:] + Q, P + Q[:5]).lost == 2


def test_nothing_delivered_is_everything_lost():
    assert verdict([], []).lost == 12


def test_a_record_with_other_content_is_lost_and_inconsistent():
    found = verdict([record("p", 0, b"x"), *P[1:], *Q])
    assert (found.lost, found.consistent) == (1, False)


def test_what_was_not_acknowledged_may_be_missing_or_there():
    assert verdict(P[:4] + Q, acknowledged=(P[:4], Q)).lost == 0
    assert verdict(P[:5] + Q, acknowledged=(P[:4], Q)) == Verdict(10, 0, 0, 0, 0, consistent=True)


def test_what_was_handed_over_before_a_moment_is_known_by_then():
    ledger = Ledger(["p", "q"], ["here"])
    early = ledger.send("p", P[:2], 1.0) + ledger.send("q", Q[:1], 1.5)
    ledger.send("p", P[2:3], 2.0)
    assert ledger.handed_over(2.0) == set(early)


def test_duplicated_counts_records_delivered_twice_at_any_cluster():
    found = verdict([*P, P[3], P[3], *Q], [*P, *Q, Q[0]])
    assert (found.duplicated, found.lost, found.reordered) == (2, 0, 0)


def test_reordered_counts_records_after_a_later_one_of_their_producer():
    found = verdict([P[2], P[0], P[1], *P[3:], *Q])
    assert (found.reordered, found.duplicated, found.lost) == (2, 0, 0)


def test_a_late_duplicate_is_not_reordered():
    assert verdict([*P, P[0], *Q]).reordered == 0


def test_two_orders_of_the_same_records_are_inconsistent():
    assert verdict(P + Q, interleaved()) == Verdict(12, 0, 0, 0, 0, consistent=False)


def test_a_record_that_nobody_sent_is_inconsistent():
    assert not verdict([*P, *Q, record("p", 6)]).consistent


def test_fenced_counts_what_consumers_had_to_take_back():
    ledger = Ledger(["p"], ["c0", "c1"])
    ledger.acknowledge("p", ledger.send("p", P), 0.0)
    for cluster in ledger.received:
        ledger.deliver(cluster, Cursor(1, 1), P[:4])
        ledger.take_back(cluster, Cursor(1, 2))
        ledger.deliver(cluster, Cursor(2, 1), P[2:])
    assert judge(ledger) == Verdict(6, 0, 0, 0, 2, consistent=True)


def test_a_fence_beyond_the_reader_takes_nothing_back():
    ledger = Ledger(["p"], ["c0"])
    ledger.deliver("c0", Cursor(1, 1), P)
    ledger.take_back("c0", Cursor(2, 9))
    assert (len(ledger.received["c0"]), judge(ledger).fenced) == (6, 0)


def test_all_is_delivered_when_every_cluster_has_each_producers_last_record():
    ledger = Ledger(["p", "q"], ["c0", "c1"])
    ledger.send("p", P)
    ledger.send("q", Q)
    ledger.deliver("c0", Cursor(1, 1), P + Q)
    ledger.deliver("c1", Cursor(1, 1), P + Q[:5])
    assert not ledger.all_delivered()
    ledger.deliver("c1", Cursor(1, 12), Q[5:])
    assert ledger.all_delivered()


def test_the_outage_is_that_of_the_producer_who_waited_longest():
    ledger = Ledger(["p", "q"], [])
    for at in (1.0, 1.1, 1.2, 1.9, 2.0):
        ledger.acknowledge("p", [], at)
    for at in (1.0, 1.3, 1.4, 1.5, 2.0):
        ledger.acknowledge("q", [], at)
    assert ledger.outage(1.0, 2.0) == pytest.approx(0.7)


def test_what_was_taken_back_is_not_delivered_any_more():
    ledger = Ledger(["p"], ["c0"])
    ledger.acknowledge("p", ledger.send("p", P), 0.0)
    ledger.deliver("c0", Cursor(1, 1), P)
    assert ledger.all_delivered()
    ledger.take_back("c0", Cursor(1, 4))
    assert not ledger.all_delivered()
    assert judge(ledger).lost == 2


def test_of_a_killed_producer_only_what_was_acknowledged_is_due():
    ledger = Ledger(["p", "q"], ["c0"])
    ledger.acknowledge("p", ledger.send("p", P)[:4], 0.0)
    ledger.deliver("c0", Cursor(1, 1), P[:4])
    assert not ledger.all_delivered()
    ledger.kill("p", 1.0)
    ledger.kill("q", 1.0)
    assert ledger.all_delivered()


def test_a_killed_producers_silence_is_no_outage():
    ledger = Ledger(["p", "q"], [])
    for at in (1.0, 1.5, 2.0, 2.5, 3.0):
        ledger.acknowledge("p", [], at)
    ledger.acknowledge("q", [], 1.0)
    assert ledger.outage(1.0, 3.0) == 2.0
    ledger.kill("q", 1.1)
    assert ledger.outage(1.0, 3.0) == 0.5


def test_a_record_counts_in_the_stretch_in_which_it_was_handed_over():
    ledger = Ledger(["p"], ["c0", "c1"])
    ledger.acknowledge("p", ledger.send("p", P[:2], 1.0), 9.0)
    ledger.acknowledge("p", ledger.send("p", P[2:], 2.0), 9.0)
    ledger.deliver("c0", Cursor(1, 1), [*P, P[5]])
    ledger.deliver("c1", Cursor(1, 1), P[1:])
    assert judge(ledger, end=2.0) == Verdict(2, 1, 0, 0, 0, consistent=False)
    assert judge(ledger, 2.0) == Verdict(4, 0, 1, 0, 0, consistent=False)
    assert judge(ledger, 3.0) == Verdict(0, 0, 0, 0, 0, consistent=True)


def test_a_record_that_nobody_sent_is_inconsistent_in_every_stretch():
    ledger = Ledger(["p"], ["c0"])
    ledger.send("p", P, 1.0)
    ledger.deliver("c0", Cursor(1, 1), [record("p", 9)])
    assert not judge(ledger, 5.0).consistent


def test_writes_are_accepted_when_the_first_producer_learns_of_the_epoch():
    ledger = Ledger(["p", "q"], [])
    ledger.acknowledge("p", [], 1.0, epoch=1)
    assert ledger.accepted_at(2) is None
    ledger.acknowledge("p", [], 5.0, epoch=2)
    ledger.acknowledge("q", [], 4.0, epoch=2)
    assert ledger.accepted_at(2) == 4.0


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([1, 2, 5, 7, 9, 10], 3),
        ([1, 9, 10, 10.5, 12], 8),  # begins before the window: it counts in its whole length
        ([0, 1, 2, 4, 4.5, 20], 15.5),  # and so does one that ends after it
        ([0, 1, 2, 3], 7),  # nothing after the third second: until the window's end
        ([], 8),
    ],
)
def test_longest_gap_in_the_window_from_2_to_10(times, expected):
    assert longest_gap(times, 2, 10) == expected


def test_gaps_outside_the_window_do_not_count():
    assert longest_gap([0, 50, 51, 52, 53, 99], 50, 53) == 1
