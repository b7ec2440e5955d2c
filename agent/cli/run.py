"""`skadi run`: the agent itself, under systemd or in a terminal."""

import asyncio
from pathlib import Path

import click

from agent.cli.exits import Exit, fail
from agent.cli.options import config_option


@click.command()
@config_option
@click.option("--speed", type=click.FloatRange(min=0, min_open=True, max=1000), default=1.0,
              help="Faster than real time, against simulators that run as fast.")  # fmt: skip
@click.option("--start", "start_s", type=float, help="The agent's clock at start, POSIX seconds.")
@click.option("--start-boot", "start_boot_s", type=float, metavar="B",
              help="--start held when CLOCK_BOOTTIME was B seconds, not now.")  # fmt: skip
@click.option("--log-level", default="info", show_default=True)
def run(
    config_path: Path, speed: float, start_s: float | None, start_boot_s: float | None,
    log_level: str,
) -> None:  # fmt: skip
    """Run the agent on a site until SIGTERM."""
    from agent import lean

    lean.begin()
    from agent.clock import WallClock
    from agent.identity import foreign_owner
    from agent.logs import configure
    from agent.run import StartError, run_site
    from config.loader import load_site

    site = load_site(config_path)
    # Another clock than the world's is for rehearsals only.
    if (speed != 1.0 or start_s is not None) and not site.simulated:
        fail("--speed and --start are for simulated sites (site.simulated = true)", Exit.USAGE)
    if start_s is not None and start_boot_s is not None:
        start_s += (WallClock().boot_s() - start_boot_s) * speed
    clock = WallClock(speed, start_s)
    configure(level=log_level, clock=clock)
    if owner := foreign_owner():
        fail(owner)
    try:
        asyncio.run(run_site(site, clock))
    except StartError as error:
        fail(str(error))
