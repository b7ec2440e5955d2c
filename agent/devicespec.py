"""A device as JSON and back: what the journal keeps so that giving back needs no configuration.

Holds addresses and references to secrets, never a secret.
"""

from dataclasses import asdict, fields, replace
from typing import Any

from config.addresses import (
    BacnetAddress,
    MetricAddress,
    ModbusAddress,
    NamedAddress,
    SnmpAddress,
    WorkloadAddress,
)
from config.links import SerialSection, TlsSection
from config.schema import AuthSection
from config.secrets import SecretRef
from config.site import Device, Point, Writable

_ADDRESSES: dict[str, Any] = {
    cls.__name__: cls
    for cls in (
        ModbusAddress,
        BacnetAddress,
        SnmpAddress,
        MetricAddress,
        WorkloadAddress,
        NamedAddress,
    )
}
_SECTIONS: dict[str, Any] = {
    "auth": AuthSection,
    "token": SecretRef,
    "serial": SerialSection,
    "tls": TlsSection,
}


def device_to_json(device: Device) -> dict[str, Any]:
    """Return the device with its writable points only, as plain JSON values."""
    points = tuple(p for p in device.points if p.writable is not None)
    plain = {
        f.name: getattr(device, f.name)
        for f in fields(device)
        if f.name not in ("points", *_SECTIONS)
    }
    sections = {
        name: section.model_dump(mode="json") if (section := getattr(device, name)) else None
        for name in _SECTIONS
    }
    return {**plain, **sections, "points": [_point_to_json(p) for p in points]}


def device_from_json(data: dict[str, Any]) -> Device:
    """Rebuild a device. Raises KeyError, TypeError or ValueError on foreign data."""
    sections = {
        name: kind.model_validate(data[name]) if data.get(name) else None
        for name, kind in _SECTIONS.items()
    }
    points = tuple(_point_from_json(p) for p in data["points"])
    no_read = tuple(data.get("no_read", ()))
    known = _known(Device, data)
    return Device(**{**known, **sections, "no_read": no_read, "points": points})


def _known(kind: type, data: dict[str, Any]) -> dict[str, Any]:
    """Only what this version knows: giving back must not fail on what another version wrote."""
    names = {f.name for f in fields(kind)}
    return {k: v for k, v in data.items() if k in names}


def _point_to_json(point: Point) -> dict[str, Any]:
    bare = replace(point, writable=None)
    writable = asdict(point.writable) if point.writable else None
    return {**asdict(bare), "writable": writable, "address_type": type(point.address).__name__}


def _point_from_json(data: dict[str, Any]) -> Point:
    kind = _ADDRESSES[data["address_type"]]
    address = {k: tuple(v) if isinstance(v, list) else v for k, v in data["address"].items()}
    rest = {k: v for k, v in data.items() if k not in ("address_type", "address", "writable")}
    rest["sentinels"] = tuple(rest["sentinels"])
    writable = Writable(**_known(Writable, data["writable"])) if data["writable"] else None
    return Point(**_known(Point, rest), address=kind(**address), writable=writable)
