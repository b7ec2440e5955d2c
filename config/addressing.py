"""From the keys of a point to its address on the wire: one small parser a protocol.

Refuses what the protocol can't express, and keys that belong to another protocol.
"""

import re
from collections.abc import Callable
from typing import cast, get_args

from config.addresses import (
    Address,
    BacnetAddress,
    MetricAddress,
    ModbusAddress,
    NamedAddress,
    RegisterKind,
    RegisterType,
    SnmpAddress,
    WorkloadAddress,
)
from config.links import ACTUATORS, MODBUS
from config.schema import PointSection, closest


class AddressProblem(Exception):
    """A point's address can't be used. `key` is the TOML key at fault."""

    def __init__(self, key: str, text: str) -> None:
        self.key = key
        super().__init__(text)


KEYS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(sorted(MODBUS), ("register", "type", "word_order", "byte_order", "bit")),
    "bacnet-ip": ("object", "property"),
    "snmp": ("oid", "valid_while"),
    "prometheus": ("metric", "labels", "kind", "quantile", "window_s", "aggregate", "per_rack"),
    "workload-http": ("knob",),
    **dict.fromkeys(sorted(ACTUATORS), ("name",)),
    "push": ("name",),
    "plant": ("name",),
}
WRITABLE_PROTOCOLS = MODBUS | ACTUATORS | {"bacnet-ip", "snmp", "workload-http", "plant"}

_WIRE_KEYS = sorted({k for keys in KEYS.values() for k in keys})
_REGISTER = re.compile(r"^(coil|discrete|input|holding):(\d{1,5})$")
_OBJECT = re.compile(r"^([a-z][a-z-]*):(\d{1,7})$")
_COMMANDABLE = ("analog-output", "analog-value", "binary-output", "binary-value",
                "multi-state-output", "multi-state-value")  # fmt: skip
_READABLE = (*_COMMANDABLE, "analog-input", "binary-input", "multi-state-input",
             "integer-value", "positive-integer-value", "large-analog-value", "loop")  # fmt: skip


def parse_address(protocol: str, point: PointSection) -> Address:
    """Return where `point` lives. Raises AddressProblem with the key at fault."""
    for key in _WIRE_KEYS:
        if key not in KEYS[protocol] and _given(point, key):
            owner = next(p for p, keys in KEYS.items() if key in keys)
            raise AddressProblem(key, f"belongs to {owner}, not to {protocol}; remove it")
    if point.writable and protocol not in WRITABLE_PROTOCOLS:
        raise AddressProblem("writable", f"{protocol} is read only; remove it")
    return _PARSERS[protocol](point)


def _given(point: PointSection, key: str) -> bool:
    value = getattr(point, "register_" if key == "register" else key)
    return value is not None and value is not False


def _modbus(p: PointSection) -> ModbusAddress:
    match = _REGISTER.match(p.register_ or "")
    if not match or int(match[2]) > 65_535:
        raise AddressProblem(
            "register", f"{p.register_!r} is not like holding:22 (kind:address, 0-based, 0..65535)"
        )
    kind = cast(RegisterKind, match[1])  # the pattern admits no other
    bits = kind in ("coil", "discrete")
    type_ = p.type or ("bool" if bits else "uint16")
    if type_ not in get_args(RegisterType):
        raise AddressProblem(
            "type", f"unknown type {type_!r}{closest(type_, get_args(RegisterType))}"
        )
    if bits and type_ != "bool":
        raise AddressProblem("type", f"a {kind} is a bool, not {type_}")
    if p.bit is not None and (bits or type_ not in ("uint16", "bool")):
        raise AddressProblem("bit", "picks one bit of a 16-bit register; remove it or use uint16")
    if not bits and type_ == "bool" and p.bit is None:
        raise AddressProblem("type", "a bool in a register needs bit = 0..15")
    if p.writable and kind not in ("coil", "holding"):
        raise AddressProblem("writable", f"a {kind} register can't be written; use coil or holding")
    address = ModbusAddress(
        kind,
        int(match[2]),
        cast(RegisterType, type_),
        p.word_order or "big",
        p.byte_order or "big",
        p.bit,
    )
    if address.offset + address.words > 65_536:
        raise AddressProblem("register", f"{type_} at {address.offset} reaches beyond 65535")
    return address


