"""`skadi explain`: why an act was made, or was not, as a ladder. Reads history; needs no agent."""

import asyncio
import os
import shutil
import textwrap
from pathlib import Path

import click

from agent.cli.exits import Exit, fail, print_json
from agent.cli.options import config_option, json_option
from agent.cli.report import moment
from agent.reports.explain import Ladder, NothingToExplain
from config.loader import load_site, site_environment
from config.site import Site


@click.command()
@config_option
@json_option
@click.argument("act", required=False)
@click.option(
    "--at", help="The latest act until then: 2026-01-31T12:00:00Z, or 2h for two hours ago."
)
def explain(config_path: Path, as_json: bool, act: str | None, at: str | None) -> None:
    """Why ACT (its id or cycle, see `skadi log actions`; default: the latest) was made or not."""
    from agent.clock import WallClock
    from agent.history.service import HistoryDown
    from agent.logs import configure
    from agent.plain import plain

    configure(level="error")
    until_s = None if at is None else moment(at, WallClock().now_s()) + 0.001
    site = load_site(config_path)
    environ = site_environment(config_path, os.environ)
    try:
        ladder = asyncio.run(_explain(site, dict(environ), act, until_s))
    except NothingToExplain as error:
        fail(str(error))
    except HistoryDown as error:
        fail(str(error), Exit.UNREACHABLE)
    if as_json:
        print_json(plain(ladder))
    else:
        show(ladder)


async def _explain(
    site: Site, environ: dict[str, str], act: str | None, until_s: float | None
) -> Ladder:
    from agent.clock import WallClock
    from agent.history.service import History
    from agent.reports.explain import explain as climb

    history = History(site, WallClock(), environ)
    try:
        return await climb(history, site, act, until_s)
    finally:
        await history.close()


def show(ladder: Ladder) -> None:
    """Print a ladder; the decisive step is marked."""
    click.echo(f"{ladder.ts}  {ladder.id}")
    click.secho(ladder.summary, bold=True)
    width = max(shutil.get_terminal_size().columns, 60)
    for rung in ladder.rungs:
        mark = "=>" if rung.decisive else "  "
        text = f" {mark} {rung.step:10} {rung.text}"
        click.secho(textwrap.fill(text, width, subsequent_indent=" " * 15), bold=rung.decisive)
