"""Setpoints that ask of a coil nothing it does not do already: the way out for a row that was given back
to air colder than the hall's water can make."""

import numpy as np
import pytest

from control import slow_loop
from control.guardrails import Case, judge
from control.moves import knobs
from control.predict import View
from control.signals import PLACE
from control.types import Change, Denial, Permit, Proposal
from control.units import asks_nothing
from tests.control.hall import P, case, finding, view

SUPPLY = "crac-a1/supply_c"
MORE = (
    P("crac-a1/air_1", "supply_air_c", "degC", "A"),
    P("crac-a1/air_2", "supply_air_c", "degC", "A"),
    P("crac-a1/valve", "valve_pct", "%", "A"),
)
WIDE = {"crac-a1/air_1": 22.0, "crac-a1/air_2": 20.8, "crac-a1/valve": 100.0}


def hall(heat: float, **values: float | None) -> Case:
    """Row A in thermal trouble; its unit as wide open as it can be, but for `values`."""
    said = WIDE | {f"crac-a1/{k}": v for k, v in values.items()}
    return case(said, {"row:A": finding("A", "persistent", 30.0, heat)}, more=MORE)


@pytest.mark.parametrize(
    ("new_c", "values", "nothing"),
    [
        (20.5, {}, True),
        (20.8, {}, True),  # as warm as its coldest air
        (20.9, {}, False),
        (20.5, {"valve": 99.5}, True),
        (20.5, {"valve": 99.4}, False),  # it has something left to give
        (20.5, {"valve": None}, False),
        (20.5, {"air_2": None}, False),
        (20.5, {"air_1": None}, False),
        (20.5, {"air_1": 20.4}, False),
    ],
)
def test_only_what_valve_and_air_both_say(
    new_c: float, values: dict[str, float | None], nothing: bool
) -> None:
    at, change = hall(2.0, **values), Change(SUPPLY, 20.0, new_c)
    assert asks_nothing(at, [change]) is nothing
    verdict = judge(at, Proposal("p", "slow", "m", (change,), "a test", expires_s=9e9), "c1")
    if nothing:
        assert isinstance(verdict, Permit)
    else:
        assert isinstance(verdict, Denial)
        assert verdict.rule == "deviation"


def test_units_that_are_not_read_ask() -> None:
    at = case(findings={"row:A": finding("A", "persistent", 30.0, 2.0)})
    assert not asks_nothing(at, [Change(SUPPLY, 20.0, 20.5)])
    assert not asks_nothing(hall(2.0), [Change("crac-a1/fan_pct", 80.0, 75.0)])
    assert not asks_nothing(
        hall(2.0), [Change(SUPPLY, 20.0, 20.5), Change("crac-b1/supply_c", 20.0, 20.5)]
    )


def told(at: Case) -> View:
    """The averages of such a hall: all inlets far below their limit."""
    places = np.full((3, len(PLACE)), 22.0)
    places[:, PLACE.index("valve_pct")] = (100.0, 50.0, 50.0)
    places[:, PLACE.index("fan_pct")] = 80.0
    return view(places, at, it_kw=500.0, cooling_kw=100.0, total_kw=600.0)


@pytest.mark.parametrize(("heat", "wanted"), [(2.0, True), (0.5, True), (0.4, False)])
def test_a_row_in_trouble_is_told_what_it_does_already_and_nothing_else(
    heat: float, wanted: bool
) -> None:
    at = hall(heat)
    allowed = ("supply_air", "fan")
    found = slow_loop.candidates(told(at), knobs(at.layout, allowed))
    mine = [c for c in found if c.knob.row == "A" and c.relieves == 0]
    assert bool(mine) is wanted
    assert all(asks_nothing(at, c.changes) and c.against is None for c in mine)
    warmer = [c for c in found if c.knob.row == "A" and c not in mine and c.effect.inlet_c > 0]
    if heat >= 1.0:
        assert warmer
        assert all(c.against and c.against.startswith("upset") for c in warmer)