def _bacnet(p: PointSection) -> BacnetAddress:
    match = _OBJECT.match(p.object or "")
    if not match or int(match[2]) > 4_194_302:
        raise AddressProblem("object", f"{p.object!r} is not like analog-value:7 (type:instance)")
    if match[1] not in _READABLE:
        raise AddressProblem(
            "object", f"unknown object type {match[1]!r}{closest(match[1], _READABLE)}"
        )
    if p.writable and match[1] not in _COMMANDABLE:
        raise AddressProblem(
            "writable", f"a {match[1]} is not commandable; use an output or a value"
        )
    if p.writable and p.property not in (None, "present-value"):
        raise AddressProblem("property", "only present-value is written; it has the priority array")
    return BacnetAddress(match[1], int(match[2]), p.property or "present-value")


def parse_oid(text: str) -> tuple[int, ...]:
    """Return an OID as numbers. Raises ValueError."""
    parts = text.removeprefix(".").split(".")
    if not 2 <= len(parts) <= 128 or not all(p.isascii() and p.isdigit() for p in parts):
        raise ValueError(f"{text!r} is not an OID in numbers, like 1.3.6.1.2.1.1.3.0")
    oid = tuple(map(int, parts))
    if max(oid) > 4_294_967_295:
        raise ValueError(f"{text!r}: a sub-identifier is at most 4294967295")
    return oid


def _snmp(p: PointSection) -> SnmpAddress:
    try:
        oid = parse_oid(p.oid or "")
    except ValueError as error:
        raise AddressProblem("oid", str(error)) from None
    try:
        guards = tuple((parse_oid(k), str(v)) for k, v in (p.valid_while or {}).items())
    except ValueError as error:
        raise AddressProblem("valid_while", str(error)) from None
    return SnmpAddress(oid, guards)


def _metric(p: PointSection) -> MetricAddress:
    names = (p.metric,) if isinstance(p.metric, str) else tuple(p.metric or ())
    if not names or not all(re.fullmatch(r"[A-Za-z_:][A-Za-z0-9_:]*", n) for n in names):
        raise AddressProblem("metric", f"{p.metric!r} is not a metric's name, nor a list of names")
    labels = tuple(
        (k, (v,) if isinstance(v, str) else tuple(v)) for k, v in (p.labels or {}).items()
    )
    return MetricAddress(
        names, labels, p.kind or "gauge", p.quantile or 0.95, p.window_s or 60.0,
        aggregate=p.aggregate or "sum",
    )  # fmt: skip


def _workload(p: PointSection) -> WorkloadAddress:
    if p.knob is None:
        raise AddressProblem(
            "knob", "say which: traffic_share_pct, batch_window_ms or admission_pct"
        )
    if p.knob != p.quantity:
        raise AddressProblem("quantity", f"the knob {p.knob} has quantity {p.knob}")
    if (p.knob == "traffic_share_pct") != (p.row is not None):
        raise AddressProblem("row", "a traffic share belongs to one row; other knobs to none")
    return WorkloadAddress(p.knob, p.row)


def _named(p: PointSection) -> NamedAddress:
    return NamedAddress(p.name or p.id)


_PARSERS: dict[str, Callable[[PointSection], Address]] = {
    **dict.fromkeys(MODBUS, _modbus),
    "bacnet-ip": _bacnet,
    "snmp": _snmp,
    "prometheus": _metric,
    "workload-http": _workload,
    **dict.fromkeys(ACTUATORS, _named),
    "push": _named,
    "plant": _named,
}
