"""The replicator's configuration file (YAML). Unknown keys are errors; each error names its path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from omnirelay.config.durations import Bytes, Seconds, seconds, size_bytes
from omnirelay.config.tickets import TicketSettings
from omnirelay.config.values import File, HttpsUrl, Principal, TokenName
from omnirelay.errors import BadRequest, ConfigInvalid
from omnirelay.failover.approvals import ApprovalPolicy
from omnirelay.failover.lease import Timing, check_timing
from omnirelay.model import ids
from omnirelay.model.access import AccessPolicy, Scope
from omnirelay.replication.rpo import RpoGuard


def _cluster_id(text: str) -> str:
    try:
        return ids.cluster_id(text)
    except BadRequest as error:
        raise ValueError(error.message) from error


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or (":" in host) != bracketed or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT, where an IPv6 host is in brackets: [::1]:7400")
    return text


def _reachable(address: str) -> str:
    if address.endswith(":0"):
        raise ValueError(f"{address!r} names no port")
    return address


MAX_BATCH_BYTES = size_bytes("32MiB")
"""Clients take messages of twice this size."""

ClusterId = Annotated[str, AfterValidator(_cluster_id)]
Address = Annotated[str, AfterValidator(_address)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsSettings(_Section):
    """Files in PEM."""

    ca: File
    certificate: File
    key: File
    trust_domain: str = "omnirelay"


class ListenSettings(_Section):
    grpc: Address = "127.0.0.1:7400"
    control: Address = "127.0.0.1:7401"


class AdvertiseSettings(_Section):
    grpc: Annotated[Address, AfterValidator(_reachable)]
    control: HttpsUrl


class CoordinationSettings(_Section):
    """`sqlite`: one file that all clusters of this machine share."""

    kind: Literal["sqlite"] = "sqlite"
    path: File


class TimingSettings(_Section):
    """The relations are checked: a third of lease_ttl < lease_ttl - lease_margin < emergency_deadline, and heartbeat <
    stall_threshold < lease_ttl."""

    lease_ttl: Seconds = 6.0
    lease_margin: Seconds = 1.0
    heartbeat: Seconds = 0.5
    stall_threshold: Seconds = 2.0
    emergency_deadline: Seconds = 10.0

    def timing(self) -> Timing:
        return Timing(self.lease_ttl, self.lease_margin, self.heartbeat, self.stall_threshold, self.emergency_deadline)


class LogSettings(_Section):
    max_batch: Annotated[Bytes, Field(gt=0, le=MAX_BATCH_BYTES)] = size_bytes("4MiB")
    retain_for: Seconds = seconds("7d")
    retain_size: Bytes = size_bytes("20GiB")
    """Batches go when either is exceeded and every member has them."""
    retain_cap: Bytes = size_bytes("40GiB")
    """Beyond this size a member that lags no longer holds batches back; it must be re-seeded."""


def _limit_or_none(value: Any) -> float | None:
    if value is None:
        return None
    if (limit := seconds(value)) <= 0:
        raise ValueError(f"{value!r} is not positive; null means no limit")
    return limit


class RpoSettings(_Section):
    """The most that an emergency failover of what this cluster owns may lose. Beyond `max_lag` writes are refused, also
    when that is because no peer is there any more: of two clusters, one alone takes no writes."""

    max_lag: Annotated[float | None, BeforeValidator(_limit_or_none)] = None
    """Of the peer that lags least, in seconds; null: writes are taken however far the peers are behind."""
    slow_from: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of max_lag from which on producers are slowed down."""

    def guard(self) -> RpoGuard | None:
        return None if self.max_lag is None else RpoGuard(self.max_lag, self.slow_from)


class ApprovalSettings(_Section):
    """The least number of approvals by others than the requester. Who plans may ask for more, and never for fewer; the
    same in all clusters, or a plan of one is refused where another drives it."""

    planned: Annotated[int, Field(ge=0, le=20)] = 1
    """Of planned failovers and failbacks; 0: whoever may operate may do it alone."""
    emergency: Annotated[int, Field(ge=0, le=20)] = 0
    """Of emergencies, on top of the loss accepted in writing. Breaking the glass needs none."""

    def policy(self) -> ApprovalPolicy:
        return ApprovalPolicy(self.planned, self.emergency)


