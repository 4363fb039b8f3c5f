"""Until when an active may admit, and the relations that timing must keep (protocol.md §5)."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirelay.errors import ConfigInvalid
from omnirelay.failover.lease import Lease, Timing, check_timing

TIMING = Timing(lease_ttl=6.0, lease_margin=1.0)


@pytest.mark.parametrize(("now", "admits"), [(100.0, True), (104.999, True), (105.0, False), (106.0, False)])
def test_fm08_an_active_stops_a_margin_before_its_lease_ends(now, admits):
    assert Lease(1, renewed_at=100.0).admits(now, TIMING) is admits


durations = st.floats(0.01, 1000)


@given(
    renewed=st.floats(0, 1e6), ttl=durations, share=st.floats(0.01, 0.6), delay=st.floats(0, 100), now=st.floats(0, 2e6)
)
def test_fm08_whoever_still_admits_holds_the_lease_at_the_store(renewed, ttl, share, delay, now):
    """The store counts from when the renewal arrives, `delay` after it was sent."""
    timing = Timing(lease_ttl=ttl, lease_margin=ttl * share)
    if Lease(1, renewed).admits(now, timing):
        assert now < renewed + delay + ttl


def test_shipped_timing_is_sound():
    assert check_timing(Timing()) is None
    assert Timing().renew_interval * 3 == Timing().lease_ttl


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"heartbeat": 2.0}, "timing.heartbeat"),
        ({"heartbeat": 0.0}, "timing.heartbeat"),
        ({"stall_threshold": 6.0}, "timing.stall_threshold"),
        ({"lease_margin": 4.0}, "a third of timing.lease_ttl"),
        ({"lease_margin": 7.0}, "a third of timing.lease_ttl"),
        ({"lease_margin": 0.0}, "timing.lease_ttl - timing.lease_margin"),
        ({"lease_margin": -1.0}, "timing.lease_ttl - timing.lease_margin"),
        ({"emergency_deadline": 5.0}, "timing.lease_ttl - timing.lease_margin"),
    ],
)
def test_a_broken_relation_is_named(changes, named):
    with pytest.raises(ConfigInvalid) as refused:
        check_timing(replace(Timing(), **changes))
    assert refused.value.details == {"path": named}


@given(st.fixed_dictionaries({field.name: st.floats(-10, 30) for field in fields(Timing)}))
def test_timing_is_accepted_exactly_when_the_published_relations_hold(values):
    timing = Timing(**values)
    self_fence = timing.lease_ttl - timing.lease_margin
    sound = (
        0 < timing.heartbeat < timing.stall_threshold < timing.lease_ttl
        and 0 < timing.lease_ttl / 3 < self_fence < timing.emergency_deadline
        and self_fence < timing.lease_ttl
    )
    if sound:
        check_timing(timing)
        assert timing.lease_margin > 0
    else:
        with pytest.raises(ConfigInvalid):
            check_timing(timing)


def test_sound_timing_is_found_among_random_ones():
    """The property above would hold of a check that refuses everything, but for this."""
    assert check_timing(Timing(9.0, 2.0, 0.1, 3.0, 20.0)) is None
