"""Which setpoints we hold must be given back now, to what, and why.

A setpoint is a lease, not a possession: it ends when its ground is gone (killed, disarmed,
tripped, blind, over a limit, changed by another hand, run out), and a giving back that was
decided stays owed until it is done. Decides endings only; never writes, never extends.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from config.quantities import SAFE_DIRECTION, WORK
from config.site import Interlock, Point
from control.case import Case
from control.features import worst_inlets
from control.interlocks import guards, leaking, tripped_by_reading
from control.modes import may_write
from control.state import ControlState, Owed, Trip
from control.state import replace as but
from control.types import Applied, Ending, Lease, Outcome, Overridden, Target
from control.units import known_bad

BLIND_HALL_SHARE = 0.5  # of the racks: from here on it is the hall that is blind, not an aisle
RETRY_S = 10.0  # doubled with every try
RETRY_MOST_S = 600.0


@dataclass(frozen=True, slots=True)
class Ground:
    """What leases rest on, seen once a tick. tripped: the interlocks that are. By row, and for the
    hall (None): blind: why its inlets are no ground, None where they are; hot: its worst inlet, where
    that is over the limit."""

    case: Case
    tripped: tuple[tuple[Interlock, Trip], ...]
    blind: Mapping[str | None, str | None]
    hot: Mapping[str | None, float]

    @staticmethod
    def of(case: Case) -> "Ground":
        """Look at a case."""
        locks = [(x, case.state.trips.get(x.id)) for x in case.layout.site.interlocks]
        tripped = tuple((lock, trip) for lock, trip in locks if trip is not None and trip.tripped)
        return Ground(case, tripped, _blind_rows(case), _hot_rows(case))


def endings(case: Case) -> list[Ending]:
    """The leases that must end now. Cooling first, so that work comes back to a cold hall."""
    if not case.state.leases:
        return []
    ground = Ground.of(case)
    found = [e for lease in case.state.leases.values() if (e := _ending(ground, lease))]
    return _in_order(case, found)


def all_of(case: Case, reason: str) -> list[Ending]:
    """Everything that may be given back, because the agent stops: not what an interlock holds."""
    found = [Ending(key, Target.BASELINE, reason) for key in case.state.leases]
    return _in_order(case, free(case, found))


def noticed(case: Case) -> ControlState:
    """The state that knows of other hands on what an interlock holds, or a device does not let go: they
    may be gone again when it is given back."""
    state = case.state
    if not state.owed and not any(trip.tripped for trip in state.trips.values()):
        return state
    ground = Ground.of(case)
    waiting = [x for x in state.leases.values() if x.point not in state.yielded
               and (x.point in state.owed or _held_still(ground, x))]  # fmt: skip
    found = {x.point: why for x in waiting if (why := _another_hand(case, x))}
    return but(state, yielded={**state.yielded, **found}) if found else state


def free(case: Case, wanted: Iterable[Ending]) -> list[Ending]:
    """Of these endings those that no interlock holds back."""
    ground, leases = Ground.of(case), case.state.leases
    return [e for e in wanted if e.point not in leases or not _held_still(ground, leases[e.point])]


def blind(case: Case, points: Iterable[str]) -> dict[str, str]:
    """Of these points those whose readings to rest on are lost, and why: a lease on them would end."""
    ground = Ground.of(case)
    return {key: why for key in points if (why := _blind(ground, case.point(key)))}


def _in_order(case: Case, found: list[Ending]) -> list[Ending]:
    return sorted(found, key=lambda e: (case.point(e.point).quantity in WORK, e.point))


def _ending(ground: Ground, lease: Lease) -> Ending | None:
    """What the ground says, else what is owed; not again before it is due."""
    case = ground.case
    if _held_still(ground, lease):
        return None
    wanted, owed = _groundless(ground, lease), case.state.owed.get(lease.point)
    if owed is None:
        if wanted is None and not lease.certain and lease.point not in case.state.busy:
            return Ending(lease.point, Target.BASELINE, "its outcome is unknown")
        return wanted
    if case.snapshot.now_s < owed.due_s and not _changed(case, lease):
        return None  # another hand is yielded to at once: it may be gone again when this is due
    return wanted if wanted is not None and wanted.target is Target.SAFE else owed.ending


def _held_still(ground: Ground, lease: Lease) -> bool:
    """True when an interlock that a reading has tripped says: nothing moves, not even back.

    The kill switch overrules it, but for one thing: no pump of a loop that leaks is sped up.
    """
    case, point = ground.case, ground.case.point(lease.point)
    if case.state.modes.killed:
        stood = lease.stood if lease.stood is not None else lease.baseline
        slowed = stood is None or lease.value < stood
        return slowed and leaking(case.layout.site, case.state.trips, point) is not None
    return any(
        lock.action == "hold" and tripped_by_reading(trip) and guards(lock, point)
        for lock, trip in ground.tripped
    )


def _groundless(ground: Ground, lease: Lease) -> Ending | None:
    """Why this lease has lost its ground, whichever reason weighs most."""
    case = ground.case
    key, point, state = lease.point, case.point(lease.point), case.state
    if state.modes.killed:
        return Ending(key, Target.BASELINE, "kill switch")
    if ending := _tripped(ground, lease) or _unit_lost(case, lease):
        return ending
    if not may_write(state.modes, point):
        return Ending(key, Target.BASELINE, "no longer armed")
    if key in state.yielded or key in state.quarantined:
        return Ending(key, Target.BASELINE, state.yielded.get(key) or state.quarantined[key])
    if reason := _blind(ground, point) or _over(ground, lease):
        return Ending(key, Target.SAFE, reason)
    if reason := _changed(case, lease):
        return Ending(key, Target.BASELINE, reason)
    if case.snapshot.now_s >= lease.expires_s:
        return Ending(key, Target.BASELINE, "its lease has run out")
    return None


def _tripped(ground: Ground, lease: Lease) -> Ending | None:
    """What a tripped interlock that does not hold wants; one that stays dark wants it back too."""
    case, point = ground.case, ground.case.point(lease.point)
    patience_s = case.layout.site.limits.release_after_s
    for lock, trip in ground.tripped:
        if not guards(lock, point):
            continue
        if tripped_by_reading(trip) and lock.action != "hold":
            target = Target.SAFE if lock.action == "safe_value" else Target.BASELINE
            return Ending(lease.point, target, f"interlock {lock.id}")
        if trip.dark_s is not None and case.snapshot.now_s - trip.dark_s > patience_s:
            return Ending(lease.point, Target.BASELINE, f"interlock {lock.id} can't be read")
    return None


def _unit_lost(case: Case, lease: Lease) -> Ending | None:
    """A unit that went off, into local or alarm is no longer ours to set."""
    unit = case.layout.site.unit.get(case.point(lease.point).equipment)
    reason = known_bad(unit, case.snapshot) if unit is not None else None
    return Ending(lease.point, Target.BASELINE, reason) if reason else None


def _blind(ground: Ground, point: Point) -> str | None:
    """Why a lease on a point has lost the readings it rests on.

    Cooling rests on the inlets: an aisle is blind when one of its racks is, the hall when half of
    them are. Work rests on latency: blind when none of it is known.
    """
    case, layout = ground.case, ground.case.layout
    patience_s = layout.site.limits.release_after_s
    if point.quantity in WORK:
        where = layout.row_latency[layout.rows.index(point.row)] if point.row else layout.latency
        dark = case.snapshot.age_s[where] > patience_s
        return f"latency silent for over {patience_s:g} s" if dark.size and dark.all() else None
    return ground.blind.get(point.row or None, ground.blind[None])


def _blind_rows(case: Case) -> dict[str | None, str | None]:
    """Why cooling of each row, and of the hall (None), has no inlets to rest on; a row without one
    rests on the hall's. A rack is as silent as the last of its inlets."""
    layout, patience_s = case.layout, case.layout.site.limits.release_after_s
    age_s = case.snapshot.age_s[layout.inlets]
    if not np.count_nonzero(age_s > patience_s):
        return {None: None}
    silent_s = layout.rack_inlets.reduced(np.fmin, age_s)
    seen = (layout.rack_in @ ~np.isnan(silent_s)).tolist()
    blind = (layout.rack_in @ (silent_s > patience_s)).tolist()

    def why(aisle: str, most: float, at: int) -> str | None:
        if blind[at] <= most * seen[at]:
            return None
        racks = f"{blind[at]:.0f} of {seen[at]:.0f} racks"
        return f"{aisle}: inlets of {racks} silent for over {patience_s:g} s"

    hall = why("hall", BLIND_HALL_SHARE, -1)
    rows = enumerate(layout.rows)
    return {None: hall} | {r: why(f"row {r}", 0.0, i) if seen[i] else hall for i, r in rows}


