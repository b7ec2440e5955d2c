"""The decision path as pure functions: (snapshot, memory, site) -> (verdicts, memory').

    observe   5 s    readings -> interlocks, features, IMS, MMS
    fast     10 s    trouble  -> protective proposals; leases that must end
    slow    120 s    judge earlier moves, learn, propose new ones; leases to renew

No clock, no I/O, no chance but the state's seed. The executor carries out what comes back and hands the
outcomes to `control.leases`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from control import (
    bandit,
    endings,
    fast_loop,
    foresight,
    interlocks,
    leases,
    resume,
    signals,
    slow_chart,
    slow_loop,
    slow_model,
    verify,
)
from control import monitor as monitoring
from control.features import read_inlets
from control.guardrails import Case, judge, objections
from control.heartbeat import beats
from control.layout import Layout
from control.monitor import Monitor
from control.moves import Knob, knobs
from control.predict import View
from control.sensors import Probes, believed, look
from control.signals import Signals
from control.slow_chart import Steered
from control.slow_loop import Candidate
from control.state import NEVER, ControlState
from control.state import replace as but
from control.types import Ending, Finding, Lease, Permit, Proposal, Snapshot, Verdict
from control.units import WARM
from control.verify import Judgement

THERMAL = frozenset({"inlet_c", "outlet_c", "delta_t", "fan_rpm_pct"})
FORESEEN = tuple(signals.HALL.index(name) for name in foresight.SERIES)
WAITING = frozenset({"rate", "deadband", "at_once"})  # not yet: no refusal worth a word


@dataclass(frozen=True)
class Setting:
    """What doesn't change between ticks: the compiled site, its knobs, the trained monitor.

    steered: the kinds of setpoint that the chart steers; knobs: the others.
    """

    layout: Layout
    knobs: tuple[Knob, ...]
    monitor: Monitor | None
    signals: Signals
    probes: Probes
    steered: Steered | None = None

    @staticmethod
    def of(layout: Layout, monitor: Monitor | None) -> "Setting":
        """Compile a setting."""
        every, seen = knobs(layout, layout.site.optimizer.moves), Signals(layout)
        steered = slow_chart.steered(layout, seen, every)
        if steered is not None:
            every = tuple(k for k in every if k.quantity not in slow_chart.STEERED)
        return Setting(layout, every, monitor, seen, Probes.of(layout), steered)

    def case(self, snapshot: Snapshot, state: ControlState) -> Case:
        """What the guardrails look at: a suspect probe is no evidence for a move towards risk."""
        tau = self.monitor.model.tau_persist if self.monitor else None
        if state.looked is not None:
            snapshot = believed(state.looked, snapshot)
        return Case(snapshot, state, self.layout, tau)

    def view(self, case: Case) -> View | None:
        """What the slow loop looks at; None before its first averages, or without any power."""
        averages, belief = case.state.averages, case.state.belief
        if averages is None or belief is None:
            return None
        ahead = {name: foresight.outlook(case.state.foresight, name) for name in foresight.SERIES}
        return View(case, self.signals, *averages, belief, case.state.chart, ahead)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a tick decided. `ranked`: all that the slow loop weighed, for explanations."""

    state: ControlState
    verdicts: tuple[Verdict, ...] = ()
    endings: tuple[Ending, ...] = ()
    renewals: tuple[Lease, ...] = ()
    judged: tuple[Judgement, ...] = ()
    troubles: tuple[fast_loop.Trouble, ...] = ()
    ranked: tuple[Candidate, ...] = ()


