"""Turns an EnergyPlus model (epJSON) into a plant: what can be read, what can be commanded.

Finds supply-air set points, thermostats, IT equipment and zones by following node names, never
by the names of one model. Changes a copy only: run period, time step, knobs as schedules, IT
power curves, outputs dropped. Never runs anything and never touches the weather or the building.
"""

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from agent.plants.energyplus_edits import Options, check, mend, set_curves, set_period
from agent.plants.energyplus_nodes import Nodes, Objects
from agent.plants.site import PlantError

# Set-point managers that follow another manager's node: they come along by themselves.
_FOLLOWERS = ("SetpointManager:MixedAir", "SetpointManager:OutdoorAirPretreat")
# Drawings, tables and files nobody reads here; EMS keeps its own sensors without them.
_OUTPUTS = ("Output:", "OutputControl:", "Parametric:")


@dataclass(frozen=True, slots=True)
class ModelPoint:
    """One reading or knob of the plant contract; None where an attribute does not apply."""

    id: str
    quantity: str
    unit: str
    row: str | None = None
    rack: str | None = None
    writable: bool = False
    min: float | None = None
    max: float | None = None
    max_step: float | None = None
    baseline: float | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """An engine variable that adds to a point: value x factor, its mean over a step or its end."""

    point: str
    variable: str
    key: str
    factor: float = 1.0
    mean: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model ready to run.

    actuators: (point id, Schedule:Constant that commands it). unheated: (type, name) of heating
    schedules that must be out of the way while the engine warms up: where IT equipment drives the
    airflow, its very first iteration sees supply air of 0 degC, takes the return air for colder
    than the heating set point and gives up.
    """

    model: Objects
    points: tuple[ModelPoint, ...]
    outputs: tuple[Output, ...]
    actuators: tuple[tuple[str, str], ...]
    unheated: tuple[tuple[str, str], ...]


def prepare(source: Mapping[str, Any], options: Options, version: str) -> Prepared:
    """Make a plant of an epJSON model for an engine version ("25.2").

    Raises PlantError naming the object that is missing or unknown.
    """
    model: Objects = {
        kind: copy.deepcopy(objects)
        for kind, objects in source.items()
        if not kind.startswith(_OUTPUTS)
    }
    check(model)
    model["Version"] = {"Version 1": {"version_identifier": version}}
    set_period(model, options)
    mend(model)
    if not options.stock_curves:
        set_curves(model)
    found = _Found(model)
    knobs = [*found.supply(options), *found.water(options), *found.zones(options)]
    if not knobs:
        raise PlantError(
            "model: found no set point to command: no SetpointManager on an air loop's supply "
            "outlet and no thermostat with a cooling schedule; try knobs=supply,zone,water"
        )
    outputs = tuple(found.outputs())
    points = tuple(_reading_points(outputs, found)) + tuple(p for p, _ in knobs)
    actuators = tuple((p.id, schedule) for p, schedule in knobs)
    return Prepared(model, points, outputs, actuators, tuple(found.unheated()))


def slug(name: str) -> str:
    """A model's name as a part of a point id: "East Zone" -> "east-zone"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "x"


def _reading_points(outputs: Iterable[Output], found: "_Found") -> Iterator[ModelPoint]:
    seen: set[str] = set()
    for output in outputs:
        if output.point in seen:
            continue
        seen.add(output.point)
        quantity, unit = found.quantity_of[output.point]
        row, rack = found.place_of.get(output.point, (None, None))
        yield ModelPoint(output.point, quantity, unit, row, rack)


