"""The slow loop: every two minutes, the moves that should lower Wh/prompt the most.

Weighs every named move of every knob in both directions, drops those that something speaks
against, takes the best for each equipment, and leaves the last word to the guardrails. Not yet
tried knobs get the benefit of the doubt, once: what they do is learned from it. Touches what
customers feel (latency) only for a saving worth it, and a row that was not itself lately only
by its air. Never predicts (control.predict), never writes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from control import water
from control.moves import MOVES, Knob, shifted
from control.predict import (
    VALVE_HOLDS_PCT,
    View,
    effect_of,
    ends,
    speeds,
    valve_after,
    valve_ahead,
)
from control.signals import AIR_KNOBS
from control.slow_model import latency_per_prompt
from control.state import ControlState
from control.traffic import traffic_candidates
from control.types import Change, Effect, Proposal
from control.units import HOT, WARM, WIDE_PCT, asks_nothing
from control.water import WaterPrice

LATENCY_PRICE_PER_MS = 0.00005  # of total power: a millisecond of p95 must save 0.005 %
OPTIMISM = 0.5  # sigmas of doubt that count for a move
COMFORT_K = 2.5  # worst inlets are kept this far below the limit: room for what comes
# One rack that stands by more than a kelvin over all others of its row is a place of its own or a
# probe at fault: it gets less of that room, but never less than the second, whichever it is.
LONE_K, LONE_COMFORT_K = 1.0, 2.0
COMFORT_SLACK_K = 0.5  # above that much too warm, cooling is worth more than its power
LATENCY_SHARE = 0.96  # of the limit: no saving takes prompts beyond
LATENCY_FULL = 0.98  # here they get their time back
# A full valve is no harm by itself: fans and pumps answer too. Where inlets are not far from what is
# comfortable it is worth power to get the coil's own answer back.
VALVE_CARE_K = 1.0  # below the comfortable: from here on a full valve matters
RELIEF = 20.0  # what relieving a place is worth, in least savings
# Containment must push outwards, after the move and under more load too; less will do where inlets are
# this far below the comfortable, and what comes back around a row's ends finds cold air.
PRESSURE_LEAST_PA, PRESSURE_COLD_PA, COLD_K = 3.5, 2.5, 2.0
REVERSAL_S = 3600.0  # a knob turns back within this only for several times the usual saving
REVERSAL_FACTOR = 4.0
AFTERCARE_S = 4 * 3600.0  # half a shift: how long a row that was persistent is only cooled
CAREFUL = ("fan", "supply_air")
COIL = "coil"  # what speaks against warmer water where a valve is wide open


@dataclass(frozen=True, slots=True)
class Candidate:
    """One move of one knob, what it should bring, and what speaks against it (None: nothing)."""

    knob: Knob
    changes: tuple[Change, ...]
    effect: Effect
    score_kw: float
    against: str | None = None
    relieves: int | None = None  # the place that gets what it lacks
    chance: float | None = None  # of being drawn among moves of work: control.bandit


Objection = Callable[[View, Knob, tuple[Change, ...], Effect], str | None]


def candidates(view: View, knobs: tuple[Knob, ...]) -> list[Candidate]:
    """Every move with its worth, best first; those with `against` are for explanations only."""
    if not np.isfinite(view.total_kw):
        return []
    found = [c for knob in knobs if knob.move != "traffic_shift" for c in _of_knob(view, knob)]
    price = _water_price(view, found)
    found = [_priced(view, c, price) for c in found]
    for knob in knobs:
        if knob.move == "traffic_shift":
            found += [Candidate(knob, ch, e, _score(view, e), _aftercare(view, knob, ch, e))
                      for ch, e in traffic_candidates(view)]  # fmt: skip
    return sorted((_paying(view, c) for c in found), key=lambda c: -c.score_kw)


def _of_knob(view: View, knob: Knob) -> list[Candidate]:
    found = []
    steps = (shifted(knob, view.case.snapshot, size) for size in MOVES[knob.move].sizes)
    for changes in dict.fromkeys(steps):  # what envelope and step cut short is one move, not two
        if changes:
            effect = effect_of(view, knob, changes)
            against = _against(view, knob, changes, effect)
            score, place = _score(view, effect), _relieved(view, knob, changes, effect)
            if place is not None:
                score += RELIEF * floor(view, knob)
            found.append(Candidate(knob, changes, effect, score, against, place))
    return found


def _relieved(view: View, knob: Knob, changes: tuple[Change, ...], effect: Effect) -> int | None:
    """The place that is too warm, short of cooling, too slow or told what it can't do, and that this move
    helps."""
    limits = view.case.layout.site.limits
    if (
        knob.row is not None
        and _in_trouble(view, knob.row, WARM)
        and asks_nothing(view.case, changes)
    ):
        return view.places_of(knob)[0]
    for i in view.places_of(knob):
        warm_c = limits.inlet_max_c - comfort_k(view, i) + COMFORT_SLACK_K
        inlet_c, valve = view.place(i, "inlet_c"), view.place(i, "valve_pct")
        full = valve > WIDE_PCT
        if effect.inlet_c < 0 and inlet_c > warm_c and not (full and knob.quantity in AIR_KNOBS):
            return i
        near = not inlet_c < warm_c - COMFORT_SLACK_K - VALVE_CARE_K
        if full and near and _valve_of(view, knob, changes, i) < valve - 1.0:
            return i
    if (
        effect.latency_ms < 0
        and view.number("latency_ms") > LATENCY_FULL * limits.latency_p95_max_ms
    ):
        return 0
    return None


def comfort_k(view: View, place: int) -> float:
    """How far a place's worst inlet is kept below the limit, K."""
    return max(COMFORT_K - max(0.0, view.place(place, "lone_k") - LONE_K), LONE_COMFORT_K)


