"""Turns parsed devices and points into resolved ones: profiles, defaults, units, addresses."""

import re
from dataclasses import dataclass, replace
from typing import Any

from config.addresses import (
    Address,
    BacnetAddress,
    MetricAddress,
    SnmpAddress,
    WorkloadAddress,
)
from config.addressing import AddressProblem, parse_address
from config.errors import Problem
from config.library import ProfileError, load_profile, profile_names, read_profile
from config.link_checks import in_hole, link_problems
from config.links import ACTUATORS, MODBUS
from config.quantities import QUANTITIES, to_canonical
from config.schema import AgentSection, DeviceSection, LimitsSection, PointSection, RowSection
from config.site import Device, Point, Writable
from config.sources import Source, Sourced, parse

DEFAULT_PORTS = {
    "modbus-tcp": 502, "modbus-tls": 802, "modbus-rtu-tcp": 502, "bacnet-ip": 47_808, "snmp": 161,
}  # fmt: skip
NEEDS_HOST = frozenset(DEFAULT_PORTS)
NEEDS_URL = frozenset({"prometheus", "workload-http", "envoy", "kubernetes"})
DEFAULT_PROFILE = {"workload-http": "workload-router"}


@dataclass(frozen=True)
class Context:
    """What every device needs from the rest of the file."""

    agent: AgentSection
    limits: LimitsSection
    row_of_rack: dict[str, str]


Parsed = tuple[Sourced[DeviceSection], list[Sourced[PointSection]]]


def resolve_devices(
    devices: list[Parsed],
    rows: list[Sourced[RowSection]],
    agent: AgentSection,
    limits: LimitsSection,
    problems: list[Problem],
) -> list[Device]:
    """Resolve all devices; what is wrong goes to `problems`."""
    row_of_rack = {rack: row.value.id for row in rows for rack in row.value.racks}
    context = Context(agent, limits, row_of_rack)
    all_rows = sorted(_rows(devices) | set(row_of_rack.values()))
    return [_device(device, points, all_rows, context, problems) for device, points in devices]


def _rows(devices: list[Parsed]) -> set[str]:
    found = {p.value.row for _, points in devices for p in points}
    return {r for r in found | {d.value.row for d, _ in devices} if r}


def _device(
    item: Sourced[DeviceSection],
    own: list[Sourced[PointSection]],
    all_rows: list[str],
    context: Context,
    problems: list[Problem],
) -> Device:
    section, source = item.value, item.source
    if section.protocol in NEEDS_HOST and section.host is None and "host" not in item.faulty:
        problems.append(source.problem(("host",), f"is missing; {section.protocol} needs it"))
    if section.protocol in NEEDS_URL and section.url is None and "url" not in item.faulty:
        problems.append(source.problem(("url",), f"is missing; {section.protocol} needs it"))
    if section.protocol == "snmp" and section.auth is None and "auth" not in item.faulty:
        problems.append(source.problem(("auth",), 'is missing; add auth = { version = "2c", ... }'))
    links = link_problems(section)
    problems += [source.problem((k,), text) for k, text in links if k not in item.faulty]
    given = _profile_points(section, source, bool(own), all_rows, context, problems)
    mine = {p.value.id for p in own}
    points = [*(p for p in given if p.value.id not in mine), *own]  # an own point replaces it
    resolved = [p for raw in points if (p := _point(section, raw, context, problems))]
    _refuse_denied(section, source, resolved, problems)
    if not points and not section.point and section.profile is None:
        problems.append(source.problem((), "has no points; add [[device.point]] or a profile"))
    keep = {k: getattr(section, k) for k in (
        "id", "protocol", "unit_id", "device_instance", "write_priority", "timeout_s", "auth", "token",
        "profile", "row", "rack", "zone", "local_address", "max_registers", "max_gap", "no_read",
        "write_multiple", "pause_ms", "serial", "tls", "program", "cov_lifetime_s",
        "bacnet_network", "bacnet_mac", "heartbeat")}  # fmt: skip
    return Device(
        **keep,
        points=tuple(resolved),
        host=section.host or "",
        dry_run=section.protocol in ACTUATORS if section.dry_run is None else section.dry_run,
        port=section.port or DEFAULT_PORTS.get(section.protocol, 0),
        url=section.url or "",
        poll_interval_s=section.poll_interval_s or context.agent.poll_interval_s,
    )


