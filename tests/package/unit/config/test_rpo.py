"""The section `rpo` of a replicator's configuration."""

import pytest

from omnirelay.config.settings import parse
from omnirelay.errors import ConfigInvalid
from omnirelay.replication.rpo import RpoGuard

BASE = {
    "cluster": "us-east",
    "data_dir": "/data",
    "tls": {"ca": "ca.crt", "certificate": "a.crt", "key": "a.key"},
    "coordination": {"path": "/data/coordination.db"},
}


@pytest.mark.parametrize("section", [{}, {"max_lag": None}, {"slow_from": 0.1}])
def test_without_a_limit_there_is_no_guard(section):
    assert parse({**BASE, "rpo": section}).rpo.guard() is None


def test_a_limit_makes_a_guard():
    assert parse(BASE | {"rpo": {"max_lag": "1500ms"}}).rpo.guard() == RpoGuard(1.5, 0.5)
    assert parse(BASE | {"rpo": {"max_lag": "5s", "slow_from": 1}}).rpo.guard() == RpoGuard(5.0, 1.0)


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"max_lag": 5}, "rpo.max_lag: 5 is not a duration"),
        ({"max_lag": "0s"}, "rpo.max_lag: '0s' is not positive"),
        ({"slow_from": 1.5}, "rpo.slow_from: "),
        ({"max_lags": "5s"}, "rpo.max_lags: there is no such setting"),
    ],
)
def test_a_wrong_limit_is_named_by_its_path(section, problem):
    with pytest.raises(ConfigInvalid) as refused:
        parse(BASE | {"rpo": section})
    assert refused.value.message.startswith(problem)
