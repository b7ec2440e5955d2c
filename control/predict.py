"""What one change of a knob should do here and now: power, inlets, latency, valves.

Knows that a limit above the real speed does nothing, that a coil that can't follow its setpoint
is not moved by it, and that the effect of a step grows as air gets short. Predicts for
control.slow_loop; decides nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from control.chart import Chart
from control.foresight import Outlook
from control.guardrails import Case
from control.moves import Knob
from control.signals import AIR_KNOBS, HALL, PLACE, SERVER_RAMP_C, Signals
from control.slow_model import Belief, Shift, inlet_per_fan, latency_per_batch, power_kw
from control.types import Change, Effect

F64 = NDArray[np.float64]

IDLE_PCT = 1.0  # a limit this much above the measured speed does not bind
IDLE_CREDIT = 0.5  # a step of an idle limit is worth half of one that binds: it gets there
SATURATED_K = 0.5  # supply air this much above its setpoint: the coil can't follow
CONVEX = 1.5  # less air: each step warms more than the one before
VALVE_HOLDS_PCT = 98.0  # below, a coil keeps its air where it was set
VALVE_EXPONENT = 1.7  # equal-percentage valve against a coil that saturates, by judgement
FLOW_EXPONENT = 0.6  # what a coil can carry against its pump's speed, by judgement
BATCH_FADES = 0.6  # larger batches save less and less


@dataclass(frozen=True)
class View:
    """One look of the slow loop: the case, averages since the last look, what is believed, and
    what is expected of the next hour."""

    case: Case
    signals: Signals
    hall: F64
    places: F64
    belief: Belief
    chart: Chart | None = None
    ahead: Mapping[str, Outlook | None] = field(default_factory=dict)

    @cached_property
    def total_kw(self) -> float:
        """Total power, or what is known of it; NaN when nothing is."""
        at = dict(zip(HALL, self.hall, strict=True))
        known = [at[k] for k in ("it_kw", "cooling_kw") if np.isfinite(at[k])]
        return float(at["total_kw"]) if np.isfinite(at["total_kw"]) else float(sum(known) or np.nan)

    def number(self, name: str) -> float:
        """One of the hall's averages."""
        return float(self.hall[HALL.index(name)])

    @cached_property
    def _by_name(self) -> dict[str, list[float]]:
        return dict(zip(PLACE, self.places.T.tolist(), strict=True))

    def rise(self, name: str) -> tuple[float, float]:
        """How far one of foresight.SERIES should rise above its average before the lease of a move made now
        ends, and the doubt; (0, 0) where it is within that: what falls is no reason for anything."""
        expected, lease_s = self.ahead.get(name), self.case.layout.site.limits.lease_s
        return expected.rise(self.number(name), lease_s) if expected is not None else (0.0, 0.0)

    def place(self, place: int, name: str) -> float:
        """One of a place's averages."""
        return self._by_name[name][place]

    def places_of(self, knob: Knob) -> tuple[int, ...]:
        """The places a knob acts on: its row, or all."""
        if knob.row in self.signals.places:
            return (self.signals.places.index(knob.row),)
        return tuple(range(len(self.signals.places)))


def ends(changes: tuple[Change, ...]) -> tuple[float, float]:
    """Mean old and new value of a change."""
    old = new = 0.0
    for c in changes:  # asked for many times a candidate
        new += c.new
        old += c.new if c.old is None else c.old
    return old / len(changes), new / len(changes)


def _mean(values: list[float], otherwise: float) -> float:
    """The mean of those that are known."""
    known = [v for v in values if math.isfinite(v)]
    return sum(known) / len(known) if known else otherwise


def speeds(view: View, knob: Knob, changes: tuple[Change, ...]) -> tuple[float, float, float]:
    """(from, to, credit) of the real speed in %, for a limit that may not bind yet."""
    old, new = ends(changes)
    name = "fan_pct" if knob.quantity == "fan_rpm_pct" else "pump_pct"
    measured = [view.place(i, name) for i in view.places_of(knob)]
    actual = _mean(measured, old)
    if old <= actual + IDLE_PCT:
        return old, new, 1.0
    if new >= old:
        return actual, actual, 1.0  # more room above an idle limit changes nothing
    if new < actual:
        return actual, new, 1.0
    return actual, max(actual - (old - new), 1.0), IDLE_CREDIT


