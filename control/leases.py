"""How the books change: leases that are prolonged, what an outcome does to budgets and latches.

A setpoint is a lease, not a possession (control.endings says when it ends). Keeps budgets;
never writes, never extends a lease whose ground is gone.
"""

from dataclasses import replace

import numpy as np

from config.quantities import SAFE_DIRECTION
from control.endings import endings as endings
from control.guardrails import Case
from control.interlocks import guards
from control.state import NEVER, PROTECTIVE, ControlState, Spent
from control.state import replace as but
from control.types import (
    Failed,
    Lease,
    Mismatch,
    Outcome,
    Overridden,
    Permit,
)

PERSONS = "operator:"  # begins the id of a proposal that a person made: held as long as they said


def of_persons(state: ControlState) -> set[str]:
    """The points that hold what a person wrote: the slow loop leaves their equipment alone."""
    return {k for k, lease in state.leases.items() if lease.proposal.startswith(PERSONS)}


def renewable(case: Case) -> list[Lease]:
    """The loops' leases that still stand on good ground, with their new expiry."""
    lease_s = case.layout.site.limits.lease_s
    until_s = case.snapshot.now_s + lease_s
    ending = {e.point for e in endings(case)} | set(case.state.owed) | of_persons(case.state)
    return [
        replace(lease, expires_s=until_s)
        for lease in case.state.leases.values()
        if lease.point not in ending
        and not _guard_is_dark(case, lease)
        and not _baseline_ages(case, lease, until_s)
        and lease.expires_s - case.snapshot.now_s < 0.7 * lease_s
    ]


def _baseline_ages(case: Case, lease: Lease, until_s: float) -> bool:
    """True when giving back at `until_s` would have nothing but a baseline that is too old to be
    replayed: the lease ends before that, and what stands then is the next one's baseline."""
    bounds = case.point(lease.point).limits
    if bounds.relinquish or bounds.safe_value is not None or lease.baseline_s is None:
        return False
    return until_s - lease.baseline_s > bounds.baseline_max_age_s


def _guard_is_dark(case: Case, lease: Lease) -> bool:
    """True when an interlock over this lease is tripped or can't be read: it is not prolonged."""
    trips, point = case.state.trips, case.point(lease.point)
    return any(
        (trip := trips.get(lock.id)) is not None and trip.tripped and guards(lock, point)
        for lock in case.layout.site.interlocks
    )


def reserved(case: Case, permit: Permit) -> ControlState:
    """The state while a permit is carried out: nobody else may change its equipment meanwhile."""
    now_s, points = case.snapshot.now_s, [case.point(c.point) for c in permit.proposal.changes]
    spent = dict(case.state.spent)
    for name in {p.equipment for p in points} | {p.key for p in points}:
        spent[name] = spent.get(name, NEVER).again(now_s, counts=False)
    return but(case.state, spent=spent)


def after_write(case: Case, permit: Permit, outcomes: list[Outcome]) -> ControlState:
    """The state after a permit was carried out: leases, budgets, yields, quarantine."""
    state, now_s = case.state, case.snapshot.now_s
    touched = [o for o in outcomes if _sent(o)]
    state = _with_outcomes(state, outcomes)
    equipment = {case.point(o.receipt.point).equipment for o in touched}
    spent = dict(state.spent)
    for name in (*sorted(equipment), *(o.receipt.point for o in touched)):
        spent[name] = spent.get(name, NEVER).again(now_s)
    incidents = dict(state.incidents)
    fast_holds = dict(state.fast_holds)
    if permit.proposal.kind == "protective":
        incidents |= dict.fromkeys(equipment, permit.proposal.id)
        spent |= {PROTECTIVE + e: Spent(now_s, now_s, 1) for e in equipment}
    if permit.proposal.loop == "fast":
        until_s = now_s + case.layout.site.limits.write_interval_s
        fast_holds |= dict.fromkeys(equipment, until_s)
    return but(state, spent=spent, incidents=incidents, fast_holds=fast_holds)


def _sent(outcome: Outcome) -> bool:
    """True when it may have reached the wire: who finds an operator there before writing is left with
    the lease that was, who does so after it with a doubt."""
    match outcome.receipt:
        case Failed():
            return False
        case Overridden():
            return outcome.lease is not None and not outcome.lease.certain
        case _:
            return True


def after_ending(case: Case, outcomes: list[Outcome]) -> ControlState:
    """The state after leases were given back. Each starts a new interval for its equipment."""
    state, now_s = _with_outcomes(case.state, outcomes), case.snapshot.now_s
    spent = dict(state.spent)
    for outcome in outcomes:
        if not isinstance(outcome.receipt, Failed):  # an operator may have come after our write
            name = case.point(outcome.receipt.point).equipment
            spent[name] = spent.get(name, NEVER).again(now_s, counts=False)
    gone = {o.receipt.point for o in outcomes if o.lease is None}
    left = tuple(
        v for v in state.verifications if not any(c.point in gone for c in v.proposal.changes)
    )
    return but(state, spent=spent, verifications=left)


def _with_outcomes(state: ControlState, outcomes: list[Outcome]) -> ControlState:
    leases, yielded, quarantined = dict(state.leases), dict(state.yielded), dict(state.quarantined)
    for outcome in outcomes:
        point = outcome.receipt.point
        if outcome.lease is None:
            leases.pop(point, None)
        else:
            leases[point] = outcome.lease
        match outcome.receipt:
            case Overridden(_, priority, value, reason):
                at = f" at priority {priority}" if priority is not None else ""
                yielded[point] = f"{reason}{at} ({value}); skadi arm --resume {point}"
            case Mismatch(_, wanted, found):
                quarantined[point] = f"read back {found} after writing {wanted:g}"
            case _:
                pass
    return but(state, leases=leases, yielded=yielded, quarantined=quarantined)


def hottest_c(case: Case, row: str | None) -> float:
    """The worst good inlet of a row (None: of the hall), NaN when nothing is known."""
    layout = case.layout
    where = layout.row_inlets[layout.rows.index(row)] if row else layout.inlets
    inlets = case.snapshot.take(where)
    return float(np.nanmax(inlets)) if len(inlets) and not np.isnan(inlets).all() else float("nan")


def is_safer(quantity: str, new: float, old: float) -> bool:
    """True when going from old to new is in the quantity's safe direction."""
    return (new - old) * SAFE_DIRECTION.get(quantity, 0) > 0
