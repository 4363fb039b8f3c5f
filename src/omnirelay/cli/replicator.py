"""`omnirelay replicator`: the one group that needs the server's dependencies."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import click

from omnirelay.errors import ConfigInvalid

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group
def replicator() -> None:
    """Run a cluster's replicator."""


@replicator.command
@click.option("--config", required=True, type=_FILE, help="The replicator's configuration, YAML.")
def run(config: Path) -> None:
    """Run the replicator in the foreground until SIGTERM."""
    _daemon().run(config)


@replicator.command("check-config")
@click.argument("file", type=_FILE)
def check_config(file: Path) -> None:
    """Say whether a configuration is right, and if not, what is wrong and where."""
    _daemon().check_config(file)
    click.echo(f"{file} is right")


def _daemon() -> Any:
    try:
        return import_module("omnirelay.daemon.main")
    except ModuleNotFoundError as error:
        raise ConfigInvalid(
            f"{error.name} is missing: install omnirelay[server] on hosts that run a replicator"
        ) from error