def _score(view: View, effect: Effect) -> float:
    price = LATENCY_PRICE_PER_MS * max(effect.latency_ms, 0.0) * view.total_kw
    return -effect.total_power_kw + OPTIMISM * effect.total_power_sigma_kw - price


def _paying(view: View, c: Candidate) -> Candidate:
    if c.against is not None:
        return c
    floor_kw = floor(view, c.knob)
    before = view.case.state.moved.get(c.knob.name)
    if before is not None:
        old, new = ends(c.changes)
        age_s = view.case.snapshot.now_s - before.at_s
        if (new - old) * before.direction < 0 and age_s < REVERSAL_S:
            floor_kw *= REVERSAL_FACTOR
    if c.score_kw > floor_kw:
        return c
    return replace(c, against=f"worth {c.score_kw:+.2f} kW, at least {floor_kw:.2f} wanted")


def floor(view: View, knob: Knob) -> float:
    """What a move must save in kW; a row's is measured against its part of the hall."""
    least = view.total_kw * view.case.layout.site.optimizer.min_saving_pct / 100.0
    return least * len(view.places_of(knob)) / max(len(view.signals.places), 1)


def _water_price(view: View, found: list[Candidate]) -> WaterPrice | None:
    """None while warmer water does not pay, or something else than valves stands in its way."""
    best_kw, most_k = 0.0, 0.0
    for c in found:
        old, new = ends(c.changes)
        free = c.against is None or c.against.startswith(f"{COIL}:")
        if c.knob.quantity == "chilled_water_setpoint_c" and new > old and free:
            best_kw = max(best_kw, (c.score_kw - floor(view, c.knob)) / (new - old))
            most_k = max(most_k, min(p.limits.max for p in c.knob.points) - old)
    return water.price(view, best_kw, most_k) if best_kw > 0.0 else None


def _priced(view: View, c: Candidate, price: WaterPrice | None) -> Candidate:
    """A move of air or pumps with what it does for warmer water; what relieves a place goes first."""
    if price is None or c.relieves is not None or c.knob.quantity not in water.QUANTITIES:
        return c
    return replace(c, score_kw=c.score_kw + water.worth_kw(price, view, c.knob, c.changes))


def _against(view: View, knob: Knob, changes: tuple[Change, ...], effect: Effect) -> str | None:
    for name, objection in OBJECTIONS:
        if why := objection(view, knob, changes, effect):
            return f"{name}: {why}"
    return None


