"""Moves towards the chart's targets: a step at a time, each inlet kept below its limit.

A family's points go together; a point whose place can bear no more stops there, and one that
stands too warm is cooled whatever the target says. Weighs nothing (control.chart), permits
nothing (control.guardrails).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from config.site import Point
from control.aim import aimed
from control.chart import Chart, Family, begin, effect_kw, rise_k, surroundings, take
from control.foresight import AHEAD, NAMES, SERIES, STEP_S
from control.layout import Layout
from control.moves import Knob
from control.predict import CONVEX, View
from control.response import humidity_at
from control.signals import AIR_KNOBS, HALL, PLACE, Signals
from control.slow_loop import Candidate, pending_k
from control.slow_model import inlet_per_fan
from control.state import ControlState
from control.types import Change, Effect, Proposal, Snapshot

F64 = NDArray[np.float64]

STEERED = (*AIR_KNOBS, "chilled_water_setpoint_c", "fan_rpm_pct", "pump_rpm_pct")
FAMILIES_MOST = 3  # with more kinds, halls are steered by control.slow_loop's physics
MARGIN_K = 0.6  # of worst inlets to their limit, beside what they may still rise: the fast loop
# answers half a kelvin below the limit
SLOWLY_K = 0.1  # near the limit steps are this small: a steep rise is trouble to the fast loop
URGENT_K = 0.3  # this much too warm is worth any power
STEP = {"fan_rpm_pct": 5.0, "pump_rpm_pct": 5.0, "chilled_water_setpoint_c": 1.0}
RISKY = {"fan_rpm_pct": -1.0, "pump_rpm_pct": -1.0}  # which way inlets get warmer
WARMS_K = {"chilled_water_setpoint_c": (0.3, 0.2), "pump_rpm_pct": (-0.02, 0.03)}  # a unit, 1-sigma
AIR_SIGMA = 0.15
NEAR = {True: 0.05, False: 0.5}  # degC or %: there


@dataclass(frozen=True, slots=True)
class Steered:
    """The families of a site, their points, and the places each point's air goes to."""

    families: tuple[Family, ...]
    knobs: tuple[Knob, ...]  # one a family, of all its points
    places: tuple[tuple[tuple[int, ...], ...], ...]  # by family and point


def steered(layout: Layout, signals: Signals, knobs: tuple[Knob, ...]) -> Steered | None:
    """What the chart steers on this site; None where it has too many kinds of setpoint, or none."""
    kinds = dict.fromkeys(k.quantity for k in knobs if k.quantity in STEERED)
    if not 0 < len(kinds) <= FAMILIES_MOST:
        return None
    whole = []
    for quantity in kinds:
        points = tuple(p for k in knobs if k.quantity == quantity for p in k.points)
        move = next(k.move for k in knobs if k.quantity == quantity)
        whole.append(Knob(move, quantity, "hall", points))
    families = tuple(_family(k) for k in whole)
    everywhere = tuple(range(len(signals.places)))
    at = {name: i for i, name in enumerate(signals.places)}
    places = tuple(tuple((at[p.row],) if p.row in at else everywhere for p in k.points) for k in whole)  # fmt: skip
    return Steered(families, tuple(whole), places)


def _family(knob: Knob) -> Family:
    bounds = [p.writable for p in knob.points if p.writable is not None]
    return Family(knob.quantity, min(b.min for b in bounds), max(b.max for b in bounds), knob.quantity.endswith("_c"))  # fmt: skip


def levels(what: Steered, snapshot: Snapshot) -> F64:
    """Each family's mean level as last known; NaN where none is. Shape (f,)."""
    with np.errstate(invalid="ignore"):
        held = [_held(k, snapshot) for k in what.knobs]
        return np.array([float(np.nanmean(h)) if np.isfinite(h).any() else np.nan for h in held])


def _held(knob: Knob, snapshot: Snapshot) -> F64:
    return snapshot.last[[snapshot.index[p.key] for p in knob.points]]


def air_of(what: Steered, snapshot: Snapshot, places: int) -> F64:
    """The air setpoint of each place as last known, 0 where there is none. Shape (places,)."""
    out, count = np.zeros(places), np.zeros(places)
    for knob, whose in zip(what.knobs, what.places, strict=True):
        if knob.quantity in AIR_KNOBS:
            for value, mine in zip(_held(knob, snapshot), whose, strict=True):
                if np.isfinite(value):
                    out[list(mine)] += value
                    count[list(mine)] += 1
    return out / np.maximum(count, 1)