class _Found:
    """What a model holds: zones, their IT equipment, the set points of its air and water loops."""

    def __init__(self, model: Objects) -> None:
        self.model = model
        self.graph = Nodes(model)
        self.quantity_of: dict[str, tuple[str, str]] = {}
        self.place_of: dict[str, tuple[str | None, str | None]] = {}
        self.zone_nodes: dict[str, set[str]] = {}
        for link in model.get("ZoneHVAC:EquipmentConnections", {}).values():
            inlets = self.graph.named(link.get("zone_air_inlet_node_or_nodelist_name"))
            self.zone_nodes[link["zone_name"]] = inlets

    def supply(self, options: Options) -> Iterator[tuple[ModelPoint, str]]:
        """Each air loop's supply temperature, its manager replaced by a schedule of ours."""
        if "supply" not in options.knobs:
            return
        for loop, about in self.model.get("AirLoopHVAC", {}).items():
            ends = self.graph.named(about.get("supply_side_outlet_node_names"))
            starts = self.graph.named(about.get("supply_side_inlet_node_name"))
            managers = self._managers(ends) or self._managers(
                self.graph.reach(starts, stop=ends) | ends
            )
            if not managers:
                continue
            rows = [z for z in self.zone_nodes if self._serves(about, z)]
            point = ModelPoint(
                f"{slug(loop)}/supply_air_setpoint_c", "supply_air_setpoint_c", "degC",
                slug(rows[0]) if len(rows) == 1 else None, None, True,
                options.min_c, options.max_c, options.max_step_c, options.supply_c,
            )  # fmt: skip
            yield point, self._command(loop, managers, options.supply_c)

    def water(self, options: Options) -> Iterator[tuple[ModelPoint, str]]:
        """Each chilled-water loop's supply temperature, where it feeds a coil that ever runs."""
        if "water" not in options.knobs:
            return
        for loop, about in self.model.get("PlantLoop", {}).items():
            managers = self._managers(self.graph.named(about.get("plant_side_outlet_node_name")))
            if not managers or not self._cools(about):
                continue
            point = ModelPoint(
                f"{slug(loop)}/chilled_water_setpoint_c", "chilled_water_setpoint_c", "degC",
                None, None, True, 7.0, 18.0, 0.5, 7.0,
            )  # fmt: skip
            yield point, self._command(loop, managers, 7.0)

    def zones(self, options: Options) -> Iterator[tuple[ModelPoint, str]]:
        """Each zone's cooling thermostat, with a schedule of its own."""
        if "zone" not in options.knobs:
            return
        for about in self.model.get("ZoneControl:Thermostat", {}).values():
            zone = about.get("zone_or_zonelist_name", "")
            kind, name = about.get("control_1_object_type"), about.get("control_1_name")
            setpoints = self.model.get(kind or "", {})
            thermostat = dict(setpoints.get(name, {}))
            field = next((k for k in _COOLING_FIELDS if k in thermostat), None)
            if zone not in self.zone_nodes or field is None:
                continue
            baseline = self._typical(thermostat[field])
            schedule = self._schedule(f"Skadi {zone} Cooling", baseline)
            thermostat[field] = schedule
            setpoints[f"Skadi {zone}"] = thermostat
            about["control_1_name"] = f"Skadi {zone}"
            low, high = min(baseline, 20.0), max(baseline, 30.0)
            yield ModelPoint(
                f"{slug(zone)}/zone_setpoint_c", "zone_setpoint_c", "degC", slug(zone), None, True,
                low, high, 1.0, baseline,
            ), schedule  # fmt: skip

    def unheated(self) -> Iterator[tuple[str, str]]:
        """Heating schedules of zones whose IT equipment drives the airflow."""
        driven = {
            s.get("zone_or_space_name")
            for s in self.model.get("ElectricEquipment:ITE:AirCooled", {}).values()
            if s.get("air_flow_calculation_method") == "FlowControlWithApproachTemperatures"
        }
        for about in self.model.get("ZoneControl:Thermostat", {}).values():
            kind, name = about.get("control_1_object_type"), about.get("control_1_name")
            schedule = self.model.get(kind or "", {}).get(name, {}).get(_HEATING_FIELD)
            if about.get("zone_or_zonelist_name") not in driven or schedule is None:
                continue
            yield from (
                (k, schedule)
                for k, objects in self.model.items()
                if k.startswith("Schedule:") and schedule in objects
            )

    def outputs(self) -> Iterator[Output]:
        """Every reading of the plant, as sums of engine variables."""
        servers = self.model.get("ElectricEquipment:ITE:AirCooled", {})
        for name, about in servers.items():
            zone = str(about.get("zone_or_space_name", ""))
            row, rack = slug(zone), slug(name)
            yield self._air(
                f"{row}/{rack}_inlet_c",
                "inlet_c",
                "ITE Air Inlet Dry-Bulb Temperature",
                name,
                row,
                rack,
            )
            yield self._air(
                f"{row}/{rack}_outlet_c",
                "outlet_c",
                "ITE Air Outlet Dry-Bulb Temperature",
                name,
                row,
                rack,
            )
            for part in ("CPU", "Fan", "UPS"):
                yield self._power(
                    f"{row}/{rack}_it_power_kw",
                    "it_power_kw",
                    f"ITE {part} Electricity Rate",
                    name,
                    row,
                )
        for zone in self.zone_nodes:
            yield self._air(
                f"{slug(zone)}/zone_c",
                "zone_c",
                "Zone Mean Air Temperature",
                zone,
                slug(zone),
                None,
            )
        if not servers:
            yield self._power(
                "meter/it_power_kw",
                "it_power_kw",
                "Facility Total Building Electricity Demand Rate",
                "Whole Building",
                None,
            )
        for loop, about in self.model.get("AirLoopHVAC", {}).items():
            for node in sorted(self.graph.named(about.get("supply_side_outlet_node_names"))):
                yield self._air(
                    f"{slug(loop)}/supply_air_c",
                    "supply_air_c",
                    "System Node Temperature",
                    node,
                    None,
                    None,
                )
                break
        yield self._power(
            "meter/cooling_power_kw",
            "cooling_power_kw",
            "Facility Total HVAC Electricity Demand Rate",
            "Whole Building",
            None,
        )
        yield self._power(
            "meter/total_power_kw",
            "total_power_kw",
            "Facility Total Electricity Demand Rate",
            "Whole Building",
            None,
        )
        yield self._air(
            "weather/outdoor_c",
            "outdoor_c",
            "Site Outdoor Air Drybulb Temperature",
            "Environment",
            None,
            None,
        )
        self.quantity_of["weather/outdoor_humidity_pct"] = ("outdoor_humidity_pct", "%")
        yield Output("weather/outdoor_humidity_pct", "Site Outdoor Air Relative Humidity", "Environment")  # fmt: skip

    def _air(self, point: str, quantity: str, variable: str, key: str,
             row: str | None, rack: str | None) -> Output:  # fmt: skip
        self.quantity_of[point] = (quantity, "degC")
        self.place_of[point] = (row, rack)
        return Output(point, variable, key)

    def _power(self, point: str, quantity: str, variable: str, key: str, row: str | None) -> Output:
        self.quantity_of[point] = (quantity, "kW")
        self.place_of[point] = (row, None)
        return Output(point, variable, key, 0.001, True)

    def _managers(self, nodes: set[str]) -> list[tuple[str, str]]:
        """(type, name) of the temperature managers that set any of these nodes."""
        return [
            (kind, name)
            for kind, managers in self.model.items()
            if kind.startswith("SetpointManager:") and kind not in _FOLLOWERS
            for name, m in managers.items()
            if "Temperature" in str(m.get("control_variable", "Temperature"))
            and nodes & self.graph.named(m.get("setpoint_node_or_nodelist_name"))
        ]

    def _command(self, loop: str, managers: list[tuple[str, str]], value_c: float) -> str:
        schedule = self._schedule(f"Skadi {loop} Supply", value_c)
        for kind, name in managers:
            old = self.model[kind].pop(name)
            self.model.setdefault("SetpointManager:Scheduled", {})[f"Skadi {loop} {name}"] = {
                "control_variable": "Temperature", "schedule_name": schedule,
                "setpoint_node_or_nodelist_name": old["setpoint_node_or_nodelist_name"],
            }  # fmt: skip
        return schedule

    def _schedule(self, name: str, value: float) -> str:
        self.model.setdefault("Schedule:Constant", {})[name] = {"hourly_value": value}
        return name

    def _cools(self, loop: Objects) -> bool:
        """Whether a plant loop's demand side holds a cooling coil that is ever available."""
        listed = self.model.get("BranchList", {}).get(
            loop.get("demand_side_branch_list_name", ""), {}
        )
        return any(
            part.get("component_object_type", "").startswith("Coil:Cooling:Water")
            and any(self._values(self._coil(part).get("availability_schedule_name")) or [1.0])
            for row in listed.get("branches", [])
            for part in self.model["Branch"].get(row["branch_name"], {}).get("components", [])
        )

    def _coil(self, part: Objects) -> Objects:
        coils: Objects = self.model.get(part["component_object_type"], {})
        found: Objects = coils.get(part.get("component_name", ""), {})
        return found

    def _values(self, name: str | None) -> list[float]:
        """The values a schedule takes; none where it is of a kind that is not read here."""
        constant = self.model.get("Schedule:Constant", {}).get(name)
        if constant is not None:
            return [float(constant["hourly_value"])]
        rows = self.model.get("Schedule:Compact", {}).get(name, {}).get("data", [])
        return [r["field"] for r in rows if isinstance(r.get("field"), int | float)]

    def _typical(self, name: str) -> float:
        """The median of a schedule's values: its value where it is constant."""
        values = self._values(name)
        if not values:
            raise PlantError(f"model: can't read the cooling schedule {name!r}; leave zone out of knobs")  # fmt: skip
        return float(median(values))

    def _serves(self, loop: Objects, zone: str) -> bool:
        starts = self.graph.named(loop.get("demand_side_inlet_node_names"))
        return bool(self.zone_nodes[zone] & self.graph.reach(starts))


_HEATING_FIELD = "heating_setpoint_temperature_schedule_name"
_COOLING_FIELDS = ("cooling_setpoint_temperature_schedule_name", "setpoint_temperature_schedule_name")  # fmt: skip
