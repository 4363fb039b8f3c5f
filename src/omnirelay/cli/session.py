"""What every `mesh` command starts from: its connection options, the client, the output."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from omnirelay.cli.output import FORMATS, OUTPUT_KEY, Output
from omnirelay.cli.settings import Settings, resolve

if TYPE_CHECKING:
    from omnirelay.client.control import ControlClient
    from omnirelay.client.credentials import Credentials

_OPTIONS = (
    click.option("--endpoint", multiple=True, metavar="URL", help="Control API of a cluster; repeat for fallbacks."),
    click.option("--ca", metavar="FILE", help="The mesh's authority, PEM."),
    click.option("--cert", metavar="FILE", help="Your certificate, PEM."),
    click.option("--key", metavar="FILE", help="Your certificate's key, PEM."),
    click.option("--token-file", metavar="FILE", help="A bearer token instead of a certificate."),
    click.option("-o", "--output", type=click.Choice(FORMATS), help="How results are printed.  [default: table]"),
)
_NAMES = ("endpoint", "ca", "cert", "key", "token_file", "output")


@dataclass(frozen=True)
class Session:
    settings: Settings

    @property
    def output(self) -> Output:
        return Output(self.settings.output)

    @property
    def credentials(self) -> Credentials | None:
        from omnirelay.client.credentials import Credentials

        settings = self.settings
        return Credentials(settings.ca, settings.cert, settings.key) if settings.ca is not None else None

    @functools.cached_property
    def client(self) -> ControlClient:
        from omnirelay.client.control import ControlClient

        return ControlClient(self.settings.endpoints, credentials=self.credentials, token=self.settings.token)


def connected(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the connection options to a command and hands it a Session first."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        options = {name: kwargs.pop(name) for name in _NAMES}
        context = click.get_current_context()
        # An error in the settings themselves is already printed as asked.
        context.meta[OUTPUT_KEY] = options["output"] or "table"
        settings = resolve(options, os.environ)
        context.meta[OUTPUT_KEY] = settings.output
        session = Session(settings)
        try:
            return command(session, *args, **kwargs)
        finally:
            if "client" in session.__dict__:
                session.client.close()

    for option in reversed(_OPTIONS):
        run = option(run)
    return run
