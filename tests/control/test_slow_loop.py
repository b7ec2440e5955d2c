"""How near to their limit the slow loop leaves inlets, and what one that stands alone may take of it."""

import numpy as np
import pytest

from control import slow_loop
from control.layout import Groups
from control.signals import PLACE
from tests.control.hall import view


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