def observe(setting: Setting, snapshot: Snapshot, state: ControlState) -> ControlState:
    """Take a snapshot in: interlocks, averages, then what the monitor says of racks, rows and the hall."""
    trips = interlocks.step(setting.layout.site, snapshot, state.trips)
    window = state.window or signals.begin(setting.signals, snapshot.now_s)
    window = signals.add(window, *setting.signals.read(snapshot))
    looked = look(setting.probes, state.looked, snapshot)
    state = but(state, trips=trips, window=window, looked=looked)
    if setting.monitor is None:
        return state
    before = state.monitor or monitoring.begin(setting.monitor, snapshot.now_s)
    scored = believed(looked, snapshot)
    tags = interlocks.under_maintenance(setting.layout.site, snapshot, trips)
    after, findings = monitoring.tick(setting.monitor, setting.layout, scored, before, tags)
    aftercare = cared_for(state.aftercare, findings, setting.layout.rows, snapshot.now_s)
    return but(state, monitor=after, findings=findings, aftercare=aftercare)


def cared_for(
    before: Mapping[str, float], findings: Mapping[str, Finding], rows: Iterable[str], now_s: float
) -> dict[str, float]:
    """Row -> until when its work and pumps are left alone: rows that run persistently too hot, or did
    lately. One that is merely unlike what was trained is no reason."""
    until_s = {row: t for row, t in before.items() if t > now_s}
    for row in rows:
        finding = findings[f"row:{row}"]
        hot = finding.heat >= WARM and THERMAL & set(finding.top[:1])
        if finding.state == "persistent" and hot:
            until_s[row] = now_s + slow_loop.AFTERCARE_S
    return until_s


def fast(setting: Setting, snapshot: Snapshot, state: ControlState, cycle: str) -> Decision:
    """Answer trouble; hand work back after it; end what must end."""
    # A slope is of readings: what a lost one may have risen by is in the level it is taken for.
    inlets = read_inlets(setting.layout, snapshot)
    trend = fast_loop.trend(
        setting.layout, inlets, state.inlet_trend, snapshot.now_s - state.trend_s
    )
    state = but(state, inlet_trend=trend, trend_s=snapshot.now_s)
    case = setting.case(snapshot, state)
    tau_fast = setting.monitor.model.tau_fast if setting.monitor else None
    found = fast_loop.troubles(case, tau_fast)
    state = _closed_incidents(case, found)
    state = resume.track(replace(case, state=state), found)
    case = replace(case, state=state)
    back, ended = resume.hand_back(case, found, cycle)
    ending = leases.endings(case)
    leaving = {e.point for e in ending}
    ending += [e for e in ended if e.point not in leaving]
    leaving |= {e.point for e in ended}
    wanted = [
        p
        for p in (*fast_loop.proposals(case, found, cycle), *back, *beats(case, cycle))
        if not any(c.point in leaving for c in p.changes)
    ]
    _, verdicts = _judge_all(case, wanted, cycle)
    state = verify.limited(replace(case, state=endings.noticed(case)), ending)
    return Decision(state, verdicts, tuple(ending), troubles=tuple(found))


def slow(setting: Setting, snapshot: Snapshot, state: ControlState, cycle: str) -> Decision:
    """Learn from what was measured, judge earlier moves, propose what pays, renew what stands."""
    # A first look that is shorter than a whole period knows too little to move anything.
    period_s = setting.layout.site.loops.slow_s
    whole = state.window is not None and snapshot.now_s - state.window.since_s > 0.9 * period_s
    state = _learned(setting, snapshot, state)
    case = setting.case(snapshot, state)
    view = setting.view(case)
    judged = verify.verify(case, view)
    state, undone = verify.after_judging(case, judged)
    if view is not None:
        state = bandit.learned(view, state, [(j.verification, j.realised_kw) for j in judged])
    case = replace(case, state=state)
    ranked: list[Candidate] = []
    verdicts: tuple[Verdict, ...] = ()
    if view is not None and whole:
        view = replace(view, case=case)
        ranked = bandit.drawn(view, slow_loop.candidates(view, setting.knobs), cycle)
        if setting.steered is not None and state.chart is not None:
            chart, moves = slow_chart.steer(view, setting.steered, state.chart)
            state = but(state, chart=chart)
            ranked = sorted([*moves, *ranked], key=lambda c: -c.score_kw)
        busy = {case.point(e.point).equipment for e in undone}
        busy |= {case.point(k).equipment for k in leases.of_persons(state)}
        verdicts = _chosen(view, ranked, cycle, busy)
    renewals = tuple(leases.renewable(case))
    return Decision(state, verdicts, tuple(undone), renewals, tuple(judged), ranked=tuple(ranked))


