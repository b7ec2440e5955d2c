"""Ring one: may this proposal become a write? An ordered tuple of small named rules.

Slow towards risk, fast towards safe: a move in a point's safe direction is never blocked by
what makes moves towards risk dangerous. The only maker of a Permit. Decides about loops'
proposals; giving back a lease needs no permit (drivers.gate).
"""

from collections.abc import Callable, Iterator

import numpy as np

from config.quantities import SAFE_DIRECTION, SENT, WORK
from config.site import Point, Writable
from control import interlocks, units
from control.case import Case as Case
from control.evidence import inlets_of, pushed_alone, rows_of, silent
from control.modes import may_write
from control.state import NEVER, PROTECTIVE
from control.types import HEARTBEAT, Change, Denial, Kind, Permit, Proposal, Verdict

INLET_MARGIN_K = 0.5
LATENCY_MARGIN = 0.04  # of the limit
DEVIATION_MARGIN = 0.9  # of tau_persist
RACK_MARGIN = 0.95  # of the limit
BLIND_SHARE = 0.25  # of the inlets around a move: more without a reading, and it rests on too few


def towards_risk(case: Case, proposal: Proposal) -> bool:
    """True unless every change of the proposal goes in its point's safe direction."""
    for change, point, _ in _each(case, proposal):
        direction = SAFE_DIRECTION.get(point.quantity, 0)
        if change.old is None or not (change.new - change.old) * direction > 0:  # NaN is a risk
            return True
    return False


def _mode(case: Case, proposal: Proposal) -> str | None:
    modes = case.state.modes
    if modes.killed:
        return "kill switch on"
    if not modes.may_act:
        return f"mode {modes.mode}"
    unarmed = [c.point for c in proposal.changes if not may_write(modes, case.point(c.point))]
    return f"not armed: {', '.join(unarmed)}" if unarmed else None


def _known(case: Case, proposal: Proposal) -> str | None:
    points = [c.point for c in proposal.changes]
    if not points or len(set(points)) != len(points):
        return "a proposal changes each of its points once"
    state, site = case.state, case.layout.site
    for key in points:
        if key not in site.writable_points:
            return f"{key} is not writable"
        tried = key in state.commissioned or proposal.loop in ("commission", HEARTBEAT)
        if not site.simulated and not tried:
            return f"{key} is not commissioned: skadi commission {key}"
        if reason := state.quarantined.get(key) or state.yielded.get(key):
            return f"{key}: {reason}"
        if (owed := state.owed.get(key)) is not None:
            return f"{key} is being given back: {owed.ending.reason}"
    return None


def _each(case: Case, proposal: Proposal) -> Iterator[tuple[Change, Point, Writable]]:
    """Every change with its point and the point's write limits."""
    for change in proposal.changes:
        point = case.point(change.point)
        yield change, point, point.limits


def _interlocks(case: Case, proposal: Proposal) -> str | None:
    for lock in case.layout.site.interlocks:
        trip = case.state.trips.get(lock.id)
        for change, point, _ in _each(case, proposal):
            if not interlocks.guards(lock, point):
                continue
            if trip is None or trip.tripped:  # not looked at yet counts as not readable
                return f"{lock.id} tripped: {lock.action} in {lock.scope}"
            if interlocks.would_trip(lock, case.snapshot, change):
                return f"{lock.id} would trip at {change.point} = {change.new:g}"
    return None


def _unit(case: Case, proposal: Proposal) -> str | None:
    """A unit that is off, in local, in alarm or under maintenance is left alone."""
    declared = case.layout.site.unit
    for equipment in sorted({point.equipment for _, point, _ in _each(case, proposal)}):
        if reason := units.unavailable(declared.get(equipment), case.snapshot):
            return reason
    return None


def _fresh(case: Case, proposal: Proposal) -> str | None:
    """It rests on good readings: of its own points, and of the inlets around."""
    for change in proposal.changes:
        if case.snapshot.value(change.point) is None:
            return f"{change.point} has no good reading"
    for row in rows_of(case, proposal) or (None,):
        inlets = case.snapshot.take(inlets_of(case, row))
        where, blind = f"row {row}" if row else "hall", int(np.isnan(inlets).sum())
        if blind > BLIND_SHARE * len(inlets):
            return f"{where}: {blind} of {len(inlets)} inlets have no good reading"
        if not len(inlets) and any(p.quantity not in WORK for _, p, _ in _each(case, proposal)):
            return f"{where}: no inlet is measured"
    return None