class AccessRule(_Section):
    """What a certificate's identity may do. `principal` is `operator/alice`, or `client/*` for every client."""

    principal: Principal
    scopes: tuple[Scope, ...]


class TokenRule(_Section):
    """What a bearer token may do. Only its SHA-256 (hex) is kept."""

    name: TokenName
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: tuple[Scope, ...]


class Settings(_Section):
    cluster: ClusterId
    data_dir: File
    tls: TlsSettings
    coordination: CoordinationSettings
    listen: ListenSettings = ListenSettings()
    advertise: AdvertiseSettings | None = None
    """Where others reach this cluster, when that differs from `listen`."""
    timing: TimingSettings = TimingSettings()
    log: LogSettings = LogSettings()
    rpo: RpoSettings = RpoSettings()
    approvals: ApprovalSettings = ApprovalSettings()
    access: tuple[AccessRule, ...] = ()
    tokens: tuple[TokenRule, ...] = ()
    tickets: TicketSettings | None = None
    """Where change tickets are read and written; without it their numbers are only recorded."""
    metrics_public: bool = False
    """Whether /metrics answers without authentication."""
    protocol_minor: int | None = Field(default=None, ge=0)
    """Speak no higher minor version than this, while a mesh is upgraded cluster by cluster."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def access_policy(self) -> AccessPolicy:
        """Certificates by their SPIFFE id, tokens as `token/NAME`."""
        grants: dict[str, frozenset[Scope]] = {}
        named = [(self._spiffe(rule.principal), rule.scopes) for rule in self.access]
        named += [(f"token/{rule.name}", rule.scopes) for rule in self.tokens]
        for name, scopes in named:
            grants[name] = grants.get(name, frozenset()) | frozenset(scopes)
        return AccessPolicy(grants, {rule.sha256: f"token/{rule.name}" for rule in self.tokens}, self.metrics_public)

    def ticket_people(self) -> dict[str, str]:
        """Ticket system's user → principal."""
        people = self.tickets.people if self.tickets else {}
        return {
            user: name if name.startswith(("token/", "spiffe://")) else self._spiffe(name)
            for user, name in people.items()
        }

    def _spiffe(self, name: str) -> str:
        return f"spiffe://{self.tls.trust_domain}/{name}"


def load(path: Path) -> Settings:
    """Raises ConfigInvalid, which names the file, and each wrong setting by its path."""
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise ConfigInvalid(f"{path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigInvalid(f"{path} is not YAML: {error}") from error
    except (ValueError, RecursionError) as error:  # a date that is none, a number or nesting beyond all bounds
        raise ConfigInvalid(f"{path} holds a value that cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigInvalid(f"{path} must hold settings, found {type(content).__name__}")
    try:
        return parse(content)
    except ConfigInvalid as error:
        raise ConfigInvalid(f"{path}: {error.message}", file=str(path), **error.details) from error


def parse(content: dict[str, Any]) -> Settings:
    """Raises ConfigInvalid."""
    try:
        settings = Settings.model_validate(content)
    except ValidationError as error:
        problems = [f"{'.'.join(str(part) for part in e['loc'])}: {_reason(e)}" for e in error.errors()]
        raise ConfigInvalid("; ".join(problems), problems=problems) from error
    check_timing(settings.timing.timing())
    _check_tokens(settings.tokens)
    if settings.log.retain_size > settings.log.retain_cap:
        raise ConfigInvalid("log.retain_size must not exceed log.retain_cap", path="log.retain_size")
    return settings


def _check_tokens(tokens: Sequence[TokenRule]) -> None:
    """Of two rules for one token only one would ever count."""
    first: dict[str, int] = {}
    for index, rule in enumerate(tokens):
        known = first.setdefault(rule.sha256, index)
        if known != index:
            path = f"tokens.{index}.sha256"
            raise ConfigInvalid(f"{path}: the same token as tokens.{known}, which is {tokens[known].name}", path=path)


def _reason(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such setting"
    return str(error["msg"]).removeprefix("Value error, ")