def _upset(view: View, knob: Knob, changes: tuple[Change, ...], effect: Effect) -> str | None:
    """A row in thermal trouble is the fast loop's; over-cooled is safe to save in."""
    if knob.row is None and not (effect.inlet_c > 0 or effect.latency_ms > 0):
        return None
    for row in [knob.row] if knob.row else view.case.layout.rows:
        if _in_trouble(view, row, HOT) and not asks_nothing(view.case, changes):
            return f"row {row} is {view.case.state.findings[f'row:{row}'].state}"
    return None


def _in_trouble(view: View, row: str, warm_k: float) -> bool:
    """So much warmer than it should be, by the monitor's word, and not for a moment only."""
    finding = view.case.state.findings.get(f"row:{row}")
    return finding is not None and finding.heat >= warm_k and finding.state != "nominal"


def _aftercare(view: View, knob: Knob, changes: tuple[Change, ...], effect: Effect) -> str | None:
    """A row that was not itself lately: its air may be put right, its work and water stay."""
    if knob.move in CAREFUL:
        return None
    rows = {view.case.point(c.point).row for c in changes} - {None}
    for row in view.case.layout.rows:
        finding = view.case.state.findings.get(f"row:{row}")
        if finding is None or finding.state not in ("transient", "persistent"):
            continue
        # Water and the batching of all rows go by heat, work that is sent to a row by anything odd.
        odd = knob.move not in ("pump", "batching") or finding.heat >= WARM
        if odd and (row in rows or (not rows and knob.move == "batching")):
            return f"row {row} is {finding.state}"
    for row, until_s in view.case.state.aftercare.items():
        left_s = until_s - view.case.snapshot.now_s
        if left_s > 0 and (row in rows or (not rows and knob.move == "batching")):
            return f"row {row} was persistent, {left_s / 60:.0f} min of aftercare left"
    return None


def _too_warm(view: View, knob: Knob, changes: tuple[Change, ...], effect: Effect) -> str | None:
    if effect.inlet_c <= 0:
        return None
    limit_c = view.case.layout.site.limits.inlet_max_c
    for i in view.places_of(knob):
        worst = view.place(i, "inlet_c") + pending_k(view.case.state, view.signals.places[i])
        ahead = worst + effect.inlet_c + 2.0 * effect.inlet_sigma_k
        if ahead > limit_c - (room_k := comfort_k(view, i)):
            return f"inlet {worst:.1f} -> {ahead:.1f} degC, limit {limit_c:g} less {room_k:g} K"
    return None


def pending_k(state: ControlState, place: str | None) -> float:
    """Warming that earlier moves have promised and not shown yet, in a place."""
    return sum(
        max(v.effect.inlet_c, 0.0) for v in state.verifications
        if place is None or v.row is None or v.row == place
    )  # fmt: skip


def _coil(view: View, knob: Knob, changes: tuple[Change, ...], effect: Effect) -> str | None:
    """Coils keep something to answer with: no move opens a valve beyond VALVE_HOLDS_PCT."""
    for i in view.places_of(knob):
        before, after = view.place(i, "valve_pct"), _valve_of(view, knob, changes, i)
        if not after > before + 0.1:
            continue
        if after > VALVE_HOLDS_PCT:
            return f"valve {before:.0f} -> {after:.0f} %"
        if (later := valve_ahead(view, i, after)) > VALVE_HOLDS_PCT:
            return f"valve {before:.0f} -> {after:.0f} %, {later:.0f} before its lease ends{foreseen(view)}"
    return None


def _valve_of(view: View, knob: Knob, changes: tuple[Change, ...], place: int) -> float:
    """A place's valve after a move; NaN when it is not known or not touched."""
    old, new = ends(changes)
    if knob.quantity == "chilled_water_setpoint_c":
        return valve_after(view, place, new - old, 0.0, 1.0)
    if knob.quantity in AIR_KNOBS:
        return valve_after(view, place, 0.0, new - old, 1.0)
    if knob.quantity == "pump_rpm_pct":
        start, end, _ = speeds(view, knob, changes)
        return valve_after(view, place, 0.0, 0.0, max(end, 1.0) / max(start, 1.0))
    return np.nan