def _direction(case: Case, proposal: Proposal) -> str | None:
    """What is exempt as protective must be so: every change towards its safe side."""
    return "protective, but not in the safe direction" if proposal.kind == Kind.PROTECTIVE else None


def _envelope(case: Case, proposal: Proposal) -> str | None:
    for change, _, bounds in _each(case, proposal):
        if not bounds.min <= change.new <= bounds.max:  # NaN fails too
            return f"{change.point}: {change.new:g} outside {bounds.min:g}..{bounds.max:g}"
    return None


def _step(case: Case, proposal: Proposal) -> str | None:
    for change, point, bounds in _each(case, proposal):
        if change.old is None:
            return f"{change.point}: present value unknown"
        lease = case.state.leases.get(change.point)
        resolution = max(2 * point.grain, bounds.deadband, 1e-3 * abs(change.new))
        if lease is not None and abs(lease.value - change.old) > resolution:
            return f"{change.point}: {change.old:g} when proposed, {lease.value:g} now"
        size = abs(change.new - change.old)
        if size > bounds.max_step * (1 + 1e-9) and proposal.kind is not Kind.PROTECTIVE:
            return f"{change.point}: step {size:g} over {bounds.max_step:g}"
    return None


def _deadband(case: Case, proposal: Proposal) -> str | None:
    """A write that changes next to nothing only wears the controller out."""
    for change, _, bounds in _each(case, proposal):
        if change.old is not None and abs(change.new - change.old) >= max(bounds.deadband, 1e-9):
            return None
    return "every change is within its deadband"


def _rate(case: Case, proposal: Proposal) -> str | None:
    now_s, spent = case.snapshot.now_s, case.state.spent
    interval_s = case.layout.site.limits.write_interval_s
    for _, point, bounds in _each(case, proposal):
        equipment = point.equipment
        if spent.get(point.key, NEVER).today(now_s) >= bounds.max_writes_per_day:
            return f"{point.key}: {bounds.max_writes_per_day} writes today already"
        waits = [(equipment, interval_s), (point.key, bounds.min_interval_s)]
        if proposal.kind == Kind.PROTECTIVE:  # exempt, but once an incident and an interval
            if equipment in case.state.incidents:
                return f"{equipment}: its protective move of this incident is made"
            waits = [(PROTECTIVE + equipment, interval_s)]
        for name, wait_s in waits:
            since_s = now_s - spent.get(name, NEVER).last_s
            if not since_s >= wait_s:
                return f"{name}: changed {max(since_s, 0.0):.0f} s ago, interval {wait_s:g} s"
    return None


def _at_once(case: Case, proposal: Proposal) -> str | None:
    """Not too many changes whose effect nobody has seen yet."""
    unsettled = len(case.state.verifications)
    most = case.layout.site.limits.max_changes_at_once
    return f"{unsettled} changes are still settling, at most {most}" if unsettled >= most else None


def _predicted(case: Case, proposal: Proposal) -> str | None:
    """What the move is expected to do, at the bad end of its uncertainty, keeps the limits."""
    limits, effect = case.layout.site.limits, proposal.effect
    where = [inlets_of(case, row) for row in rows_of(case, proposal) or (None,)]
    worst_c = float(np.fmax.reduce(case.snapshot.take(np.concatenate(where)), initial=-np.inf))
    predicted_c = worst_c + effect.inlet_c + 2.0 * effect.inlet_sigma_k
    if not predicted_c <= limits.inlet_max_c - INLET_MARGIN_K:
        return f"inlet {worst_c:.1f} -> {predicted_c:.1f} degC, limit {limits.inlet_max_c:g}"
    latency = case.snapshot.take(case.layout.latency)
    if latency.size and not effect.latency_ms <= 0:
        worst_ms = float(np.fmax.reduce(latency))  # NaN when none is known
        predicted_ms = worst_ms + effect.latency_ms
        if not predicted_ms <= limits.latency_p95_max_ms * (1 - LATENCY_MARGIN):
            return (
                f"p95 {worst_ms:.0f} -> {predicted_ms:.0f} ms, limit {limits.latency_p95_max_ms:g}"
            )
    return None


