"""The decision path as pure functions: (snapshot, memory, site) -> (verdicts, memory').

    observe   5 s    readings -> interlocks, features, IMS, MMS
    fast     10 s    trouble  -> protective proposals; leases that must end
    slow    120 s    judge earlier moves, learn, propose new ones; leases to renew

No clock, no I/O, no chance. The executor carries out what comes back and hands the
outcomes to `control.leases`.
"""

from dataclasses import dataclass, replace

import numpy as np

from control import fast_loop, interlocks, leases, slow_loop, slow_model
from control import monitor as monitoring
from control.energy import power_now
from control.features import worst_inlets
from control.guardrails import Case, judge, objections
from control.layout import Layout
from control.monitor import Monitor
from control.moves import Knob, knobs
from control.slow_loop import Judgement
from control.state import NEVER, ControlState, Learning
from control.types import Ending, Lease, Permit, Proposal, Snapshot, Verdict

HANDED_BACK = frozenset({"traffic_share_pct", "admission_pct", "batch_window_ms"})


@dataclass(frozen=True)
class Setting:
    """What doesn't change between ticks: the compiled site, its knobs, the trained monitor."""

    layout: Layout
    knobs: tuple[Knob, ...]
    monitor: Monitor | None

    @staticmethod
    def of(layout: Layout, monitor: Monitor | None) -> "Setting":
        """Compile a setting."""
        return Setting(layout, knobs(layout, layout.site.optimizer.moves), monitor)

    def case(self, snapshot: Snapshot, state: ControlState) -> Case:
        """What the guardrails look at."""
        tau = self.monitor.model.tau_persist if self.monitor else None
        return Case(snapshot, state, self.layout, tau)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a tick decided. `also` gives, by proposal id, every rule that objects (explaining)."""

    state: ControlState
    verdicts: tuple[Verdict, ...] = ()
    endings: tuple[Ending, ...] = ()
    renewals: tuple[Lease, ...] = ()
    judged: tuple[Judgement, ...] = ()
    troubles: tuple[fast_loop.Trouble, ...] = ()


def observe(setting: Setting, snapshot: Snapshot, state: ControlState) -> ControlState:
    """Take a snapshot in: interlocks, then what the monitor says of every rack and row."""
    trips = interlocks.step(setting.layout.site, snapshot, state.trips)
    state = replace(state, trips=trips)
    if setting.monitor is None:
        return state
    before = state.monitor or monitoring.begin(setting.monitor, snapshot.now_s)
    after, findings = monitoring.tick(setting.monitor, setting.layout, snapshot, before)
    return replace(state, monitor=after, findings=findings)


def fast(setting: Setting, snapshot: Snapshot, state: ControlState, cycle: str) -> Decision:
    """Answer trouble; end what must end."""
    inlets = worst_inlets(setting.layout, snapshot)
    trend = fast_loop.trend(
        setting.layout, inlets, state.inlet_trend, snapshot.now_s - state.trend_s
    )
    state = replace(state, inlet_trend=trend, trend_s=snapshot.now_s)
    case = setting.case(snapshot, state)
    tau_fast = setting.monitor.model.tau_fast if setting.monitor else None
    found = fast_loop.troubles(case, tau_fast)
    state = _closed_incidents(case, found)
    case = replace(case, state=state)
    ending = leases.endings(case)
    leaving = {e.point for e in ending}
    wanted = [
        p
        for p in fast_loop.proposals(case, found, cycle)
        if not any(c.point in leaving for c in p.changes)
    ]
    case, verdicts = _judge_all(case, wanted, cycle)
    return Decision(state, verdicts, tuple(ending), troubles=tuple(found))


def slow(setting: Setting, snapshot: Snapshot, state: ControlState, cycle: str) -> Decision:
    """Judge what has settled, learn from it, propose what pays, renew what stands."""
    case = setting.case(snapshot, state)
    judged = slow_loop.verify(case)
    state, undone = slow_loop.after_judging(case, judged)
    state = _learned(replace(case, state=state))
    case = replace(case, state=state)
    ranked = slow_loop.candidates(case, setting.knobs, state.belief or slow_model.prior())
    most = max(0, setting.layout.site.limits.max_changes_at_once - len(state.verifications))
    wanted = slow_loop.proposals(case, ranked, cycle, most)
    _, verdicts = _judge_all(case, wanted, cycle)
    renewals = [x for x in leases.renewable(case) if not _handed_back(case, x)]
    return Decision(state, verdicts, tuple(undone), tuple(renewals), tuple(judged))


def explain(
    setting: Setting, snapshot: Snapshot, state: ControlState, proposal: Proposal
) -> tuple[str, ...]:
    """Every rule that objects to a proposal: in advisory, what else stood in its way."""
    return objections(setting.case(snapshot, state), proposal)


def predicted_cooling_kw(
    setting: Setting, snapshot: Snapshot, state: ControlState, proposal: Proposal
) -> float:
    """The unscaled physical prediction of a slow move, for learning; 0.0 for other moves."""
    case = setting.case(snapshot, state)
    for knob in setting.knobs:
        if (
            knob.move == proposal.move
            and knob.scope == proposal.scope
            and {p.key for p in knob.points} >= {c.point for c in proposal.changes}
        ):
            old = float(np.mean([c.old if c.old is not None else c.new for c in proposal.changes]))
            if not slow_model.binding(case, knob, old):
                return 0.0
            power = power_now(setting.layout, snapshot)
            return slow_model.physical_kw(case, knob, proposal.changes, power)[0]
    return 0.0


def with_prediction(state: ControlState, move: str, kw: float) -> ControlState:
    """Remember what a move that was made should do to cooling power."""
    if state.learning is None or kw == 0.0:
        return state
    predicted = dict(state.learning.predicted_kw)
    predicted[move] = predicted.get(move, 0.0) + kw
    return replace(state, learning=replace(state.learning, predicted_kw=predicted))


LEARN_EVERY_S = 600.0  # moves need minutes to show; a window holds several


def _learned(case: Case) -> ControlState:
    """Compare what cooling power did over a window with what our moves should have done."""
    power = power_now(case.layout, case.snapshot)
    if power.cooling_kw is None or not power.it_kw:
        return case.state
    now_s, window = case.snapshot.now_s, case.state.learning
    fresh = Learning(now_s, power.cooling_kw, power.it_kw, {})
    if window is None:
        return replace(case.state, learning=fresh, belief=case.state.belief or slow_model.prior())
    if now_s - window.at_s < LEARN_EVERY_S:
        return case.state
    # Cooling follows the heat it carries away: what load did is taken out in proportion.
    by_load = window.cooling_kw * power.it_kw / window.it_kw
    belief = slow_model.learn(
        case.state.belief or slow_model.prior(),
        window.predicted_kw,
        power.cooling_kw - by_load,
        by_load,
    )
    return replace(case.state, learning=fresh, belief=belief)


def _judge_all(case: Case, wanted: list[Proposal], cycle: str) -> tuple[Case, tuple[Verdict, ...]]:
    """Judge proposals in order; each permit spends its equipment's budget for the next ones."""
    verdicts: list[Verdict] = []
    for proposal in wanted:
        verdict = judge(case, proposal, cycle)
        verdicts.append(verdict)
        if isinstance(verdict, Permit):
            case = replace(case, state=_reserved(case, proposal))
    return case, tuple(verdicts)


def _reserved(case: Case, proposal: Proposal) -> ControlState:
    names = {case.point(c.point).equipment for c in proposal.changes}
    before, now_s = case.state.spent, case.snapshot.now_s
    spent = {n: before.get(n, NEVER).again(now_s, counts=False) for n in names}
    return replace(case.state, spent={**before, **spent})


def _closed_incidents(case: Case, found: list[fast_loop.Trouble]) -> ControlState:
    """An incident ends when its row is in no trouble any more: protection is available again."""
    rows = {t.row for t in found if t.grade >= 2}
    points = case.layout.site.writable_points.values()
    still = {p.equipment for p in points if p.row in rows or (rows and p.row is None)}
    kept = {e: i for e, i in case.state.incidents.items() if e in still}
    return case.state if kept == case.state.incidents else replace(case.state, incidents=kept)


def _handed_back(case: Case, lease: Lease) -> bool:
    """Work that the fast loop moved comes back by itself once nothing is wrong any more."""
    if case.point(lease.point).quantity not in HANDED_BACK or not lease.proposal.startswith(
        "fast:"
    ):
        return False
    return not any(f.state == "persistent" and f.heat > 0 for f in case.state.findings.values())
