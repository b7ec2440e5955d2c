"""Makes resolved devices and points for driver tests, without a file."""

from typing import Any

from config.addresses import Address, ModbusAddress
from config.site import Device, Point, Writable


def writable(low: float, high: float, **more: Any) -> Writable:
    """An envelope."""
    return Writable(min=low, max=high, max_step=high - low, **more)


def point(id_: str, address: Address, quantity: str = "state", **more: Any) -> Point:
    """A point of device "d"."""
    return Point(
        key=f"d/{id_}", device="d", id=id_, quantity=quantity, unit=more.pop("unit", ""),
        address=address, equipment="d", **more,
    )  # fmt: skip


def register(text: str, type_: str = "uint16", **more: Any) -> ModbusAddress:
    """`holding:3` and a type."""
    kind, _, offset = text.partition(":")
    return ModbusAddress(kind, int(offset), type_, **more)  # type: ignore[arg-type]


def device(points: list[Point], protocol: str = "modbus-tcp", **more: Any) -> Device:
    """Device "d" on loopback."""
    more.setdefault("host", "127.0.0.1")
    more.setdefault("timeout_s", 0.3)
    return Device(id="d", protocol=protocol, points=tuple(points), **more)
