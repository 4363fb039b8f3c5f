"""The section `tickets` of the configuration: which ticket system the control plane reads and writes.

Secrets are in files of their own, which are read again at each call, so that a new one needs no restart.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from omnirelay.config.durations import Seconds, seconds
from omnirelay.config.values import File, Person

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _url(text: str) -> str:
    parts = urlsplit(text)
    plain = parts.scheme == "http" and parts.hostname in LOOPBACK
    if not parts.hostname or not (parts.scheme == "https" or plain):
        raise ValueError(f"{text!r} is not https://HOST; plain http is for loopback addresses only")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("an address holds no credentials, query or fragment")
    return text.rstrip("/")


def _positive(value: Any) -> float:
    if (duration := seconds(value)) <= 0:
        raise ValueError(f"{value!r} is not positive")
    return duration


Url = Annotated[str, AfterValidator(_url)]
Positive = Annotated[float, BeforeValidator(_positive)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _System(_Section):
    url: Url
    credential_file: File
    """Holds the password or token, and nothing else."""
    ca: File | None = None
    """Authorities to trust, PEM; by default the public ones."""
    proxy: Url | None = None
    """Address of an HTTP proxy. The environment's proxies do not count."""


class _HttpSystem(_System):
    username: str = ""
    """With it the credential is a password or API token (basic authentication), without it a bearer token."""


class ServiceNowSettings(_HttpSystem):
    """Change requests of ServiceNow."""

    workable_states: tuple[str, ...] = ("scheduled", "implement", "-2", "-1")
    """Values or labels of `state` in which a change may be carried out."""
    closed_states: tuple[str, ...] = ("closed", "canceled", "review", "3", "4", "0")


class JiraSettings(_HttpSystem):
    """Issues of Jira, Cloud or Data Center. The approver is who moved the issue into an approved status."""

    approved_statuses: tuple[str, ...] = ("approved", "scheduled", "in progress", "implementing")
    rejected_statuses: tuple[str, ...] = ("declined", "rejected", "canceled", "cancelled")
    window_start_field: str = ""
    """Id of the date-time field that begins the window, as in `customfield_10040`; empty: there is none."""
    window_end_field: str = ""


class WebhookSettings(_System):
    """A service of your own that answers signed requests; `credential_file` holds the shared secret."""

    replay_window: Positive = 300.0
    """An answer whose time stamp is further away than this is refused."""


class TicketSettings(_Section):
    """Exactly one of `servicenow`, `jira`, `webhook`. All clusters of a mesh should have the same."""

    servicenow: ServiceNowSettings | None = None
    jira: JiraSettings | None = None
    webhook: WebhookSettings | None = None
    timeout: Positive = 3.0
    """Of one attempt."""
    deadline: Positive = 6.0
    """Of one call with all its attempts. A preflight waits so long for the ticket."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    poll: Positive = 5.0
    """How often an approval is looked for while a plan waits for one."""
    give_up_after: Seconds = 86_400.0
    """How long what could not be posted is tried again by itself."""
    people: dict[str, Person] = Field(default_factory=dict)
    """Who a ticket system's user is in the mesh: `jane@example.net: operator/jane`. Nobody can approve their own plan,
    so name here whoever is called differently in both."""

    @model_validator(mode="after")
    def _one_system(self) -> TicketSettings:
        named = [name for name in ("servicenow", "jira", "webhook") if getattr(self, name) is not None]
        if len(named) != 1:
            raise ValueError(f"name exactly one of servicenow, jira, webhook; found {', '.join(named) or 'none'}")
        return self

    @property
    def system(self) -> ServiceNowSettings | JiraSettings | WebhookSettings:
        found = self.servicenow or self.jira or self.webhook
        if found is None:
            raise AssertionError("one of them is named, or the section would not have been read")
        return found
