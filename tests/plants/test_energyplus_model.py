"""What is found in an EnergyPlus model, and what is changed: no engine needed."""

import copy
from typing import Any

import pytest

from agent.plants.energyplus import EnergyPlus, engine_folder
from agent.plants.energyplus_edits import Options
from agent.plants.energyplus_model import prepare
from agent.plants.site import PlantError

ALL = Options(start="12-25", days=10, step_s=900, knobs=frozenset({"supply", "zone", "water"}))


def model() -> dict[str, Any]:
    """One air loop, one zone, one water loop: the least that holds each kind of knob."""
    compact = [{"field": "Through: 12/31"}, {"field": "For: AllDays"}, {"field": "Until: 24:00"}, {"field": 23.0}]  # fmt: skip
    return {
        "Version": {"v": {"version_identifier": "9.9"}},
        "Building": {"B": {}},
        "Zone": {"Hall 1": {}, "Plenum": {}},
        "RunPeriod": {"year": {"begin_year": 2013, "use_weather_file_rain_indicators": "No"}},
        "Output:Variable": {"o": {"variable_name": "x"}},
        "AirLoopHVAC": {
            "Loop": {
                "supply_side_inlet_node_name": "Return", "supply_side_outlet_node_names": "Supply",
                "demand_side_inlet_node_names": "Demand",
            }
        },
        "NodeList": {"Hall inlets": {"nodes": [{"node_name": "Hall In"}]}, "Ends": {"nodes": [{"node_name": "SUPPLY"}]}},
        "AirLoopHVAC:ZoneSplitter": {"S": {"inlet_node_name": "Demand", "nodes": [{"outlet_node_name": "Box In"}]}},
        "AirTerminal:SingleDuct:VAV:NoReheat": {"T": {"air_inlet_node_name": "box in", "air_outlet_node_name": "hall in"}},
        "ZoneHVAC:EquipmentConnections": {"c": {"zone_name": "Hall 1", "zone_air_inlet_node_or_nodelist_name": "Hall inlets"}},
        "SetpointManager:Warmest": {"W": {"control_variable": "Temperature", "setpoint_node_or_nodelist_name": "Ends"}},
        "SetpointManager:MixedAir": {"M": {"control_variable": "Temperature", "setpoint_node_or_nodelist_name": "Supply"}},
        "SetpointManager:Scheduled": {
            "Water": {"control_variable": "Temperature", "schedule_name": "W7", "setpoint_node_or_nodelist_name": "CHW out"},
            "Condenser": {"control_variable": "Temperature", "schedule_name": "W7", "setpoint_node_or_nodelist_name": "Tower out"},
        },
        "PlantLoop": {
            "CHW": {"plant_side_outlet_node_name": "CHW out", "demand_side_branch_list_name": "L"},
            "Tower": {"plant_side_outlet_node_name": "Tower out", "demand_side_branch_list_name": "none"},
        },
        "BranchList": {"L": {"branches": [{"branch_name": "Br"}]}},
        "Branch": {"Br": {"components": [{"component_object_type": "Coil:Cooling:Water", "component_name": "Coil"}]}},
        "Coil:Cooling:Water": {"Coil": {"availability_schedule_name": "On"}},
        "Coil:Cooling:DX:SingleSpeed": {"DX": {"zone_name_for_condenser_placement": "Yes"}},
        "Schedule:Constant": {"W7": {"hourly_value": 7.0}, "On": {"hourly_value": 1.0}},
        "Schedule:Compact": {"Cool": {"data": compact}},
        "ThermostatSetpoint:DualSetpoint": {"D": {"cooling_setpoint_temperature_schedule_name": "Cool", "heating_setpoint_temperature_schedule_name": "On"}},
        "ZoneControl:Thermostat": {"t": {"zone_or_zonelist_name": "Hall 1", "control_1_object_type": "ThermostatSetpoint:DualSetpoint", "control_1_name": "D"}},
        "ElectricEquipment:ITE:AirCooled": {"Servers": {"zone_or_space_name": "Hall 1", "air_flow_calculation_method": "FlowControlWithApproachTemperatures"}},
    }  # fmt: skip


def test_knobs_are_found_by_following_nodes() -> None:
    source = model()
    before = copy.deepcopy(source)
    ready = prepare(source, ALL, "25.2")
    assert source == before
    knobs = {p.id: p for p in ready.points if p.writable}
    assert set(knobs) == {"loop/supply_air_setpoint_c", "chw/chilled_water_setpoint_c", "hall-1/zone_setpoint_c"}  # fmt: skip
    supply = knobs["loop/supply_air_setpoint_c"]
    assert (supply.row, supply.min, supply.baseline, supply.max) == ("hall-1", 14.0, 18.0, 27.0)
    assert knobs["hall-1/zone_setpoint_c"].baseline == 23.0
    schedules = ready.model["Schedule:Constant"]
    assert {s: schedules[s]["hourly_value"] for _, s in ready.actuators} == {
        "Skadi Loop Supply": 18.0, "Skadi CHW Supply": 7.0, "Skadi Hall 1 Cooling": 23.0,
    }  # fmt: skip


