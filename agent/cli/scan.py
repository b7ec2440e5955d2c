"""`skadi scan`: one subcommand a protocol, each imported only when it is used.

All of them print nothing but the site file (or JSON) on stdout, and everything for people on stderr.
"""

import tomllib
from collections.abc import Sequence
from importlib import import_module

import click

from agent.cli.exits import print_either
from agent.scan.toml import Entry, site_file

PROTOCOLS: dict[str, str] = {
    "snmp": "agent.cli.scan_snmp:snmp",
    "bacnet": "agent.cli.scan_bacnet:bacnet",
    "modbus": "agent.cli.scan_modbus:modbus",
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(PROTOCOLS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in PROTOCOLS:
            return None
        module, _, attribute = PROTOCOLS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.command(cls=_Lazy)
def scan() -> None:
    """Find out what a device is and print a site file for it. Read only, one request at a time."""


def show(entries: Sequence[Entry], as_json: bool) -> None:
    """Print what was found: a site file; as JSON the devices of it too, `[]` where none was found."""
    text = site_file(entries) if entries else ""
    if text or as_json:
        print_either(
            text, {"devices": tomllib.loads(text).get("device", []), "site_file": text}, as_json
        )


def say(text: str) -> None:
    """A line for people, whatever a device calls itself."""
    click.echo("".join(c if c.isprintable() else "?" for c in text), err=True)