def _rack_power(case: Case, proposal: Proposal) -> str | None:
    """More work into a row whose racks are near their power limit, or unknown, is refused."""
    limit_kw, racks = case.layout.site.limits.rack_max_kw, case.layout.rack_kw
    for change, point, _ in _each(case, proposal):
        more = change.old is None or change.new > change.old
        if point.quantity != "traffic_share_pct" or point.row is None or not more:
            continue
        mine = case.layout.row_racks(point.row)
        worst_kw = float(np.fmax.reduce(racks.sum(case.snapshot.values)[mine], initial=-np.inf))
        if racks.counts[mine].any() and not 0 <= worst_kw <= RACK_MARGIN * limit_kw:
            return f"row {point.row}: a rack at {worst_kw:.1f} kW, limit {limit_kw:g}"
    return None


def _deviation(case: Case, proposal: Proposal) -> str | None:
    """Nothing where operation is already far from what it was trained on."""
    spared = proposal.loop == "fast" or units.asks_nothing(case, proposal.changes)
    if case.tau_persist is None or spared:
        return None  # what asks nothing is a row's way out after it was given back to cold air
    # Air and water a little warmer than usual are what was chosen; work is sent to nothing that is odd.
    sent = any(point.quantity in SENT for _, point, _ in _each(case, proposal))
    for unit in [f"row:{row}" for row in rows_of(case, proposal)] or case.layout.judged:
        finding, name = case.state.findings.get(unit), unit.replace(":", " ")
        if finding is None or finding.state == "unknown":
            return f"{name}: the monitor does not know its state"
        if units.odd(case, finding, sent) and finding.ema > DEVIATION_MARGIN * case.tau_persist:
            return f"{name}: D(x) {finding.ema:.2f} near tau_persist {case.tau_persist:.2f}"
    return None


def _held_back(case: Case, proposal: Proposal) -> str | None:
    """A move that was undone waits; equipment the fast loop holds belongs to it."""
    if proposal.loop == "fast":
        return None
    now_s = case.snapshot.now_s
    until_s = case.state.held_back.get(f"{proposal.move}|{proposal.scope}", 0.0)
    if now_s < until_s:
        return f"{proposal.move} in {proposal.scope} was undone; held back {until_s - now_s:.0f} s"
    for _, point, _ in _each(case, proposal):
        if now_s < case.state.fast_holds.get(point.equipment, 0.0):
            return f"{point.equipment} is held by the fast loop"
    return None


Rule = Callable[[Case, Proposal], str | None]
RISK = True  # judges moves towards risk only: the safe direction is never blocked by it

RULES: tuple[tuple[str, Rule, bool], ...] = (
    ("mode", _mode, False),
    ("interlock", _interlocks, False),
    ("unit", _unit, False),
    ("freshness", _fresh, RISK),
    ("evidence", pushed_alone, RISK),
    ("direction", _direction, RISK),
    ("envelope", _envelope, False),
    ("step", _step, False),
    ("deadband", _deadband, False),
    ("rate", _rate, False),
    ("held_back", _held_back, False),
    ("at_once", _at_once, RISK),
    ("spread", units.spread, RISK),
    ("predicted", _predicted, RISK),
    ("redundancy", units.loss, RISK),
    ("rack_power", _rack_power, False),
    ("deviation", _deviation, RISK),
    ("silence", silent, RISK),
)


def _objecting(case: Case, proposal: Proposal) -> Iterator[tuple[str, str]]:
    """The rules that object, in order, each with its numbers."""
    if numbers := _known(case, proposal):  # first: every other rule looks its points up
        yield "known", numbers
        return
    risky = proposal.loop != HEARTBEAT and towards_risk(case, proposal)
    for name, rule, risk_only in RULES:
        if (risky or not risk_only) and (numbers := rule(case, proposal)):
            yield name, numbers


def judge(case: Case, proposal: Proposal, cycle: str) -> Verdict:
    """Permit a proposal, or deny it with the first rule that objects and its numbers."""
    for name, numbers in _objecting(case, proposal):
        return Denial(proposal, name, numbers)
    now_s = case.snapshot.now_s
    # A permit not used in time is void: the snapshot behind it is old.
    return Permit(proposal, cycle, now_s, now_s + case.layout.site.limits.permit_s)


def objections(case: Case, proposal: Proposal) -> tuple[str, ...]:
    """Every rule that objects, for explanations: what advisory mode would have met."""
    return tuple(f"{name}: {numbers}" for name, numbers in _objecting(case, proposal))
