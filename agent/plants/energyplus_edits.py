"""What is changed in an EnergyPlus model to make it a plant: period, step, curves, a converter's slip.

Each function edits the copy it is given. Building, weather, loads and equipment stay as they are.
"""

from dataclasses import dataclass
from datetime import date, timedelta

from agent.plants.energyplus_nodes import Nodes, Objects
from agent.plants.site import PlantError

# What replaces the stock IT curves, which are placeholders (CPU power +80 % from 15 to 27 degC).
# Server CPU power is flat in load but for its idle share, and leaks about 0.17 % a kelvin; fans
# follow load and the cube law at 8 % of design power. Figures: the plants' own README (shared/plants).
CURVES_NOTE = (
    "IT curves replaced: CPU = 0.225 + 0.75 load + 0.00167 T, airflow = 0.4 + 0.6 load, "
    "cube-law fans at 8 % of design power; the model's stock curves are placeholders"
)
STOCK_NOTE = "the model's stock IT curves: placeholders, CPU power +80 % from 15 to 27 degC"
_CPU, _AIRFLOW, _FAN = "Skadi CPU Power", "Skadi Server Airflow", "Skadi Server Fans"
_FAN_SHARE = 0.08


@dataclass(frozen=True, slots=True)
class Options:
    """How a model is made a plant. Temperatures in degC, step_s in seconds; year from the model."""

    start: str = "01-01"
    days: int = 14
    step_s: int = 300
    supply_c: float = 18.0
    min_c: float = 14.0
    max_c: float = 27.0
    max_step_c: float = 1.0
    stock_curves: bool = False
    knobs: frozenset[str] = frozenset({"supply"})


def check(model: Objects) -> None:
    """Raise PlantError unless this looks like an epJSON model."""
    for kind in ("Building", "Zone"):
        if not model.get(kind):
            raise PlantError(f"model: no {kind} object; is it an epJSON file of EnergyPlus?")
    for kind, objects in model.items():
        if not isinstance(objects, dict) or not all(isinstance(o, dict) for o in objects.values()):
            raise PlantError(f"model: {kind} is not a table of objects; is it an epJSON file?")


def set_period(model: Objects, options: Options) -> None:
    """One run period of so many days in the model's own year, and the time step."""
    periods = list(model.get("RunPeriod", {}).values())
    like = periods[0] if periods else {}
    year = int(like.get("begin_year", 1991))
    month, day = (int(part) for part in options.start.split("-"))
    first = date(year, month, day)
    last = first + timedelta(days=options.days - 1)
    kept = {k: v for k, v in like.items() if k.startswith(("use_weather", "apply_"))}
    model["RunPeriod"] = {
        "Skadi": kept
        | {
            "begin_year": first.year, "begin_month": first.month, "begin_day_of_month": first.day,
            "end_year": last.year, "end_month": last.month, "end_day_of_month": last.day,
        }
    }  # fmt: skip
    model["Timestep"] = {"Skadi": {"number_of_timesteps_per_hour": 3600 // options.step_s}}
    for control in model.get("SimulationControl", {}).values():
        control["run_simulation_for_sizing_periods"] = "No"
        control["run_simulation_for_weather_file_run_periods"] = "Yes"


def mend(model: Objects) -> None:
    """Drop a condenser zone that is no zone ("Yes"): converters to epJSON write it, the engine objects."""
    zones = {Nodes.key(z) for z in model["Zone"]}
    field = "zone_name_for_condenser_placement"
    for kind, objects in model.items():
        if kind.startswith("Coil:Cooling:DX"):
            for coil in objects.values():
                if Nodes.key(coil.get(field)) not in zones:
                    coil.pop(field, None)


def set_curves(model: Objects) -> None:
    """Replace the power and airflow curves of all IT equipment; see CURVES_NOTE."""
    servers = model.get("ElectricEquipment:ITE:AirCooled", {})
    if not servers:
        return
    wide: Objects = {"minimum_value_of_x": 0.0, "maximum_value_of_x": 1.5}
    both = wide | {"minimum_value_of_y": -30.0, "maximum_value_of_y": 99.0}
    surfaces = model.setdefault("Curve:Biquadratic", {})
    for name, constant, load, kelvin in (
        (_CPU, 0.225, 0.75, 0.00167),
        (_AIRFLOW, 0.4, 0.6, 0.0),
    ):
        surfaces[name] = both | {
            "coefficient1_constant": constant, "coefficient2_x": load, "coefficient3_x_2": 0.0,
            "coefficient4_y": kelvin, "coefficient5_y_2": 0.0, "coefficient6_x_y": 0.0,
        }  # fmt: skip
    model.setdefault("Curve:Cubic", {})[_FAN] = wide | {
        "coefficient1_constant": 0.0, "coefficient2_x": 0.0, "coefficient3_x_2": 0.0, "coefficient4_x_3": 1.0,
    }  # fmt: skip
    for server in servers.values():
        server["cpu_power_input_function_of_loading_and_air_temperature_curve_name"] = _CPU
        server["air_flow_function_of_loading_and_air_temperature_curve_name"] = _AIRFLOW
        server["fan_power_input_function_of_flow_curve_name"] = _FAN
        server["design_fan_power_input_fraction"] = _FAN_SHARE
