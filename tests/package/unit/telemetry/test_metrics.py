import re
from dataclasses import dataclass, field, replace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.package.unit.failover.support import a_failover

from omnirelay.failover.evidence import LinkReport, PeerReport
from omnirelay.failover.record import Mode, State
from omnirelay.model.descriptor import ClusterState
from omnirelay.model.lag import Lag, ReplicationStatus
from omnirelay.replication.lag import InboundLag
from omnirelay.telemetry.histogram import COMMIT_SECONDS, STEP_SECONDS, Histogram
from omnirelay.telemetry.metrics import CONTENT_TYPE, NEWEST_FAILOVERS, render

PUBLISHED = {
    "mesh_replication_lag_seconds": {"peer", "direction"},
    "mesh_replication_lag_records": {"peer", "direction"},
    "mesh_replication_lag_bytes": {"peer", "direction"},
    "mesh_replication_status": {"peer", "direction", "status"},
    "mesh_replication_last_contact_timestamp_seconds": {"peer"},
    "mesh_replication_clock_skew_seconds": {"peer"},
    "mesh_replication_applied_sequence": {"origin"},
    "mesh_replication_head_sequence": {"origin"},
    "mesh_replication_duplicates_total": set(),
    "mesh_replication_gaps_total": set(),
    "mesh_replication_fenced_records_total": set(),
    "mesh_replication_corrupt_batches_total": set(),
    "mesh_replication_transport": {"peer", "transport"},
    "mesh_cluster_state": {"state"},
    "mesh_namespace_epoch": {"namespace"},
    "mesh_routing_readers": {"namespace"},
    "mesh_routing_readers_behind": {"namespace"},
    "mesh_lease_remaining_seconds": {"namespace"},
    "mesh_failover_step_seconds": {"mode", "step"},
    "mesh_failover_state": {"id", "mode", "state"},
    "mesh_failover_write_outage_seconds": {"mode"},
    "mesh_log_retention_used_ratio": {"peer"},
    "mesh_audit_entries_total": set(),
    "mesh_certificate_expiry_timestamp_seconds": {"use"},
    "mesh_log_commit_seconds": set(),
    "mesh_log_admitted_records_total": set(),
}
"""Name → labels, beside `cluster`. Names are stable: alerts and dashboards of others rest on them."""

LEVEL = LinkReport(ReplicationStatus.STREAMING, Lag(0, 0, 0.0))
BEHIND = LinkReport(ReplicationStatus.CATCHING_UP, Lag(7, 900, 2.5))


def a_histogram(bounds, *values):
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    return histogram


@dataclass
class Replicator:
    """An `Observed` with a value in every place."""

    cluster: str = "us-east"
    state: ClusterState | None = ClusterState.ACTIVE
    peers: dict = field(
        default_factory=lambda: {
            "eu-west": PeerReport(
                outbound=BEHIND,
                inbound=LEVEL,
                last_contact_ms=1_700_000_000_250,
                clock_skew_seconds=-0.03,
                transport="grpc",
            )
        }
    )
    applied: dict = field(default_factory=lambda: {"us-east": 41, "eu-west~2": 8})
    heads: dict = field(default_factory=lambda: {"us-east": 41, "eu-west~2": 9})
    epochs: dict = field(default_factory=lambda: {"default": 3})
    readers: dict = field(default_factory=lambda: {"default": 4, "orders": 1})
    readers_behind: dict = field(default_factory=lambda: {"default": 3})
    leases: dict = field(default_factory=lambda: {"default": 4.5})
    failovers: tuple = field(default_factory=lambda: (a_failover(id="fo-1", state=State.DRAINING),))
    step_seconds: dict = field(
        default_factory=lambda: {(Mode.PLANNED, "drain"): a_histogram(STEP_SECONDS, 0.2, 0.25, 7.0)}
    )
    write_outages: dict = field(default_factory=lambda: {Mode.PLANNED: 0.31})
    retention_used: dict = field(default_factory=lambda: {"eu-west": 0.52})
    certificate_expiries_ms: dict = field(default_factory=lambda: {"mesh": 1_800_000_000_000})
    commit_seconds: Histogram = field(default_factory=lambda: a_histogram(COMMIT_SECONDS, 0.004))
    admitted_records: int = 1234
    duplicates: int = 1
    gaps: int = 2
    fenced_records: int = 3
    corrupt_batches: int = 4
    audit_entries: int = 5


def families(observed):
    """Families by the name in their HELP line."""
    parsed = text_string_to_metric_families(render(observed).decode())
    return {f.name + "_total" if f.type == "counter" else f.name: f for f in parsed}


