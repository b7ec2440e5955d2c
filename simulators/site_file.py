"""Writes the site file of the simulated hall: TOML with comments, every point of every device.

Generated from the same table the servers run on, with the addresses they are bound to.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simulators.secrets import ENV_API, ENV_AUTH, ENV_COMMUNITY, ENV_PRIV, ENV_PUSH, Secrets
from simulators.site import (
    BMS_INSTANCE,
    BacnetObject,
    Metric,
    Oid,
    Pushed,
    Register,
    Share,
    SiteDevice,
    WirePoint,
)


@dataclass(frozen=True, slots=True)
class Manners:
    """How a site treats one kind of setpoint: what a careful engineer would write."""

    deadband: float
    min_interval_s: float
    settle_s: float
    max_writes_per_day: int
    safe_value: float | None = None


# Chilled water settles in tens of minutes; controllers keep setpoints in EEPROM.
MANNERS: Final = {
    "supply_air_setpoint_c": Manners(0.2, 300, 300, 96, 18.0),
    "fan_rpm_setpoint_pct": Manners(1.0, 120, 180, 240, 100.0),
    "pump_rpm_setpoint_pct": Manners(1.0, 300, 300, 96, 100.0),
    "chilled_water_setpoint_c": Manners(0.2, 900, 900, 96),
    "traffic_share_pct": Manners(0.5, 120, 120, 500),
    "batch_window_ms": Manners(1.0, 120, 120, 500),
    "admission_pct": Manners(1.0, 120, 120, 500),
}

_HEAD: Final = """\
# A simulated hall of 6 rows and 72 racks, written by `skadi sim --write-config`.
# Every address is on loopback. Secrets are read from the environment, or from the file .env
# beside this one: {env}.
config_version = 1

[site]
id = "sim1"
area = "hall-a"
timezone = "Europe/Berlin"            # for display; everything stored is UTC
simulated = true                      # actuators need no commissioning here

[agent]
mode = "advisory"                     # advisory | closed_loop: the ceiling
armed = []                            # scopes that closed_loop may write: "row:A", "hall"
poll_interval_s = 5
stale_after_s = 15
data_dir = {data_dir}

[loops]
ims_mms_s = 5
fast_s = 10
slow_s = 120
rollup_s = 10

[limits]
inlet_max_c = 28.0
latency_p95_max_ms = 250              # on an edge of vLLM's time-to-first-token histogram
latency_metric = "ttft"
rack_max_kw = 12.0
write_interval_s = 120                # one change an equipment
release_after_s = 60

[ims]
clusters = 8
tau_fast_percentile = 95
tau_persist_percentile = 98

[mms]
alpha = 0.3
persist_ticks = 6

# [mqtt]
# url = "mqtt://127.0.0.1:1883"

"""

# In the file as it is where something posts to the API, as comments otherwise.
_API: Final = """\
[api]
listen = {listen}
simulator_url = {control}   # POST /demo/scenario reaches the simulated hall there
tokens = [{ name = "operator", role = "operator", token = { env = {token} } }]
"""

_TAIL: Final = """
[[interlock]]
id = "leak"
point = "bms/leak"
trip_above = 0.5
action = "hold"

[[interlock]]
id = "fire"
point = "bms/fire"
trip_above = 0.5
action = "hold"

[[interlock]]
id = "ups-on-battery"
point = "bms/ups_on_battery"
trip_above = 0.5
action = "hold"

