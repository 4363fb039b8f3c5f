import pytest

from omnirelay.replication.retention_alarm import Alarm, alarm


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(0.0, Alarm.NONE), (0.499, Alarm.NONE), (0.5, Alarm.HALF), (0.8, Alarm.HIGH), (0.999, Alarm.HIGH)]
    + [(1.0, Alarm.BEYOND), (7.0, Alarm.BEYOND)],
)
def test_fm25_a_word_at_50_and_at_80_percent_and_beyond_the_cap(ratio, expected):
    assert alarm(ratio) is expected
