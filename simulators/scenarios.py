"""Scenarios and the overlays they are made of, as two tables.

An overlay is a list of effects on the hall's conditions (simulators/hall/conditions.py) that
can start and stop at any time and compose. A scenario is a set of constructor arguments and
overlays with a start. Times are simulated seconds after the meter starts. All were fixed
before any controller was run on them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Effect:
    """Adds `value` to one field of the conditions, at places (all if empty), ramped in and out."""

    field: str
    value: float
    where: tuple[str, ...] = ()
    ramp_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Overlay:
    """Something that happens to the hall, and what it is."""

    text: str
    effects: tuple[Effect, ...]
    duration_s: float | None = None  # None: until stopped


@dataclass(frozen=True, slots=True)
class Planned:
    """An overlay within a scenario: when it starts, and for how long (None: its own)."""

    overlay: str
    start_s: float = 0.0
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """A day to rehearse: constructor arguments, presets of setpoints, and overlays."""

    text: str
    args: Mapping[str, str] = field(default_factory=dict)
    presets: Mapping[str, float] = field(default_factory=dict)
    overlays: tuple[Planned, ...] = ()


_ROW_E_UNITS: Final = ("crac-e1", "crac-e2")
_MIN: Final = 60.0
_HOUR: Final = 3600.0

OVERLAYS: Final[Mapping[str, Overlay]] = {
    "add_ai_nodes_row_c": Overlay(
        "two AI nodes of 3.6 kW put into racks C05 and C06, blanking panels left out",
        (
            Effect("rack_kw", 3.6, ("C05", "C06"), 480.0),
            Effect("rack_air_m3s", 0.20, ("C05", "C06"), 480.0),
            Effect("rack_recirculation", 0.33, ("C05", "C06"), 480.0),
            Effect("rack_recirculation", 0.08, ("C04", "C07"), 480.0),
        ),
    ),
    "over_cool_row_e": Overlay(
        "row E's units regulated to a return air of 20 degC: fans high, inlets low",
        (Effect("crac_return_set_c", -4.0, _ROW_E_UNITS),),
    ),
    "crac_failure": Overlay(
        "crac-c1 stops with an alarm",
        (Effect("crac_off", 1.0, ("crac-c1",)),),
    ),
    "heat_wave": Overlay(
        "outdoor air 9 K warmer, reached over two hours",
        (Effect("hall_outdoor_c", 9.0, (), 2 * _HOUR),),
    ),
    "hot_afternoon": Overlay(
        "outdoor air 6 K warmer for some hours",
        (Effect("hall_outdoor_c", 6.0, (), _HOUR),),
        6 * _HOUR,
    ),
    "load_surge": Overlay("a fifth more prompts", (Effect("hall_load", 0.2, (), 120.0),)),
    "fouled_filter": Overlay(
        "crac-d1's filter clogs: a third of its airflow lost over an hour",
        (Effect("crac_air_loss", 0.33, ("crac-d1",), _HOUR),),
    ),
    "fan_bearing": Overlay(
        "crac-f1's fan bearing seizes: a quarter of its speed lost over half an hour",
        (Effect("crac_fan_drag", 0.25, ("crac-f1",), 0.5 * _HOUR),),
    ),
    "stuck_valve": Overlay(
        "crac-b1's valve sticks nearly shut",
        (Effect("crac_coil_loss", 0.75, ("crac-b1",)),),
    ),
    "blanking_panel": Overlay(
        "a blanking panel is missing at rack A07",
        (Effect("rack_recirculation", 0.18, ("A07",)),),
    ),
    "sensor_drift": Overlay(
        "the inlet probe of rack D04 drifts by +3 K over two hours",
        (Effect("rack_probe_c", 3.0, ("D04",), 2 * _HOUR),),
    ),
    "pump_cavitation": Overlay(
        "row F's pump loses 30 % of its flow",
        (Effect("row_flow_loss", 0.30, ("F",)),),
    ),
    "gpu_hot": Overlay(
        "the node in rack E03 draws 12 % more GPU power",
        (Effect("rack_gpu_loss", 0.12, ("E03",), 600.0),),
    ),
    "leak": Overlay("a leak detector trips", (Effect("hall_leak", 1.0),)),
    "fire": Overlay("the fire alarm trips", (Effect("hall_fire", 1.0),)),
    "ups_on_battery": Overlay("the UPS runs on battery", (Effect("hall_on_battery", 1.0),)),
    "maintenance": Overlay("a maintenance tag is set", (Effect("hall_maintenance", 1.0),)),
}

SCENARIOS: Final[Mapping[str, Scenario]] = {
    "default": Scenario("a mild day in May, diurnal load"),
    "heat-spike": Scenario(
        "two AI nodes appear in row C after 20 minutes and stay for 60",
        overlays=(Planned("add_ai_nodes_row_c", 20 * _MIN, 60 * _MIN),),
    ),
    "over-cooled": Scenario(
        "row E at 16 degC supply with its fans high",
        presets={"crac-e1/supply_air_setpoint_c": 16.0, "crac-e2/supply_air_setpoint_c": 16.0},
        overlays=(Planned("over_cool_row_e"),),
    ),
    "crac-failure": Scenario(
        "crac-c1 fails after 40 minutes and is back after three hours",
        overlays=(Planned("crac_failure", 40 * _MIN, 3 * _HOUR),),
    ),
    "heat-wave": Scenario(
        "a July day, 9 K hotter", {"day": "200"}, overlays=(Planned("heat_wave"),)
    ),
    "hot-afternoon": Scenario(
        "a mild day with a hot afternoon", overlays=(Planned("hot_afternoon", _HOUR),)
    ),
    "bursty": Scenario("arrivals after a recorded LLM trace", {"trace": "azure"}),
    "winter": Scenario("a January day", {"day": "18"}),
}


def names() -> str:
    """Return the names of all scenarios, for messages."""
    return ", ".join(SCENARIOS)
