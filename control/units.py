"""Cooling units: which can be counted on, and what a zone would be without its largest.

Decides what is known of a unit from its state points, how far a zone's units may drift apart,
and how warm a zone's racks would get in the first minutes after its largest running unit is
lost. Proposes nothing.

The loss is physics at its simplest: the units that are left speed up to all they can do; what
of the air is still missing warms the racks as fast as an inlet warms when its unit stops
(max_slew_per_s of the inlets, 3 K a minute by default). A judgement, on the safe side.
"""

from collections.abc import Callable, Iterable

import numpy as np

from config.quantities import AIR
from config.site import Point, Unit
from control.case import Case
from control.features import worst_inlets
from control.types import Change, Finding, Proposal, Snapshot

# K over where a row should be (a tenth more power counts as one): thermal trouble begins, and is over.
# The monitor is far finer than what anybody would act on.
HOT, WARM = 1.0, 0.5
SETPOINTS = frozenset({"supply_air_setpoint_c", "zone_setpoint_c"})
IS_SO = 0.5  # a state point above this says yes
FULL_PCT = 100.0
WIDE_PCT = 99.5  # a valve that is open so far has nothing left to give


def known_bad(unit: Unit, snapshot: Snapshot) -> str | None:
    """Why a unit can't be counted on, as its own readings say; None: nothing says so."""
    if (
        unit.running is not None
        and (on := snapshot.value(unit.running)) is not None
        and on <= IS_SO
    ):
        return f"{unit.equipment} is not running"
    for what in ("local", "alarm", "maintenance"):
        value = snapshot.value(getattr(unit, what) or "")
        if value is not None and value > IS_SO:
            return f"{unit.equipment} is in {what}"
    return None


def unavailable(unit: Unit | None, snapshot: Snapshot) -> str | None:
    """Why a unit is neither written nor counted; what can't be read counts against it."""
    if unit is None:
        return None  # the site says nothing of its state
    silent = [key for key in unit.inputs if snapshot.value(key) is None]
    return f"{silent[0]} can't be read" if silent else known_bad(unit, snapshot)


def asks_nothing(case: Case, changes: Iterable[Change]) -> bool:
    """True when changes only bring supply air setpoints up to air that their units deliver already, with
    their valves wide open: the coil gives all it can, before and after, and no air gets warmer."""
    return all(_out_of_reach(case, change) for change in changes)


def _out_of_reach(case: Case, change: Change) -> bool:
    """Both must be read and say so: a unit's coldest air, and its least open valve."""
    point = case.point(change.point)
    if point.quantity != "supply_air_setpoint_c":
        return False
    air_c = _least(case, point, "supply_air_c")
    valve_pct = _least(case, point, "valve_pct")
    return valve_pct >= WIDE_PCT and change.new <= air_c  # NaN: not known


def _least(case: Case, beside: Point, quantity: str) -> float:
    """The least that a unit's readings of a quantity say; NaN where one is not good or there is none."""
    found = _read(case, quantity, lambda p: p.equipment == beside.equipment)
    return float(np.min([np.nan if v is None else v for v in found])) if found else np.nan


def in_hand(case: Case, row: str, most_pct: float) -> bool:
    """True where every valve of a row is read, and none is wider than most_pct."""
    wide = _read(case, "valve_pct", lambda p: p.row == row)
    return bool(wide) and all(v is not None and v <= most_pct for v in wide)


def _read(case: Case, quantity: str, mine: Callable[[Point], bool]) -> list[float | None]:
    """What those sensors of a quantity say that are `mine`; None where one is not good."""
    sensors = [p for p in case.layout.site.points.values() if p.quantity == quantity and mine(p)]
    return [case.snapshot.value(p.key) for p in sensors if p.writable is None]


def odd(case: Case, finding: Finding, sent: bool) -> bool:
    """Whether a row (or the hall) is too warm for a move towards risk: to be sent other work when it is
    warmer than it should be at all, for anything else when that is thermal trouble."""
    if sent:
        return finding.heat > 0.0
    incident = finding.unit.removeprefix("row:") in case.state.incident_s
    return finding.heat >= (WARM if incident else HOT)


