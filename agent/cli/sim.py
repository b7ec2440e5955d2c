"""`skadi sim`: the simulated hall, in a process of its own. Nothing here imports it."""

import os
import sys

import click


@click.command(
    context_settings={
        "ignore_unknown_options": True,
        "allow_extra_args": True,
        "help_option_names": [],
    }
)
@click.pass_context
def sim(ctx: click.Context) -> None:
    """Run the simulated hall: devices on loopback that speak the real protocols."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "simulators", *ctx.args])
