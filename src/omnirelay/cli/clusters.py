"""`omnirelay mesh clusters`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

from omnirelay.cli.lazy import Lazy, LazyGroup
from omnirelay.cli.output import Table
from omnirelay.cli.session import Session, connected
from omnirelay.errors import ConfigInvalid, NotFound


@click.group(
    cls=LazyGroup,
    lazy={
        "promote": Lazy("omnirelay.cli.promote:promote", "Make a cluster the active one, planned or in an emergency."),
        "failback": Lazy("omnirelay.cli.failback:failback", "Make the source of a completed failover active again."),
        "replication": Lazy("omnirelay.cli.replication:replication", "Lag and state of replication."),
    },
)
def clusters() -> None:
    """The clusters, their replication, promoting one and going back."""


@clusters.command("list")
@click.option("--state", default="", help="active, passive, draining or maintenance.")
@click.option("--region", default="")
@click.option("--owner", default="")
@connected
def list_(session: Session, state: str, region: str, owner: str) -> None:
    """List the clusters with what they own and whether they are ready."""
    answer = session.client.clusters(state=state, region=region, owner=owner)
    session.output.show(answer, lambda: [_table(answer["clusters"])])


@clusters.command
@click.argument("cluster_id")
@connected
def show(session: Session, cluster_id: str) -> None:
    """Show one cluster."""
    cluster = session.client.cluster(cluster_id).body
    session.output.show(cluster, lambda: [_facts(cluster), _peers(cluster)])


@clusters.command
@click.option(
    "-f", "--file", "source", required=True, type=click.File(encoding="utf-8"), help="YAML or JSON; - is stdin."
)
@click.option("--dry-run", is_flag=True, help="Validate, change nothing.")
@connected
def apply(session: Session, source: Any, dry_run: bool) -> None:
    """Create or replace the clusters that a file describes, one document each."""
    results = [_apply(session, body, dry_run) for body in _documents(source.read(), source.name)]
    session.output.show({"results": results}, lambda: [Table(("cluster", "result"), [r.values() for r in results])])  # type: ignore[misc]


@clusters.command
@click.argument("cluster_id")
@click.option("--change-ticket", required=True, help="The change that covers it.")
@click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
@click.option("--dry-run", is_flag=True, help="Validate, change nothing.")
@connected
def delete(session: Session, cluster_id: str, change_ticket: str, yes: bool, dry_run: bool) -> None:
    """Remove a cluster that owns nothing from the mesh."""
    _confirm(cluster_id, yes or dry_run)
    etag = session.client.cluster(cluster_id).etag
    session.client.delete_cluster(cluster_id, etag=etag, change_ticket=change_ticket, dry_run=dry_run)
    session.output.note(f"{cluster_id}: {'may be deleted' if dry_run else 'deleted'}")


@clusters.command
@click.argument("cluster_id")
@click.option("--change-ticket", required=True, help="The change that covers it.")
@click.option("--reason", required=True, help="How the log was lost; for the audit.")
@click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
@click.option("--dry-run", is_flag=True, help="Check, change nothing.")
@connected
def rebuild(session: Session, cluster_id: str, change_ticket: str, reason: str, yes: bool, dry_run: bool) -> None:
    """Let a cluster that has lost its own log begin a new one, under a new name.

    What it wrote comes back from its peers, as far as they have it; its namespaces must be active elsewhere by now.
    """
    _confirm(cluster_id, yes or dry_run)
    begun = session.client.rebuild_cluster(cluster_id, change_ticket=change_ticket, reason=reason, dry_run=dry_run)
    verb = "may go on" if dry_run else "goes on"
    session.output.show(begun, lambda: [Table((), [("lost", begun["origin"]), ("incarnation", begun["incarnation"])])])
    session.output.note(f"{cluster_id} {verb} as {cluster_id}~{begun['incarnation']}: omnirelay mesh clusters show")


@clusters.command
@click.argument("cluster_id")
@click.option("--change-ticket", required=True, help="The change that covers it.")
@click.option("--reason", required=True, help="How it fell behind; for the audit.")
@click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
@click.option("--dry-run", is_flag=True, help="Check, change nothing.")
@connected
def reseed(session: Session, cluster_id: str, change_ticket: str, reason: str, yes: bool, dry_run: bool) -> None:
    """Let a cluster that fell behind retention go on, without what was dropped while it was away.

    What it holds of those logs up to there is dropped too; readers that are further behind are told so.
    """
    _confirm(cluster_id, yes or dry_run)
    begun = session.client.reseed_cluster(cluster_id, change_ticket=change_ticket, reason=reason, dry_run=dry_run)
    session.output.show(begun, lambda: [Table((), [("cluster", begun["cluster"]), ("logs", begun["origins"])])])
    verb = "would take" if dry_run else "takes"
    session.output.note(f"{cluster_id} {verb} a seed of {', '.join(begun['origins'])}: omnirelay mesh clusters show")


def _confirm(cluster_id: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("without a terminal this needs --yes")
    if click.prompt(f"Type the cluster's name ({cluster_id}) to go on", err=True).strip() != cluster_id:
        raise click.UsageError("that is another name; nothing was done")


def _apply(session: Session, body: dict[str, Any], dry_run: bool) -> dict[str, Any]:
    cluster_id = str(body["cluster_id"])
    try:
        present = session.client.cluster(cluster_id)
    except NotFound:
        session.client.create_cluster(body, dry_run=dry_run)
        return {"cluster_id": cluster_id, "result": "would be created" if dry_run else "created"}
    # `namespaces` says what a new cluster shall own; what one owns later moves by failover only.
    descriptor = {name: value for name, value in body.items() if name != "namespaces"}
    replaced = session.client.replace_cluster(cluster_id, descriptor, etag=present.etag, dry_run=dry_run)
    changed = "would be replaced" if dry_run else "replaced"
    return {
        "cluster_id": cluster_id,
        "result": "unchanged" if replaced.etag == present.etag and not dry_run else changed,
    }


def _documents(text: str, name: str) -> Iterator[dict[str, Any]]:
    """Raises ConfigInvalid before anything is applied."""
    import yaml

    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise ConfigInvalid(f"{name} is not YAML: {error}") from error
    for document in documents:
        if not isinstance(document, dict) or not document.get("cluster_id"):
            raise ConfigInvalid(f"{name}: each document must be a mapping with a cluster_id")
    if not documents:
        raise ConfigInvalid(f"{name} has no document")
    return iter(documents)


def _table(found: list[dict[str, Any]]) -> Table:
    columns = ("cluster", "region", "state", "ready", "owns", "priority", "version", "last seen", "problems")
    return Table(columns, [_row(cluster) for cluster in found])


def _row(cluster: dict[str, Any]) -> tuple[Any, ...]:
    return (
        cluster["cluster_id"],
        cluster.get("region"),
        cluster.get("state"),
        cluster.get("ready"),
        _owned(cluster),
        cluster.get("priority"),
        cluster.get("version"),
        cluster.get("last_seen"),
        cluster.get("problems") or "-",
    )


def _owned(cluster: dict[str, Any]) -> Any:
    return [f"{owned['namespace']}@{owned['epoch']}" for owned in cluster.get("namespaces") or []] or "-"


def _facts(cluster: dict[str, Any]) -> Table:
    names = (
        "region",
        "state",
        "ready",
        "priority",
        "failover_policy",
        "owners",
        "change_ticket",
        "version",
        "protocol",
    )
    rows = [(name.replace("_", " "), cluster.get(name)) for name in names]
    rows.append(("log", cluster.get("origin")))
    rows += [(f"{kind} endpoint", endpoint) for kind, endpoint in (cluster.get("endpoints") or {}).items()]
    vector = cluster.get("vector")
    rows += [
        ("owns", _owned(cluster)),
        ("last seen", cluster.get("last_seen")),
        ("vector", None if vector is None else [f"{origin}:{sequence}" for origin, sequence in vector.items()] or "-"),
        ("problems", cluster.get("problems") or "-"),
    ]
    return Table((), rows, f"Cluster {cluster['cluster_id']}")


def _peers(cluster: dict[str, Any]) -> Table:
    rows = []
    for peer in cluster.get("peers") or []:
        for direction in ("outbound", "inbound"):
            lag = peer.get(direction) or {}
            figures = [lag.get(name) for name in ("status", "lag_records", "lag_bytes", "lag_seconds")]
            rows.append((peer["peer"], direction, *figures, peer.get("digest_agrees"), peer.get("last_contact")))
    columns = ("peer", "direction", "status", "records", "bytes", "seconds", "digests agree", "last contact")
    return Table(columns, rows, "Peers")