def spread(case: Case, proposal: Proposal) -> str | None:
    """Why a zone's units would drift too far apart, or None. Narrowing is always right."""
    most_k = case.layout.site.limits.zone_spread_max_k
    new = {c.point: c.new for c in proposal.changes}
    for quantity, zone in _zones(case, proposal, SETPOINTS):
        knobs = [p for p in case.layout.knobs(quantity) if p.zone == zone and _counts(case, p)]
        now = [v for p in knobs if (v := case.snapshot.value(p.key)) is not None]
        then = [v for p in knobs if (v := new.get(p.key, case.snapshot.value(p.key))) is not None]
        wide_k = max(then, default=0.0) - min(then, default=0.0)
        before_k = max(now, default=0.0) - min(now, default=0.0)
        if wide_k > most_k + 1e-9 and wide_k > before_k + 1e-9:
            return f"zone {zone}: {wide_k:.2f} K between its units, at most {most_k:g}"
    return None


def loss(case: Case, proposal: Proposal) -> str | None:
    """Why a zone would get too warm without its largest running unit, or None."""
    limits, effect = case.layout.site.limits, proposal.effect
    if limits.unit_loss_s == 0:
        return None
    for zone in sorted({zone for _, zone in _zones(case, proposal, AIR)}):
        missing = _missing_share(case, proposal, zone)
        racks = np.isin(case.layout.row_of_rack, _rows(case, zone))
        inlets = worst_inlets(case.layout, case.snapshot)[racks]
        if missing is None or not inlets.size:
            continue
        worst_c = float(np.fmax.reduce(inlets)) + effect.inlet_c + 2.0 * effect.inlet_sigma_k
        after_c = worst_c + missing * _slew(case, zone) * limits.unit_loss_s
        if not after_c <= limits.unit_loss_inlet_max_c:  # NaN fails too
            return (
                f"zone {zone}: {after_c:.1f} degC {limits.unit_loss_s:g} s after its largest unit"
                f" is lost, limit {limits.unit_loss_inlet_max_c:g}"
            )
    return None


def _missing_share(case: Case, proposal: Proposal, zone: str) -> float | None:
    """The share of the zone's air that is missing without its largest unit; None: it has but one,
    and nothing that is done here changes what its loss means."""
    units = case.layout.site.air_units.get(zone, {})
    if len(units) < 2:
        return None
    share: dict[str, float] = {}
    need = 0.0
    for equipment, points in units.items():
        unit = case.layout.site.unit.get(equipment)
        if unavailable(unit, case.snapshot) is None:
            share[equipment] = unit.capacity_kw if unit is not None else 1.0
            need += share[equipment] * _speed_pct(case, proposal, points) / FULL_PCT
    left = sum(share.values()) - max(share.values(), default=0.0)
    return 1.0 if left <= 0.0 else max(0.0, 1.0 - left / need) if need > 0.0 else 0.0


def _speed_pct(case: Case, proposal: Proposal, points: Iterable[Point]) -> float:
    """How fast a unit's fan will turn: measured, not above what it is told; unknown is full."""
    new = {c.point: c.new for c in proposal.changes}
    found = []
    for p in points:
        value = new.get(p.key, case.snapshot.value(p.key))
        if p.quantity == "fan_rpm_pct" and value is not None and np.isfinite(value):
            found.append(value)
    return min(found, default=FULL_PCT)


def _zones(case: Case, proposal: Proposal, quantities: frozenset[str]) -> list[tuple[str, str]]:
    """The (quantity, zone) pairs that a proposal moves air in."""
    points = [case.point(c.point) for c in proposal.changes]
    return sorted({(p.quantity, p.zone) for p in points if p.zone and p.quantity in quantities})


def _counts(case: Case, point: Point) -> bool:
    return unavailable(case.layout.site.unit.get(point.equipment), case.snapshot) is None


def _rows(case: Case, zone: str) -> list[int]:
    units = case.layout.site.air_units.get(zone, {})
    rows = {p.row for points in units.values() for p in points if p.row is not None}
    return [case.layout.rows.index(row) for row in sorted(rows)]


def _slew(case: Case, zone: str) -> float:
    inlets = [case.layout.row_inlets[i] for i in _rows(case, zone)]
    return max((float(case.layout.slew[at].max()) for at in inlets if at.size), default=0.0)
