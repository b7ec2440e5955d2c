"""Checks between the parts of a site file: what no single table can know.

Duplicate ids and addresses, two loops on one point, scopes and points that don't exist,
limits that contradict each other.
"""

import math
from collections.abc import Iterable
from typing import Any

from config.addresses import BacnetAddress, ModbusAddress, SnmpAddress
from config.errors import Problem
from config.links import MODBUS
from config.schema import InterlockSection, UnitSection, closest
from config.site import Device, Point, Site
from config.sources import Source, Sourced

DAY_S = 86_400.0
KNOWN_MOVES = ("supply_air", "fan", "pump", "traffic_shift", "batching")


def check_site(
    site: Site,
    sources: dict[str, Source],
    interlocks: list[Sourced[InterlockSection]],
    units: list[Sourced[UnitSection]],
    sections: dict[str, Source],
    problems: list[Problem],
) -> None:
    """Add what is wrong between the parts of `site`. `sources` is by device id and point key."""
    _duplicate_addresses(site, sources, problems)
    _interlocks(site, interlocks, sources, problems)
    _units(site, units, sources, problems)
    _scopes(site, sections, problems)
    _limits(site, sources, sections, problems)
    if site.pair is not None and not (site.history.url or "").startswith("postgresql://"):
        text = (
            "needs history.url = postgresql://…, one database for both agents: the lease is there"
        )
        problems.append(sections["pair"].problem(("lease_s",), text))
    _heartbeats(site, sources, problems)


def check_ids(
    devices: Iterable[tuple[str, Source]],
    points: Iterable[tuple[str, Source]],
    problems: list[Problem],
) -> None:
    """No two devices with one id, no two points of a device with one id."""
    for kind, named in (("device", devices), ("point", points)):
        first: dict[str, Source] = {}
        for name, source in named:
            if name in first:
                there = first[name].problem(("id",), "")
                text = (
                    f"{kind} {name!r} is already at {there.file}:{there.line}; give it another id"
                )
                problems.append(source.problem(("id",), text))
            first.setdefault(name, source)


def _duplicate_addresses(site: Site, sources: dict[str, Source], problems: list[Problem]) -> None:
    """One register, object or OID is one point: two would be two loops on one thing."""
    endpoints: dict[tuple[object, ...], Device] = {}
    for device in site.devices:
        line = device.serial.path if device.serial else ""
        place = (device.protocol, line, device.host, device.port, device.url, device.unit_id,
                 device.bacnet_network, device.bacnet_mac)  # fmt: skip
        if device.protocol in MODBUS | {"snmp", "bacnet-ip"} and (device.host or device.serial):
            other = endpoints.setdefault(place, device)
            if other is not device:
                _say(sources, device.id, ("host",), problems,
                     f"same address as device {other.id!r}; one device is one table")  # fmt: skip
        taken: dict[tuple[object, ...], Point] = {}
        for point in device.points:
            for slot in _slots(point):
                other_point = taken.setdefault(slot, point)
                if other_point is not point:
                    _say(sources, point.key, (_address_key(point),), problems,
                         f"address already used by point {other_point.id!r}; remove one of them")  # fmt: skip
                    break


def _slots(point: Point) -> list[tuple[object, ...]]:
    """What a point occupies on its device, in comparable form."""
    match point.address:
        case ModbusAddress(kind, offset, bit=bit) if bit is not None:
            return [(kind, offset, bit)]
        case ModbusAddress(kind, offset) as address:
            return [(kind, offset + i) for i in range(address.words)]
        case BacnetAddress(object_type, instance, property_id):
            return [(object_type, instance, property_id)]
        case SnmpAddress(oid):
            return [oid]
        case _:
            return [(point.address,)]


def _address_key(point: Point) -> str:
    match point.address:
        case ModbusAddress():
            return "register"
        case BacnetAddress():
            return "object"
        case SnmpAddress():
            return "oid"
        case _:
            return "id"


def _interlocks(
    site: Site,
    interlocks: list[Sourced[InterlockSection]],
    sources: dict[str, Source],
    problems: list[Problem],
) -> None:
    known = {*site.points, *sources}  # with points that have a problem of their own
    seen: set[str] = set()
    for item in interlocks:
        lock = item.value
        for key in ("point", "temperature", "humidity"):
            _known_point(item, key, known, problems)
        if lock.id in seen:
            problems.append(item.source.problem(("id",), f"interlock {lock.id!r} stands twice"))
        seen.add(lock.id)
        if nowhere := unknown_scope(site, lock.scope):
            problems.append(item.source.problem(("scope",), nowhere))