def charted(what: Steered, chart: Chart | None, snapshot: Snapshot, hall: F64, places: F64) -> Chart | None:  # fmt: skip
    """The chart after one more look."""
    now = levels(what, snapshot)
    if chart is None:
        if np.isnan(now).any():
            return None
        return begin(what.families, now, len(places), snapshot.now_s)
    return take(chart, hall, places, air_of(what, snapshot, len(places)), now, snapshot.now_s)


def steer(view: View, what: Steered, chart: Chart) -> tuple[Chart, list[Candidate]]:
    """Aim the chart within what inlets allow, and the moves that lead there, urgent ones first."""
    now = levels(what, view.case.snapshot)
    if np.isnan(now).any() or not np.isfinite(view.total_kw):
        return chart, []
    air = air_of(what, view.case.snapshot, len(view.places))
    warmest = _warmest(view, chart, air)
    least = np.array([f.low for f in what.families])
    most = np.array([f.high for f in what.families])
    for i, family in enumerate(what.families):
        if family.quantity in AIR_KNOBS:
            most[i] = min(most[i], max(float(warmest.max()), least[i]))
        elif float((warmest - air).min()) <= 0.0:
            least[i], most[i] = _no_riskier(family, now[i], least[i], most[i])
    floor_kw = view.total_kw * view.case.layout.site.optimizer.min_saving_pct / 100.0
    chart = replace(chart, coming=coming(view, chart.at_s))
    chart = aimed(chart, view.total_kw, floor_kw, most, least)
    return chart, [c for i in range(len(now)) for c in _moves(view, what, chart, i, now, warmest)]


def coming(view: View, now_s: float) -> F64:
    """What should surround the hall as far ahead as is foreseen, less what does now (len(AROUND),); 0 where
    nobody says better than that it stays. The air outdoors keeps its moisture."""
    later, persistence = view.hall.copy(), NAMES[0]
    for name in SERIES:
        expected = view.ahead.get(name)
        if expected is not None and expected.by != persistence and np.isfinite(view.number(name)):
            later[HALL.index(name)] = expected.mean[-1]
    outdoor, humidity = HALL.index("outdoor_c"), HALL.index("humidity_pct")
    later[humidity] = humidity_at(later[outdoor], view.hall[outdoor], view.hall[humidity])
    return np.nan_to_num(
        surroundings(later, now_s + AHEAD * STEP_S) - surroundings(view.hall, now_s)
    )


def _no_riskier(family: Family, now: float, least: float, most: float) -> tuple[float, float]:
    return (max(least, now), most) if RISKY.get(family.quantity, 1.0) < 0 else (least, min(most, now))  # fmt: skip


def _warmest(view: View, chart: Chart, air: F64) -> F64:
    """The warmest air setpoint each place can bear; where its inlet is unknown, what it has."""
    limits = view.case.layout.site.limits
    over = view.places[:, PLACE.index("inlet_c")] - air
    bears = limits.inlet_max_c - MARGIN_K - over - rise_k(chart, view.places, air)
    return np.where(np.isnan(bears), air, bears)


def _moves(view: View, what: Steered, chart: Chart, i: int, now: F64, warmest: F64) -> list[Candidate]:  # fmt: skip
    """The step of family i towards its target, and what else was weighed, for explanations."""
    family, knob = what.families[i], what.knobs[i]
    changes, urgent = [], False
    for point, mine in zip(knob.points, what.places[i], strict=True):
        old = view.case.snapshot.value(point.key)
        if old is None or not _free(view, point):
            continue
        goal = float(chart.target[i])
        if family.quantity in AIR_KNOBS:
            bears = float(warmest[list(mine)].min())
            urgent |= old > bears + URGENT_K
            goal = min(goal, bears) if goal > bears or old > bears + URGENT_K else goal
        if (change := _step(view, family, point, old, goal, mine)) is not None:
            changes.append(change)
    others = _others(view, what, chart, i)
    if not changes:
        return others
    move = tuple(changes)
    return [Candidate(knob, move, _effect(view, what, chart, i, now, move), np.inf if urgent else view.total_kw), *others]  # fmt: skip