def shift_of(view: View, knob: Knob, changes: tuple[Change, ...]) -> tuple[Shift, float, float]:
    """Return (shift of the hall's averages, inlet change here in K, its 1-sigma)."""
    part = len(knob.points) / max(len(_family(view, knob)), 1)
    match knob.quantity:
        case "fan_rpm_pct":
            start, end, credit = speeds(view, knob, changes)
            warmer, sigma = _by_fan(view, knob, end - start)
            inlet, hot = _inlets(view, knob, warmer)
            cube = credit * part * (end**3 - start**3) / 1e6
            return Shift(fan_cube=cube, inlet_c=credit * inlet, hot_k=credit * hot), warmer, sigma
        case "pump_rpm_pct":
            start, end, credit = speeds(view, knob, changes)
            cube = credit * part * (end**3 - start**3) / 1e6
            return Shift(pump_cube=cube), 0.0, 0.02 * abs(end - start)
        case "chilled_water_setpoint_c":
            old, new = ends(changes)
            return Shift(water_c=new - old), *_by_water(view, new - old)
        case "batch_window_ms":
            old, new = ends(changes)
            prompts = view.number("prompts_ps")
            prompts = prompts if np.isfinite(prompts) else 1.0
            return Shift(batched=BATCH_FADES * prompts * (new - old) / 100.0), 0.0, 0.0
        case _ if knob.quantity in AIR_KNOBS:
            warmer = followed_k(view, knob, changes)
            inlet, hot = _inlets(view, knob, warmer)
            return (
                Shift(air_c=part * warmer, inlet_c=inlet, hot_k=hot),
                warmer,
                0.15 * abs(warmer) + 0.05,
            )
        case _:
            return Shift(), 0.0, 0.0


def _family(view: View, knob: Knob) -> list[str]:
    quantities = AIR_KNOBS if knob.quantity in AIR_KNOBS else (knob.quantity,)
    return [p.key for q in quantities for p in view.case.layout.knobs(q)]


def _by_fan(view: View, knob: Knob, percent: float) -> tuple[float, float]:
    slopes = [inlet_per_fan(view.belief, i) for i in view.places_of(knob)]
    mean = min(m for m, _ in slopes) * percent
    sigma = max(s for _, s in slopes) * abs(percent)
    return (CONVEX * mean if percent < 0 else mean), sigma


def _by_water(view: View, warmer_k: float) -> tuple[float, float]:
    """What water does to inlets, K and 1-sigma: nothing while every valve makes up for it."""
    valves = [valve_after(view, i, max(warmer_k, 0.0), 0.0, 1.0) for i in range(len(view.places))]
    if all(v <= VALVE_HOLDS_PCT for v in valves):  # an unknown one (NaN) does not hold
        return 0.0, 0.05 * abs(warmer_k)
    return 0.1 * warmer_k, 0.1 * abs(warmer_k)


def followed_k(view: View, knob: Knob, changes: tuple[Change, ...]) -> float:
    """How far supply air will really move: a coil that can't hold its setpoint does not follow."""
    old, new = ends(changes)
    measured = [view.place(i, "air_c") for i in view.places_of(knob)]
    actual = _mean(measured, old)
    if knob.quantity != "supply_air_setpoint_c" or actual <= old + SATURATED_K:
        return new - old
    return max(new - actual, 0.0)


