"""What BACnet devices offer, as TOML: every object that holds a number, nothing invented.

A unit that only one quantity has decides the quantity; any other object is a plain `state`,
with the device's own words beside it for the person who knows what it is.
"""

from collections.abc import Sequence

from agent.scan.toml import Entry, toml
from config.quantities import QUANTITIES
from drivers.bacnet_discovery import FoundDevice, FoundObject

# BACnetEngineeringUnits (ASHRAE 135, clause 21) that Skadi has a spelling for.
UNITS = {
    3: "A", 5: "V", 18: "Wh", 19: "kWh", 27: "Hz", 29: "%", 47: "W", 48: "kW", 53: "Pa",
    62: "degC", 64: "degF", 73: "s", 87: "l/s", 88: "l/min", 98: "%", 101: "1/s", 159: "ms",
}  # fmt: skip
CERTAIN = {
    "A": "current_a", "V": "voltage_v", "Wh": "energy_kwh", "kWh": "energy_kwh",
    "Hz": "frequency_hz",
}  # fmt: skip
CANDIDATES = {
    "degC": "a temperature: inlet_c, supply_air_c, chilled_water_c, ...",
    "degF": "a temperature: inlet_c, supply_air_c, chilled_water_c, ...",
    "kW": "a power: pdu_kw, cooling_power_kw, total_power_kw, ...",
    "W": "a power: pdu_kw, cooling_power_kw, total_power_kw, ...",
    "%": "a share: valve_pct, fan_rpm_pct, humidity_pct, ...",
    "Pa": "a pressure: differential_pressure_pa",
    "l/s": "a flow: flow_lps",
    "l/min": "a flow: flow_lps",
    "ms": "a time: latency_p95_ms, batch_window_ms",
    "s": "a time: latency_p95_ms, batch_window_ms",
    "1/s": "a rate: prompts_ps, tokens_ps",
}
_SHORT = {
    "analog-input": "ai", "analog-output": "ao", "analog-value": "av", "binary-input": "bi",
    "binary-output": "bo", "binary-value": "bv", "multi-state-input": "mi",
    "multi-state-output": "mo", "multi-state-value": "mv", "integer-value": "iv",
    "large-analog-value": "lv", "positive-integer-value": "pv", "loop": "loop",
}  # fmt: skip
DEFAULT_PORT = 47_808


def entry_of(device: FoundDevice, objects: Sequence[FoundObject], local: str | None) -> Entry:
    """One [[device]] of the site file."""
    host, _, port = device.address.partition(":")
    keys: list[tuple[str, object]] = [
        ("id", f"bacnet-{device.instance}"),
        ("protocol", "bacnet-ip"),
        ("host", host),
    ]
    if port and int(port) != DEFAULT_PORT:
        keys.append(("port", int(port)))
    keys.append(("device_instance", device.instance))
    if local:
        keys.append(("local_address", local))
    note = f"BACnet device {device.instance} of vendor {device.vendor}, {len(objects)} objects"
    lines = tuple(_line(o) for o in objects)
    return Entry(tuple(keys), notes=(note,), lines=lines)


def reachable(device: FoundDevice) -> bool:
    """Its address is IP[:PORT]; one behind a router is NETWORK:MAC, and who routes is not said."""
    return device.address.count(".") == 3 and "@" not in device.address


def _line(found: FoundObject) -> str:
    """One point, and what the device says of it."""
    unit = UNITS.get(found.units) if found.units is not None else None
    quantity = CERTAIN.get(unit or "", "state")
    keys: dict[str, object] = {
        "id": f"{_SHORT[found.type]}{found.instance}",
        "quantity": quantity,
        "object": f"{found.type}:{found.instance}",
    }
    if quantity != "state" and unit != QUANTITIES[quantity].unit:
        keys["unit"] = unit
    said = " ".join(
        filter(None, (found.name, f"({found.description})" if found.description else ""))
    )
    now = "no value" if found.value is None else f"{found.value:.6g}"
    hint = f"; {unit}, {CANDIDATES[unit]}" if unit in CANDIDATES else ""
    odd = f"; BACnet unit {found.units}" if found.units not in (None, 95) and unit is None else ""
    slots = "; has a priority array" if found.commandable else ""
    return f"  {toml(keys)}, # {said}: {now}{hint}{odd}{slots}"