def test_only_the_managers_of_found_knobs_are_replaced() -> None:
    ready = prepare(model(), ALL, "25.2").model
    assert ready["SetpointManager:Warmest"] == {}
    assert ready["SetpointManager:MixedAir"] == model()["SetpointManager:MixedAir"]
    by_node = {m["setpoint_node_or_nodelist_name"]: m["schedule_name"] for m in ready["SetpointManager:Scheduled"].values()}  # fmt: skip
    assert by_node == {"Ends": "Skadi Loop Supply", "CHW out": "Skadi CHW Supply", "Tower out": "W7"}  # fmt: skip
    assert "Output:Variable" not in ready


def test_readings_and_their_places() -> None:
    ready = prepare(model(), ALL, "25.2")
    points = {p.id: p for p in ready.points if not p.writable}
    inlet = points["hall-1/servers_inlet_c"]
    assert (inlet.quantity, inlet.row, inlet.rack) == ("inlet_c", "hall-1", "servers")
    assert "plenum/zone_c" not in points
    parts = [o.variable for o in ready.outputs if o.point == "hall-1/servers_it_power_kw"]
    assert parts == [f"ITE {part} Electricity Rate" for part in ("CPU", "Fan", "UPS")]
    assert ready.unheated == (("Schedule:Constant", "On"),)


def test_period_step_version_and_a_converters_slip() -> None:
    ready = prepare(model(), ALL, "25.2").model
    assert ready["Version"]["Version 1"]["version_identifier"] == "25.2"
    assert ready["Timestep"]["Skadi"]["number_of_timesteps_per_hour"] == 4
    period = ready["RunPeriod"]["Skadi"]
    assert [period[f"{end}_{part}"] for end in ("begin", "end") for part in ("year", "month", "day_of_month")] == [2013, 12, 25, 2014, 1, 3]  # fmt: skip
    assert period["use_weather_file_rain_indicators"] == "No"
    assert ready["Coil:Cooling:DX:SingleSpeed"]["DX"] == {}


def test_it_curves_are_replaced_unless_stock_is_asked_for() -> None:
    replaced = prepare(model(), ALL, "25.2").model
    server = replaced["ElectricEquipment:ITE:AirCooled"]["Servers"]
    curve = replaced["Curve:Biquadratic"][server["cpu_power_input_function_of_loading_and_air_temperature_curve_name"]]  # fmt: skip
    at = curve["coefficient1_constant"] + curve["coefficient2_x"] + 15.0 * curve["coefficient4_y"]
    assert at == pytest.approx(1.0, abs=0.001)  # full load at the design inlet is design power
    assert server["design_fan_power_input_fraction"] == 0.08
    stock = prepare(model(), Options(stock_curves=True), "25.2").model
    assert stock["ElectricEquipment:ITE:AirCooled"] == model()["ElectricEquipment:ITE:AirCooled"]


def test_a_water_loop_whose_coil_never_runs_is_no_knob() -> None:
    source = model()
    source["Schedule:Constant"]["On"]["hourly_value"] = 0.0
    ready = prepare(source, ALL, "25.2")
    assert "chw/chilled_water_setpoint_c" not in {p.id for p in ready.points}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.pop("Building"), "no Building"),
        (lambda m: m.update(Zone=[1]), "Zone is not a table"),
        (lambda m: (m.pop("AirLoopHVAC"), m.pop("ZoneControl:Thermostat"), m.pop("PlantLoop")), "no set point"),
        (lambda m: m["Schedule:Compact"].clear(), "cooling schedule 'Cool'"),
    ],
    ids=["no building", "a list", "no knobs", "no schedule"],
)  # fmt: skip
def test_models_that_are_none(change: Any, says: str) -> None:
    source = model()
    change(source)
    with pytest.raises(PlantError, match=says):
        prepare(source, ALL, "25.2")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "weather: missing"),
        ({"weather": "x.txt"}, "must be a .epw"),
        ({"weather": "nowhere.epw"}, "no such file"),
        ({"step_s": "70"}, "whole minutes"),
        ({"step_s": "five"}, "not a number"),
        ({"days": "0"}, "outside 1..366"),
        ({"start": "02-29"}, "start"),
        ({"start": "7/1"}, "start"),
        ({"supply_c": "13"}, "outside min_c..max_c"),
        ({"supply_c": "nan"}, "outside"),
        ({"knobs": "supply,fan"}, "knobs"),
        ({"curves": "steep"}, "one of realistic, stock"),
    ],
)
def test_arguments_that_cant_be(arguments: dict[str, str], says: str) -> None:
    with pytest.raises(PlantError, match=says):
        EnergyPlus(**arguments)


def test_without_the_engine_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PlantError, match=r"pip install --require-hashes -r requirements/energyplus.txt"):  # fmt: skip
        engine_folder()
