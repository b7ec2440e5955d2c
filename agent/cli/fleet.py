"""`skadi fleet`: every hall on one broker and one database, in a table or as JSON."""

import asyncio
import os
from pathlib import Path
from typing import Any

import click

from agent.cli.exits import Exit, fail, print_json
from agent.cli.options import config_option, json_option
from agent.cli.report import moment
from config.loader import load_site, site_environment

# what is asked for -> the columns of its table
VIEWS: dict[str, tuple[str, ...]] = {
    "status": ("state", "mode", "last_reading", "alarms", "pair"),
    "savings": ("wh_per_prompt", "saved_kwh", "saved_pct"),
    "versions": ("version", "schema", "state"),
    "alarms": ("alarm", "severity", "since"),
}


@click.command()
@config_option
@json_option
@click.argument("view", type=click.Choice(list(VIEWS)), default="status")
@click.option("--since", default="30d", show_default=True, help="Savings from there on.")
@click.option("--wait", "wait_s", type=click.FloatRange(0.1, 60), default=2.0, show_default=True,
              help="Seconds to wait for the broker's first word.")  # fmt: skip
def fleet(config_path: Path, as_json: bool, view: str, since: str, wait_s: float) -> None:
    """All halls that share this site's broker and database. Reads only."""
    from agent.clock import WallClock
    from agent.fleet import fleet as collect
    from agent.logs import configure

    configure(level="error")
    site, now_s = load_site(config_path), WallClock().now_s()
    environ = dict(site_environment(config_path, os.environ))
    found = asyncio.run(collect(site, environ, moment(since, now_s), now_s, wait_s))
    for name in ("broker", "database"):
        if found[name]:
            click.echo(f"skadi: {name}: {found[name]}", err=True)
    if found["broker"] and found["database"]:
        fail("neither broker nor database can be asked", Exit.UNREACHABLE)
    if as_json:
        print_json(found)
        return
    for line in _table(found["halls"], view):
        click.echo(line)


def _table(halls: list[dict[str, Any]], view: str) -> list[str]:
    columns = ("site", "area", *VIEWS[view])
    rows = [columns]
    for hall in halls:
        if view == "alarms":
            flat = [
                {"alarm": a["id"], "severity": a["severity"], "since": a["since"]}
                for a in hall.get("alarms", [])
            ]
        else:
            flat = [_flat(hall)]
        rows += [tuple(_text({**hall, **each}.get(c)) for c in columns) for each in flat]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _flat(hall: dict[str, Any]) -> dict[str, Any]:
    saving, pair = hall.get("saving", {}), hall.get("pair", {})
    return {
        "alarms": len(hall.get("alarms", [])), "pair": pair.get("active"),
        "wh_per_prompt": hall.get("kpi", {}).get("wh_per_prompt"),
        "saved_kwh": saving.get("kwh"), "saved_pct": saving.get("pct"),
    }  # fmt: skip


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