[[interlock]]
id = "maintenance"
point = "bms/maintenance"
trip_above = 0.5
action = "hold"
"""


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if value != int(value) else f"{value:.1f}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)


def _wire_keys(point: WirePoint) -> dict[str, object]:
    match point.wire:
        case Register(kind, offset, type_, scale):
            return {"register": f"{kind}:{offset}", "type": type_} | _scale(scale)
        case BacnetObject(kind, instance):
            return {"object": f"{kind}:{instance}"}
        case Oid(text, scale):
            return {"oid": text} | _scale(scale)
        case Metric(names, labels, kind):
            metric: dict[str, object] = {"metric": names[0], "kind": kind}
            if labels:
                metric["labels"] = dict(labels)
            return metric
        case Share(knob, _):
            return {"knob": knob}
        case Pushed():
            return {}


def _scale(scale: float) -> dict[str, object]:
    return {} if scale == 1.0 else {"scale": scale}


def _point(device: SiteDevice, point: WirePoint) -> dict[str, object]:
    keys: dict[str, object] = {"id": point.short, "quantity": point.quantity}
    keys |= _wire_keys(point)
    if point.unit:
        keys["unit"] = point.unit
    if point.row and point.row != device.row:
        keys["row"] = point.row
    for name in ("rack", "equipment"):
        if value := getattr(point, name):
            keys[name] = value
    if point.knob is not None:
        k, manners = point.knob, MANNERS[point.knob.name]
        keys |= {
            "writable": True, "min": float(k.min), "max": float(k.max),
            "max_step": float(k.max_step), "deadband": manners.deadband,
            "min_interval_s": manners.min_interval_s, "settle_s": manners.settle_s,
            "max_writes_per_day": manners.max_writes_per_day,
        }  # fmt: skip
        if manners.safe_value is not None:
            keys["safe_value"] = manners.safe_value
    return keys


def _device(device: SiteDevice, bacnet_client: str, user: str) -> Iterable[str]:
    keys: dict[str, object] = {"id": device.id, "protocol": device.protocol}
    if device.protocol in ("prometheus", "workload-http"):
        keys["url"] = device.url
    elif device.protocol == "push":
        keys["token"] = {"env": ENV_PUSH}
    else:
        keys |= {"host": device.host, "port": device.port}
    if device.protocol == "modbus-tcp":
        keys["unit_id"] = device.unit_id
    if device.protocol == "bacnet-ip":
        keys |= {
            "device_instance": BMS_INSTANCE,
            "write_priority": 12,
            "local_address": bacnet_client,
        }
    if device.protocol == "snmp":
        keys["auth"] = _auth(device, user)
    for name in ("row", "zone"):
        if value := getattr(device, name):
            keys[name] = value
    if device.hosts:
        keys["hosts"] = device.hosts
    yield "\n[[device]]"
    yield from (f"{k} = {_toml(v)}" for k, v in keys.items())
    for point in device.points:
        yield "  [[device.point]]"
        yield from (f"  {k} = {_toml(v)}" for k, v in _point(device, point).items())


def _auth(device: SiteDevice, user: str) -> dict[str, object]:
    if device.snmp == "2c":
        return {"version": "2c", "community": {"env": ENV_COMMUNITY}}
    return {
        "version": "3",
        "user": user,
        "auth_password": {"env": ENV_AUTH},
        "priv_password": {"env": ENV_PRIV},
    }


@dataclass(frozen=True, slots=True)
class Places:
    """Where the agent's BACnet side may bind (host:port), the simulators' control URL, and where
    the agent's API is posted to (host:port; empty: nobody does)."""

    bacnet_client: str
    control: str = "http://127.0.0.1:15881"
    api: str = ""


def _api(places: Places) -> str:
    text = _API.replace("{listen}", _toml(places.api or "127.0.0.1:8790"))
    text = text.replace("{control}", _toml(places.control)).replace("{token}", _toml(ENV_API))
    return text if places.api else "".join(f"# {line}\n" for line in text.splitlines())


def site_text(
    devices: Iterable[SiteDevice], secrets: Secrets, data_dir: str, places: Places
) -> str:
    """Return the whole site file."""
    head = _HEAD.replace("{env}", ", ".join(secrets.environment()))
    lines = [head.replace("{data_dir}", _toml(data_dir)) + _api(places)]
    for device in devices:
        lines += _device(device, places.bacnet_client, secrets.v3_user)
    return "\n".join(lines) + "\n" + _TAIL


def write_site(
    path: Path, devices: Iterable[SiteDevice], secrets: Secrets, places: Places
) -> list[str]:
    """Write the site file, and .env beside it if there is none. Returns what to tell people."""
    data_dir = str(path.resolve().parent / "skadi-data")
    path.write_text(site_text(devices, secrets, data_dir, places), encoding="utf-8")
    told = [f"wrote {path}"]
    beside = path.parent / ".env"
    lines = [f"{name}={value}" for name, value in secrets.environment().items()]
    if beside.exists():
        told.append(f"{beside} is there already; it, or the environment, must hold:")
    else:
        beside.touch(mode=0o600)
        beside.write_text("\n".join(lines) + "\n", encoding="utf-8")
        told.append(f"wrote {beside}, which sets for the simulators only:")
    return told + [f"  {line}" for line in lines]