def samples(observed, name, **labels):
    """Sample values of one family whose labels include `labels`, by what remains of their labels."""
    found = [s for s in families(observed)[name].samples if labels.items() <= s.labels.items()]
    rest = [tuple(v for k, v in sorted(s.labels.items()) if k != "cluster" and k not in labels) for s in found]
    assert len(set(rest)) == len(rest)
    return {key[0] if len(key) == 1 else key: s.value for key, s in zip(rest, found, strict=True)}


# --- names, help, units: what `promtool check metrics` would say -------------------------------------------------


def test_every_published_name_is_there_with_its_labels():
    seen = {
        name: {label for s in family.samples for label in s.labels} - {"cluster", "le"}
        for name, family in families(Replicator()).items()
    }
    assert seen == PUBLISHED


def test_every_sample_names_the_cluster_that_exports_it():
    assert {s.labels["cluster"] for f in families(Replicator()).values() for s in f.samples} == {"us-east"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_follow_the_conventions(name):
    family, words = families(Replicator())[name], name.split("_")
    assert re.fullmatch(r"mesh(_[a-z]+)+", name)
    assert (words[-1] == "total") == (family.type == "counter")
    assert not {"gauge", "counter", "histogram", "count", "sum", "bucket", "info"} & set(words)
    assert not {"ms", "milliseconds", "minutes", "hours", "kb", "mb", "kilobytes", "percent"} & set(words)
    assert ("le" in {label for s in family.samples for label in s.labels}) == (family.type == "histogram")


def test_every_family_has_a_help_text_of_its_own():
    helps = [f.documentation for f in families(Replicator()).values()]
    assert len(set(helps)) == len(helps)
    assert all(len(text) > 10 and not text.endswith(".") for text in helps)


def test_the_format_is_the_plain_one_and_ends_with_a_newline():
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
    assert render(Replicator()).endswith(b"\n")


# --- links --------------------------------------------------------------------------------------------------------


def test_both_directions_of_a_link_are_told_apart():
    assert samples(Replicator(), "mesh_replication_lag_records", peer="eu-west") == {"outbound": 7, "inbound": 0}
    assert samples(Replicator(), "mesh_replication_lag_bytes", peer="eu-west") == {"outbound": 900, "inbound": 0}
    assert samples(Replicator(), "mesh_replication_lag_seconds", peer="eu-west") == {"outbound": 2.5, "inbound": 0}


@pytest.mark.parametrize("status", ReplicationStatus)
def test_exactly_one_status_is_1(status):
    observed = Replicator(peers={"ap-south": PeerReport(inbound=LinkReport(status, Lag(0, 0, 0.0)), outbound=LEVEL)})
    inbound = samples(observed, "mesh_replication_status", peer="ap-south", direction="inbound")
    assert inbound == {str(s): float(s is status) for s in ReplicationStatus}


def test_fm16_an_unknown_lag_has_no_series_and_its_status_says_unknown():
    observed = Replicator(peers={"ap-south": PeerReport()})
    for name in ("mesh_replication_lag_seconds", "mesh_replication_lag_records", "mesh_replication_lag_bytes"):
        assert samples(observed, name) == {}
    statuses = samples(observed, "mesh_replication_status", peer="ap-south", direction="outbound")
    assert [status for status, value in statuses.items() if value] == ["unknown"]


def test_fm18_lag_grows_between_two_scrapes_while_nothing_happens():
    class Silent:
        now = 100.0
        lag = InboundLag()

        def __getattr__(self, name):
            return getattr(Replicator(), name)

        @property
        def peers(self):
            inbound = LinkReport(ReplicationStatus.STALLED, self.lag.measure(self.now, fresh_seconds=2.0))
            return {"eu-west": PeerReport(inbound=inbound, last_contact_ms=100_000)}

    observed = Silent()
    observed.lag.heard(0, 0, now=100.0)
    observed.now = 110.0
    assert samples(observed, "mesh_replication_lag_seconds", peer="eu-west") == {"inbound": 10.0}
    observed.now = 160.0
    assert samples(observed, "mesh_replication_lag_seconds", peer="eu-west") == {"inbound": 60.0}
    assert samples(observed, "mesh_replication_lag_records", peer="eu-west") == {}
    assert samples(observed, "mesh_replication_last_contact_timestamp_seconds") == {"eu-west": 100.0}


def test_a_peer_never_heard_has_neither_contact_nor_skew_nor_transport():
    observed = Replicator(peers={"ap-south": PeerReport()})
    assert samples(observed, "mesh_replication_last_contact_timestamp_seconds") == {}
    assert samples(observed, "mesh_replication_clock_skew_seconds") == {}
    assert samples(observed, "mesh_replication_transport") == {}


def test_a_skew_may_be_negative_and_times_are_seconds():
    assert samples(Replicator(), "mesh_replication_clock_skew_seconds") == {"eu-west": -0.03}
    assert samples(Replicator(), "mesh_replication_last_contact_timestamp_seconds") == {"eu-west": 1_700_000_000.25}
    assert samples(Replicator(), "mesh_certificate_expiry_timestamp_seconds") == {"mesh": 1_800_000_000}


def test_a_peer_that_has_left_leaves_no_series():
    observed = Replicator()
    assert b'eu-west"' in render(observed)
    observed.peers, observed.retention_used = {}, {}
    assert b'peer="' not in render(observed)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mesh_replication_duplicates_total", 1),
        ("mesh_replication_gaps_total", 2),
        ("mesh_replication_fenced_records_total", 3),
        ("mesh_replication_corrupt_batches_total", 4),
        ("mesh_audit_entries_total", 5),
        ("mesh_log_admitted_records_total", 1234),
    ],
)
def test_totals(name, value):
    assert samples(Replicator(), name) == {(): value}


