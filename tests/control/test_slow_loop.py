"""How near to their limit the slow loop leaves inlets, and what one that stands alone may take of it."""

from dataclasses import replace

import numpy as np
import pytest

from control import slow_loop
from control.decide import cared_for
from control.layout import Groups
from control.signals import PLACE
from tests.control.hall import finding, view


@pytest.mark.parametrize(
    ("inlets", "leads_k"),
    [
        ([24.0, 22.0, 22.5, 21.0], 1.5),
        ([24.0, 24.0, 22.5, 21.0], 0.0),  # two agree: that is the place
        ([24.0, 22.0, 22.5], 0.0),  # too few to contradict
        ([24.0, 22.0, 22.5, np.nan], 0.0),
        ([np.nan] * 4, 0.0),
        ([], 0.0),
    ],
)
def test_a_rack_stands_alone_where_three_others_say_so(inlets: list[float], leads_k: float) -> None:
    groups = Groups.of([list(range(len(inlets)))])
    assert groups.leads(np.array(inlets), 3)[0] == pytest.approx(leads_k)


@pytest.mark.parametrize(
    ("lone_k", "room_k"),
    [(0.0, 2.5), (0.9, 2.5), (1.25, 2.25), (1.5, 2.0), (9.0, 2.0), (np.nan, 2.5)],
)
def test_one_that_stands_alone_gets_less_room_and_never_none(lone_k: float, room_k: float) -> None:
    places = np.full((3, len(PLACE)), 20.0)
    places[:, PLACE.index("lone_k")] = lone_k
    assert slow_loop.comfort_k(view(places), 0) == pytest.approx(room_k)
    # Nobody else of its row comes nearer than the usual room.
    others = room_k + (lone_k if lone_k > 0 else 0.0)
    assert others >= slow_loop.COMFORT_K


@pytest.mark.parametrize(
    ("state", "heat", "top", "cared"),
    [
        ("persistent", 1.0, "inlet_c", True),
        ("persistent", 0.5, "fan_rpm_pct", True),
        ("persistent", 0.4, "inlet_c", False),  # unlike what was trained, not hot
        ("persistent", -2.0, "inlet_c", False),  # over-cooled
        ("persistent", 2.0, "tokens_ps", False),  # its work, not its air
        ("transient", 2.0, "inlet_c", False),
    ],
)
def test_a_row_is_cared_for_after_it_ran_too_hot(
    state: str, heat: float, top: str, cared: bool
) -> None:
    found = {f"row:{r}": finding(r, "nominal", 0.0, 0.0) for r in "ABC"}
    found["row:B"] = replace(finding("B", state, 9.0, heat), top=(top,))
    before = {"A": 900.0, "C": 1_000.0 + 60.0}
    until_s = cared_for(before, found, "ABC", 1_000.0)
    wanted = {"C": 1_060.0} | ({"B": 1_000.0 + slow_loop.AFTERCARE_S} if cared else {})
    assert until_s == wanted, "what has run out is over"