def _pressure(view: View, knob: Knob, changes: tuple[Change, ...], effect: Effect) -> str | None:
    """Where pressure across containment is measured, fans stop before it is gone."""
    old, new = ends(changes)
    if knob.quantity != "fan_rpm_pct" or new >= old:
        return None
    for i in view.places_of(knob):
        warm_c = view.case.layout.site.limits.inlet_max_c - comfort_k(view, i) - COLD_K
        cold = view.place(i, "inlet_c") < warm_c
        if view.place(i, "pressure_pa") < (PRESSURE_COLD_PA if cold else PRESSURE_LEAST_PA):
            return f"{view.place(i, 'pressure_pa'):.1f} Pa across containment"
    return None


def _slow_prompts(
    view: View, knob: Knob, changes: tuple[Change, ...], effect: Effect
) -> str | None:
    limit_ms = view.case.layout.site.limits.latency_p95_max_ms
    after = view.number("latency_ms") + effect.latency_ms
    if effect.latency_ms <= 0:
        return None
    if not after <= LATENCY_SHARE * limit_ms:
        return f"p95 -> {after:.0f} ms, limit {limit_ms:g}"
    later = after + view.rise("prompts_ps")[0] * latency_per_prompt(view.belief)
    if later > LATENCY_SHARE * limit_ms:
        return f"p95 -> {after:.0f} ms, {later:.0f} before its lease ends, limit {limit_ms:g}{foreseen(view)}"
    return None


def foreseen(view: View) -> str:
    """What is expected to rise before a lease ends, by whom, for people; empty where nothing is."""
    rising = [
        f"{name} {view.number(name):.4g} -> {view.number(name) + up:.4g} ± {sigma:.2g} by {expected.by}"
        for name, expected in view.ahead.items()
        for up, sigma in [view.rise(name)]
        if expected is not None and up > 0.0
    ]
    return f" (foreseen: {', '.join(rising)})" if rising else ""


OBJECTIONS: tuple[tuple[str, Objection], ...] = (
    ("upset", _upset),
    ("aftercare", _aftercare),
    ("inlet", _too_warm),
    (COIL, _coil),
    ("pressure", _pressure),
    ("latency", _slow_prompts),
)


def weighed(ranked: Sequence[Candidate]) -> list[dict[str, Any]]:
    """What was weighed as plain values, best first: each candidate's change of its
    first point, predicted effect ± 1-sigma, worth, and the rule that removed it (None: none did).

    A removed candidate is shown once a knob, by its best; worth_kw is None for what is urgent.
    """
    shown: dict[tuple[str, bool], Candidate] = {}
    for c in ranked:
        shown.setdefault((c.knob.name, c.against is None), c)
    return [_plain(c) for c in shown.values()]


def _plain(c: Candidate) -> dict[str, Any]:
    first, e = c.changes[0], c.effect
    return {
        "move": c.knob.move, "scope": c.knob.scope, "point": first.point, "old": first.old,
        "new": first.new, "predicted_kw": round(e.total_power_kw, 3),
        "predicted_sigma_kw": round(e.total_power_sigma_kw, 3), "inlet_k": round(e.inlet_c, 3),
        "inlet_sigma_k": round(e.inlet_sigma_k, 3), "latency_ms": round(e.latency_ms, 2),
        "worth_kw": round(c.score_kw, 3) if np.isfinite(c.score_kw) else None, "against": c.against, "chance": c.chance,
    }  # fmt: skip


def proposal(view: View, candidate: Candidate, cycle: str) -> Proposal:
    """A candidate as a proposal with its reason."""
    knob, effect = candidate.knob, candidate.effect
    first = candidate.changes[0]
    what = MOVES[knob.move].text[first.old is not None and first.new > first.old]
    reason = (
        f"{what} in {knob.scope}: {first.old:g} -> {first.new:g}"
        f" {view.case.point(first.point).unit}, expected {effect.total_power_kw:+.2f}"
        f" ± {effect.total_power_sigma_kw:.2f} kW, inlet {effect.inlet_c:+.2f} K"
        f"{foreseen(view)}"
    )
    expires_s = view.case.snapshot.now_s + view.case.layout.site.limits.lease_s
    return Proposal(f"slow:{cycle}:{knob.name}", "slow", knob.move, candidate.changes, reason,
                    scope=knob.scope, effect=effect, expires_s=expires_s)  # fmt: skip