def _free(view: View, point: Point) -> bool:
    """Whether a point may be moved with its family now: others hold it, or it waits."""
    state = view.case.state
    held_s = state.fast_holds.get(point.equipment, 0.0)
    taken = point.key in state.yielded or point.key in state.quarantined or point.key in state.owed
    return not taken and held_s <= view.case.snapshot.now_s


def _step(view: View, family: Family, point: Point, old: float, goal: float,
          mine: tuple[int, ...]) -> Change | None:  # fmt: skip
    """One allowed step from old towards goal; towards risk no further than inlets have room for."""
    bounds = point.writable
    assert bounds is not None
    most = min(bounds.max_step, STEP.get(family.quantity, bounds.max_step))
    gap = max(bounds.min, min(bounds.max, goal)) - old
    size = max(-most, min(most, gap))
    if size * RISKY.get(family.quantity, 1.0) > 0:
        inlet_c = float(view.places[list(mine), PLACE.index("inlet_c")].max())
        pending = max(pending_k(view.case.state, view.signals.places[m]) for m in mine)
        room = view.case.layout.site.limits.inlet_max_c - MARGIN_K - inlet_c - pending
        if family.quantity in AIR_KNOBS:
            size = min(size, max(room, 0.0), max(room / 3.0, SLOWLY_K))
        elif room < 1.0:
            return None
    size = round(size, 2)
    if abs(size) < max(NEAR[family.degrees], bounds.deadband) and abs(size) < abs(gap) + 1e-9:
        return None
    return Change(point.key, old, round(old + size, 3))


def _effect(view: View, what: Steered, chart: Chart, i: int, now: F64, changes: tuple[Change, ...]) -> Effect:  # fmt: skip
    family = what.families[i]
    sizes = [c.new - (c.old or 0.0) for c in changes]
    after = now.copy()
    after[i] += sum(sizes) / len(what.knobs[i].points)
    kw, sigma_kw = effect_kw(chart, now, after[None])
    risky = RISKY.get(family.quantity, 1.0)
    size = max(sizes, key=lambda s: s * risky)
    per, doubt = WARMS_K.get(family.quantity, (1.0, AIR_SIGMA))
    if family.quantity == "fan_rpm_pct":
        slopes = [inlet_per_fan(view.belief, p) for p in range(len(view.places))]
        per, doubt = CONVEX * min(m for m, _ in slopes), max(s for _, s in slopes)
    known = bool(np.isfinite(kw[0]))
    return Effect(float(kw[0]) if known else 0.0, float(sigma_kw[0]) if known else view.total_kw,
                  per * size, doubt * abs(size))  # fmt: skip


def _others(view: View, what: Steered, chart: Chart, i: int) -> list[Candidate]:
    """What was weighed for a family beside its target: kept for explanations, never moved to."""
    aim = float(chart.target[i])
    rivals = sorted(
        (c for c in chart.weighed if c.family == i and c.level != aim and c.with_air is None),
        key=lambda c: c.kw,
    )
    knob, shown = what.knobs[i], rivals[:3]
    return [
        Candidate(replace(knob, points=knob.points[:1]), (Change(knob.points[0].key, aim, c.level),),
                  Effect(c.kw, c.sigma_kw), -c.kw, f"chart: {aim:g} is worth more, or inlets forbid it")
        for c in shown
    ]  # fmt: skip


def watched(
    what: Steered, snapshot: Snapshot, state: ControlState, proposal: Proposal
) -> ControlState:
    """The state whose latest verification knows which levels a steered move went between."""
    at = next((i for i, k in enumerate(what.knobs) if k.move == proposal.move
               and {p.key for p in k.points} >= {c.point for c in proposal.changes}), None)  # fmt: skip
    before = levels(what, snapshot)
    if at is None or np.isnan(before).any() or not state.verifications:
        return state
    after = before.copy()
    after[at] += sum(c.new - (c.old or 0.0) for c in proposal.changes) / len(what.knobs[at].points)
    *earlier, last = state.verifications
    return replace(state, verifications=(*earlier, replace(last, levels=(before, after))))
