"""`omnirelay mesh clusters promote --emergency`: evidence and predicted loss first, then a person answers for it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from omnirelay.cli.carry_out import DEFAULT_APPROVAL_TIMEOUT_SECONDS, ask_for, begin, drive, on_terminal
from omnirelay.cli.failover_view import evidence_table, plan_tables
from omnirelay.cli.output import Table
from omnirelay.cli.session import Session
from omnirelay.errors import LossNotAccepted, PreflightFailed

if TYPE_CHECKING:
    from omnirelay.client.control import ControlClient

ANY_LOSS = 2**53 - 1
"""To learn what would be, whoever accepts it."""


def promote(
    session: Session, request: dict[str, Any], bound: int | None, glass: str | None, plan_only: bool, yes: bool
) -> None:
    """`bound`: the records that may be lost; `glass`: why it goes ahead without a bound.

    Raises LossNotAccepted when nobody answers for what is predicted.
    """
    if glass is not None and (request["reason"] or not glass.strip()):
        raise click.UsageError("--break-glass takes the reason; give one, once")
    request |= {"reason": glass or request["reason"], "accept_data_loss": bound, "break_glass": glass is not None}
    predicted = _foresee(session.client, request)
    if plan_only:
        session.output.show(predicted, lambda: _tables(session, predicted))
    else:
        session.output.before(lambda: _tables(session, predicted))
    asks = on_terminal() and not yes and not plan_only
    if bound is None and glass is None and asks:
        bound = request["accept_data_loss"] = _ask_for_bound(predicted)
    if not (plan_only and bound is None):
        _require_acceptance(request, predicted)
    if plan_only:
        return
    if asks:
        ask_for("the target's name", request["target"])
    drive(session, begin(session, request, predicted), DEFAULT_APPROVAL_TIMEOUT_SECONDS)


def _foresee(client: ControlClient, request: dict[str, Any]) -> dict[str, Any]:
    """The plan as it would be; also where only the acceptance is missing, which needs this plan to be given."""
    try:
        return client.plan_failover({**request, "dry_run": True})
    except PreflightFailed as refused:
        if refused.details.get("failed") != "loss_accepted":
            raise
        checks = refused.details["checks"]
    predicted = client.plan_failover({**request, "accept_data_loss": ANY_LOSS, "dry_run": True})
    return {**predicted, "accept_data_loss": request["accept_data_loss"], "checks": checks}


def _tables(session: Session, predicted: dict[str, Any]) -> Sequence[Table]:
    return [evidence_table(session.client.clusters()["clusters"], predicted), *plan_tables(predicted)]


def _ask_for_bound(predicted: dict[str, Any]) -> int:
    records = predicted["plan"]["predicted_loss_records"]
    question = f"Type how many records may be lost (at least {records}; the estimate grows while the source is silent)"
    return int(click.prompt(question, type=click.IntRange(0), err=True))


def _require_acceptance(request: dict[str, Any], predicted: dict[str, Any]) -> None:
    records, bound = predicted["plan"]["predicted_loss_records"], request["accept_data_loss"]
    if request["break_glass"] or (bound is not None and bound >= records):
        return
    accepted = "nothing is" if bound is None else f"{bound} are"
    raise LossNotAccepted(
        f"up to {records} records may be lost and {accepted} accepted; with the loss accepted it is\n"
        f"    {_command(request, records)}",
        predicted_loss_records=records,
        accepted=bound,
        predictions=predicted["plan"]["loss"],
    )


def _command(request: dict[str, Any], records: int) -> str:
    words = ["omnirelay", "mesh", "clusters", "promote", request["target"], "--emergency"]
    for namespace in request["namespaces"]:
        words += ["--namespace", namespace]
    for option in ("change_ticket", "reason"):
        if request[option]:
            words += ["--" + option.replace("_", "-"), request[option]]
    return shlex.join([*words, "--accept-data-loss", str(records)])
