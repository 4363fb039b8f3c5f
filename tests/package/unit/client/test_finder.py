import pytest

from omnirelay.client.finder import BACKOFF_MAX_SECONDS, BACKOFF_MIN_SECONDS, REFUSED_BACKOFF_MAX_SECONDS, Finder
from omnirelay.errors import ConfigInvalid, Draining, NotActive, StaleEpoch, Unreachable, from_code

GONE = Unreachable("gone")


def finder():
    return Finder(["a:1", "b:1", "c:1"])


def tried(find, *errors):
    endpoints = []
    for error in errors:
        find.failed(error, 0.0)
        endpoints.append(find.endpoint)
    return endpoints


def test_silent_endpoints_are_tried_in_turn():
    assert tried(finder(), GONE, GONE, GONE, GONE) == ["b:1", "c:1", "a:1", "b:1"]


def test_a_refusal_leads_to_where_it_points_also_outside_the_list():
    find = finder()
    assert find.failed(NotActive("no", epoch="2", endpoint="x:9", cluster="x"), 0.9) == 0.0, "news is worth no delay"
    assert (find.endpoint, find.epoch) == ("x:9", 2)
    assert tried(find, GONE) == ["b:1"]


def test_the_same_refusal_again_is_no_news():
    find = finder()
    refusal = from_code("not_active", "no", {"epoch": "2", "endpoint": "x:9"})
    find.failed(refusal, 0.0)
    assert find.failed(refusal, 0.0) > 0


def test_nobody_leads_back_to_a_silent_endpoint_before_all_were_asked():
    find = finder()
    refusal = NotActive("no", epoch=2, endpoint="x:9")
    assert tried(find, refusal, GONE, refusal, refusal, refusal) == ["x:9", "b:1", "c:1", "a:1", "x:9"]


def test_a_silent_endpoint_that_owns_a_later_epoch_is_worth_a_visit():
    find = finder()
    assert tried(find, GONE, NotActive("no", epoch=3, endpoint="a:1")) == ["b:1", "a:1"]


def test_a_refusal_that_points_at_itself_or_to_the_past_is_not_followed():
    find = finder()
    find.opened(5)
    assert tried(find, NotActive("no", epoch=5, endpoint="a:1")) == ["b:1"]
    assert tried(find, NotActive("no", epoch=4, endpoint="x:9")) == ["c:1"]
    assert find.epoch == 5


def test_a_refusal_that_knows_nothing_leads_to_the_next_one():
    assert tried(finder(), Draining("moving"), NotActive("no", epoch="?")) == ["b:1", "c:1"]


def test_an_old_token_is_replaced_at_the_same_place_at_once():
    find = finder()
    assert find.failed(StaleEpoch("old", epoch="7"), 0.9) == 0.0
    assert (find.endpoint, find.epoch) == ("a:1", 7)
    assert find.failed(StaleEpoch("old", epoch="7"), 0.0) > 0, "but not in a busy loop"


@pytest.mark.parametrize(
    ("error", "limit"), [(GONE, BACKOFF_MAX_SECONDS), (Draining("x"), REFUSED_BACKOFF_MAX_SECONDS)]
)
@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_waits_grow_within_their_bounds(error, limit, jitter):
    find = finder()
    waits = [find.failed(error, jitter) for _ in range(50)]
    assert waits == sorted(waits)
    assert waits[0] >= BACKOFF_MIN_SECONDS
    assert waits[-1] <= limit
    find.opened(1)
    assert find.failed(error, jitter) == waits[0], "an open connection starts it over"


def test_it_needs_an_endpoint():
    with pytest.raises(ConfigInvalid):
        Finder([])


def test_while_ownership_moves_no_token_is_shown():
    """Whoever takes over does so in a later epoch: the old token would only cost another round."""
    find = finder()
    find.opened(6)
    assert find.token == 6
    find.failed(Draining("draining", epoch="6", endpoint="b"), 0.0)
    assert (find.token, find.epoch) == (0, 6)
    find.opened(7)
    assert find.token == 7
    find.failed(Unreachable("gone"), 0.0)
    assert find.token == 7, "nothing is known to move"
    find.failed(StaleEpoch("old", epoch="8"), 0.0)
    assert find.token == 8