def _profile_points(
    section: DeviceSection,
    source: Source,
    has_own: bool,
    all_rows: list[str],
    context: Context,
    problems: list[Problem],
) -> list[Sourced[PointSection]]:
    """The points a profile gives, expanded for racks and rows."""
    name = section.profile or (None if has_own else DEFAULT_PROFILE.get(section.protocol))
    if name is None:
        return []
    try:
        profile = load_profile(name)
    except ProfileError as error:
        problems.append(source.problem(("profile",), str(error)))
        return []
    speaks = profile["profile"]["protocol"]
    if speaks != section.protocol and not {speaks, section.protocol} <= MODBUS:
        problems.append(
            source.problem(("profile",), f"{name!r} speaks {speaks}, not {section.protocol}")
        )
        return []
    metric = context.limits.latency_metric
    if not section.profile_points:
        return []
    if "point" not in profile and "table" in profile:
        text = f"{name!r} has tables, no fixed points: run `skadi scan {section.protocol} HOST`"
        problems.append(source.problem(("profile",), f"{text} and use what it prints"))
    raw_points = [e for p in profile.get("point", []) for e in _expand(p, section, metric)]
    if not profile["profile"]["verified"] and not section.writable_from_document:
        raw_points = [{**p, "writable": False} for p in raw_points]
    if name == "workload-router":
        raw_points += [_share(row) for row in all_rows]
    where = source.at("profile")
    return [p for raw in raw_points if (p := parse(PointSection, Sourced(raw, where), problems))]


def _refuse_denied(
    section: DeviceSection, source: Source, points: list[Point], problems: list[Problem]
) -> None:
    """A profile may name objects that must never be written, such as energy counters."""
    if section.profile is None or section.profile not in profile_names():
        return
    profile = read_profile(section.profile)
    models = "|".join(map(re.escape, profile.match.sys_object_id))
    device = re.escape("{device}"), rf"(?:{models})(?:\.\d+)*"  # whichever model it is
    denied = [re.escape(oid).replace(*device) + r"(\.|$)" for oid in profile.about.deny]
    for point in points:
        if point.writable is None or not isinstance(point.address, SnmpAddress):
            continue
        if any(re.match(oid, str(point.address)) for oid in denied):
            text = f"point {point.id!r}: profile {section.profile} forbids writing {point.address}"
            problems.append(source.problem(("point",), f"{text}; make it read only"))


def _expand(
    raw: dict[str, Any], section: DeviceSection, latency_metric: str
) -> list[dict[str, Any]]:
    """One profile point, or one for each rack of the device's hosts or modules.

    `per_rack` with `host_label` expands by `hosts`; "{module}" in an OID by `modules`. A
    `metric` table keyed ttft, e2e and queue is picked by limits.latency_metric; an engine that
    does not measure it has no such point.
    """
    label = raw.get("host_label", "Hostname")
    rest = {k: v for k, v in raw.items() if k not in ("per_rack", "host_label")}
    if isinstance(rest.get("metric"), dict):
        if latency_metric not in rest["metric"]:
            return []
        rest["metric"] = rest["metric"][latency_metric]
    if "{module}" in rest.get("oid", ""):
        return _of_modules(rest, section)
    if not raw.get("per_rack") or not section.hosts:
        return [rest]
    expanded = []
    for rack in sorted(set(section.hosts.values())):
        hosts = sorted(h for h, r in section.hosts.items() if r == rack)
        labels = {**rest.get("labels", {}), label: hosts}
        expanded.append({**rest, "id": f"{rest['id']}.{rack}", "rack": rack, "labels": labels})
    return expanded


