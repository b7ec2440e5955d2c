"""The fast loop: answers trouble in a row within seconds, graded, with the cheapest means first.

    D(x) > tau_fast, hot          -> traffic moves only
    MMS persistent, hot           -> routing, admission control, targeted pre-cooling
    inlet predicted near limit    -> all of them at once, whatever the monitor says

Only ever moves cooling in the safe direction. Over-cooled is not trouble: it is the slow
loop's to save. Proposes; the guardrails decide.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from config.site import Point
from control.features import worst_inlets
from control.guardrails import Case
from control.layout import Layout
from control.moves import traffic_away
from control.types import Change, Kind, Proposal

NEAR_LIMIT_K = 1.0
HORIZON_S = 120.0  # how far ahead an inlet is predicted from its slope
TREND_ALPHA = 0.3
HOT = 0.5  # kelvin above nominal (a tenth more power counts as one): less is not thermal trouble
STEADY_SLOPE = 0.002  # K/s: below this a slope is noise
PRE_COOLING = (
    ("pre_cool_air", ("supply_air_setpoint_c", "zone_setpoint_c", "fan_rpm_pct")),
    ("pre_cool_water", ("pump_rpm_pct",)),
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """One row in trouble: how bad (1..3) and why."""

    row: str
    grade: int
    reason: str


def trend(
    layout: Layout, inlets: NDArray[np.float64], before: NDArray[np.float64] | None, dt_s: float
) -> NDArray[np.float64]:
    """Update each rack's (inlet, smoothed slope in K/s). Shape (n_racks, 2)."""
    if before is None or len(before) != len(inlets) or dt_s <= 0:
        return np.column_stack([inlets, np.zeros_like(inlets)])
    slope = np.nan_to_num((inlets - before[:, 0]) / dt_s)
    return np.column_stack([inlets, before[:, 1] + TREND_ALPHA * (slope - before[:, 1])])


def troubles(case: Case, tau_fast: float | None) -> list[Trouble]:
    """The rows in trouble now, worst first."""
    layout, limit_c = case.layout, case.layout.site.limits.inlet_max_c
    inlets = worst_inlets(layout, case.snapshot)
    trend_of = case.state.inlet_trend
    slope = (
        trend_of[:, 1] if trend_of is not None and len(trend_of) == len(inlets) else 0.0 * inlets
    )
    ahead = inlets + np.where(slope > STEADY_SLOPE, slope, 0.0) * HORIZON_S
    found = []
    for row in layout.rows:
        mine = ahead[layout.row_racks(row)]
        worst_c = float(np.nanmax(mine)) if mine.size and not np.isnan(mine).all() else -np.inf
        finding = case.state.findings.get(f"row:{row}")
        if worst_c >= limit_c - NEAR_LIMIT_K:
            found.append(Trouble(row, 3, f"inlet predicted {worst_c:.1f} degC, limit {limit_c:g}"))
        elif finding is None or finding.heat < HOT or tau_fast is None:
            continue
        elif finding.state == "persistent":
            found.append(
                Trouble(row, 2, f"MMS persistent, D(x) {finding.ema:.2f}, {_why(finding.top)}")
            )
        elif finding.deviation > tau_fast and finding.ema > tau_fast:
            reason = f"D(x) {finding.deviation:.2f} > tau_fast {tau_fast:.2f}, {_why(finding.top)}"
            found.append(Trouble(row, 1, reason))
    return sorted(found, key=lambda t: (-t.grade, t.row))


def _why(top: tuple[str, ...]) -> str:
    return "most from " + ", ".join(top) if top else "no single cause"


def proposals(case: Case, found: list[Trouble], cycle: str) -> list[Proposal]:
    """What to do about it, in the order in which it should be tried."""
    wanted: list[Proposal] = []
    for trouble in found:
        if trouble.grade >= 2:
            wanted += _cooling(case, trouble, cycle)
    if found:
        wanted += _routing(case, found, cycle)
    serious = [t for t in found if t.grade >= 2]
    if serious:
        wanted += _admission(case, serious[0], cycle)
    return wanted


def _routing(case: Case, found: list[Trouble], cycle: str) -> list[Proposal]:
    hot = tuple(t.row for t in found)
    calm = [r for r in case.layout.rows if r not in hot and _is_calm(case, r)]
    cool = tuple(sorted(calm, key=lambda r: _row_inlet(case, r)))
    percent = 25.0 if found[0].grade >= 2 else 10.0
    changes = traffic_away(case.layout, case.snapshot, hot, cool, percent)
    reason = f"row {found[0].row}: {found[0].reason}"
    return [_proposal(case, "traffic_shift", changes, reason, cycle)] if changes else []


def _is_calm(case: Case, row: str) -> bool:
    finding = case.state.findings.get(f"row:{row}")
    return finding is None or finding.state == "nominal"


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
    """Targeted pre-cooling: air and fans as one change, then pumps; at grade 3 to the safe value."""
    wanted = []
    for move, quantities in PRE_COOLING:
        points = [p for q in quantities for p in case.layout.knobs(q, trouble.row)]
        changes = tuple(c for p in points if (c := _colder(case, p, trouble.grade)) is not None)
        if changes:
            reason = f"row {trouble.row}: {trouble.reason}"
            kind = Kind.PROTECTIVE if _unspent(case, changes) else Kind.NORMAL
            wanted.append(_proposal(case, move, changes, reason, cycle, kind, f"row:{trouble.row}"))
    return wanted


def _unspent(case: Case, changes: tuple[Change, ...]) -> bool:
    """True while none of the equipment has made its protective move of this incident."""
    return not any(case.point(c.point).equipment in case.state.incidents for c in changes)


def _colder(case: Case, point: Point, grade: int) -> Change | None:
    """One step towards the safe value; all the way when the limit is near and it is allowed."""
    old, bounds = case.snapshot.value(point.key), point.writable
    if old is None or bounds is None or bounds.safe_value is None:
        return None
    gap = bounds.safe_value - old
    if abs(gap) <= max(bounds.deadband, 1e-6):
        return None
    far = grade >= 3 and point.equipment not in case.state.incidents
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
