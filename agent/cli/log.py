"""`skadi log`: what the agent did (journal), why it acted (history), what called for people."""

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from agent.audit import read_entries, read_latest
from agent.cli.exits import Exit, fail, print_json
from agent.cli.options import config_option, json_option
from config.loader import load_site, site_environment
from drivers.gate import JournalError

KINDS = {"actions": ("action", "ending", "judged"), "alarms": ("alarm",)}


@click.command()
@config_option
@json_option
@click.argument("what", type=click.Choice(["events", "actions", "alarms"]), default="events")
@click.option("--since", help="90m, 24h, 7d, or a time like 2026-01-31T12:00:00Z; events: also a number,"
              " for those after it.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1, 100_000), default=200, show_default=True)
@click.option("--refused", is_flag=True, help="actions: what was proposed and denied, too.")
def log(
    config_path: Path, as_json: bool, what: str, since: str | None, limit: int, refused: bool
) -> None:
    """What happened, the latest last: events (the journal), actions or alarms (history)."""
    if what == "events":
        _events(config_path, as_json, since, limit)
    else:
        kinds = KINDS[what] + (("decision",) if refused and what == "actions" else ())
        _records(config_path, as_json, since, limit, kinds)


def _events(config_path: Path, as_json: bool, since: str | None, limit: int) -> None:
    path = Path(load_site(config_path).agent.data_dir) / "journal.db"
    after = (
        int(since) if since and since.isascii() and since.isdigit() and len(since) < 19 else None
    )
    since_s = 0.0 if since is None or after is not None else _moment(since)
    if not path.exists():
        fail(f"{path} does not exist; has the agent run?")
    try:
        entries = (
            read_latest(path, since_s, limit) if after is None else read_entries(path, after, limit)
        )
    except JournalError as error:
        fail(str(error))
    if as_json:
        print_json(entries)
        return
    from agent.clock import utc

    if not entries:
        click.echo(
            "nothing is in the journal of this time: it holds writes, changes of mode and commands",
            err=True,
        )
    for e in entries:
        rest = (
            f"{k}={_shown(v)}" for k, v in e.items() if k not in ("seq", "at_s", "kind", "boot")
        )
        click.echo(f"{e['seq']:6} {utc(e['at_s'])[:19]}Z {e['kind']:10} {' '.join(rest)}")


def _moment(text: str) -> float:
    from agent.cli.report import moment
    from agent.clock import WallClock

    return moment(text, WallClock().now_s())


def _shown(value: Any) -> str:
    """A field of the journal for people: leases and receipts in words, the rest as it is kept."""
    match value:
        case str():
            return value
        case [{"point": _}, *_]:
            return ", ".join(map(_of_point, value))
        case _:
            return json.dumps(value, default=str)


def _of_point(kept: Any) -> str:
    match kept:
        case {"point": point, "previous": old, "value": new}:
            return f"{point} {old} -> {new}"
        case {"point": point, "receipt": receipt}:
            return f"{point} {receipt}"
        case _:
            return json.dumps(kept, default=str)


def _records(
    config_path: Path, as_json: bool, since: str | None, limit: int, kinds: Sequence[str]
) -> None:
    from agent.history.service import HistoryDown
    from agent.logs import configure

    configure(level="error")
    since_s = 0.0 if since is None else _moment(since)
    try:
        found = asyncio.run(_read(config_path, since_s, limit, kinds))
    except HistoryDown as error:
        fail(str(error), Exit.UNREACHABLE)
    if as_json:
        print_json(found)
        return
    for entry in found:
        click.echo(line(entry))
    if not found:
        click.echo("nothing of the kind is in history", err=True)


async def _read(config_path: Path, since_s: float, limit: int, kinds: Sequence[str]) -> list[Any]:
    from agent.api.views import action_entry
    from agent.clock import WallClock
    from agent.history.service import History

    environ = site_environment(config_path, os.environ)
    history = History(load_site(config_path), WallClock(), environ)
    try:
        found = await history.actions(since_s, limit, None, kinds)
    finally:
        await history.close()
    return [action_entry(a).model_dump(mode="json") for a in reversed(found)]


def line(entry: dict[str, Any]) -> str:
    """A record as one line: when, what, and why."""
    d = entry["detail"]
    head = f"{entry['ts'][:19]}Z {entry['type']:8}"
    match entry["type"]:
        case "alarm":
            return f"{head} {d.get('severity')} {d.get('state')}: {d.get('text')} [{d.get('id')}]"
        case "ending":
            return (
                f"{head} {d.get('point')} back to {d.get('target')}: {d.get('reason')}"
                f" ({d.get('receipt')})"
            )
        case "judged":
            came = "undone" if d.get("undo") else "kept"
            return f"{head} {d.get('id')}: {came}"
        case "decision":
            why = f"{d.get('reason')}; denied by {d.get('rule')}"
        case _:
            why = f"{d.get('reason')}" + ("" if d.get("complete") else "; NOT COMPLETE")
    return f"{head} {d.get('id')}: {why}"  # an id names move and scope
