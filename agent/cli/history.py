"""`skadi history`: export, import, vacuum, check. Works while the agent runs, and without it."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.exits import Exit, fail, print_json
from agent.cli.options import config_option, json_option
from agent.cli.report import moment
from config.loader import load_site, site_environment
from config.site import Site

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_FOR_EVER_S = 253_402_300_799.0


@click.group()
def history() -> None:
    """Back up, restore and look after what was measured and done."""


@history.command("export")
@config_option
@json_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--since", help="How far back (24h, 7d), or a time; default: everything.")
@click.option("--until", help="A time, or how far back; default: now.")
@click.option("--force", is_flag=True, help="Replace FILE.")
def export_(
    config_path: Path, as_json: bool, file: Path, since: str | None, until: str | None, force: bool
) -> None:
    """Write this site's history to FILE, one snapshot of it."""
    from agent.history.archive import export

    if file.exists() and not force:
        fail(f"{file} exists; choose another name, or --force to replace it", Exit.USAGE)
    if not os.access(file.parent, os.W_OK):
        fail(f"{file.parent}: choose a folder you may write to", Exit.USAGE)
    now_s = _now_s()
    span = (moment(since, now_s) if since else 0.0, moment(until, now_s) if until else _FOR_EVER_S)
    done = _with(
        config_path, lambda site, engine: export(engine, (site.id, site.area), file, *span)
    )
    _tell(as_json, done, f"wrote {file}: {_rows(done)}")


@history.command("import")
@config_option
@json_option
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def import_(config_path: Path, as_json: bool, file: Path) -> None:
    """Add what FILE holds and the history lacks. Nothing that is there is changed."""
    from agent.history.archive import ArchiveError, restore

    try:
        done = _with(config_path, lambda _site, engine: restore(engine, file))
    except ArchiveError as error:
        fail(str(error))
    _tell(as_json, done, f"{file}, {done['site']}/{done['area']}: {_rows(done)}")


@history.command()
@config_option
@json_option
def vacuum(config_path: Path, as_json: bool) -> None:
    """Give the space of deleted rows back to the file system."""
    from agent.history.care import vacuum as give_back

    before, after = _with(config_path, lambda _site, engine: give_back(engine))
    _tell(as_json, {"bytes_before": before, "bytes": after},
          f"{before / 1e6:.1f} MB before, {after / 1e6:.1f} MB now")  # fmt: skip


@history.command()
@config_option
@json_option
@click.option("--since", default="24h", show_default=True,
              help="Compare rollups with their rows from there on (all: everything).")  # fmt: skip
def check(config_path: Path, as_json: bool, since: str) -> None:
    """Look whether the history is sound. Ends with 1 when it is not."""
    from agent.history.care import check as look

    now_s = _now_s()
    since_s = 0.0 if since == "all" else moment(since, now_s)
    found = _with(
        config_path, lambda site, engine: look(engine, (site.id, site.area), since_s, now_s)
    )
    holes = [
        f"gap in {h['stream']}: {h['since']} to {h['until']}, {h['dropped']} rows"
        for h in found["holes"]
    ]
    lines = [*found["problems"], *holes, (
        f"{sum(found['rows'].values())} rows, {found['compared']} rollups compared, {found['wrong']} wrong,"
        f" {found['minutes_behind']} minutes to roll up, {found['gaps']} gaps ({found['dropped']} rows)"
    )]  # fmt: skip
    _tell(as_json, found, "\n".join(lines))
    if found["wrong"]:
        raise click.exceptions.Exit(int(Exit.FAILURE))


def _with(config_path: Path, act: "Callable[[Site, AsyncEngine], Awaitable[Any]]") -> Any:
    """Do something with the site's database; ends the command when it can't be reached."""
    from agent.history.db import DATABASE_ERRORS, history_url, make_engine, migrate, one_line
    from agent.logs import configure

    configure(level="error")
    site = load_site(config_path)

    async def run() -> Any:
        engine = make_engine(site, site_environment(config_path, os.environ))
        try:
            await migrate(engine)
            return await act(site, engine)
        finally:
            await engine.dispose()

    try:
        return asyncio.run(run())
    except DATABASE_ERRORS as error:
        place = history_url(site).render_as_string(hide_password=True)
        fail(f"{place}: {one_line(error)}", Exit.UNREACHABLE)


def _now_s() -> float:
    from agent.clock import WallClock

    return WallClock().now_s()


def _rows(manifest: dict[str, Any]) -> str:
    return ", ".join(f"{t['rows']} {name}" for name, t in manifest["tables"].items() if t["rows"])


def _tell(as_json: bool, value: Any, line: str) -> None:
    if as_json:
        print_json(value)
    else:
        click.echo(line)
