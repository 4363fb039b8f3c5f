"""Every error that a caller can meet, in one table.

The class attributes are the table: `code` is stable and is what programs match on; `http` and `grpc` are the
statuses that the two ports answer with; `exit_code` is what the command line ends with; `hint` is the operator's
next step, and may name the error's details in braces. API, CLI, modules and runbooks read this table and keep
none of their own.

    OmniRelayError
    ├── BadRequest          the call can never succeed as it is
    ├── AccessDenied        who is calling, or what they may do
    ├── NotFound
    ├── Conflict            somebody else's change came first
    ├── Refused             a check says no
    ├── WriteRefused        this cluster does not take this write now
    ├── Unavailable         something that is needed does not answer
    ├── Incomplete          the operation stands between two steps
    └── HistoryError        two clusters' logs do not fit together
"""

from __future__ import annotations

from typing import Any, ClassVar


class OmniRelayError(Exception):
    """Base of all typed errors.

    `message` says what happened and why; `details` are JSON values that a program can use.
    """

    code: ClassVar[str] = "internal"
    http: ClassVar[int] = 500
    grpc: ClassVar[str] = "INTERNAL"
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False
    hint: ClassVar[str] = "This is a defect: keep the replicator's log and report it."

    def __init__(self, message: str, /, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    @property
    def operator_hint(self) -> str:
        """The hint with the details filled in; unknown names stay as they are."""
        return self.hint.format_map(_Known(self.details))


class _Known(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


# --- BadRequest -----------------------------------------------------------------------------------------------


class BadRequest(OmniRelayError):
    code, http, grpc, exit_code = "invalid_argument", 400, "INVALID_ARGUMENT", 2
    hint = "Correct the request as the message says."


class ConfigInvalid(BadRequest):
    code = "config_invalid"
    hint = "Correct the named setting, then run: omnirelay replicator check-config FILE"


class MalformedBatch(BadRequest):
    code = "malformed_batch"
    hint = "Batch.records must be a serialized omnirelay.mesh.v1.RecordSet with at least one record."


class BatchTooLarge(BadRequest):
    code, http = "batch_too_large", 413
    hint = "Send batches of at most {max_batch_bytes} bytes."


class MessageTooLarge(BatchTooLarge):
    """gRPC itself refused the message before anything of ours saw it, so it tells no more than its sizes."""

    code = "message_too_large"
    hint = "Nothing was stored. Send batches of at most the max_batch_bytes that the stream was opened with."


class RequestTooLarge(BadRequest):
    code, http = "request_too_large", 413
    hint = "Send a request body of at most {max_bytes} bytes."


class RequestTimeout(BadRequest):
    code, http, grpc, retryable = "request_timeout", 408, "ABORTED", True
    hint = "Send the whole request within {seconds} s."


class MethodNotAllowed(BadRequest):
    code, http = "method_not_allowed", 405
    hint = "The paths with their methods are at /openapi.json."


class EtagRequired(BadRequest):
    code, http = "etag_required", 428
    hint = "Read the resource and send its ETag as If-Match."


class ProducerGap(BadRequest):
    code, http, grpc = "producer_gap", 409, "OUT_OF_RANGE"
    hint = "Send the batches after {last_producer_sequence} in order; open the stream again to learn where to go on."


class TooFewClusters(BadRequest):
    """More copies asked for than the mesh has other clusters; details: `others`."""

    code = "too_few_clusters"
    hint = "The mesh has {others} other clusters; ask for at most so many copies."


class ProtocolVersionUnsupported(BadRequest):
    code, grpc = "protocol_version_unsupported", "FAILED_PRECONDITION"
    hint = "Bring both clusters to versions at most one minor apart; this side speaks {supported}."


# --- AccessDenied ---------------------------------------------------------------------------------------------


class AccessDenied(OmniRelayError):
    code, http, grpc, exit_code = "permission_denied", 403, "PERMISSION_DENIED", 3
    hint = "Ask for the scope {scope} for {principal} in the replicator's configuration (access)."


class Unauthenticated(AccessDenied):
    code, http, grpc = "unauthenticated", 401, "UNAUTHENTICATED"
    hint = "Present a client certificate of the mesh's authority, or a bearer token."


class TicketCredentialsRefused(AccessDenied):
    code = "ticket_credentials_refused"
    hint = "Put a valid credential into {credential_file}; it is read again at each call."


class PeerIdentityMismatch(AccessDenied):
    code = "peer_identity_mismatch"
    hint = "The certificate names {certificate_cluster}; issue the right one: omnirelay pki issue --cluster {cluster}"


class SelfApproval(AccessDenied):
    code, exit_code = "self_approval", 4
    hint = "Someone other than {principal} must approve: omnirelay mesh failovers approve {failover_id}"


# --- NotFound -------------------------------------------------------------------------------------------------


class NotFound(OmniRelayError):
    code, http, grpc, exit_code = "not_found", 404, "NOT_FOUND", 2
    hint = "List what exists: omnirelay mesh {kind} list"


class UnknownPath(NotFound):
    code = "unknown_path"
    hint = "The paths with their methods are at /openapi.json."


class TicketNotFound(NotFound):
    code = "ticket_not_found"
    hint = "Name a change ticket that {system} has, or let {system} show {ticket} to the mesh's account."


class UnknownNamespace(NotFound):
    code = "unknown_namespace"
    hint = "The mesh has these namespaces: {known}."


# --- Conflict -------------------------------------------------------------------------------------------------


class Conflict(OmniRelayError):
    code, http, grpc, exit_code = "conflict", 409, "ABORTED", 6
    hint = "Read the current state and decide again."


class EtagMismatch(Conflict):
    code, http = "etag_mismatch", 412
    hint = "The resource changed after it was read; read it again: its ETag is now {etag}."


class OperationInProgress(Conflict):
    code = "operation_in_progress"
    hint = "See omnirelay mesh failovers show {failover_id}; before its promotion it can be aborted."


class EpochMoved(Conflict):
    code = "epoch_moved"
    hint = "Ownership moved after the plan was made; make a new plan."


class PlanHashMismatch(Conflict):
    code = "plan_hash_mismatch"
    hint = "Read the plan again and approve its hash {plan_hash}: omnirelay mesh failovers show {failover_id}"


class IllegalTransition(Conflict):
    code = "illegal_transition"
    hint = "The failover is {state}; possible now: {allowed}."


class IdempotencyKeyReused(Conflict):
    code = "idempotency_key_reused"
    hint = "Use a new Idempotency-Key for a different request."


class ProducerSuperseded(Conflict):
    code = "producer_superseded"
    hint = "Give each running producer its own id; {producer_id} was opened by another one since."


# --- Refused --------------------------------------------------------------------------------------------------


class Refused(OmniRelayError):
    code, http, grpc, exit_code = "refused", 409, "FAILED_PRECONDITION", 3
    hint = "Mend what the message names, then try again."


class PreflightFailed(Refused):
    code = "preflight_failed"
    hint = "Mend the failed checks ({failed}), then run the same command again."


class NotApproved(Refused):
    code, exit_code = "not_approved", 4
    hint = "Approve it as someone other than {requested_by}: omnirelay mesh failovers approve {failover_id}"


class ApprovalDenied(Refused):
    code, exit_code = "approval_denied", 4
    hint = "{principal} denied it; make a new plan if that has changed."


class TicketApprovalNeeded(Refused):
    """The plan takes approvals from its change ticket only."""

    code, exit_code = "ticket_approval_needed", 4
    hint = "Approve change ticket {change_ticket} in the ticket system; the control plane reads it there."


class NoTicketSource(Refused):
    code = "no_ticket_source"
    hint = "Configure a ticket source (tickets), or let people approve: approval_source api."


class TicketRefused(Refused):
    code = "ticket_refused"
    hint = "Mend what the ticket system says, then: omnirelay mesh failovers ticket {failover_id}"


class ApprovalsBelowFloor(Refused):
    """Details: `required`, the least that the configuration allows."""

    code, exit_code = "approvals_below_floor", 4
    hint = "Make a plan that asks for at least {required} (limits.approvals_required), or for no number at all."


class PlanExpired(Refused):
    code, exit_code = "plan_expired", 4
    hint = "The plan was valid until {expires_at}; make a new one."


class LossNotAccepted(Refused):
    code = "loss_not_accepted"
    hint = "Accept at least {predicted_loss_records} records in writing: --accept-data-loss {predicted_loss_records}"


class LossUnknown(LossNotAccepted):
    code = "loss_unknown"
    hint = "No bound can be accepted for what nobody knows; to promote all the same, give --break-glass REASON."


class FailbackRefused(Refused):
    code = "failback_refused"
    hint = "Before going home: {command}"


class GatherTimedOut(Refused):
    code, exit_code = "gather_timed_out", 5
    hint = "Nothing has changed; promote {best} instead, which holds more: {command}"


class TokenInvalid(Refused):
    code = "demotion_token_invalid"
    hint = "Abort failover {failover_id} and make a new plan: omnirelay mesh failovers abort {failover_id}"


class ClusterInUse(Refused):
    code = "cluster_in_use"
    hint = "Move the namespaces {namespaces} to another cluster first: omnirelay mesh clusters promote TARGET{how}"


class LogNotLost(Refused):
    code = "log_not_lost"
    hint = "Nothing is to be rebuilt; see what {cluster} says of itself: omnirelay mesh clusters show {cluster}"


class NothingToReseed(Refused):
    code = "nothing_to_reseed"
    hint = "What {cluster} lacks comes by itself: omnirelay mesh clusters replication status"


class DataDirInUse(Refused):
    code = "data_dir_in_use"
    hint = "Another process holds {path}; stop it first."


# --- WriteRefused ---------------------------------------------------------------------------------------------


class WriteRefused(OmniRelayError):
    """A write that this cluster does not take; details name `cluster`, `epoch` and `endpoint` where they are known."""

    code, http, grpc, exit_code, retryable = "not_active", 409, "FAILED_PRECONDITION", 7, True
    hint = "Write to {cluster} (epoch {epoch}) at {endpoint}."


class NotActive(WriteRefused):
    """Another cluster, or none at the moment, admits writes for the namespace. An empty `cluster`: this one does not
    know which."""

    @property
    def operator_hint(self) -> str:
        if self.details.get("cluster") == "":
            return "Ask another cluster which one is active, with --endpoint: omnirelay mesh routing show"
        return super().operator_hint


class Draining(WriteRefused):
    code, http, grpc = "draining", 503, "UNAVAILABLE"
    hint = "Ownership is moving to {cluster}; try again after {retry_after_seconds} s."


class StaleEpoch(WriteRefused):
    code, retryable = "stale_epoch", False
    hint = "The current fencing token is {epoch}; open the stream again."


# --- Unavailable ----------------------------------------------------------------------------------------------


class Unavailable(OmniRelayError):
    code, http, grpc, exit_code, retryable = "unreachable", 503, "UNAVAILABLE", 7, True
    hint = "Check that the endpoint is right and its replicator runs, or name another with --endpoint."


class Unreachable(Unavailable):
    """No endpoint of those configured answered."""


class NotAMember(Unavailable):
    code = "not_a_member"
    hint = "Register {cluster}: omnirelay mesh clusters apply -f FILE"


class CoordinationUnavailable(Unavailable):
    code = "coordination_unavailable"
    hint = "The coordination store does not answer; ownership cannot change until it does."


class TicketUnavailable(Unavailable):
    code = "ticket_unavailable"
    hint = "Check that {url} is right and answers from the replicators' hosts; what waits is sent once it does."


class StorageUnavailable(Unavailable):
    code = "storage_unavailable"
    hint = "The log cannot be written ({reason}); free space or mend the disk: writing resumes by itself."


class CredentialsUnreadable(Unavailable):
    """A key or certificate of this cluster cannot be used now; details: `path`."""

    code = "credentials_unreadable"
    hint = "Put {path} in order, readable by the replicator: omnirelay replicator check-config FILE. It is tried again."


class Overloaded(Unavailable):
    code, http, grpc = "overloaded", 429, "RESOURCE_EXHAUSTED"
    hint = "Too much is in flight; wait for acknowledgements, then go on."


class Busy(Unavailable):
    """The control API serves as many requests as it does at once; details: `most`."""

    code = "busy"
    hint = "Try again, or ask another cluster with --endpoint; {most} requests are served at once."


class RpoExceeded(Unavailable):
    """The active could lose more than its configuration allows, so it takes no more until a peer has caught up."""

    code = "rpo_exceeded"
    hint = (
        "The best peer lags by {lag}, {limit} are allowed (rpo.max_lag). Writes resume once one has caught up: "
        "omnirelay mesh clusters replication status"
    )


class CursorAhead(Unavailable):
    """A reader comes with an epoch that this cluster does not know (yet)."""

    code = "cursor_ahead"
    hint = (
        "This cluster may be behind: read from another one, or try again. If no cluster knows the epoch, the cursor is "
        "of another mesh: omnirelay mesh routing show"
    )


class NotInstalled(Unavailable):
    """A reader asks for a namespace of the mesh that has not reached this cluster's log; details: `namespace`."""

    code = "namespace_not_installed"
    hint = "Read from another cluster, or try again; what this one receives: omnirelay mesh clusters replication status"


class NotReady(Unavailable):
    """Details: `problems`, every reason in words."""

    code = "not_ready"
    hint = "Mend what the message names: it becomes ready by itself. Until then use another cluster with --endpoint."


class ShuttingDown(Unavailable):
    code = "shutting_down"
    hint = "This replicator is stopping; use another one."


# --- Incomplete -----------------------------------------------------------------------------------------------


class Incomplete(OmniRelayError):
    code, http, grpc, exit_code, retryable = "step_incomplete", 504, "DEADLINE_EXCEEDED", 8, True
    hint = "Go on with: omnirelay mesh failovers resume {failover_id}"


class TicketPending(Incomplete):
    code = "ticket_pending"
    hint = "It is tried again by itself; to try now: omnirelay mesh failovers ticket {failover_id}"


class DrainTimedOut(Incomplete):
    code, http, exit_code, retryable = "drain_timed_out", 409, 5, False
    hint = "The source admits writes again and nothing was lost; look at the lag, then make a new plan."


class VerifyFailed(Incomplete):
    code, http = "verify_failed", 409
    hint = (
        "Writes go to {target}; mend reverse replication, then: omnirelay mesh failovers resume {failover_id}. "
        "Where that cannot be mended: omnirelay mesh failovers complete {failover_id} --reason REASON"
    )


# --- HistoryError ---------------------------------------------------------------------------------------------


class HistoryError(OmniRelayError):
    code, http, grpc = "history_error", 500, "DATA_LOSS"
    hint = "Stop and compare both logs before anything else."


class CorruptLog(HistoryError):
    code = "corrupt_log"
    hint = "Origin {origin} is stopped at sequence {sequence}; re-seed it from a peer. Other origins go on."


class HistoryDiverged(HistoryError):
    code = "history_diverged"
    hint = "The chain digests of {origin} differ at {sequence}; one of the logs was rebuilt or altered."


class LogRebuilt(HistoryError):
    code, http, grpc = "log_rebuilt", 409, "FAILED_PRECONDITION"
    hint = (
        "{origin} must not write sequences again that others hold: restore its data directory; or promote another "
        "cluster (omnirelay mesh clusters promote TARGET --emergency --break-glass REASON) and begin a new log: "
        "omnirelay mesh clusters rebuild {cluster}"
    )


class IllegalOrigin(HistoryError):
    code, http, grpc = "illegal_origin", 409, "FAILED_PRECONDITION"
    hint = "{origin} never owned epoch {epoch} of {namespace}; the peer that sent it is refused."


class ResumePointDeleted(HistoryError):
    code, http, grpc = "resume_point_deleted", 410, "OUT_OF_RANGE"
    hint = (
        "{origin} is kept from {oldest} on. A reader starts from the earliest; a cluster is re-seeded: "
        "omnirelay mesh clusters reseed CLUSTER"
    )


class PositionMismatch(HistoryError):
    """An append that does not follow the log's head; the caller's state is stale."""

    code, http, grpc = "position_mismatch", 409, "ABORTED"
    hint = "The log's head of {origin} is {head}."


def _subclasses(cls: type[OmniRelayError]) -> list[type[OmniRelayError]]:
    return [cls] + [leaf for child in cls.__subclasses__() for leaf in _subclasses(child)]


def error_table() -> dict[str, type[OmniRelayError]]:
    """Code → class, for everything that turns a code back into an error. Where a class and its base share a code, the
    class stands for it."""
    return {cls.code: cls for cls in _subclasses(OmniRelayError)}


def from_code(code: str, message: str, details: dict[str, Any]) -> OmniRelayError:
    """The error that another process reported; an unknown code becomes the base class, with the code in its details."""
    cls = error_table().get(code)
    return cls(message, **details) if cls else OmniRelayError(message, **{**details, "code": code})