def _units(
    site: Site,
    units: list[Sourced[UnitSection]],
    sources: dict[str, Source],
    problems: list[Problem],
) -> None:
    known, seen = {*site.points, *sources}, set()
    equipment = {p.equipment for p in site.points.values()}
    for item in units:
        name = item.value.equipment
        if name not in equipment:
            text = f"no equipment {name!r}{closest(name, sorted(equipment))}"
            problems.append(item.source.problem(("equipment",), text))
        if name in seen:
            problems.append(item.source.problem(("equipment",), f"unit {name!r} stands twice"))
        seen.add(name)
        for key in ("running", "local", "alarm", "maintenance"):
            _known_point(item, key, known, problems)


def _known_point(item: Sourced[Any], key: str, known: set[str], problems: list[Problem]) -> None:
    point = getattr(item.value, key)
    if point is not None and point not in known:
        problems.append(item.source.problem((key,), f"no point {point!r}{closest(point, known)}"))


def unknown_scope(site: Site, scope: str) -> str | None:
    """Say why a scope names nothing of this site, or None."""
    if scope == "hall":
        return None
    kind, _, name = scope.partition(":")
    there = {getattr(p, kind) for p in site.points.values()} - {None}
    if name in there:
        return None
    return f"no {kind} {name!r} in this site{closest(name, sorted(there))}"


def _scopes(site: Site, sections: dict[str, Source], problems: list[Problem]) -> None:
    for scope in site.agent.armed:
        if (text := unknown_scope(site, scope)) and "agent" in sections:
            problems.append(sections["agent"].problem(("armed",), text))
    for move in site.optimizer.moves:
        if move not in KNOWN_MOVES and "optimizer" in sections:
            text = f"unknown move {move!r}{closest(move, KNOWN_MOVES)}"
            problems.append(sections["optimizer"].problem(("moves",), text))


def _limits(
    site: Site, sources: dict[str, Source], sections: dict[str, Source], problems: list[Problem]
) -> None:
    """Envelopes that no hall can mean, and steps wider than their envelope."""
    for point in site.writable_points.values():
        w = point.writable
        assert w is not None
        if (
            point.quantity in ("supply_air_setpoint_c", "zone_setpoint_c")
            and w.max > site.limits.inlet_max_c
        ):
            _say(sources, point.key, ("max",), problems,
                 f"{w.max:g} degC is above limits.inlet_max_c {site.limits.inlet_max_c:g}; lower it")  # fmt: skip
        if w.max_step > w.max - w.min > 0:
            _say(sources, point.key, ("max_step",), problems,
                 f"a step of {w.max_step:g} is wider than {w.min:g}..{w.max:g}; make it smaller")  # fmt: skip
        if site.agent.mode == "closed_loop" and not w.relinquish and w.safe_value is None \
                and point.about.unit in ("degC", "%") and point.quantity.endswith(("_c", "rpm_pct")):  # fmt: skip
            _say(sources, point.key, ("safe_value",), problems,
                 "is missing; closed_loop needs it where a device can't relinquish (full cooling)")  # fmt: skip
    if site.agent.stale_after_s < site.agent.poll_interval_s and "agent" in sections:
        text = f"{site.agent.stale_after_s:g} s is shorter than poll_interval_s; every reading would be stale"
        problems.append(sections["agent"].problem(("stale_after_s",), text))


def _heartbeats(site: Site, sources: dict[str, Source], problems: list[Problem]) -> None:
    """A heartbeat is a number that goes up by one and begins again: it needs room, and writes."""
    for device in site.devices:
        if device.heartbeat is None:
            continue
        point = site.points.get(f"{device.id}/{device.heartbeat}")
        w = point.writable if point is not None else None
        if point is None or w is None or point.quantity != "state":
            text = f"{device.heartbeat!r} is no writable point of this device with quantity state"
        elif w.relinquish or not w.max - w.min >= 1 or w.max_step < w.max - w.min:
            text = (
                "its point needs max at least min + 1, max_step = max - min, and no priority array"
            )
        elif w.max_writes_per_day * (interval := site.limits.write_interval_s) < DAY_S:
            most = math.ceil(DAY_S / interval)
            text = f"its point is written every {interval:g} s: set max_writes_per_day = {most}"
        else:
            continue
        _say(sources, device.id, ("heartbeat",), problems, text)


def _say(
    sources: dict[str, Source], name: str, path: tuple[str, ...], problems: list[Problem], text: str
) -> None:
    problems.append(sources[name].problem(path, text))