def _chosen(view: View, ranked: list[Candidate], cycle: str, busy: set[str]) -> tuple[Verdict, ...]:
    """The best candidates, one for each equipment, as many as may be unsettled at once."""
    case = view.case
    verdicts: list[Verdict] = []
    relieved: set[int | None] = set()
    room = case.layout.site.limits.max_changes_at_once - len(case.state.verifications)
    for candidate in ranked:
        equipment = {p.equipment for p in candidate.knob.points}
        if room <= 0:
            break
        if candidate.against is not None or busy & equipment or candidate.relieves in relieved:
            continue
        verdict = judge(case, slow_loop.proposal(view, candidate, cycle), cycle)
        if not isinstance(verdict, Permit) and verdict.rule in WAITING:
            continue
        busy |= equipment
        relieved |= {candidate.relieves} - {None}
        verdicts.append(verdict)
        room -= isinstance(verdict, Permit)
    return tuple(verdicts)


def made(
    setting: Setting, snapshot: Snapshot, state: ControlState, proposal: Proposal
) -> ControlState:
    """The state after a slow move was carried out whole: its effect will be judged."""
    case = setting.case(snapshot, state)
    state = verify.watch(setting.view(case), case, setting.knobs, proposal)
    if setting.steered is None:
        return state
    return slow_chart.watched(setting.steered, snapshot, state, proposal)


def explain(
    setting: Setting, snapshot: Snapshot, state: ControlState, proposal: Proposal
) -> tuple[str, ...]:
    """Every rule that objects to a proposal: in advisory, what else stood in its way."""
    return objections(setting.case(snapshot, state), proposal)


def _learned(setting: Setting, snapshot: Snapshot, state: ControlState) -> ControlState:
    """Close the window: its averages teach the model of the hall."""
    if state.window is None:
        return state
    hall, places = state.window.means()
    if state.belief is None:
        belief = slow_model.prior(hall, places, snapshot.now_s)
    else:
        belief = slow_model.updated(state.belief, hall, places, snapshot.now_s)
    chart = state.chart
    if setting.steered is not None:
        chart = slow_chart.charted(setting.steered, chart, snapshot, hall, places)
    window = signals.begin(setting.signals, snapshot.now_s)
    ahead = foresight.seen(state.foresight, hall[list(FORESEEN)], snapshot.now_s)
    return but(state, window=window, averages=(hall, places), belief=belief, chart=chart,
               foresight=ahead)  # fmt: skip


def _judge_all(case: Case, wanted: list[Proposal], cycle: str) -> tuple[Case, tuple[Verdict, ...]]:
    """Judge proposals in order; each permit spends its equipment's budget for the next ones."""
    verdicts: list[Verdict] = []
    for proposal in wanted:
        verdict = judge(case, proposal, cycle)
        if isinstance(verdict, Permit):
            case = replace(case, state=_reserved(case, proposal))
        elif verdict.rule in WAITING:
            continue
        verdicts.append(verdict)
    return case, tuple(verdicts)


def _reserved(case: Case, proposal: Proposal) -> ControlState:
    names = {case.point(c.point).equipment for c in proposal.changes}
    spent = {**case.state.spent}
    for name in names:
        spent[name] = spent.get(name, NEVER).again(case.snapshot.now_s, counts=False)
    return but(case.state, spent=spent)


def _closed_incidents(case: Case, found: list[fast_loop.Trouble]) -> ControlState:
    """An incident ends when its row is in no trouble any more: protection is available again."""
    rows = {t.row for t in found if t.grade >= 2}
    points = case.layout.site.writable_points.values()
    still = {p.equipment for p in points if p.row in rows or (rows and p.row is None)}
    kept = {e: i for e, i in case.state.incidents.items() if e in still}
    return case.state if kept == case.state.incidents else but(case.state, incidents=kept)
