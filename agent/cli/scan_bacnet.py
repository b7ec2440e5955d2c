"""`skadi scan bacnet [TARGET...]`: nothing but TOML on stdout, everything for people on stderr."""

import asyncio

import click

from agent.cli.exits import Exit, fail
from agent.cli.options import json_option
from agent.cli.scan import say, show
from agent.scan.bacnet import entry_of, reachable
from drivers.bacnet_discovery import interface_of, one_by_one, route_to
from drivers.bacnet_start import Local
from drivers.contract import DriverError


@click.command()
@json_option
@click.argument("targets", nargs=-1, metavar="[HOST[:PORT]...]")
@click.option("--local", "here", help="Send from this address: IP, IP/MASK or IP/MASK:PORT.")
@click.option("--bbmd", help="Register with this BBMD (IP[:PORT]) as a foreign device.")
@click.option(
    "--wait", "wait_s", default=3.0, show_default=True, help="Seconds to wait for answers."
)
def bacnet(
    targets: tuple[str, ...], here: str | None, bbmd: str | None, wait_s: float, as_json: bool
) -> None:  # fmt: skip
    """Find BACnet devices and print a site file of their objects.

    With targets each is asked; without, the subnet of --local is asked by broadcast.
    """
    if not targets and not (here or bbmd):
        fail("give targets, or --local IP to ask that subnet by broadcast, or --bbmd", Exit.USAGE)
    try:
        local = _local(here, (targets[0] if targets else bbmd or "").partition(":")[0])
        found = asyncio.run(one_by_one(local, targets, bbmd, wait_s))
    except DriverError as error:
        fail(str(error), Exit.UNREACHABLE)
    entries = []
    for device, objects in found:
        where = f"device {device.instance} at {device.address}"
        if isinstance(objects, DriverError):
            say(f"{where}: {objects}")
        elif not reachable(device):
            network, _, mac = device.address.partition(":")
            say(f"{where}: behind a router: write host = the router's address,"
                 f' bacnet_network = {network}, bacnet_mac = "{mac}"')  # fmt: skip
        elif not objects:
            say(f"{where}: no object that holds a number")
        else:
            say(f"{where}: {len(objects)} objects; say what each `state` is")
            entries.append(entry_of(device, objects, here))
    show(entries, as_json)
    if not entries:
        say("nothing found: check the addresses, --local and firewalls (UDP 47808)")
        raise click.exceptions.Exit(int(Exit.UNREACHABLE))


def _local(here: str | None, towards: str) -> Local:
    if here is None:
        return route_to(towards)
    try:
        local = Local.parse(here)
    except (ValueError, OSError):
        fail(f"--local {here!r} is not like 10.0.0.5/24", Exit.USAGE)
    return local if "/" in here else Local(local.ip, interface_of(local.ip).mask, local.port)
