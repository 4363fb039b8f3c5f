"""The ledgers that the other tests judge by: each figure can be other than what a healthy mesh shows."""

from __future__ import annotations

from tests.system.support.ledgers import Comparison, ConsumingLedger, ProducingLedger, compare


def ledgers(*delivered: list[int]) -> Comparison:
    """Four records were acknowledged, a fifth was sent; each list is what one cluster delivered, by number."""
    produced = ProducingLedger()
    for _ in range(4):
        produced.acknowledged(produced.sending("p", 1))
    produced.sending("p", 1)
    consumed = {str(i): ConsumingLedger(str(i)) for i in range(len(delivered))}
    for ledger, numbers in zip(consumed.values(), delivered, strict=True):
        ledger.deliver(b"p#%d#" % number for number in numbers)
    return compare(produced, consumed)


def test_all_delivered_once_in_order_everywhere_is_faultless() -> None:
    assert ledgers([1, 2, 3, 4], [1, 2, 3, 4]).faultless


def test_an_unacknowledged_record_may_be_delivered_or_not_but_alike_everywhere() -> None:
    assert ledgers([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]).faultless
    assert not ledgers([1, 2, 3, 4, 5], [1, 2, 3, 4]).consistent


def test_a_record_that_one_cluster_lacks_is_lost() -> None:
    assert ledgers([1, 2, 3, 4], [1, 2, 4]).lost == 1


def test_a_record_delivered_twice_is_duplicated_and_not_reordered() -> None:
    seen = ledgers([1, 2, 2, 3, 2, 4])
    assert (seen.duplicated, seen.reordered) == (2, 0)


def test_a_record_after_a_later_one_is_reordered() -> None:
    assert ledgers([1, 3, 2, 4]).reordered == 1


def test_a_record_that_nobody_sent_is_invented() -> None:
    assert ledgers([1, 2, 3, 4, 9]).invented == 1


def test_nothing_acknowledged_proves_nothing() -> None:
    assert not compare(ProducingLedger(), {"a": ConsumingLedger("a")}).faultless


def test_a_gap_is_the_time_between_two_acknowledgements() -> None:
    produced = ProducingLedger()
    for at in (10.0, 10.5, 13.0):
        sending = produced.sending("p", 1)
        sending.acknowledged_at = at
    assert produced.gaps() == [0.5, 2.5]
    assert produced.longest_gap == 2.5
