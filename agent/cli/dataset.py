"""`skadi dataset mix`: public data and a hall's own history in one table, with provenance."""

import asyncio
import os
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from agent.cli.exits import Exit, fail, print_json
from agent.cli.options import json_option
from agent.cli.report import moment
from config.loader import load_site, site_environment
from config.site import Site


@click.group()
def dataset() -> None:
    """Data to train, replay and rehearse with."""


@dataset.command()
@click.argument("sources", nargs=-1)
@click.option("-c", "--config", "config_path", type=click.Path(path_type=Path, exists=True),
              help="A site file: its history is mixed in, and gives the time.")  # fmt: skip
@click.option("--since", help="How far back (30d), or a time. [default: where the data begins]")
@click.option("--until", help="How far back, or a time. [default: where the data ends]")
@click.option("--step", "step_s", type=click.IntRange(60, 86_400), default=60, show_default=True,
              help="Seconds between rows, a multiple of 60.")  # fmt: skip
@click.option("--timezone", "zone", default="UTC", show_default=True,
              help="Of times that do not say theirs.")  # fmt: skip
@click.option(
    "--licence", "licences", multiple=True, metavar="FILE=TEXT", help="What a file's licence is."
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, file_okay=False),
              help="The folder to write to.")  # fmt: skip
@json_option
def mix(
    sources: tuple[str, ...], config_path: Path | None, since: str | None, until: str | None, step_s: int,
    zone: str, licences: tuple[str, ...], output: Path, as_json: bool,
) -> None:  # fmt: skip
    """Align SOURCES (FILE, FOLDER or READER=FILE; CSV or Parquet) with a hall's history.

    Writes mix.parquet, mix.csv, workload.csv, summary.json and summary.html: the same to the byte
    for the same inputs.
    """
    from agent.history.service import HistoryDown
    from agent.table import TableError

    if step_s % 60:
        fail("--step: give a multiple of 60", Exit.USAGE)
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        fail(f"--timezone {zone}: no such zone; write one such as Europe/Berlin", Exit.USAGE)
    if not sources and config_path is None:
        fail("nothing to mix: give SOURCES, -c SITE, or both", Exit.USAGE)
    try:
        found, names = asyncio.run(
            _mix(sources, config_path, (since, until), step_s, zone, licences, output)
        )
    except ImportError as error:
        fail(f"{error}: pip install --require-hashes -r requirements/dataset.txt")
    except HistoryDown as error:
        fail(str(error), Exit.UNREACHABLE)
    except (TableError, ValueError, OSError) as error:
        fail(str(error))
    if as_json:
        print_json(found)
        return
    each = found["energy"]["j_per_prompt"]
    click.echo(
        f"{found['rows']} rows, {found['since']} to {found['until']}, {len(found['columns'])} columns"
    )
    click.echo("J/prompt: " + ("not known" if each is None else f"{each:.2f}"))
    for s in found["sources"]:
        click.echo(f"  {s['file']}: {s['reader']}, {s['licence']}, {s['rows']} rows, {s['laid']}")
    click.echo(f"wrote {', '.join(names)} to {output}", err=True)


async def _mix(
    given: tuple[str, ...], config_path: Path | None, span: tuple[str | None, str | None], step_s: int,
    zone: str, licences: tuple[str, ...], output: Path,
) -> tuple[dict[str, Any], list[str]]:  # fmt: skip
    import pyarrow  # noqa: F401  its absence is said before any work

    from agent.clock import WallClock
    from agent.dataset import mix as mixer
    from agent.dataset.sources import files_of, read_source
    from agent.history.service import History
    from agent.logs import configure
    from agent.table import TableError

    configure(level="error")
    licence_of = dict(x.partition("=")[::2] for x in licences)
    sources = []
    for name, path, asked in files_of(given):
        try:
            sources.append(read_source(path, name, zone, licence_of.get(path.name, "")))
        except TableError as error:
            if asked or name:
                raise
            click.echo(f"left out: {error}", err=True)
    site = load_site(config_path) if config_path else None
    history = None
    if site is not None:
        history = History(site, WallClock(), site_environment(site.source or Path(), os.environ))
    try:
        known = [(s.series[0].times_s[0], s.series[0].times_s[-1]) for s in sources if s.dated]
        if history is not None:
            own = await history.span()
            known = [own] if own else known
        if not known:
            raise ValueError("no source has dates, and there is no history: give -c SITE")
        now_s = WallClock().now_s()
        since_s = moment(span[0], now_s) if span[0] else min(a for a, _ in known)
        until_s = moment(span[1], now_s) if span[1] else max(b for _, b in known) + 1
        times_s = mixer.grid(since_s, until_s, step_s)
        columns, about = await _own(mixer, history, site, times_s, step_s)
    finally:
        if history is not None:
            await history.close()
    for source in sources:
        made, how = mixer.laid(source, times_s, step_s)
        columns += made
        about.append(mixer.provenance(source, how))
    found = mixer.summary(columns, times_s, step_s, about)
    return found, mixer.write(output, columns, times_s, found)


async def _own(
    mixer: Any, history: Any, site: Site | None, times_s: Any, step_s: int
) -> tuple[list[Any], list[dict[str, Any]]]:
    if site is None:
        return [], []
    columns = await mixer.own_columns(history, site, times_s, step_s)
    return columns, [mixer.own_provenance(site, columns)]
