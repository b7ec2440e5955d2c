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
@click.option("--timezone", "zones", multiple=True, metavar="[FILE=]ZONE",
              help="Of times that do not say theirs. [default: UTC]")  # fmt: skip
@click.option("--time-format", "forms", multiple=True, metavar="[FILE=]FORMAT",
              help="How times are written that are not ISO 8601, such as '%m/%d/%Y %H:%M'.")  # fmt: skip
@click.option(
    "--licence", "licences", multiple=True, metavar="FILE=TEXT", help="What a file's licence is."
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, file_okay=False),
              help="The folder to write to.")  # fmt: skip
@json_option
def mix(
    sources: tuple[str, ...], config_path: Path | None, since: str | None, until: str | None, step_s: int,
    zones: tuple[str, ...], forms: tuple[str, ...], licences: tuple[str, ...], output: Path, as_json: bool,
) -> None:  # fmt: skip
    """Align SOURCES (FILE, FOLDER or READER=FILE; CSV or Parquet) with a hall's history.

    Writes mix.parquet, mix.csv, workload.csv, summary.json and summary.html: the same to the byte
    for the same inputs.
    """
    from agent.history.service import HistoryDown
    from agent.table import TableError

    if step_s % 60:
        fail("--step: give a multiple of 60", Exit.USAGE)
    said = {
        "--timezone": _by_file(zones),
        "--time-format": _by_file(forms),
        "--licence": _by_file(licences),
    }
    for zone in said["--timezone"].values():
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            fail(f"--timezone {zone}: no such zone; write one such as Europe/Berlin", Exit.USAGE)
    if not sources and config_path is None:
        fail("nothing to mix: give SOURCES, -c SITE, or both", Exit.USAGE)
    try:
        found, names = asyncio.run(_mix(sources, config_path, (since, until), step_s, said, output))
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
        unused = f"; not used: {', '.join(s['left_out'])}" if s.get("left_out") else ""
        click.echo(
            f"  {s['file']}: {s['reader']}, {s['licence']}, {s['rows']} rows, {s['laid']}{unused}"
        )
    click.echo(f"wrote {', '.join(names)} to {output}", err=True)


def _by_file(said: tuple[str, ...]) -> dict[str, str]:
    """FILE=TEXT by file; a TEXT alone, under "", is of all others."""
    return {("" if not sign else name): (text if sign else name)
            for name, sign, text in (x.partition("=") for x in said)}  # fmt: skip


def _read(given: tuple[str, ...], said: dict[str, dict[str, str]]) -> list[Any]:
    """The sources; of a folder those that can be read. Raises TableError, ValueError, OSError."""
    from agent.dataset.sources import files_of, read_source
    from agent.dataset.times import Written
    from agent.table import TableError

    files = list(files_of(given))
    for option, by_file in said.items():
        if unknown := by_file.keys() - {path.name for _, path, _ in files} - {""}:
            raise ValueError(f"{option} {min(unknown)}=: no such file among the sources")
    sources = []
    for name, path, asked in files:
        zone, form, licence = (of.get(path.name, of.get("", "")) for of in said.values())
        try:
            sources.append(read_source(path, name, Written(zone or "UTC", form), licence))
        except TableError as error:
            if asked or name:
                raise
            click.echo(f"left out: {error}", err=True)
    stems = [s.path.stem for s in sources]
    if twice := next((s for s in stems if stems.count(s) > 1), ""):
        raise ValueError(f"two sources are called {twice}, and so would their columns: rename one")
    return sources


async def _mix(
    given: tuple[str, ...], config_path: Path | None, span: tuple[str | None, str | None], step_s: int,
    said: dict[str, dict[str, str]], output: Path,
) -> tuple[dict[str, Any], list[str]]:  # fmt: skip
    import pyarrow  # noqa: F401  its absence is said before any work

    from agent.clock import WallClock
    from agent.dataset import mix as mixer
    from agent.history.service import History
    from agent.logs import configure

    configure(level="error")
    sources = _read(given, said)
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
