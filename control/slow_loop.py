"""The slow loop: every two minutes, the moves that should lower Wh/prompt the most.

Tries every named move of every knob, predicts it, keeps those that pay beyond their doubt,
the best one for each equipment, and leaves the last word to the guardrails. Also judges
what earlier moves really did: a move that made things worse is undone and held back.
Touches what customers feel (latency) only for a saving that is worth it.
"""

from dataclasses import dataclass, replace

import numpy as np

from control import slow_model
from control.energy import Power, power_now
from control.guardrails import Case
from control.leases import hottest_c
from control.moves import MOVES, Knob, shifted, traffic_away
from control.state import Belief, ControlState, Verification
from control.types import Change, Effect, Ending, Proposal, Target

LATENCY_PRICE_PER_MS = 0.0005  # of total power: a millisecond of p95 must save 0.05 %
INLET_TOLERANCE_K = 0.7  # sensor noise and load drift on top of the predicted inlet
CALM = frozenset({"nominal", "transient"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """One move of one knob with what it should bring. score_kw: expected saving less its price."""

    knob: Knob
    changes: tuple[Change, ...]
    effect: Effect
    score_kw: float


def candidates(case: Case, knobs: tuple[Knob, ...], belief: Belief) -> list[Candidate]:
    """Every move that should pay, best first."""
    power = power_now(case.layout, case.snapshot)
    if power.total_kw is None:
        return []
    floor_kw = power.total_kw * case.layout.site.optimizer.min_saving_pct / 100.0
    found = [
        c
        for knob in knobs
        for changes in _options(case, knob)
        if (c := _weigh(case, knob, changes, power, belief)).score_kw
        > min(floor_kw, _floor(knob, floor_kw))
    ]
    return sorted(found, key=lambda c: -c.score_kw)


def _floor(knob: Knob, floor_kw: float) -> float:
    """A row's saving is measured against its part of the hall."""
    return floor_kw if knob.row is None else floor_kw / 6.0


def _options(case: Case, knob: Knob) -> list[tuple[Change, ...]]:
    if knob.move == "traffic_shift":
        return _traffic_options(case)
    if knob.row is not None and not _calm(case, knob.row):
        return []
    moved = [shifted(knob, case.snapshot, size) for size in MOVES[knob.move].sizes]
    return [m for m in moved if m]


def _calm(case: Case, row: str) -> bool:
    """True where operation is normal, or off to the over-cooled side: there saving is safe."""
    finding = case.state.findings.get(f"row:{row}")
    return finding is None or finding.state in CALM or finding.heat < 0


def _traffic_options(case: Case) -> list[tuple[Change, ...]]:
    """From the row that spends most on a token to the one that spends least, both nominal."""
    costs = {r: c for r in case.layout.rows if _nominal(case, r) and (c := _kw_per_token(case, r))}
    if len(costs) < 2:
        return []
    worst, best = max(costs, key=costs.__getitem__), min(costs, key=costs.__getitem__)
    moves = [
        traffic_away(case.layout, case.snapshot, (worst,), (best,), s)
        for s in MOVES["traffic_shift"].sizes
    ]
    return [m for m in moves if m]


def _nominal(case: Case, row: str) -> bool:
    finding = case.state.findings.get(f"row:{row}")
    return finding is not None and finding.state == "nominal"


def _kw_per_token(case: Case, row: str) -> float | None:
    site = case.layout.site
    kw = [case.snapshot.value(p.key) for p in site.of_quantity("gpu_power_kw") if p.row == row]
    rate = [case.snapshot.value(p.key) for p in site.of_quantity("tokens_ps") if p.row == row]
    if not kw or not rate or None in kw or None in rate:
        return None
    tokens = sum(v for v in rate if v is not None)
    return sum(v for v in kw if v is not None) / tokens if tokens > 0 else None


def _weigh(
    case: Case, knob: Knob, changes: tuple[Change, ...], power: Power, belief: Belief
) -> Candidate:
    total_kw = power.total_kw or 0.0
    effect = (
        _traffic_effect(case, changes, power)
        if knob.move == "traffic_shift"
        else slow_model.predict(case, knob, changes, power, belief)
    )
    price = LATENCY_PRICE_PER_MS * max(effect.latency_ms, 0.0) * total_kw
    score = -effect.total_power_kw - 0.5 * effect.total_power_sigma_kw - price
    return Candidate(knob, changes, effect, score)


def _traffic_effect(case: Case, changes: tuple[Change, ...], power: Power) -> Effect:
    """Work done where a token costs less. Half of the difference of averages: idle power stays."""
    tokens_ps = power.tokens_ps or 0.0
    saved = 0.0
    for change in changes:
        row = case.point(change.point).row
        cost = _kw_per_token(case, row) if row else None
        if cost is None or change.old is None:
            return Effect()
        saved += 0.5 * cost * tokens_ps * (change.new - change.old) / 100.0
    most = max((c.new / c.old - 1.0 for c in changes if c.old), default=0.0)
    latency = case.snapshot.take(case.layout.latency)
    worst_ms = float(np.nanmax(latency)) if latency.size and not np.isnan(latency).all() else 0.0
    return Effect(
        total_power_kw=saved,
        total_power_sigma_kw=0.5 * abs(saved),
        inlet_c=1.0 * max(most, 0.0),
        inlet_sigma_k=0.3,
        latency_ms=worst_ms * max(most, 0.0),
    )


def proposals(case: Case, ranked: list[Candidate], cycle: str, most: int) -> list[Proposal]:
    """The best candidate for each equipment, at most `most`, as proposals with their reason."""
    used: set[str] = set()
    chosen: list[Proposal] = []
    for candidate in ranked:
        equipment = {p.equipment for p in candidate.knob.points}
        rows = {f"{candidate.knob.row}"} if candidate.knob.row else set()
        if len(chosen) >= most or used & (equipment | rows):
            continue
        used |= equipment | rows  # one move a row at a time: its effect stays readable
        chosen.append(_proposal(case, candidate, cycle))
    return chosen


def _proposal(case: Case, candidate: Candidate, cycle: str) -> Proposal:
    knob, effect = candidate.knob, candidate.effect
    first = candidate.changes[0]
    unit = case.point(first.point).unit
    reason = (
        f"{MOVES[knob.move].text} in {knob.scope}: {first.old:g} -> {first.new:g} {unit},"
        f" expected {effect.total_power_kw:+.2f} ± {effect.total_power_sigma_kw:.2f} kW,"
        f" inlet {effect.inlet_c:+.2f} K"
    )
    expires_s = case.snapshot.now_s + case.layout.site.limits.lease_s
    return Proposal(f"slow:{cycle}:{knob.name}", "slow", knob.move, candidate.changes, reason,
                    scope=knob.scope, effect=effect, expires_s=expires_s)  # fmt: skip


def watch(case: Case, proposal: Proposal) -> ControlState:
    """Remember what stood before a change that was just made, to judge it when it has settled."""
    power = power_now(case.layout, case.snapshot)
    settle_s = max(
        (w.settle_s for c in proposal.changes if (w := case.point(c.point).writable) is not None),
        default=0.0,
    )
    latency = case.snapshot.take(case.layout.latency)
    rows = {r for c in proposal.changes if (r := case.point(c.point).row)}
    row = next(iter(rows)) if len(rows) == 1 else None
    due = Verification(
        proposal,
        case.snapshot.now_s + settle_s,
        inlet_before_c=hottest_c(case, row),
        power_before_kw=power.cooling_kw if power.cooling_kw is not None else float("nan"),
        it_before_kw=power.it_kw if power.it_kw is not None else float("nan"),
        latency_before_ms=float(np.nanmax(latency))
        if latency.size and not np.isnan(latency).all()
        else 0.0,
        effect=proposal.effect,
    )
    earlier = tuple(
        _with_other(v, proposal, rows or set(case.layout.rows)) for v in case.state.verifications
    )
    return replace(case.state, verifications=(*earlier, due))


def _with_other(v: Verification, proposal: Proposal, rows: set[str]) -> Verification:
    """Book a later move's expected warming with an earlier one, so that it isn't blamed for it."""
    warmer_k = max(proposal.effect.inlet_c, 0.0) + proposal.effect.inlet_sigma_k
    others = dict(v.others_k)
    for row in rows:
        others[row] = others.get(row, 0.0) + warmer_k
    return replace(v, others_k=others)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an earlier move really did, and whether it is undone."""

    verification: Verification
    inlet_c: float
    undo: str | None


def verify(case: Case) -> list[Judgement]:
    """Judge the moves that have settled: predicted against realised. Worse than doubt: undone."""
    return [_judge(case, v) for v in case.state.verifications if case.snapshot.now_s >= v.due_s]


def _judge(case: Case, v: Verification) -> Judgement:
    rows = {r for c in v.proposal.changes if (r := case.point(c.point).row)}
    row = rows.pop() if len(rows) == 1 else None
    now_c = hottest_c(case, row)
    warmer_k = now_c - v.inlet_before_c
    others_k = max(v.others_k.values(), default=0.0) if row is None else v.others_k.get(row, 0.0)
    own_k = max(v.effect.inlet_c, 0.0) + 2.0 * v.effect.inlet_sigma_k
    allowed_k = own_k + others_k + INLET_TOLERANCE_K
    finding = case.state.findings.get(f"row:{row}") if row else None
    limit_c = case.layout.site.limits.inlet_max_c
    undo = None
    if np.isnan(warmer_k):
        undo = None  # blind: the leases' own rule gives it back
    elif warmer_k > allowed_k:
        undo = f"inlet rose {warmer_k:.2f} K, predicted {v.effect.inlet_c:+.2f}, allowed {allowed_k:.2f}"
    elif now_c > limit_c:
        undo = f"inlet {now_c:.1f} degC is over {limit_c:g}"
    elif finding is not None and finding.state == "persistent" and finding.heat > 0:
        undo = f"row {row} became persistent after it"
    return Judgement(v, now_c, undo)


def after_judging(case: Case, judged: list[Judgement]) -> tuple[ControlState, list[Ending]]:
    """Forget what is judged; hold an undone move back for a while and end its leases."""
    done = {id(j.verification) for j in judged}
    left = tuple(v for v in case.state.verifications if id(v) not in done)
    held_back, undone = dict(case.state.held_back), []
    for j in judged:
        if j.undo is None:
            continue
        proposal = j.verification.proposal
        until_s = case.snapshot.now_s + case.layout.site.optimizer.hold_back_s
        held_back[f"{proposal.move}|{proposal.scope}"] = until_s
        undone += [Ending(c.point, Target.PREVIOUS, j.undo) for c in proposal.changes
                   if c.point in case.state.leases]  # fmt: skip
    return replace(case.state, verifications=left, held_back=held_back), undone
