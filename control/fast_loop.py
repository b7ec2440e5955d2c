"""The fast loop: answers trouble in a row within seconds, graded, with the cheapest means first.

    D(x) > tau_fast, hot          -> traffic moves only
    MMS persistent, hot           -> routing, admission control, targeted pre-cooling
    inlet predicted near limit    -> all of them at once, whatever the monitor says

Only ever moves cooling in the safe direction. Over-cooled is not trouble: it is the slow
loop's to save. What it took from the work comes back by control.resume. Proposes; the
guardrails decide.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from config.site import Point
from control import units
from control.features import worst_inlets
from control.guardrails import Case
from control.layout import Layout
from control.moves import traffic_away
from control.types import Change, Kind, Proposal
from control.units import HOT, WARM

F64 = NDArray[np.float64]

NEAR_LIMIT_K = 1.0  # where it rises
STEADY_NEAR_K = 0.5  # where it stands: what sensors and a moment's delay may add
HEADROOM_K = 2.5  # an inlet this far below its limit needs no more pre-cooling, nor less work
HORIZON_S = 120.0  # how far ahead an inlet is predicted: what cooling needs to arrive
FAST_S, SLOW_S = 20.0, 80.0  # means whose difference is the slope: short against HORIZON_S
STEADY_SLOPE = 0.002  # K/s: below this a slope is noise
TAKER_LATENCY = 0.8  # of the limit: queues grow steeply beyond, so no more work goes there
ONSET_S = 180.0  # how long a new incident holds jobs back whatever the inlets say
SHIFT_PCT = {1: 10.0, 2: 25.0, 3: 25.0}  # of an even share, by grade
IN_HAND_PCT = 70.0  # a coil this wide open carries four fifths of what it can (control.predict)
PRE_COOLING = (
    ("pre_cool_air", ("supply_air_setpoint_c", "zone_setpoint_c", "fan_rpm_pct")),
    ("pre_cool_water", ("pump_rpm_pct",)),
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """One row in trouble: how bad (1..3), why, and the worst inlet that is coming."""

    row: str
    grade: int
    reason: str
    ahead_c: float


def trend(layout: Layout, inlets: F64, before: F64 | None, dt_s: float) -> F64:
    """Update each rack's (fast mean, slow mean) of its inlet. Shape (n_racks, 2)."""
    if before is None or len(before) != len(inlets) or dt_s <= 0:
        return np.column_stack([inlets, inlets])
    share = 1.0 - np.exp(-dt_s / np.array([FAST_S, SLOW_S]))
    now = inlets[:, None]
    known = np.where(np.isnan(before), now, before)
    return np.where(np.isnan(now), known, known + share * (now - known))


def ahead(case: Case) -> F64:
    """Each rack's inlet HORIZON_S from now, if it goes on as it does. Shape (n_racks,)."""
    inlets, means = worst_inlets(case.layout, case.snapshot), case.state.inlet_trend
    if means is None or len(means) != len(inlets):
        return inlets
    return np.fmax(inlets, means[:, 0]) + _steep(means) * HORIZON_S


def _steep(means: F64) -> F64:
    """How fast inlets rise in K/s, 0 where they only wander. Shape (n_racks,)."""
    slope = (means[:, 0] - means[:, 1]) / (SLOW_S - FAST_S)
    return np.where(slope > STEADY_SLOPE, slope, 0.0)


def _danger_c(case: Case, racks_c: F64) -> F64:
    """From where on each rack's predicted inlet is trouble, (n_racks,): later where it stands."""
    means, limit_c = case.state.inlet_trend, case.layout.site.limits.inlet_max_c
    if means is None or len(means) != len(racks_c):
        return np.full(len(racks_c), limit_c - NEAR_LIMIT_K)
    return np.where(_steep(means) > 0.0, limit_c - NEAR_LIMIT_K, limit_c - STEADY_NEAR_K)


def ahead_in(case: Case, racks_c: F64, row: str) -> float:
    """The worst of `racks_c` in a row; -inf where none is known."""
    return float(np.fmax.reduce(racks_c[case.layout.row_racks(row)], initial=-np.inf))


def troubles(case: Case, tau_fast: float | None) -> list[Trouble]:
    """The rows in trouble now, worst first."""
    racks_c = ahead(case)
    over_c = racks_c - _danger_c(case, racks_c)
    found = []
    for row in case.layout.rows:
        worst_c, near = ahead_in(case, racks_c, row), ahead_in(case, over_c, row) >= 0.0
        if graded := _grade(case, row, worst_c, near, tau_fast):
            found.append(Trouble(row, *graded, worst_c))
    return sorted(found, key=lambda t: (-t.grade, t.row))


def _grade(
    case: Case, row: str, worst_c: float, near: bool, tau_fast: float | None
) -> tuple[int, str] | None:
    limit_c = case.layout.site.limits.inlet_max_c
    finding = case.state.findings.get(f"row:{row}")
    if near:
        return 3, f"inlet predicted {worst_c:.1f} degC, limit {limit_c:g}"
    heat = finding.heat if finding is not None and tau_fast is not None else 0.0
    hot = HOT if row not in case.state.incident_s else WARM  # an incident lasts until it is over
    if finding is None or tau_fast is None or heat < WARM:
        return None
    what = f"D(x) {finding.ema:.2f}, {heat:+.1f} K, {_why(finding.top)}"
    if finding.state == "persistent" and heat >= hot:
        return 2, f"MMS persistent, {what}"
    if finding.deviation > tau_fast and finding.ema > tau_fast:
        return 1, f"D(x) {finding.deviation:.2f} > tau_fast {tau_fast:.2f}, {what}"
    return None


