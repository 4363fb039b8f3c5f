"""`omnirelay pki`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from omnirelay.pki import Issued

_DIRECTORY = click.option(
    "--dir",
    "directory",
    default="pki",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where ca.crt and ca.key are.",
)
_FORCE = click.option("--force", is_flag=True, help="Replace files that exist.")


@click.group
def pki() -> None:
    """Create a mesh's certificate authority and issue certificates."""


@pki.command
@click.option("--trust-domain", required=True, help="Names the mesh in every identity, e.g. mesh.example.")
@click.option("--days", default=3650, show_default=True, help="Validity.")
@_DIRECTORY
@_FORCE
def init(trust_domain: str, days: int, directory: Path, force: bool) -> None:
    """Create the authority. Keep ca.key off the clusters: whoever has it can be anybody."""
    from omnirelay.pki import create_authority

    _say(create_authority(directory, trust_domain, now=datetime.now(UTC), days=days, force=force))


@pki.command
@click.option("--cluster", metavar="ID", help="For a cluster's replicator.")
@click.option("--operator", metavar="NAME", help="For a person.")
@click.option("--client", metavar="NAME", help="For a producer or consumer.")
@click.option("--host", "hosts", multiple=True, help="Name or address of the cluster.  [default: localhost, 127.0.0.1]")
@click.option("--days", default=90, show_default=True, help="Validity.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Where to write.  [default: --dir]")
@_DIRECTORY
@_FORCE
def issue(
    cluster: str | None,
    operator: str | None,
    client: str | None,
    hosts: tuple[str, ...],
    days: int,
    out: Path | None,
    directory: Path,
    force: bool,
) -> None:
    """Issue one certificate: exactly one of --cluster, --operator, --client."""
    from omnirelay import pki as authority

    kinds = {
        authority.Kind.CLUSTER: cluster,
        authority.Kind.OPERATOR: operator,
        authority.Kind.CLIENT: client,
    }
    chosen = [(kind, name) for kind, name in kinds.items() if name is not None]
    if len(chosen) != 1:
        raise click.UsageError("name exactly one of --cluster, --operator and --client")
    if hosts and cluster is None:
        raise click.UsageError("--host is for clusters: nobody connects to an operator or a client")
    [(kind, name)] = chosen
    _say(
        authority.issue(
            authority.load_authority(directory),
            out or directory,
            kind,
            name,
            now=datetime.now(UTC),
            hosts=hosts or authority.DEFAULT_HOSTS,
            days=days,
            force=force,
        )
    )


def _say(issued: Issued) -> None:
    click.echo(f"{issued.certificate}  {issued.identity}  valid until {issued.expires_at:%Y-%m-%d}")
