"""Whom to ask for which origin's log."""

from hypothesis import given
from hypothesis import strategies as st

from omnirelay.replication.interest import clusters_by_origin, interests

ORIGINS = clusters_by_origin({"a", "b", "c", "d"})


def test_with_all_links_up_each_cluster_is_asked_for_its_own():
    assert interests(ORIGINS, {"b": True, "c": True, "d": True}, "a", {}) == {"b": ("b",), "c": ("c",), "d": ("d",)}


def test_while_its_link_is_down_an_origin_is_asked_of_every_relay_and_not_of_itself():
    assert interests(ORIGINS, {"b": False, "c": True, "d": True}, "a", {}) == {
        "b": (),
        "c": ("b", "c"),
        "d": ("b", "d"),
    }


def test_an_origin_of_a_cluster_that_has_left_is_asked_of_all():
    assert interests(ORIGINS | {"gone": "gone"}, {"b": True, "c": True}, "a", {})["b"] == ("b", "d", "gone")


def test_fm35_earlier_logs_of_a_cluster_are_asked_of_it():
    origins = clusters_by_origin({"a", "b", "b~2"})
    assert interests(origins, {"b": True, "c": True}, "a", {}) == {"b": ("b", "b~2"), "c": ()}


def test_fm35_the_own_log_of_before_a_rebuild_is_asked_of_the_others():
    origins = clusters_by_origin({"a", "a~2", "b"})
    assert interests(origins, {"b": True, "c": True}, "a~2", {}) == {"b": ("a", "b"), "c": ("a",)}


def test_with_no_link_up_each_is_still_asked_for_its_own():
    assert interests(ORIGINS, {"b": False, "c": False, "d": False}, "a", {}) == {"b": ("b",), "c": ("c",), "d": ("d",)}


def test_fm25_what_its_cluster_has_dropped_is_asked_of_those_who_have_not():
    up = {"b": True, "c": True, "d": True}
    assert interests(ORIGINS, up, "a", {"b": {"b"}}) == {"b": (), "c": ("b", "c"), "d": ("b", "d")}
    assert interests(ORIGINS, up, "a", {"b": {"b"}, "c": {"b"}}) == {"b": (), "c": ("c",), "d": ("b", "d")}
    assert interests(ORIGINS, {**up, "b": False}, "a", {"c": {"b"}}) == {"b": (), "c": ("c",), "d": ("b", "d")}


def test_fm25_what_everybody_has_dropped_is_asked_of_nobody_and_the_rest_as_ever():
    everybody = dict.fromkeys("bcd", frozenset("b"))
    asked = interests(ORIGINS, {"b": True, "c": True, "d": True}, "a", everybody)
    assert asked == {"b": (), "c": ("c",), "d": ("d",)}


@given(
    st.dictionaries(st.sampled_from("bcd"), st.booleans()),
    st.dictionaries(st.sampled_from("bcd"), st.frozensets(st.sampled_from("bcd"))),
)
def test_every_origin_but_the_own_is_asked_of_someone_who_answers_and_has_it(connected, dropped):
    asked = interests(ORIGINS, connected, "a", dropped)
    assert set(asked) == set(connected)
    assert "a" not in {origin for origins in asked.values() for origin in origins}
    up = {peer for peer, is_up in connected.items() if is_up}
    for origin in "bcd":
        holders = {peer for peer in up if origin not in dropped.get(peer, ())}
        relays = {peer for peer in up if origin in asked[peer]}
        assert relays == ({origin} if origin in holders else holders)
        if up:
            assert all(origin not in asked[peer] for peer in set(connected) - up)
