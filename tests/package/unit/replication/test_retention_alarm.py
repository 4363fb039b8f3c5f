import pytest

from omnirelay.replication.retention_alarm import Alarm, alarm


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(0.0, Alarm.NONE), (0.499, Alarm.NONE), (0.5, Alarm.HALF), (0.8, Alarm.HIGH), (0.999, Alarm.HIGH)],
)
def test_fm25_a_word_at_50_and_at_80_percent_and_beyond_the_cap(ratio, expected):
    assert alarm(ratio) is expected


@pytest.mark.parametrize("ratio", [1.0, 7.0])
def test_fm25_from_the_cap_on_the_peer_is_waited_for_no_longer(ratio):
    assert alarm(ratio) is Alarm.BEYOND