def _why(top: tuple[str, ...]) -> str:
    return "most from " + ", ".join(top) if top else "no single cause"


def has_headroom(case: Case, trouble: Trouble) -> bool:
    """True when a row's inlets are, and stay, well below the limit."""
    return trouble.ahead_c <= case.layout.site.limits.inlet_max_c - HEADROOM_K


def proposals(case: Case, found: list[Trouble], cycle: str) -> list[Proposal]:
    """What to do about it, in the order in which it should be tried."""
    wanted: list[Proposal] = []
    serious = [t for t in found if t.grade >= 2]
    for trouble in serious:
        if trouble.grade >= 3 or _is_new(case, trouble) or not has_headroom(case, trouble):
            wanted += _cooling(case, trouble, cycle)
    if found:
        wanted += _routing(case, found, cycle)
    for trouble in serious[:1]:
        if trouble.grade >= 3 or _is_new(case, trouble) or not has_headroom(case, trouble):
            wanted += _admission(case, trouble, cycle)
    return wanted


def _is_new(case: Case, trouble: Trouble) -> bool:
    since_s = case.state.incident_s.get(trouble.row, case.snapshot.now_s)
    return case.snapshot.now_s - since_s < ONSET_S


def _routing(case: Case, found: list[Trouble], cycle: str) -> list[Proposal]:
    hot = tuple(t.row for t in found)
    calm = [r for r in case.layout.rows if r not in hot and _is_calm(case, r)]
    cool = tuple(sorted(calm, key=lambda r: _row_inlet(case, r)))
    changes = traffic_away(case.layout, case.snapshot, hot, cool, SHIFT_PCT[found[0].grade])
    reason = f"row {found[0].row}: {found[0].reason}"
    return [_proposal(case, "traffic_shift", changes, reason, cycle)] if changes else []


def _is_calm(case: Case, row: str) -> bool:
    """True where more work may go: a row that is itself, and quick enough."""
    finding = case.state.findings.get(f"row:{row}")
    latency = case.snapshot.take(case.layout.row_latency[case.layout.rows.index(row)])
    quick_ms = TAKER_LATENCY * case.layout.site.limits.latency_p95_max_ms
    slow = latency.size > 0 and not np.nan_to_num(latency).max() <= quick_ms
    return (finding is None or finding.state == "nominal") and not slow


def _row_inlet(case: Case, row: str) -> float:
    inlets = case.snapshot.take(case.layout.row_inlets[case.layout.rows.index(row)])
    return float(np.nanmax(inlets)) if len(inlets) and not np.isnan(inlets).all() else np.inf


def _admission(case: Case, trouble: Trouble, cycle: str) -> list[Proposal]:
    """Pause low-priority jobs, as far as one step lets it."""
    changes = tuple(
        Change(p.key, old, new)
        for p in case.layout.knobs("admission_pct")
        if (old := case.snapshot.value(p.key)) is not None
        and p.writable is not None
        and (new := max(p.writable.min, old - p.writable.max_step)) < old
    )
    reason = f"row {trouble.row}: {trouble.reason}"
    return [_proposal(case, "admission", changes, reason, cycle)] if changes else []


def _cooling(case: Case, trouble: Trouble, cycle: str) -> list[Proposal]:
    """Targeted pre-cooling: air and fans as one change, then pumps, a step at a time; near the
    limit all the way to the safe value, once an incident, and the hall's water with them, unless the
    row's coils have enough in hand to make the air cold by themselves."""
    wanted = []
    for move, quantities in PRE_COOLING:
        points = [p for q in quantities for p in case.layout.knobs(q, trouble.row)]
        wanted += _colder_all(case, trouble, move, points, f"row:{trouble.row}", cycle)
    if trouble.grade >= 3 and not units.in_hand(case, trouble.row, IN_HAND_PCT):
        points = [p for p in case.layout.knobs("chilled_water_setpoint_c") if p.row is None]
        wanted += _colder_all(case, trouble, "pre_cool_plant", points, "hall", cycle)
    return wanted


def _colder_all(
    case: Case, trouble: Trouble, move: str, points: list[Point], scope: str, cycle: str
) -> list[Proposal]:
    far = trouble.grade >= 3 and not any(p.equipment in case.state.incidents for p in points)
    changes = tuple(c for p in points if (c := _colder(case, p, far)) is not None)
    if not changes:
        return []
    kind = Kind.PROTECTIVE if far else Kind.NORMAL
    reason = f"row {trouble.row}: {trouble.reason}"
    return [_proposal(case, move, changes, reason, cycle, kind, scope)]


def _colder(case: Case, point: Point, far: bool) -> Change | None:
    """One step towards the safe value, or all the way; None where it stands there already."""
    old, bounds = case.snapshot.value(point.key), point.writable
    lease = case.state.leases.get(point.key)
    if old is None or bounds is None:
        return None
    safe = bounds.safe_value if bounds.safe_value is not None else lease.stood if lease else None
    if safe is None or abs(safe - old) <= max(bounds.deadband, 1e-6):
        return None
    gap = safe - old
    step = gap if far else max(-bounds.max_step, min(bounds.max_step, gap))
    return Change(point.key, old, round(old + step, 3))


def _proposal(
    case: Case,
    move: str,
    changes: tuple[Change, ...],
    reason: str,
    cycle: str,
    kind: Kind = Kind.NORMAL,
    scope: str = "hall",
) -> Proposal:
    expires_s = case.snapshot.now_s + case.layout.site.limits.lease_s
    return Proposal(f"fast:{cycle}:{move}:{scope}", "fast", move, changes, reason, kind, scope,
                    expires_s=expires_s)  # fmt: skip
