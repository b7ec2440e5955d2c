"""`skadi alarm`: what calls for a person, and saying that it was seen or can wait."""

from pathlib import Path
from typing import Any

import click

from agent.cli.call import reach
from agent.cli.exits import print_json
from agent.cli.options import config_option, json_option, seconds_of


@click.group()
def alarm() -> None:
    """List, acknowledge and shelve the alarms of a running agent."""


def _show(alarms: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(alarms)
        return
    for a in alarms:
        until = f" until {a['shelved_until']}" if a["shelved_until"] else ""
        click.secho(f"{a['severity']:8} {a['state']}{until}  {a['id']}", bold=a["calls"])
        click.echo(f"         {a['text']} (since {a['since']})\n         {a['advice']}")
    if not alarms:
        click.echo("no alarm", err=True)


@alarm.command("list")
@config_option
@json_option
def list_(config_path: Path, as_json: bool) -> None:
    """All alarms that stand, the worst first."""
    _show(reach(config_path, "status", {})["alarms"], as_json)


@alarm.command()
@config_option
@json_option
@click.argument("name", metavar="ID")
def ack(config_path: Path, as_json: bool, name: str) -> None:
    """Say that somebody has seen alarm ID."""
    _show(reach(config_path, "alarm.ack", {"id": name})["alarms"], as_json)


@alarm.command()
@config_option
@json_option
@click.argument("name", metavar="ID")
@click.option(
    "--for", "for_", default="1h", show_default=True, help="30m, 2h; a shift (8h) at most."
)
@click.option("--reason", required=True, help="Why it can wait; it is audited.")
def shelve(config_path: Path, as_json: bool, name: str, for_: str, reason: str) -> None:
    """Do not call for alarm ID for a while."""
    body = {"id": name, "duration_s": seconds_of(for_, "--for"), "reason": reason}
    _show(reach(config_path, "alarm.shelve", body)["alarms"], as_json)


@alarm.command()
@config_option
@json_option
@click.argument("name", metavar="ID")
def unshelve(config_path: Path, as_json: bool, name: str) -> None:
    """Call for alarm ID again."""
    _show(reach(config_path, "alarm.unshelve", {"id": name})["alarms"], as_json)
