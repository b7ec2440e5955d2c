"""`skadi scan`: one subcommand a protocol, each imported only when it is used."""

from importlib import import_module

import click

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