def _of_modules(raw: dict[str, Any], section: DeviceSection) -> list[dict[str, Any]]:
    """A point for each module of an agent that answers for several; else for its only one."""
    if not section.modules:
        return [{**raw, "oid": raw["oid"].replace("{module}", "1")}]
    return [
        {**raw, "id": f"{raw['id']}.{rack}", "rack": rack,
         "oid": raw["oid"].replace("{module}", module)}
        for module, rack in section.modules.items()
    ]  # fmt: skip


def _share(row: str) -> dict[str, Any]:
    """The traffic share of one row; the shares of all rows are written as one change."""
    return {
        "id": f"traffic_share_pct.{row}", "quantity": "traffic_share_pct", "unit": "%", "row": row,
        "knob": "traffic_share_pct", "writable": True, "min": 0.0, "max": 100.0, "max_step": 25.0,
        "deadband": 0.5, "min_interval_s": 120.0, "settle_s": 120.0, "max_writes_per_day": 500,
    }  # fmt: skip


def _point(
    device: DeviceSection, item: Sourced[PointSection], context: Context, problems: list[Problem]
) -> Point | None:
    p, source = item.value, item.source
    try:
        address = parse_address(device.protocol, p)
        if hole := in_hole(device, address):
            raise AddressProblem("register", hole)
    except AddressProblem as error:
        problems.append(source.problem((error.key,), str(error)))
        return None
    about = QUANTITIES[p.quantity]
    factor, shift = to_canonical(p.unit if p.unit is not None else about.unit)
    if isinstance(address, MetricAddress) and p.quantity == "latency_p95_ms":
        limit = context.limits.latency_p95_max_ms
        address = replace(address, limit=((limit - shift) / factor - p.offset) / p.scale)
    rack = p.rack or device.rack
    slew = about.max_slew_per_s if p.max_slew_per_s is None else p.max_slew_per_s * factor
    return Point(
        key=f"{device.id}/{p.id}",
        device=device.id,
        id=p.id,
        quantity=p.quantity,
        unit=about.unit,
        address=address,
        equipment=p.equipment or _equipment(device, p.id, address),
        row=p.row or device.row or context.row_of_rack.get(rack or ""),
        rack=rack,
        zone=p.zone or device.zone,
        scale=p.scale * factor,
        offset=p.offset * factor + shift,
        sentinels=p.sentinels,
        part=p.part,
        max_age_s=p.max_age_s or max(context.agent.stale_after_s, _three_polls(device, context)),
        max_slew_per_s=slew,
        writable=_writable(p, factor, shift, _relinquishes(p, address), context)
        if p.writable
        else None,
    )


def _relinquishes(p: PointSection, address: Address) -> bool:
    """BACnet objects have a priority array, unless the file says that this one has none."""
    return isinstance(address, BacnetAddress) and p.relinquish is not False


def _equipment(device: DeviceSection, point: str, address: Address) -> str:
    """What one change an interval is counted for: the device, one knob of a router, a heartbeat."""
    if point == device.heartbeat:
        return f"{device.id}.heartbeat"
    return f"{device.id}.{address.knob}" if isinstance(address, WorkloadAddress) else device.id


def _three_polls(device: DeviceSection, context: Context) -> float:
    """A slow device is not stale between two of its own polls."""
    return 3.0 * device.poll_interval_s if device.poll_interval_s else context.agent.stale_after_s


def _writable(
    p: PointSection, factor: float, shift: float, relinquish: bool, context: Context
) -> Writable:
    """Envelope and steps in the quantity's unit. A difference takes the factor, never the shift."""
    assert p.min is not None
    assert p.max is not None
    assert p.max_step is not None
    default_interval_s = context.limits.write_interval_s
    return Writable(
        min=p.min * factor + shift,
        max=p.max * factor + shift,
        max_step=p.max_step * factor,
        deadband=p.deadband * factor,
        min_interval_s=default_interval_s if p.min_interval_s is None else p.min_interval_s,
        settle_s=p.settle_s,
        max_writes_per_day=p.max_writes_per_day,
        safe_value=None if p.safe_value is None else p.safe_value * factor + shift,
        relinquish=relinquish,
        baseline_max_age_s=context.limits.baseline_max_age_s,
    )