def _over(ground: Ground, lease: Lease) -> str | None:
    """An inlet over its limit where a lease keeps cooling from its safe value."""
    case, point = ground.case, ground.case.point(lease.point)
    limit_c, direction = case.layout.site.limits.inlet_max_c, SAFE_DIRECTION.get(point.quantity, 0)
    stood = lease.stood if lease.stood is not None else lease.baseline
    if point.quantity in WORK or direction == 0 or stood is None:
        return None
    if (lease.value - stood) * direction >= 0:
        return None  # it cools at least as hard as what it replaced
    worst_c = ground.hot.get(point.row or None)
    return None if worst_c is None else f"inlet {worst_c:.1f} degC is over {limit_c:g}"


def _hot_rows(case: Case) -> dict[str | None, float]:
    """The worst inlet of each row, and of the hall (None), that has one over its limit."""
    layout, limit_c = case.layout, case.layout.site.limits.inlet_max_c
    racks_c = worst_inlets(layout, case.snapshot)
    over = racks_c > limit_c
    if not np.count_nonzero(over):
        return {}
    found: dict[str | None, float] = {None: float(np.fmax.reduce(racks_c))}
    for row in layout.rows:
        mine = over & layout.row_racks(row)
        if mine.any():
            found[row] = float(np.fmax.reduce(racks_c[mine]))
    return found


