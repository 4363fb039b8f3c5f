import io

from omnirelay.demo.narrator import Narrator, describe


def cluster(name, state, lag_records=0, lag_seconds=0.0, namespaces=()):
    peers = [
        {"peer": peer, "inbound": {"lag_records": lag_records, "lag_seconds": lag_seconds}}
        for peer in ("us-east", "eu-west")
        if peer != name
    ]
    return {"cluster_id": name, "state": state, "peers": peers, "namespaces": list(namespaces)}


ACTIVE = cluster("us-east", "active", namespaces=[{"namespace": "default", "epoch": 3}])


def test_who_is_active_and_how_far_the_others_are_behind():
    shown = describe([ACTIVE, cluster("eu-west", "passive", 12, 0.25)])
    assert shown == "us-east active (default in epoch 3); lag: eu-west 12 records 0.2 s"


def test_an_unknown_lag_is_not_zero():
    assert describe([ACTIVE, cluster("eu-west", "passive", None, None)]).endswith("eu-west unknown")


def test_nobody_is_active():
    assert describe([cluster("us-east", "passive"), cluster("eu-west", "passive")]) == "nobody is active"


def test_off_a_terminal_a_table_is_aligned_lines():
    stream = io.StringIO()
    Narrator(stream).table("Title", [("lost", "0", ""), ("acknowledged", "1,000", "records")])
    assert stream.getvalue() == "\nTitle\n  lost              0\n  acknowledged  1,000  records\n"
