"""`skadi scan modbus TARGET...`: nothing but TOML on stdout, everything for people on stderr."""

import asyncio
import re

import click

from agent.cli.exits import Exit, fail
from agent.cli.options import json_option
from agent.cli.scan import say, show
from agent.scan.modbus import Shown, entry_of, look, profile_of
from config.links import SerialSection
from config.site import Device
from drivers.contract import DriverError

_TARGET = re.compile(r"^([^\s/:]+)(?::(\d{1,5}))?$")


@click.command()
@json_option
@click.argument("targets", nargs=-1, required=True, metavar="HOST[:PORT]|/dev/...")
@click.option("--unit", "units", multiple=True, type=click.IntRange(0, 255), default=(1,),
              show_default=True, help="Unit id; repeat for several.")  # fmt: skip
@click.option("--rtu", is_flag=True, help="RTU frames over TCP, as serial servers speak.")
@click.option("--baud", default=19_200, show_default=True, help="Of a serial line.")
@click.option("--parity", type=click.Choice(["none", "even", "odd"]), default="even")
@click.option("--first", default=0, show_default=True, help="First register of each kind.")
@click.option("--count", type=click.IntRange(1, 125), default=16, show_default=True)
@click.option("--timeout", "timeout_s", default=2.0, show_default=True, help="Seconds a request.")
def modbus(
    targets: tuple[str, ...], units: tuple[int, ...], rtu: bool, baud: int, parity: str,
    first: int, count: int, timeout_s: float, as_json: bool,
) -> None:  # fmt: skip
    """Find out what Modbus units are and print a site file of their raw registers.

    Read only: FC 1 to 4, and FC 43 for what the unit says it is.
    """
    devices = [
        _device(target, unit, rtu, baud, parity, timeout_s, i)
        for i, (target, unit) in enumerate(((t, u) for t in targets for u in units), 1)
    ]
    shown = asyncio.run(_all(devices, first, count))
    show([entry_of(s) for s in shown], as_json)
    if len(shown) < len(devices):
        raise click.exceptions.Exit(int(Exit.UNREACHABLE))


async def _all(devices: list[Device], first: int, count: int) -> list[Shown]:
    found: list[Shown] = []
    for device in devices:
        where = f"{device.address} unit {device.unit_id}"
        try:
            shown = await look(device, first, count)
        except DriverError as error:
            say(f"{where}: {error}")
            continue
        said = ", ".join(shown.identity.values()) or "does not say what it is"
        profile = profile_of(shown)
        known = f"{profile.name}: {profile.about.title}; " if profile else ""
        say(f"{where}: {known}{said}; {len(shown.readings)} registers answer")
        if shown.readings:
            found.append(shown)
    return found


def _device(
    target: str, unit: int, rtu: bool, baud: int, parity: str, timeout_s: float, number: int
) -> Device:  # fmt: skip
    id_ = f"modbus-{number}"
    if target.startswith("/"):
        serial = SerialSection.model_validate({"path": target, "baud": baud, "parity": parity})
        return Device(id_, "modbus-rtu", (), unit_id=unit, serial=serial, timeout_s=timeout_s)
    match = _TARGET.match(target)
    if match is None:
        fail(f"{target!r} is not like HOST, HOST:PORT or /dev/ttyUSB0", Exit.USAGE)
    return Device(
        id_, "modbus-rtu-tcp" if rtu else "modbus-tcp", (), host=match[1],
        port=int(match[2] or 502), unit_id=unit, timeout_s=timeout_s,
    )  # fmt: skip