def _inlets(view: View, knob: Knob, warmer_k: float) -> tuple[float, float]:
    """Change of the hall's mean inlet and of its mean excess over SERVER_RAMP_C."""
    inlet = hot = 0.0
    for i in view.places_of(knob):
        mean, now_hot = view.place(i, "mean_inlet_c"), view.place(i, "hot_k")
        if not math.isfinite(mean):
            continue
        inlet += warmer_k
        # Racks spread around their mean: the share over the ramp answers, the rest joins later.
        beyond_k = view.place(i, "inlet_c") + max(warmer_k, 0.0) - SERVER_RAMP_C
        over = min(1.0, beyond_k / 2.0) if beyond_k > 0.0 else 0.0
        hot += max(over * warmer_k, -now_hot)
    n = max(len(view.signals.places), 1)
    return inlet / n, hot / n


def effect_of(view: View, knob: Knob, changes: tuple[Change, ...]) -> Effect:
    """The expected effect of a change with its 1-sigma: power, inlet, latency."""
    shift, warmer, sigma = shift_of(view, knob, changes)
    mean, doubt = power_kw(view.belief, view.hall, shift)
    old, new = ends(changes)
    ms = (new - old) * latency_per_batch(view.belief) if knob.move == "batching" else 0.0
    return Effect(mean, doubt, warmer, sigma, ms)


@dataclass(frozen=True, slots=True)
class _Coil:
    """A place's coils: the widest valve in %, air after and before them, water to air in kelvin."""

    valve_pct: float
    air_c: float
    back_c: float
    lift_k: float

    def carried(self, air_k: float) -> float:
        """What they carry once air has warmed by so many kelvin, as a share of now."""
        return max((self.back_c - self.air_c - air_k) / max(self.back_c - self.air_c, 1.0), 0.1)


def _coil(view: View, place: int) -> _Coil | None:
    """None where valves or temperatures are not known."""
    valve, air = view.place(place, "valve_pct"), view.place(place, "air_c")
    back, water = view.place(place, "return_c"), view.number("water_c")
    if not (math.isfinite(valve) and math.isfinite(air) and math.isfinite(water)):
        return None
    back = back if math.isfinite(back) else air + 8.0
    return _Coil(valve, air, back, max(back - water, 1.0))


def valve_after(view: View, place: int, water_k: float, air_k: float, pump: float) -> float:
    """The widest valve of a place in %, after water and air have warmed by so many kelvin and
    the pump turns `pump` times as fast. NaN where valves or temperatures are not known."""
    coil = _coil(view, place)
    if coil is None:
        return math.nan
    most = max((coil.lift_k - water_k) / coil.lift_k, 0.05) * pump**FLOW_EXPONENT
    return float(coil.valve_pct * (coil.carried(air_k) / most) ** VALVE_EXPONENT)


def valve_ahead(view: View, place: int, valve_pct: float) -> float:
    """What a valve of so many percent comes to before a lease ends, if load and weather rise as foreseen: more
    heat to carry, and where the plant can't hold its water, water that warms with the weather."""
    coil, it_kw = _coil(view, place), view.number("it_kw")
    load = 1.0 + view.rise("it_kw")[0] / it_kw if it_kw > 0.0 else 1.0
    if coil is None:
        return float(valve_pct * load**VALVE_EXPONENT)
    set_c = _mean([view.case.snapshot.last[view.case.layout.index[p.key]]
                   for p in view.case.layout.knobs("chilled_water_setpoint_c")], math.nan)  # fmt: skip
    adrift = view.number("water_c") > set_c + SATURATED_K
    warmer_k = view.rise("outdoor_c")[0] if adrift else 0.0
    left = max((coil.lift_k - warmer_k) / coil.lift_k, 0.05)
    return float(valve_pct * (load / left) ** VALVE_EXPONENT)


def water_room_k(view: View, place: int, air_k: float = 0.0, pump: float = 1.0) -> float:
    """How much warmer water may get, K, until the widest valve of a place is all that it can answer
    with, once air has warmed by air_k and the pump turns `pump` times as fast. NaN as valve_after."""
    coil = _coil(view, place)
    if coil is None:
        return math.nan
    wanted = coil.carried(air_k) * (coil.valve_pct / VALVE_HOLDS_PCT) ** (1.0 / VALVE_EXPONENT)
    return float(coil.lift_k * (1.0 - wanted / pump**FLOW_EXPONENT))
