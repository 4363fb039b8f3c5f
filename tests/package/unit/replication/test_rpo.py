from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.package.unit.replication.support import a_route

from omnirelay.errors import RpoExceeded
from omnirelay.model.position import Cursor
from omnirelay.model.routing import Ownership
from omnirelay.model.version_vector import VersionVector
from omnirelay.replication.rpo import LONGEST_DELAY_SECONDS, RpoGuard, Standing, exposure_seconds

ROUTE = a_route(Ownership(1, "a", "a"), Ownership(2, "b", "b", Cursor(1, 8)))
LEVEL = VersionVector({"a": 8, "b": 3})


def test_the_best_peer_counts():
    assert exposure_seconds(ROUTE, [Standing(LEVEL, 9.0), Standing(LEVEL, 0.5), Standing(LEVEL, 2.0)]) == 0.5


@pytest.mark.parametrize("standing", [Standing(None, None), Standing(LEVEL, None)])
def test_what_is_unknown_is_infinite(standing):
    assert exposure_seconds(ROUTE, [standing]) == inf
    assert exposure_seconds(ROUTE, [standing, Standing(LEVEL, 1.0)]) == 1.0


def test_without_peers_everything_is_exposed():
    assert exposure_seconds(ROUTE, []) == inf


def test_a_peer_with_a_hole_in_an_earlier_epoch_would_keep_nothing_of_this_one():
    assert exposure_seconds(ROUTE, [Standing(VersionVector({"a": 7, "b": 3}), 0.0)]) == inf


def test_a_peer_that_is_gone_is_worth_less_the_longer_it_is_gone():
    assert exposure_seconds(ROUTE, [Standing(LEVEL, 0.0, silent_seconds=4.0)]) == 4.0
    assert exposure_seconds(ROUTE, [Standing(LEVEL, 6.0, silent_seconds=4.0)]) == 6.0


@pytest.mark.parametrize(("exposure", "share"), [(0.0, 0.0), (5.0, 0.0), (7.5, 0.5), (10.0, 1.0)])
def test_batches_are_held_back_the_longer_the_nearer_the_limit(exposure, share):
    assert RpoGuard(10.0, 0.5).delay(exposure) == pytest.approx(share * LONGEST_DELAY_SECONDS)


@pytest.mark.parametrize(("exposure", "named"), [(10.01, "10 s"), (12.3456, "12.3 s"), (inf, "unknown")])
def test_beyond_the_limit_writes_are_refused_with_lag_and_limit(exposure, named):
    with pytest.raises(RpoExceeded) as refused:
        RpoGuard(10.0, 0.5).delay(exposure)
    assert refused.value.retryable
    assert refused.value.operator_hint.startswith(f"The best peer lags by {named}, 10 s are allowed")


@given(limit=st.floats(0.001, 1e6), slow_from=st.floats(0, 1), exposures=st.lists(st.floats(0, 1), min_size=2))
def test_the_delay_grows_with_the_exposure_and_is_bounded(limit, slow_from, exposures):
    guard = RpoGuard(limit, slow_from)
    delays = [guard.delay(exposure * limit) for exposure in sorted(exposures)]
    assert delays == sorted(delays)
    assert 0 <= delays[0] <= delays[-1] <= LONGEST_DELAY_SECONDS * (1 + 1e-9)