def _changed(case: Case, lease: Lease) -> str | None:
    """A value on the device that is not the one we wrote and read back."""
    return _another_hand(case, lease) if lease.certain else None


def _another_hand(case: Case, lease: Lease) -> str | None:
    """A value that is not ours nor, its outcome unknown, what stood before; read after we wrote."""
    point, at = case.point(lease.point), case.snapshot.index[lease.point]
    value = case.snapshot.value(lease.point)
    read_s = case.snapshot.now_s - case.snapshot.age_s[at]
    if value is None or read_s <= lease.taken_s:
        return None
    if lease.point in case.state.busy:
        return None  # ours is under way: what is read may be it
    if point.same(value, lease.value) or (not lease.certain and point.same(value, lease.instead)):
        return None
    return f"another hand set {value:g} where we had {lease.value:g}"


def owing(state: ControlState, wanted: Iterable[Ending], now_s: float) -> ControlState:
    """The state that owes these endings: what is decided stays decided."""
    before = state.owed
    new = {
        e.point: Owed(e, now_s, before[e.point].tries if e.point in before else 0) for e in wanted
    }
    return but(state, owed={**before, **new})


def hurried(state: ControlState, now_s: float) -> ControlState:
    """The state in which nothing that is owed waits for its next try: modes have changed."""
    owed = {k: replace(debt, due_s=min(debt.due_s, now_s)) for k, debt in state.owed.items()}
    return but(state, owed=owed)


def settled(
    state: ControlState, outcomes: Iterable[Outcome], held: Mapping[str, Lease], now_s: float
) -> ControlState:
    """The state after endings were tried: done with, or owed still and tried later.

    held: the leases as the gate books them now.
    """
    owed = dict(state.owed)
    for outcome in outcomes:
        point, receipt = outcome.receipt.point, outcome.receipt
        debt = owed.pop(point, None)
        if debt is None:
            continue
        if outcome.lease is not None and not isinstance(receipt, Applied | Overridden):
            wait_s = min(RETRY_S * 2.0**debt.tries, RETRY_MOST_S)
            owed[point] = Owed(debt.ending, now_s + wait_s, debt.tries + 1)
    owed = {k: debt for k, debt in owed.items() if k in held}
    return but(state, owed=owed, leases=dict(held))
