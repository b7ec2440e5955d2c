"""What a Modbus unit shows: what it says it is, and which of its registers answer.

Modbus has no names and no units, so nothing is said about what a register means: each that
answers becomes a raw `state`, for a person with the manual. A unit that says itself what it is
(FC 43) gets the profile that knows those words. Read only.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.scan.toml import Entry, toml
from config.addresses import ModbusAddress, RegisterKind
from config.library import Profile, profiles_of
from config.site import Device, Point
from control.types import Reading
from drivers.contract import DriverError
from drivers.modbus import ModbusDriver
from drivers.modbus_identify import identify

KINDS: tuple[RegisterKind, ...] = ("input", "holding", "discrete", "coil")
LAST_REGISTER = 65_535
DEFAULT_PORTS = {"modbus-tcp": 502, "modbus-rtu-tcp": 502}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a unit said it is (by name), and the registers that answered."""

    device: Device
    identity: dict[str, str]
    readings: tuple[Reading, ...]


async def look(device: Device, first: int, count: int) -> Shown:
    """Identify a unit and read `count` of each kind of register from `first`.

    Raises DriverError when it does not answer.
    """
    points = tuple(
        _raw(device, kind, offset)
        for kind in KINDS
        for offset in range(first, min(first + count, LAST_REGISTER + 1))
    )
    driver = ModbusDriver(replace(device, points=points), {})
    try:
        readings = await driver.read(0.0)
        try:
            identity = await identify(device)
        except DriverError:
            identity = {}  # it answers reads: one that chokes on being asked its name
        return Shown(device, identity, tuple(r for r in readings if r.value is not None))
    finally:
        await driver.close()


def _raw(device: Device, kind: RegisterKind, offset: int) -> Point:
    id_ = f"{kind}{offset}"
    bits = kind in ("coil", "discrete")
    return Point(
        key=f"{device.id}/{id_}", device=device.id, id=id_, quantity="state", unit="",
        address=ModbusAddress(kind, offset, "bool" if bits else "uint16"), equipment=device.id,
    )  # fmt: skip


def profile_of(shown: Shown) -> Profile | None:
    """The profile whose pattern finds itself in the unit's own words."""
    said = " ".join(shown.identity.values())
    for profile in profiles_of("modbus-tcp"):
        pattern = profile.match.identity
        if pattern and re.search(pattern, said, re.IGNORECASE):
            return profile
    return None


def entry_of(shown: Shown) -> Entry:
    """One [[device]] of the site file: with the profile it names itself, else its raw registers."""
    device = shown.device
    keys: list[tuple[str, object]] = [("id", device.id), ("protocol", device.protocol)]
    if device.serial is not None:
        keys.append(("serial", device.serial.model_dump()))
    else:
        keys.append(("host", device.host))
        if device.port != DEFAULT_PORTS.get(device.protocol):
            keys.append(("port", device.port))
    keys.append(("unit_id", device.unit_id))
    profile = profile_of(shown)
    notes = [f"Modbus unit {device.unit_id} at {device.address}", *_identity(shown.identity)]
    if profile is not None:
        keys.append(("profile", profile.name))
        if not profile.about.verified:
            notes.append("the profile is from a document only: hold some values against the unit")
        return Entry(tuple(keys), notes=tuple(notes))
    notes.append("raw registers: give each its quantity, type, scale and unit from the manual")
    return Entry(tuple(keys), notes=tuple(notes), lines=tuple(map(_line, shown.readings)))


def _identity(said: dict[str, str]) -> Sequence[str]:
    return [f"{name}: {text}" for name, text in said.items()] or ["does not say what it is"]


def _line(reading: Reading) -> str:
    id_ = reading.point.partition("/")[2]
    kind = id_.rstrip("0123456789")
    keys: dict[str, object] = {
        "id": id_,
        "quantity": "state",
        "register": f"{kind}:{id_[len(kind) :]}",
    }
    return f"  {toml(keys)}, # now {reading.value:g}"
