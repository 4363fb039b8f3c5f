"""Adapters of the port `omnirelay.ports.tickets`."""

from __future__ import annotations

from omnirelay.config.tickets import JiraSettings, ServiceNowSettings, TicketSettings, WebhookSettings
from omnirelay.ports.tickets import TicketSource
from omnirelay.tickets.http import Caller
from omnirelay.tickets.jira import Jira
from omnirelay.tickets.servicenow import ServiceNow
from omnirelay.tickets.webhook import Webhook

__all__ = ["open_source"]


def open_source(settings: TicketSettings) -> TicketSource:
    """Connects to nothing yet."""
    system = settings.system
    caller = Caller(system, settings.timeout, settings.deadline, settings.retries)
    match system:
        case ServiceNowSettings():
            return ServiceNow(system, caller)
        case JiraSettings():
            return Jira(system, caller)
        case WebhookSettings():
            return Webhook(system, caller)
