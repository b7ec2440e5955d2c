"""The closed list of quantities, with the unit, danger and plausible band of each.

Every reading in Skadi is stored in its quantity's own unit. A device may speak
another unit of the same dimension (degF, W, l/min ...); `to_canonical` converts.

`danger` says which way the value hurts: +1 when higher is worse, -1 when lower is
worse, 0 when neither. Between readings a value is taken as `value + age * slew`
towards danger. `low`/`high` bound what a healthy sensor can say at all; outside
of it a reading is bad, never clipped. Temperatures: the widest ranges of the
sensors in the vendor MIBs; water: ASHRAE TC9.9 liquid classes with margin.
"""

from dataclasses import dataclass

INF = float("inf")


@dataclass(frozen=True, slots=True)
class Quantity:
    """One physical quantity: its unit, danger direction and plausible band."""

    name: str
    unit: str
    danger: int = 0
    low: float = -INF
    high: float = INF
    max_slew_per_s: float = 0.0


# Which way a setpoint is moved to be safe: more cooling, less latency, less work.
# A quantity that is not listed has no safe direction: every move of it is towards risk.
SAFE_DIRECTION: dict[str, int] = {
    "supply_air_setpoint_c": -1,
    "zone_setpoint_c": -1,
    "chilled_water_setpoint_c": -1,
    "fan_rpm_pct": +1,
    "pump_rpm_pct": +1,
    "batch_window_ms": -1,
    "admission_pct": -1,
}

# Knobs that move a cooling unit's air.
AIR = frozenset({"supply_air_setpoint_c", "zone_setpoint_c", "fan_rpm_pct"})

# Knobs of the work, not of cooling: given back after cooling, and in steps.
WORK = frozenset({"traffic_share_pct", "batch_window_ms", "admission_pct"})
SENT = WORK - {"batch_window_ms"}  # what gives a row other work; batching slows all alike

_TABLE: tuple[Quantity, ...] = (
    # Air. 0.05 K/s is what a rack inlet does when its CRAC stops (3 K a minute).
    Quantity("inlet_c", "degC", +1, -20.0, 80.0, 0.05),
    Quantity("outlet_c", "degC", +1, -20.0, 110.0, 0.05),
    Quantity("zone_c", "degC", +1, -20.0, 80.0, 0.05),
    Quantity("supply_air_c", "degC", +1, -20.0, 80.0, 0.05),
    Quantity("return_air_c", "degC", +1, -20.0, 110.0, 0.05),
    Quantity("outdoor_c", "degC", +1, -60.0, 60.0, 0.002),
    Quantity("supply_air_setpoint_c", "degC", 0, -20.0, 60.0),
    Quantity("zone_setpoint_c", "degC", 0, -20.0, 60.0),
    Quantity("humidity_pct", "%", +1, 0.0, 100.0, 0.02),
    Quantity("outdoor_humidity_pct", "%", 0, 0.0, 100.0, 0.02),
    Quantity("fan_rpm_pct", "%", -1, 0.0, 120.0),
    Quantity("differential_pressure_pa", "Pa", -1, -500.0, 500.0, 1.0),
    # Water.
    Quantity("chilled_water_c", "degC", +1, -20.0, 90.0, 0.03),
    Quantity("chilled_water_setpoint_c", "degC", 0, -20.0, 60.0),
    Quantity("valve_pct", "%", 0, 0.0, 100.0),
    Quantity("pump_rpm_pct", "%", -1, 0.0, 120.0),
    Quantity("flow_lps", "l/s", -1, 0.0, 10_000.0, 1.0),
    # Power.
    Quantity("pdu_kw", "kW", +1, 0.0, 1_000.0, 0.2),
    Quantity("it_power_kw", "kW", +1, 0.0, 1e6),
    Quantity("gpu_power_kw", "kW", +1, 0.0, 1e6),
    Quantity("cooling_power_kw", "kW", +1, 0.0, 1e6),
    Quantity("total_power_kw", "kW", +1, 0.0, 1e6),
    Quantity("energy_kwh", "kWh", 0, 0.0),
    Quantity("current_a", "A", +1, 0.0, 100_000.0),
    Quantity("voltage_v", "V", 0, 0.0, 100_000.0),
    Quantity("frequency_hz", "Hz", 0, 0.0, 1_000.0),
    # Work.
    Quantity("tokens_ps", "1/s", 0, 0.0),
    Quantity("prompts_ps", "1/s", 0, 0.0),
    Quantity("prompts_total", "", 0, 0.0),
    Quantity("latency_p95_ms", "ms", +1, 0.0, 1e7, 1.0),
    Quantity("queue_depth", "", +1, 0.0),
    Quantity("traffic_share_pct", "%", 0, 0.0, 100.0),
    Quantity("batch_window_ms", "ms", 0, 0.0, 60_000.0),
    Quantity("admission_pct", "%", 0, 0.0, 100.0),
    Quantity("state", "", 0),
)

QUANTITIES: dict[str, Quantity] = {q.name: q for q in _TABLE}

# unit -> (dimension's unit, factor, offset): canonical = value * factor + offset
_UNITS: dict[str, tuple[str, float, float]] = {
    "W": ("kW", 0.001, 0.0),
    "kW": ("kW", 1.0, 0.0),
    "A": ("A", 1.0, 0.0),
    "V": ("V", 1.0, 0.0),
    "Wh": ("kWh", 0.001, 0.0),
    "kWh": ("kWh", 1.0, 0.0),
    "degC": ("degC", 1.0, 0.0),
    "degF": ("degC", 5.0 / 9.0, -160.0 / 9.0),
    "%": ("%", 1.0, 0.0),
    "Hz": ("Hz", 1.0, 0.0),
    "Pa": ("Pa", 1.0, 0.0),
    "l/s": ("l/s", 1.0, 0.0),
    "l/min": ("l/s", 1.0 / 60.0, 0.0),
    "ms": ("ms", 1.0, 0.0),
    "s": ("ms", 1000.0, 0.0),
    "1/s": ("1/s", 1.0, 0.0),
    "": ("", 1.0, 0.0),
}

UNITS: tuple[str, ...] = tuple(_UNITS)


def units_for(quantity: str) -> tuple[str, ...]:
    """Return the unit spellings a point of `quantity` may use on the wire."""
    canonical = QUANTITIES[quantity].unit
    return tuple(u for u, (base, _, _) in _UNITS.items() if base == canonical)


def to_canonical(unit: str) -> tuple[float, float]:
    """Return (factor, offset) with canonical = value * factor + offset.

    A temperature *difference* takes the factor alone.
    """
    _, factor, offset = _UNITS[unit]
    return factor, offset
