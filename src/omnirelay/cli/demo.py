"""`omnirelay demo`: its options are its own, so that there is one list of them."""

from __future__ import annotations

from importlib import import_module

import click


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def demo(ctx: click.Context, args: tuple[str, ...]) -> None:
    """Three clusters on this machine, failed over before your eyes."""
    ctx.exit(import_module("omnirelay.demo.main").run(list(args)) or 0)
