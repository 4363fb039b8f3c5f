"""What an emergency would lose, told before anybody decides, and what it cut off, told afterwards."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.package.unit.failover.disasters import (
    CUTS,
    EMERGENCY,
    a_survivor,
    a_view_of_the_source,
    both,
    disaster,
    fenced,
    predictions,
    promoted,
    with_survivor,
    with_view,
)
from tests.package.unit.failover.support import ROUTING, a_descriptor, a_report

from omnirelay.coordination.limits import check_transaction
from omnirelay.errors import LossNotAccepted, LossUnknown
from omnirelay.failover import emergency_workflow, loss
from omnirelay.failover.divergence import Divergence, Fate, FencedBatch
from omnirelay.failover.evidence import LastReport, LeaseClaim
from omnirelay.failover.loss import Tail, best_prefix, cut_off, in_reach, manifest, never_less, require_acceptance
from omnirelay.failover.record import Grade, LossPrediction, LossRange
from omnirelay.failover.report import measured_loss_records
from omnirelay.model.position import START, Cursor
from omnirelay.model.routing import Ownership, Route, RoutingDocument
from omnirelay.model.version_vector import VersionVector
from omnirelay.ports.coordination import Put
from omnirelay.runtime.documents import FAILOVERS

CLAIMED = {"default": LeaseClaim("us-east", 3)}


def the_prediction(evidence=None, request=EMERGENCY) -> LossPrediction:
    [found] = predictions(evidence, request)
    return found


def silent_for(seconds):
    last = a_view_of_the_source(seconds).last_contact_ms
    return both(*(with_view(cluster, last_contact_ms=last) for cluster in ("eu-west", "ap-south")))


class TestPrediction:
    def test_what_is_known_and_what_was_not_heard_are_told_apart(self):
        assert the_prediction() == LossPrediction(
            origin="us-east",
            held=40,
            heard=43,
            known_records=3,
            known_bytes=300,
            unheard_seconds=5.5,  # 5 s when it reported, and the report is 0.5 s old
            unheard_records=11,
        )
        assert the_prediction().records == 14

    def test_who_holds_most_counts(self):
        ahead = with_survivor("ap-south", vector={"us-east": 42}, sizes={"us-east": 4200})
        found = the_prediction(ahead(disaster()))
        assert (found.held, found.known_records, found.known_bytes) == (42, 1, 100)

    def test_who_heard_most_counts(self):
        assert the_prediction(with_view("ap-south", heard=50, heard_bytes=5000)(disaster())).known_records == 10

    def test_who_heard_last_counts(self):
        last = a_view_of_the_source(1.0).last_contact_ms
        assert the_prediction(with_view("ap-south", last_contact_ms=last)(disaster())).unheard_seconds == 1.5

    def test_the_highest_rate_that_anyone_saw_counts(self):
        assert the_prediction(with_view("ap-south", heard_rate=4.0)(disaster())).unheard_records == 22

    def test_fm08_a_source_whose_claim_has_ended_admitted_nothing_since(self):
        ended = disaster(unclaimed_seconds={"default": 590.0, "orders": 595.0})
        found = the_prediction(silent_for(600)(ended))
        assert (found.unheard_seconds, found.unheard_records) == (10.5, 21)

    def test_a_source_that_no_cluster_could_hear_may_have_admitted_until_its_claim_ended(self):
        """One ttl was counted, although the links to it had been cut for ten minutes."""
        assert the_prediction(silent_for(600)(disaster())).unheard_seconds == 600.5

    def test_a_source_that_still_reported_was_heard_of(self):
        evidence = both(silent_for(600), with_view("ap-south", silent_seconds=3.0))(disaster())
        assert the_prediction(evidence).unheard_seconds == 3.5
        own = LastReport(a_report("us-east"), 2.0)
        assert the_prediction(replace(evidence, last_reports={"us-east": own})).unheard_seconds == 2.0

    def test_a_source_that_still_claims_may_have_admitted_all_the_time(self):
        found = the_prediction(silent_for(600)(disaster(leases=CLAIMED)))
        assert (found.unheard_seconds, found.unheard_records) == (600.5, 1201)

    def test_another_cluster_s_claim_is_not_the_source_s(self):
        taken = disaster(leases={"default": LeaseClaim("eu-west", 3)})
        ended = replace(taken, unclaimed_seconds={"default": 600.5, "orders": 600.5})
        assert the_prediction(silent_for(600)(ended)).unheard_seconds == 0

    def test_fm17_clocks_that_jump_make_no_negative_time(self):
        assert the_prediction(silent_for(-60)(disaster())).unheard_seconds == 0

    def test_the_source_s_own_report_tells_what_it_wrote(self):
        own = a_report("us-east", vector={"us-east": 60}, sizes={"us-east": 6000})
        found = the_prediction(disaster(last_reports={"us-east": LastReport(own, 30.0)}))
        assert (found.held, found.heard, found.known_records, found.known_bytes) == (40, 60, 20, 2000)

    def test_what_a_plan_knew_counts_when_it_is_begun_by_one_who_knows_less(self):
        """It was predicted again without the report that had ended meanwhile, and the loss seemed to be smaller."""
        planned = replace(the_prediction(), heard=60, known_records=20, known_bytes=2000)
        assert never_less([the_prediction()], [planned]) == (replace(planned),)
        further = replace(the_prediction(), held=41, known_records=2)
        assert never_less([further], [planned]) == (replace(further, heard=60, known_records=19, known_bytes=None),)
        assert never_less([planned], [the_prediction()]) == (planned,)
        assert never_less([planned], []) == (planned,)

    def test_two_namespaces_in_one_log_are_one_prediction(self):
        both_of_them = predictions()
        one = predictions(request=replace(EMERGENCY, namespaces=("orders",)))
        assert [p.origin for p in both_of_them] == ["us-east"]
        assert both_of_them == one

    def test_bytes_that_nobody_can_tell_are_unknown(self):
        assert the_prediction(both(*(with_view(c, heard_bytes=None) for c in ("eu-west", "ap-south")))(disaster())) == (
            replace(the_prediction(), known_bytes=None)
        )

    @pytest.mark.parametrize("age", [4.1, None])
    def test_fm16_an_old_report_is_nobody_s_word(self, age):
        ages = {c: a for c, a in {"eu-west": 0.5, "ap-south": age}.items() if a is not None}
        evidence = with_survivor("ap-south", vector={"us-east": 43})(disaster(report_age_seconds=ages))
        assert the_prediction(evidence).held == 40

    def test_a_cluster_in_maintenance_may_not_be_promoted_but_what_it_holds_is_not_lost(self):
        evidence = with_survivor("ap-south", vector={"us-east": 43}, sizes={"us-east": 4300})(disaster())
        barred = replace(
            evidence, clusters={**evidence.clusters, "ap-south": a_descriptor("ap-south", maintenance=True)}
        )
        assert the_prediction(barred) == the_prediction(evidence)
        assert set(in_reach(barred, "us-east")) == {"eu-west", "ap-south"}


class TestUnknown:
    """I13: what nobody knows is never counted as nothing."""

    @staticmethod
    def nobody_heard(evidence):
        deaf = {"heard": None, "heard_bytes": None, "heard_rate": 0.0, "last_contact_ms": None}
        return both(*(with_view(cluster, **deaf) for cluster in ("eu-west", "ap-south")))(evidence)

    def test_fm16_clusters_that_started_after_the_source_died_cannot_bound_the_loss(self):
        found = the_prediction(self.nobody_heard(disaster()))
        assert (found.records, found.bounded) == (0, False)
        with pytest.raises(LossUnknown) as refused:
            require_acceptance(replace(EMERGENCY, accept_data_loss=10**9), (found,))
        assert "nobody in reach has heard of the log of us-east" in refused.value.message
        assert "--break-glass" in refused.value.operator_hint

    def test_fm16_a_source_that_was_heard_of_once_may_have_admitted_anything_since(self):
        once = both(*(with_view(c, heard_rate=None) for c in ("eu-west", "ap-south")))
        assert not the_prediction(once(disaster())).bounded
        one_knows = with_view("ap-south", heard_rate=None)(disaster())
        assert the_prediction(one_knows) == the_prediction(disaster()), "somebody's rate is a rate"

    def test_nor_can_clusters_without_any_link_to_it(self):
        blank = both(*(with_survivor(c, peers={}) for c in ("eu-west", "ap-south")))
        assert not the_prediction(blank(disaster())).bounded

    def test_with_nobody_in_reach_nothing_is_known(self):
        assert not the_prediction(disaster(reports={}, report_age_seconds={})).bounded

    def test_one_witness_is_enough(self):
        heard = with_view("ap-south", heard=43, heard_bytes=4300)
        assert the_prediction(both(self.nobody_heard, heard)(disaster())).bounded

    def test_broken_glass_overrides_it(self):
        require_acceptance(replace(EMERGENCY, break_glass=True), predictions(self.nobody_heard(disaster())))


class TestAHole:
    """ap-south holds all of epoch 2 but misses a part of epoch 1, which is in another's log: its prefix ends there, and
    so would everything if it were promoted."""

    ROUTE = Route("n", (Ownership(1, "a", "a"), Ownership(2, "us-east", "us-east", Cursor(1, 100))))
    ROUTING = RoutingDocument(2, {"n": ROUTE})
    REQUEST = replace(EMERGENCY, namespaces=("n",), target="ap-south")

    def evidence(self, **vectors):
        reports = {c: a_survivor(c, vector=vector, sizes={}) for c, vector in vectors.items()}
        return disaster(routing=self.ROUTING, reports=reports)

    def test_what_lies_behind_the_hole_is_predicted_too(self):
        evidence = self.evidence(**{"ap-south": {"a": 80, "us-east": 43}})
        earlier, current = predictions(evidence, self.REQUEST)
        assert (earlier.origin, earlier.held, earlier.heard, earlier.known_records) == ("a", 80, 100, 20)
        assert (current.origin, current.held, current.heard, current.known_records) == ("us-east", 0, 43, 43)
        assert (earlier.unheard_records, earlier.bounded) == (0, True), "its end is in the routing"

    def test_who_fills_the_hole_saves_it_all(self):
        evidence = self.evidence(**{"ap-south": {"a": 80, "us-east": 43}, "eu-west": {"a": 100, "us-east": 40}})
        [current] = predictions(evidence, self.REQUEST)
        assert (current.origin, current.held, current.known_records) == ("us-east", 40, 3)

    def test_an_earlier_epoch_of_the_same_log_is_not_counted_again(self):
        home_again = Route("n", (*self.ROUTE.history, Ownership(3, "a", "a", Cursor(2, 50))))
        assert list(cut_off(home_again, Cursor(2, 30))) == [Tail(2, "us-east", 30, 50), Tail(3, "a", 100, None)]


def test_the_end_of_the_order_is_all_that_the_best_cluster_lacks():
    assert list(cut_off(ROUTING.routes["default"], Cursor(3, 40))) == [Tail(3, "us-east", 40, None)]
    assert list(cut_off(ROUTING.routes["default"], START)) == [Tail(3, "us-east", 0, None)]


def test_among_equals_the_first_by_name_is_the_best():
    assert best_prefix(ROUTING.routes["default"], in_reach(disaster(), "us-east")) == (Cursor(3, 40), "ap-south")
    assert best_prefix(ROUTING.routes["default"], {}) == (START, "")


class TestAcceptance:
    def test_the_bound_is_exact(self):
        require_acceptance(replace(EMERGENCY, accept_data_loss=14), predictions())
        with pytest.raises(LossNotAccepted):
            require_acceptance(replace(EMERGENCY, accept_data_loss=13), predictions())

    def test_nothing_accepted_is_not_zero_accepted(self):
        with pytest.raises(LossNotAccepted, match="nothing was accepted") as refused:
            require_acceptance(replace(EMERGENCY, accept_data_loss=None), predictions())
        assert refused.value.operator_hint.endswith("--accept-data-loss 14")
        assert refused.value.details["predictions"][0]["known_records"] == 3

    def test_zero_may_be_accepted_where_nothing_is_missing(self):
        level = both(*(with_view(c, heard=40, heard_rate=0.0) for c in ("eu-west", "ap-south")))
        require_acceptance(replace(EMERGENCY, accept_data_loss=0), predictions(level(disaster())))

    def test_the_sum_over_all_logs_counts(self):
        one = predictions()[0]
        with pytest.raises(LossNotAccepted, match="up to 28 records"):
            require_acceptance(replace(EMERGENCY, accept_data_loss=27), (one, replace(one, origin="us-east~2")))

    def test_broken_glass_needs_no_bound(self):
        require_acceptance(replace(EMERGENCY, accept_data_loss=None, break_glass=True), predictions())


# --- the manifest -------------------------------------------------------------------------------------------------


def presumed(namespace, epoch, first, last):
    return LossRange(namespace, "us-east", epoch, first, last, last - first + 1, False, Grade.PRESUMED_LOST)


def routing_after():
    return emergency_workflow.promote(fenced(), ROUTING, "cluster/eu-west", "")[1]


def diverged(namespace, epoch, *spans, origin="us-east"):
    """Fenced batches by (first, last) or (first, last, fate)."""
    batches = [FencedBatch(f, last, "p", n, *fate) for n, (f, last, *fate) in enumerate(spans, 1)]
    return Divergence(namespace, epoch, origin, tuple(batches))


class TestManifest:
    def test_right_after_the_promotion_it_is_what_had_been_heard_of(self):
        assert promoted().manifest == (presumed("default", 3, 41, 43), presumed("orders", 5, 41, 43))

    def test_where_the_target_held_all_that_was_heard_of_it_is_empty(self):
        f = replace(fenced(), cuts={"default": Cursor(3, 43), "orders": Cursor(5, 50)})
        assert emergency_workflow.promote(f, ROUTING, "cluster/eu-west", "")[0].manifest == ()

    def test_a_cut_in_an_earlier_epoch_takes_every_later_one_with_it(self):
        route, before = TestAHole.ROUTE, replace(promoted(), expected_epochs={"n": 2}, cuts={"n": Cursor(1, 80)})
        after = Route("n", (*route.history, Ownership(3, "eu-west", "eu-west", Cursor(1, 80))))
        lost = manifest(before, RoutingDocument(3, {"n": after}))
        assert [(r.origin, r.epoch, r.first, r.last) for r in lost] == [("a", 1, 81, 100), ("us-east", 2, 1, 43)]

    def test_what_has_arrived_is_exact_and_the_rest_is_still_presumed(self):
        arrived = [diverged("default", 3, (41, 41)), diverged("orders", 5)]
        lost = manifest(promoted(), routing_after(), VersionVector({"us-east": 42}), arrived)
        assert lost == (
            LossRange("default", "us-east", 3, 41, 41, 1, True, Grade.FENCED),
            presumed("default", 3, 43, 43),
            presumed("orders", 5, 43, 43),
        )

    def test_a_source_that_returns_without_its_log_recovers_nothing(self):
        """Its log was rebuilt under another name, so nothing of the tail ever comes."""
        lost = manifest(promoted(), routing_after(), VersionVector({"us-east": 40, "us-east~2": 9}), [])
        assert lost == promoted().manifest

    def test_with_the_whole_tail_it_is_exact_also_beyond_what_was_heard_of(self):
        arrived = [diverged("default", 3, (41, 42), (45, 60)), diverged("orders", 5, (43, 44))]
        lost = manifest(promoted(), routing_after(), VersionVector({"us-east": 60}), arrived)
        assert [(r.namespace, r.first, r.last, r.exact) for r in lost] == [
            ("default", 41, 42, True),
            ("default", 45, 60, True),
            ("orders", 43, 44, True),
        ]

    def test_what_an_earlier_or_a_later_emergency_fenced_is_in_theirs(self):
        """Epoch 1 ended at 10 by the first, ends at 8 by the second, which fences all of epoch 2 too."""
        history = (
            Ownership(1, "us-east", "us-east"),
            Ownership(2, "ap-south", "ap-south", Cursor(1, 10)),
            Ownership(3, "eu-west", "eu-west", Cursor(1, 8)),
        )
        routing = RoutingDocument(3, {"n": Route("n", history)})
        held = VersionVector({"us-east": 43, "ap-south": 6})
        arrived = [diverged("n", 1, (9, 10), (11, 43)), diverged("n", 2, (1, 6), origin="ap-south")]
        first = replace(promoted(), expected_epochs={"n": 1}, cuts={"n": Cursor(1, 10)})
        second = replace(promoted(), expected_epochs={"n": 2}, cuts={"n": Cursor(1, 8)})
        told = [
            [(r.origin, r.first, r.last) for r in manifest(failover, routing, held, arrived)]
            for failover in (first, second)
        ]
        assert told == [[("us-east", 11, 43)], [("us-east", 9, 10), ("ap-south", 1, 6)]]

    def test_grades_follow_fates(self):
        arrived = [diverged("default", 3, (41, 41), (42, 42, Fate.SUPERSEDED), (43, 43, Fate.REPLAYED))]
        lost = manifest(promoted(), routing_after(), VersionVector({"us-east": 43}), arrived)
        assert [r.grade for r in lost] == [Grade.FENCED, Grade.SUPERSEDED, Grade.RECOVERED]

    def test_regrading_is_on_record_once(self):
        lost = manifest(promoted(), routing_after(), VersionVector({"us-east": 43}), [diverged("default", 3, (41, 43))])
        f = emergency_workflow.regrade(promoted(), lost, "then")
        assert (f.manifest, f.journal[-1].event, f.journal[-1].detail) == (lost, "regraded", {"fenced": 3})
        assert emergency_workflow.regrade(f, lost, "later") is f

    def test_before_the_promotion_there_is_nothing_to_grade(self):
        assert emergency_workflow.regrade(fenced(), (presumed("default", 3, 1, 2),), "then") == fenced()


def look(before, dropped_to, spans, held, seen=None):
    """The manifest after one more look: what is scanned, and up to where retention has dropped it."""
    found = replace(diverged("default", 3, *spans), dropped_to=dropped_to)
    return manifest(
        replace(seen_by(before), manifest=before), routing_after(), VersionVector({"us-east": held}), [found]
    )


def seen_by(before):
    return replace(promoted(), expected_epochs={"default": 3}, cuts={"default": CUTS["default"]}, manifest=before)


def told(ranges):
    return [(r.first, r.last, r.records, str(r.grade), r.exact) for r in ranges]


DROPPED_TAIL = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 4), st.sampled_from(Fate)), min_size=1, max_size=8)


class TestRetention:
    """What the manifest goes on saying while retention drops what it is about."""

    @given(
        DROPPED_TAIL, st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=5), st.sampled_from([0, 4_000])
    )
    def test_nothing_is_told_twice_or_forgotten_however_often_it_is_looked_at(self, tail, looks, widest):
        """Each look added a copy of what it had told before, where a scan outlived what retention had dropped."""
        spans, last = [], 40
        for records, gap, fate in tail:
            spans.append((last + gap + 1, last + gap + records, fate))
            last += gap + records
        held = max(last, 43)
        with patch.object(loss, "MAX_RANGES", widest):
            told_first = look((), 40, spans, held)
            now, floor = told_first, 40
            for step, restarted in looks:
                floor = whole_batches(spans, floor + step)
                kept = [span for span in spans if span[0] > floor] if restarted else spans
                now = look(now, floor, kept, held)
                assert look(now, floor, kept, held) == now
                assert sum(r.records for r in now) == sum(r.records for r in told_first)
                assert by_grade(now) == by_grade(told_first)
                assert all(r.exact for r in now)
                assert all(a.last < b.first for a, b in pairwise(now))

    def test_what_was_dropped_before_anybody_here_saw_it_stays_presumed_lost(self):
        """A seed took the target past it: it was in no manifest any more."""
        before = look((), 40, [(41, 41)], 41)
        assert told(before) == [(41, 41, 1, "fenced", True), (42, 43, 2, "presumed_lost", False)]
        after = look(before, 60, [(41, 41)], 100)
        assert told(after) == told(before)
        assert look(after, 60, [(41, 41)], 100) == after
        assert told(look(after, 60, [], 100)) == told(before), "also when the target has started again since"

    def test_a_manifest_of_two_namespaces_that_take_turns_fits_into_a_transaction(self):
        """12,000 batches of one namespace among those of another were as many ranges, and could not be stored."""
        spans = [(41 + 2 * n, 41 + 2 * n) for n in range(12_000)]
        [range_] = lost = look((), 40, spans, 41 + 2 * 12_000)
        assert (range_.first, range_.last, range_.records) == (41, spans[-1][1], 12_000)
        stored = FAILOVERS.encode(emergency_workflow.regrade(seen_by(()), lost, "then"))
        check_transaction([], [Put(FAILOVERS.key("fo-1"), stored)])

    def test_a_wide_range_does_not_go_on_over_what_nobody_has_looked_at(self):
        with patch.object(loss, "MAX_RANGES", 0):
            lost = look((presumed("default", 3, 42, 50),), 50, [(41, 41), (53, 53), (55, 55)], 60)
        assert [(r.first, r.last, r.records, r.exact) for r in lost] == [
            (41, 41, 1, True),
            (42, 50, 9, False),
            (53, 55, 2, True),
        ]


def whole_batches(spans, floor):
    return next((first - 1 for first, last, _ in spans if first <= floor < last), floor)


def by_grade(ranges):
    counts = Counter()
    for range_ in ranges:
        counts[range_.grade] += range_.records
    return counts


def test_what_is_presumed_lost_of_one_log_is_counted_once_for_all_its_namespaces():
    """Each namespace's range counted: three records that nobody had were told as six."""
    assert [(r.namespace, r.first, r.last) for r in promoted().manifest] == [("default", 41, 43), ("orders", 41, 43)]
    assert measured_loss_records(promoted()) == 3
    apart = (presumed("default", 3, 41, 43), presumed("orders", 5, 42, 46), presumed("orders", 5, 60, 60))
    assert measured_loss_records(replace(promoted(), manifest=apart)) == 7
    known = (LossRange("default", "us-east", 3, 41, 41, 1, True, Grade.FENCED), presumed("orders", 5, 42, 46))
    assert measured_loss_records(replace(promoted(), manifest=known)) == 6


def test_cuts_are_what_the_stages_agree_on():
    assert promoted().cuts == CUTS
