import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirelay.telemetry.histogram import COMMIT_SECONDS, STEP_SECONDS, Histogram

values = st.lists(st.floats(0, 100, allow_nan=False))


@given(values)
def test_each_bucket_counts_what_is_at_or_below_its_bound(observed):
    histogram = Histogram(COMMIT_SECONDS)
    for value in observed:
        histogram.observe(value)
    *buckets, (last, everything) = histogram.cumulative()
    assert buckets == [(str(bound), sum(v <= bound for v in observed)) for bound in COMMIT_SECONDS]
    assert (last, everything) == ("+Inf", len(observed))
    assert histogram.sum == pytest.approx(sum(observed))


@pytest.mark.parametrize("bounds", [(), (1.0, 1.0), (2.0, 1.0)])
def test_bounds_that_do_not_grow_are_refused(bounds):
    with pytest.raises(ValueError, match="must grow"):
        Histogram(bounds)


@pytest.mark.parametrize("bounds", [COMMIT_SECONDS, STEP_SECONDS])
def test_shipped_bounds_are_accepted(bounds):
    assert len(Histogram(bounds).cumulative()) == len(bounds) + 1
