"""What earlier moves of the slow loop really did: predicted against measured, after settling.

A move that made things worse than its prediction allows is undone and held back for a while.
Power is judged by what the hall's model has learned since: one move among many can't be read
off a meter. Decides endings; never writes.
"""

from dataclasses import dataclass, replace

import numpy as np

from config.site import Point
from control.chart import effect_kw
from control.endings import blind
from control.guardrails import Case, towards_risk
from control.leases import hottest_c
from control.moves import Knob
from control.predict import View, ends, shift_of
from control.slow_model import Shift, power_kw
from control.state import ControlState, Moved, Verification
from control.types import Effect, Ending, Proposal, Target
from control.units import HOT

INLET_TOLERANCE_K = 0.7  # sensor noise and load drift on top of the predicted inlet
POWER_SIGMAS = 2.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an earlier move really did, and whether it is undone."""

    verification: Verification
    inlet_c: float
    realised_kw: float
    undo: str | None


def watch(
    view: View | None, case: Case, knobs: tuple[Knob, ...], proposal: Proposal
) -> ControlState:
    """Remember what stood before a change that was just made, to judge it when it has settled."""
    settle_s = max(
        (w.settle_s for c in proposal.changes if (w := case.point(c.point).writable) is not None),
        default=0.0,
    )
    rows = {r for c in proposal.changes if (r := case.point(c.point).row)}
    row = next(iter(rows)) if len(rows) == 1 else None
    knob = next((k for k in knobs if k.move == proposal.move and k.scope == proposal.scope
                 and {p.key for p in k.points} >= {c.point for c in proposal.changes}), None)  # fmt: skip
    shift = shift_of(view, knob, proposal.changes)[0] if view is not None and knob else Shift()
    now_s = case.snapshot.now_s
    due = Verification(
        proposal, now_s + settle_s, row, hottest_c(case, row), shift, proposal.effect, made_s=now_s
    )
    earlier = tuple(
        _with_other(v, proposal.effect, rows or set(case.layout.rows))
        for v in case.state.verifications
    )
    moved = dict(case.state.moved)
    if knob is not None:
        old, new = ends(proposal.changes)
        moved[knob.name] = Moved(1.0 if new > old else -1.0, now_s)
    return replace(case.state, verifications=(*earlier, due), moved=moved)


def _with_other(v: Verification, effect: Effect, rows: set[str]) -> Verification:
    """Book a later move's expected warming with an earlier one, so that it isn't blamed for it."""
    warmer_k = max(effect.inlet_c, 0.0) + effect.inlet_sigma_k
    others = dict(v.others_k)
    for row in rows:
        others[row] = others.get(row, 0.0) + warmer_k
    return replace(v, others_k=others)


def verify(case: Case, view: View | None) -> list[Judgement]:
    """Judge the moves that have settled. Worse than their doubt allows: undone. What is followed by
    persistent trouble is undone at any time, settled or not, judged before or not."""
    now_s = case.snapshot.now_s
    due = [v for v in case.state.verifications if now_s >= v.due_s]
    others = [v for v in case.state.verifications if now_s < v.due_s]
    followed = [
        Judgement(v, _hottest(case, v.row), float("nan"), why)
        for v in (*others, *(v for v in case.state.stands if _is_ours(case, v)))
        if (why := _followed(case, v))
    ]
    return [*(_judge(case, view, v) for v in due), *followed]


def limited(case: Case, ending: list[Ending]) -> ControlState:
    """The state in which a move whose point is sent to its safe value waits before it is tried again.
    One that ended blind need not: nothing says that it was wrong."""
    safe = {e.point for e in ending if e.target is Target.SAFE}
    if not (safe and (safe := safe - blind(case, safe).keys())):
        return case.state
    until_s = case.snapshot.now_s + case.layout.site.optimizer.hold_back_s
    held_back = {
        f"{v.proposal.move}|{v.proposal.scope}": until_s
        for v in (*case.state.verifications, *case.state.stands)
        if any(c.point in safe and _holds(case, c.point, v.proposal) for c in v.proposal.changes)
    }
    return replace(case.state, held_back={**case.state.held_back, **held_back})


def _followed(case: Case, v: Verification) -> str | None:
    """Why a move towards risk is undone although it may have settled, or None: a row that one of
    its points feeds became persistent after it, or the hall where they feed all of it."""
    for unit in case.layout.judged:
        finding = case.state.findings.get(unit)
        if finding is None or finding.state != "persistent" or finding.heat < HOT:
            continue
        row = unit.partition(":")[2]  # none: the hall
        fed = any(_feeds(case, case.point(c.point), row) for c in v.proposal.changes)
        if fed and finding.since_s >= v.made_s and towards_risk(case, v.proposal):
            return f"{unit.replace(':', ' ')} became persistent after it"
    return None


def _feeds(case: Case, point: Point, row: str) -> bool:
    """Whether a point acts on a row: its own, those that share its zone's units, or the hall's."""
    units = case.layout.site.air_units.get(point.zone or "", {}).values()
    zone = {p.row for points in units for p in points if p.row is not None}
    return row == point.row or row in zone or (point.row is None and not zone)


def _is_ours(case: Case, v: Verification) -> bool:
    """True while what this move wrote is what its points hold: nobody has moved them since."""
    return all(_holds(case, c.point, v.proposal) for c in v.proposal.changes)


def _holds(case: Case, point: str, proposal: Proposal) -> bool:
    lease = case.state.leases.get(point)
    return lease is not None and lease.proposal == proposal.id


def _judge(case: Case, view: View | None, v: Verification) -> Judgement:
    now_c = _hottest(case, v.row)
    realised, doubt = _realised(view, v)
    if v.levels is not None:
        # The chart weighs all levels anew, inlets first: what is dear or too warm it leaves itself.
        return Judgement(v, now_c, realised, _followed(case, v))
    undo = _warmer(case, v, now_c) or _followed(case, v) or _dearer(v, realised, doubt)
    return Judgement(v, now_c, realised, undo)


def _realised(view: View | None, v: Verification) -> tuple[float, float]:
    """(mean, 1-sigma) in kW of what a move has done, by what was learned since."""
    if view is None:
        return np.nan, np.nan
    if v.levels is None or view.chart is None:
        return power_kw(view.belief, view.hall, v.shift)
    mean, sigma = effect_kw(view.chart, v.levels[0], v.levels[1][None])
    return float(mean[0]), float(sigma[0])


def _hottest(case: Case, row: str | None) -> float:
    """The worst inlet of a row; of the hall, leaving out rows whose trouble is known otherwise."""
    rows = (
        [row]
        if row is not None
        else [r for r in case.layout.rows if r not in case.state.incident_s]
    )
    found = [c for r in rows if np.isfinite(c := hottest_c(case, r))]
    return max(found) if found else hottest_c(case, row)


def _warmer(case: Case, v: Verification, now_c: float) -> str | None:
    warmer_k = now_c - v.inlet_before_c
    if np.isnan(warmer_k):
        return None  # blind: the leases' own rule gives it back
    others_k = (
        max(v.others_k.values(), default=0.0) if v.row is None else v.others_k.get(v.row, 0.0)
    )
    own_k = max(v.effect.inlet_c, 0.0) + 2.0 * v.effect.inlet_sigma_k
    allowed_k = own_k + others_k + INLET_TOLERANCE_K
    limit_c = case.layout.site.limits.inlet_max_c
    if warmer_k > allowed_k:
        return f"inlet rose {warmer_k:.2f} K, predicted {v.effect.inlet_c:+.2f}, allowed {allowed_k:.2f}"
    if now_c > limit_c:
        return f"inlet {now_c:.1f} degC is over {limit_c:g}"
    return None


def _dearer(v: Verification, realised_kw: float, doubt_kw: float) -> str | None:
    predicted, sigma = v.effect.total_power_kw, v.effect.total_power_sigma_kw
    if not realised_kw > max(0.0, predicted) + POWER_SIGMAS * float(np.hypot(sigma, doubt_kw)):
        return None
    return f"costs {realised_kw:+.2f} ± {doubt_kw:.2f} kW, predicted {predicted:+.2f}"


def after_judging(case: Case, judged: list[Judgement]) -> tuple[ControlState, list[Ending]]:
    """Forget what is judged, but for what stands; hold an undone move back for a while and end its
    leases. Only what still holds the move's own value is undone: going back a step from what the
    fast loop has made safer since would be a step towards risk."""
    done = {id(j.verification) for j in judged}
    left = tuple(v for v in case.state.verifications if id(v) not in done)
    fine = [j.verification for j in judged if j.undo is None]
    stands = [*(v for v in case.state.stands if id(v) not in done), *fine]
    held_back, undone = dict(case.state.held_back), []
    for j in judged:
        if j.undo is None:
            continue
        proposal = j.verification.proposal
        until_s = case.snapshot.now_s + case.layout.site.optimizer.hold_back_s
        held_back[f"{proposal.move}|{proposal.scope}"] = until_s
        undone += [Ending(c.point, Target.PREVIOUS, j.undo) for c in proposal.changes
                   if _holds(case, c.point, proposal)]  # fmt: skip
    kept = tuple(v for v in stands if _is_ours(case, v))
    return replace(case.state, verifications=left, held_back=held_back, stands=kept), undone
