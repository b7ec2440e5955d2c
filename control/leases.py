"""Which setpoints we hold must be given back now, and how the books change with an outcome.

A setpoint is a lease, not a possession. Decides endings (expired, killed, disarmed, blind,
tripped) and keeps budgets; never writes, never extends a lease whose ground is gone.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from config.quantities import SAFE_DIRECTION
from control.guardrails import Case
from control.modes import in_scope, may_write
from control.state import ControlState, Spent
from control.types import (
    Applied,
    Ending,
    Failed,
    Lease,
    Mismatch,
    Outcome,
    Overridden,
    Permit,
    Target,
    Unknown,
)

DAY_S = 86_400.0
BLIND_SHARE = 0.5  # of the inlets that a lease rests on


def endings(case: Case) -> list[Ending]:
    """The leases that must end now. Cooling first, so that work comes back to a cold hall."""
    found = [e for lease in case.state.leases.values() if (e := _ending(case, lease))]
    return sorted(found, key=lambda e: (not _is_cooling(case, e.point), e.point))


def _ending(case: Case, lease: Lease) -> Ending | None:
    point = case.point(lease.point)
    if case.state.modes.killed:
        return Ending(lease.point, Target.BASELINE, "kill switch")
    for lock in case.layout.site.interlocks:
        trip = case.state.trips.get(lock.id)
        if trip is not None and trip.tripped and in_scope(point, lock.scope):
            if lock.action == "hold":
                return None  # nothing moves, not even back, until a person has looked
            target = Target.SAFE if lock.action == "safe_value" else Target.BASELINE
            return Ending(lease.point, target, f"interlock {lock.id}")
    if not may_write(case.state.modes, point):
        return Ending(lease.point, Target.BASELINE, "no longer armed")
    if not lease.certain:
        return Ending(lease.point, Target.BASELINE, "its outcome is unknown")
    if reason := _blind(case, lease):
        return Ending(lease.point, Target.SAFE, reason)
    if case.snapshot.now_s >= lease.expires_s:
        return Ending(lease.point, Target.BASELINE, "its lease has run out")
    return None


def _blind(case: Case, lease: Lease) -> str | None:
    """Why a lease has lost the readings it rests on: its row's inlets, or the hall's."""
    layout, point = case.layout, case.point(lease.point)
    where = layout.row_inlets[layout.rows.index(point.row)] if point.row else layout.inlets
    if not len(where):
        return None
    patience_s = layout.site.limits.release_after_s
    dark = case.snapshot.age_s[where] > patience_s
    if dark.mean() > BLIND_SHARE:
        aisle = f"row {point.row}" if point.row else "hall"
        return f"{aisle}: {int(dark.sum())} of {len(where)} inlets silent for over {patience_s:g} s"
    return None


def _is_cooling(case: Case, key: str) -> bool:
    return case.point(key).about.unit in ("degC",) or "rpm" in case.point(key).quantity


def renewable(case: Case) -> list[Lease]:
    """The leases that still stand on good ground, with their new expiry."""
    lease_s = case.layout.site.limits.lease_s
    until_s = case.snapshot.now_s + lease_s
    ending = {e.point for e in endings(case)}
    return [
        replace(lease, expires_s=until_s)
        for lease in case.state.leases.values()
        if lease.point not in ending and lease.expires_s - case.snapshot.now_s < 0.7 * lease_s
    ]


def with_renewed(state: ControlState, renewed: Iterable[Lease]) -> ControlState:
    """The state with these leases' new expiry. Only the expiry: what a lease holds may have
    changed since they were chosen, and one that has ended stays ended."""
    expiry = {x.point: x.expires_s for x in renewed}
    kept = {
        k: replace(x, expires_s=expiry[k]) if k in expiry else x for k, x in state.leases.items()
    }
    return replace(state, leases=kept)


def after_write(case: Case, permit: Permit, outcomes: list[Outcome]) -> ControlState:
    """The state after a permit was carried out: leases, budgets, yields, quarantine."""
    state, now_s = case.state, case.snapshot.now_s
    touched = [o for o in outcomes if not isinstance(o.receipt, Failed | Overridden)]
    state = _with_outcomes(state, outcomes)
    equipment = {case.point(o.receipt.point).equipment for o in touched}
    spent = dict(state.spent)
    for name in (*sorted(equipment), *(o.receipt.point for o in touched)):
        spent[name] = _spend(spent.get(name), now_s)
    incidents = dict(state.incidents)
    fast_holds = dict(state.fast_holds)
    if permit.proposal.kind == "protective":
        incidents |= dict.fromkeys(equipment, permit.proposal.id)
    if permit.proposal.loop == "fast":
        until_s = now_s + case.layout.site.limits.write_interval_s
        fast_holds |= dict.fromkeys(equipment, until_s)
    return replace(state, spent=spent, incidents=incidents, fast_holds=fast_holds)


def after_ending(case: Case, outcomes: list[Outcome]) -> ControlState:
    """The state after leases were given back. Each starts a new interval for its equipment."""
    state, now_s = _with_outcomes(case.state, outcomes), case.snapshot.now_s
    spent = dict(state.spent)
    for outcome in outcomes:
        if isinstance(outcome.receipt, Applied | Unknown | Mismatch):
            name = case.point(outcome.receipt.point).equipment
            before = spent.get(name)
            spent[name] = Spent(now_s, before.day if before else 0, before.count if before else 0)
    gone = {o.receipt.point for o in outcomes if o.lease is None}
    left = tuple(
        v for v in state.verifications if not any(c.point in gone for c in v.proposal.changes)
    )
    return replace(state, spent=spent, verifications=left)


def _with_outcomes(state: ControlState, outcomes: list[Outcome]) -> ControlState:
    leases, yielded, quarantined = dict(state.leases), dict(state.yielded), dict(state.quarantined)
    for outcome in outcomes:
        point = outcome.receipt.point
        if outcome.lease is None:
            leases.pop(point, None)
        else:
            leases[point] = outcome.lease
        match outcome.receipt:
            case Overridden(_, priority, value):
                at = f" at priority {priority}" if priority is not None else ""
                yielded[point] = f"an operator holds it{at} ({value}); skadi arm --resume {point}"
            case Mismatch(_, wanted, found):
                quarantined[point] = f"read back {found} after writing {wanted:g}"
            case _:
                pass
    return replace(state, leases=leases, yielded=yielded, quarantined=quarantined)


def _spend(before: Spent | None, now_s: float) -> Spent:
    day = int(now_s // DAY_S)
    count = before.count if before is not None and before.day == day else 0
    return Spent(now_s, day, count + 1)


def hottest_c(case: Case, row: str | None) -> float:
    """The worst good inlet of a row (None: of the hall), NaN when nothing is known."""
    layout = case.layout
    where = layout.row_inlets[layout.rows.index(row)] if row else layout.inlets
    inlets = case.snapshot.take(where)
    return float(np.nanmax(inlets)) if len(inlets) and not np.isnan(inlets).all() else float("nan")


def is_safer(quantity: str, new: float, old: float) -> bool:
    """True when going from old to new is in the quantity's safe direction."""
    return (new - old) * SAFE_DIRECTION.get(quantity, 0) > 0