def test_fm20_readers_that_have_not_acknowledged_the_routing_are_counted():
    assert samples(Replicator(), "mesh_routing_readers") == {"default": 4, "orders": 1}
    assert samples(Replicator(), "mesh_routing_readers_behind") == {"default": 3, "orders": 0}


# --- ownership and failovers --------------------------------------------------------------------------------------


def test_positions_epochs_and_retention():
    assert samples(Replicator(), "mesh_replication_applied_sequence") == {"us-east": 41, "eu-west~2": 8}
    assert samples(Replicator(), "mesh_replication_head_sequence") == {"us-east": 41, "eu-west~2": 9}
    assert samples(Replicator(), "mesh_namespace_epoch") == {"default": 3}
    assert samples(Replicator(), "mesh_log_retention_used_ratio") == {"eu-west": 0.52}


@pytest.mark.parametrize("state", ClusterState)
def test_the_cluster_is_in_one_state(state):
    assert samples(Replicator(state=state), "mesh_cluster_state") == {str(s): float(s is state) for s in ClusterState}


def test_an_unknown_cluster_state_has_no_series():
    assert samples(Replicator(state=None), "mesh_cluster_state") == {}


@pytest.mark.parametrize(("left", "shown"), [(4.5, 4.5), (0.0, 0.0), (-3.0, 0.0)])
def test_a_lease_that_has_run_out_shows_0(left, shown):
    assert samples(Replicator(leases={"default": left}), "mesh_lease_remaining_seconds") == {"default": shown}


def test_a_failover_is_in_one_state():
    states = samples(Replicator(), "mesh_failover_state", id="fo-1", mode="planned")
    assert states == {str(s): float(s is State.DRAINING) for s in State}


def test_only_the_newest_failovers_have_series():
    made = [replace(a_failover(id=f"fo-{n}"), created_at=f"2026-01-01T00:{n:02d}:00.000Z") for n in range(50)]
    family = families(Replicator(failovers=tuple(made)))["mesh_failover_state"]
    assert {s.labels["id"] for s in family.samples} == {f"fo-{n}" for n in range(50 - NEWEST_FAILOVERS, 50)}


def test_step_durations_are_a_histogram_per_mode_and_step():
    family = families(Replicator())["mesh_failover_step_seconds"]
    labels = {"cluster": "us-east", "mode": "planned", "step": "drain"}
    assert all(labels.items() <= s.labels.items() for s in family.samples)
    values = {(s.name.rpartition("_")[2], s.labels.get("le")): s.value for s in family.samples}
    assert (values["bucket", "0.1"], values["bucket", "0.25"], values["bucket", "5.0"]) == (0, 2, 2)
    assert (values["bucket", "+Inf"], values["count", None], values["sum", None]) == (3, 3, 7.45)
    assert samples(Replicator(), "mesh_failover_write_outage_seconds") == {"planned": 0.31}


def test_a_replicator_that_has_just_started_renders_without_a_peer():
    bare = Replicator(
        state=None,
        peers={},
        applied={},
        heads={},
        epochs={},
        leases={},
        failovers=(),
        step_seconds={},
        write_outages={},
        retention_used={},
        certificate_expiries_ms={},
        commit_seconds=Histogram(COMMIT_SECONDS),
    )
    assert set(families(bare)) == set(PUBLISHED)
