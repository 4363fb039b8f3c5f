"""What only a client can find out. The rest of the table is in omnirelay.errors."""

from __future__ import annotations

from omnirelay.errors import Conflict, HistoryError, Unavailable


class Unacknowledged(Unavailable):
    """Batches that no cluster acknowledged in time; details: `first` and `last` producer sequence (absent if none was
    ever sent), `unsent` (batches that were certainly not committed), `cause` (code of the last error)."""

    code = "unacknowledged"
    hint = (
        "Batches {first} to {last} of producer {producer_id} may have been committed or not; open a producer with the "
        "same id: it learns the last committed one."
    )


class ProducerIdInUse(Conflict):
    """The cluster holds more of this producer than this process has sent."""

    code = "producer_id_in_use"
    hint = "Give each running producer its own id; {producer_id} is used by another one."


class AcknowledgedMissing(HistoryError):
    """The active cluster lacks batches that another one had acknowledged, and the producer has them no more: an
    emergency failover left them behind. Details: `missing` batches after `last_producer_sequence`, `at_risk` (how many
    of them had never been remote), `kept` (later ones, which cannot be sent without them)."""

    code = "acknowledged_missing"
    hint = (
        "{missing} batches of {producer_id} after {last_producer_sequence} are not in the log; their ranges are in the "
        "manifest of the last failover: omnirelay mesh failovers list"
    )
