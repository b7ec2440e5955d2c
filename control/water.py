"""What room for warmer water is worth: warmer water pays until one place's valve is wide open.

A place whose valve stands in the way can make room by warmer air or faster pumps, and take it by
colder air or slower ones: none of it shows on a meter until the water moves. So such moves carry
a shadow price. Prices; decides nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from control.moves import Knob
from control.predict import View, ends, speeds, water_room_k
from control.signals import AIR_KNOBS
from control.types import Change

F64 = NDArray[np.float64]

QUANTITIES = (*AIR_KNOBS, "pump_rpm_pct")
NEARLY_K = 0.25  # places whose rooms differ by less stand in the way together
# Room beyond this is nobody's gain or loss: the water moves by half a kelvin at a time.
MATTERS_K = 1.0


@dataclass(frozen=True, slots=True)
class WaterPrice:
    """kw_per_k: what a kelvin of warmer water saves; rooms_k (n,): what each place leaves of it now, at
    most most_k, what the setpoint has left. The place that leaves least stands in the way."""

    kw_per_k: float
    rooms_k: F64
    most_k: float


def price(view: View, kw_per_k: float, most_k: float) -> WaterPrice:
    """The price here and now. A place whose valve is not known is in nobody's way."""
    rooms = [water_room_k(view, i) for i in range(len(view.places))]
    rooms_k = np.minimum(np.where(np.isfinite(rooms), rooms, most_k), most_k)
    return WaterPrice(kw_per_k, rooms_k, most_k)


def worth_kw(at: WaterPrice, view: View, knob: Knob, changes: tuple[Change, ...]) -> float:
    """What a move of air or pumps is worth by the room it makes or takes; negative where it takes.

    Places that stand in the way together are each worth their part of what all bring.
    """
    old, new = ends(changes)
    air_k, pump = new - old, 1.0
    if knob.quantity == "pump_rpm_pct":
        start, end, _ = speeds(view, knob, changes)
        air_k, pump = 0.0, max(end, 1.0) / max(start, 1.0)
    after_k = at.rooms_k.copy()
    for i in view.places_of(knob):
        room_k = water_room_k(view, i, air_k, pump)
        after_k[i] = min(room_k, at.most_k) if np.isfinite(room_k) else after_k[i]
    gained_k = after_k - at.rooms_k
    # By who stands in the way where there is less room, both ways: what a step brings, its way back takes.
    least_k = np.minimum(after_k, at.rooms_k)
    return at.kw_per_k * float(_nearness(least_k) @ np.clip(gained_k, -MATTERS_K, MATTERS_K))


def _nearness(rooms_k: F64) -> F64:
    """How nearly each place is the one that stands in the way, (n,); sums to 1."""
    near: F64 = np.exp((rooms_k.min() - rooms_k) / NEARLY_K)
    share: F64 = near / near.sum()
    return share
