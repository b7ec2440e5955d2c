"""What makes room for warmer water is worth a part of what the water would save, and what takes it costs."""

from dataclasses import replace

import numpy as np
import pytest

from control import water
from control.moves import Knob
from control.predict import VALVE_HOLDS_PCT, View, valve_after, water_room_k
from control.signals import PLACE
from control.types import Change
from tests.control.hall import view


def hall(*valves_pct: float) -> View:
    """Three rows at 20 degC air, 32 degC back, 12 degC water, pumps at 60 %."""
    places = np.full((3, len(PLACE)), 20.0)
    places[:, PLACE.index("valve_pct")] = valves_pct
    places[:, PLACE.index("return_c")], places[:, PLACE.index("pump_pct")] = 32.0, 60.0
    return view(places, water_c=12.0)


def worth(
    at: View, row: str, quantity: str, old: float, new: float, kw_per_k: float = 2.0
) -> float:
    points = tuple(p for p in at.case.layout.site.writable_points.values()
                   if p.quantity == "supply_air_setpoint_c" and p.row == row)  # fmt: skip
    knob = Knob("any", quantity, f"row:{row}", tuple(replace(p, quantity=quantity) for p in points))
    price = water.price(at, kw_per_k, 4.0)
    return water.worth_kw(price, at, knob, (Change("x", old, new),))


@pytest.mark.parametrize("valve_pct", [40.0, 75.0, 97.0])
def test_the_room_is_what_opens_the_valve_as_far_as_it_holds(valve_pct: float) -> None:
    at = hall(valve_pct, 50.0, 50.0)
    assert valve_after(at, 0, water_room_k(at, 0), 0.0, 1.0) == pytest.approx(VALVE_HOLDS_PCT)
    assert valve_after(at, 0, water_room_k(at, 0, 1.0), 1.0, 1.0) == pytest.approx(VALVE_HOLDS_PCT)


def test_only_the_place_in_the_way_is_worth_anything() -> None:
    at = hall(97.0, 60.0, 60.0)
    assert worth(at, "A", "supply_air_setpoint_c", 20.0, 20.5) > 0.5
    assert worth(at, "A", "pump_rpm_pct", 60.0, 65.0) > 0.5
    assert abs(worth(at, "B", "supply_air_setpoint_c", 20.0, 20.5)) < 0.01
    assert worth(at, "A", "supply_air_setpoint_c", 20.0, 19.5) < -0.5


def test_places_in_the_way_together_share_what_all_bring() -> None:
    alone, together = hall(97.0, 60.0, 60.0), hall(97.0, 97.0, 97.0)
    up = [worth(v, "A", "supply_air_setpoint_c", 20.0, 20.5) for v in (alone, together)]
    assert up[1] == pytest.approx(up[0] / 3.0, rel=0.05)


def test_who_steps_into_the_way_pays_it_whole_and_going_back_brings_no_gain() -> None:
    at = hall(97.0, 97.0, 97.0)
    warmer = worth(at, "A", "supply_air_setpoint_c", 20.0, 20.5)
    colder = worth(at, "A", "supply_air_setpoint_c", 20.0, 19.5)
    assert colder < -warmer, "a step to and fro must cost"
    assert worth(hall(60.0, 97.0, 97.0), "A", "supply_air_setpoint_c", 20.0, 18.5) > -0.01


@pytest.mark.parametrize("far_k", [0.25, 0.5, 1.0, 2.0])
def test_the_way_back_takes_what_the_step_brought(far_k: float) -> None:
    """Else rows would step to and fro for ever, each time for a gain."""
    low = hall(97.0, 97.0, 90.0)
    up = worth(low, "A", "supply_air_setpoint_c", 20.0, 20.0 + far_k)
    wide = valve_after(low, 0, 0.0, far_k, 1.0)
    high = hall(wide, 97.0, 90.0)
    high.places[0, PLACE.index("air_c")] += far_k
    high = replace(high)
    down = worth(high, "A", "supply_air_setpoint_c", 20.0 + far_k, 20.0)
    assert up > 0.0
    assert down == pytest.approx(-up, rel=0.05)


def test_room_nobody_will_use_soon_is_worth_nothing() -> None:
    at = hall(97.0, 97.0, 97.0)
    two, four = (worth(at, "A", "supply_air_setpoint_c", 20.0, 20.0 + k) for k in (2.0, 4.0))
    assert two == pytest.approx(four)


def test_a_valve_nobody_measures_is_in_nobodys_way() -> None:
    at = hall(np.nan, 97.0, 60.0)
    assert worth(at, "A", "supply_air_setpoint_c", 20.0, 19.0) == 0.0
    assert worth(at, "B", "supply_air_setpoint_c", 20.0, 20.5) > 0.5
