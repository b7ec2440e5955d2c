"""Handing work back after trouble: jobs first, then traffic, both ramped, into a hall that is cold.

Cooling stays where the fast loop put it until the slow loop finds it too much. Decides when
work may come back and in what steps; what it can't undo is nobody's: the leases' own end
gives it back all the same.
"""

from control.fast_loop import Trouble, has_headroom
from control.guardrails import Case
from control.state import ControlState
from control.state import replace as but
from control.types import Change, Ending, Lease, Proposal, Target

CALM_S = 300.0  # how long headroom must last before work comes back


def track(case: Case, found: list[Trouble]) -> ControlState:
    """The state with incidents and calm brought up to date."""
    now_s = case.snapshot.now_s
    serious = {t.row: t for t in found if t.grade >= 2}
    incident_s = {row: case.state.incident_s.get(row, now_s) for row in serious}
    pressed = any(
        t.grade >= 3 or not has_headroom(case, t) or row not in case.state.incident_s
        for row, t in serious.items()
    )
    calm_s = None if pressed else case.state.calm_s if case.state.calm_s is not None else now_s
    return but(case.state, incident_s=incident_s, calm_s=calm_s)


def hand_back(case: Case, found: list[Trouble], cycle: str) -> tuple[list[Proposal], list[Ending]]:
    """One step of handing back: proposals on the way, endings at its end."""
    calm_s = case.state.calm_s
    if calm_s is None or case.snapshot.now_s - calm_s < CALM_S:
        return [], []
    for quantity, ready in (("admission_pct", True), ("traffic_share_pct", not found)):
        held = [x for x in case.state.leases.values()
                if x.proposal.startswith("fast:") and case.point(x.point).quantity == quantity]  # fmt: skip
        if held and ready:
            return _step(case, quantity, held, cycle)
    return [], []


def _step(
    case: Case, quantity: str, held: list[Lease], cycle: str
) -> tuple[list[Proposal], list[Ending]]:
    limits = case.layout.site.limits
    gaps = [(x, x.baseline - x.value) for x in held if x.baseline is not None]
    steps = max(1.0, limits.ramp_back_s / max(limits.write_interval_s, 1.0))
    whole = max((abs(g) / _far(case, x) for x, g in gaps), default=0.0)
    share = 1.0 if whole <= 0 else min(1.0, 1.0 / (steps * whole))
    if share >= 1.0 or len(gaps) < len(held):
        return [], [Ending(x.point, Target.BASELINE, "calm again: work comes back") for x in held]
    changes = tuple(
        Change(x.point, x.value, round(x.value + share * gap, 6))
        for x, gap in gaps
        if abs(gap) > 1e-6
    )
    expires_s = case.snapshot.now_s + limits.lease_s
    proposal = Proposal(f"fast:{cycle}:hand_back:{quantity}", "fast", "hand_back", changes,
                        f"calm again: {quantity} back, {100 * share:.0f} % of the way", expires_s=expires_s)  # fmt: skip
    return [proposal], []


def _far(case: Case, lease: Lease) -> float:
    """How far trouble can have moved a setpoint: a ramp takes its whole time from there."""
    bounds = case.point(lease.point).writable
    assert bounds is not None
    span = bounds.max - bounds.min
    return span if case.point(lease.point).quantity == "admission_pct" else bounds.max_step
