"""`omnirelay`: the root of the command line, and how it ends."""

from __future__ import annotations

import click

from omnirelay.cli.lazy import Lazy, LazyGroup
from omnirelay.cli.output import OUTPUT_KEY, print_error
from omnirelay.errors import OmniRelayError

INTERRUPTED = 130


class Root(LazyGroup):
    def invoke(self, ctx: click.Context) -> object:
        """Typed errors end the command with their own exit code, an interruption with the shell's."""
        try:
            return super().invoke(ctx)
        except OmniRelayError as error:
            print_error(error, str(ctx.meta.get(OUTPUT_KEY, "table")))
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


@click.group(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    lazy={
        "mesh": Lazy(
            "omnirelay.cli.mesh:mesh", "Clusters, failovers, divergence, routing, audit and events of a running mesh."
        ),
        "pki": Lazy("omnirelay.cli.pki:pki", "Create a mesh's certificate authority and issue certificates."),
        "replicator": Lazy("omnirelay.cli.replicator:replicator", "Run a cluster's replicator."),
        "demo": Lazy("omnirelay.cli.demo:demo", "Three clusters on this machine, failed over before your eyes."),
    },
)
@click.version_option(package_name="omnirelay", message="%(package)s %(version)s")
def cli() -> None:
    """Operate a mesh of clusters that replicate events and fail over.

    \b
    Where the mesh is and who you are: options of each `mesh` command, else OMNIRELAY_ENDPOINT (commas between
    addresses), _CA, _CERT, _KEY, _TOKEN, _TOKEN_FILE, else the profile: OMNIRELAY_PROFILE or
    ~/.config/omnirelay/profile.yaml (endpoint, ca, cert, key, token_file, output).

    \b
    Exit codes: 0 done · 1 defect · 2 usage · 3 refused by a check · 4 not approved · 5 timed out and undone ·
    6 conflict · 7 unreachable · 8 partial, resume needed · 130 interrupted.

    \b
    Shell completion: eval "$(_OMNIRELAY_COMPLETE=bash_source omnirelay)" in ~/.bashrc; likewise zsh_source,
    and for fish: _OMNIRELAY_COMPLETE=fish_source omnirelay | source.
    """


def main() -> None:
    cli(prog_name="omnirelay")
