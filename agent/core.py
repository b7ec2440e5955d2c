"""The agent: composes the parts and owns the control state. One instance a site.

    poll -> store -> snapshot -> observe / fast / slow (control.decide) -> executor -> journal
                                                                     \\-> mirror, history, log

Knows no protocol and no broker; the same object runs in real time, faster than real time
and in virtual time. Decides nothing that control/ should decide.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from agent.adopt import Compiled, acting, compiled
from agent.clock import Clock, utc
from agent.executor import Executor
from agent.journal import Journal
from agent.kpi import Meter
from agent.memory import Memory
from agent.services import Services
from agent.steady import Steady
from agent.store import Store
from agent.trial import Trial
from config.site import Device, Point, Site
from control import decide, endings, leases, modes
from control.decide import Decision, Setting
from control.guardrails import judge, objections
from control.modes import Event, Modes, Refusal
from control.monitor import Trained, fit, reason
from control.slow_loop import weighed
from control.state import ControlState
from control.state import replace as but
from control.types import (
    Applied,
    Denial,
    Ending,
    Outcome,
    Permit,
    Proposal,
    Reading,
    Snapshot,
    Target,
    Verdict,
)
from control.verify import Judgement
from drivers.gate import Gate, JournalError

log = structlog.get_logger("skadi")

MOST_RIVALS = 12  # candidates in a record, beside those of its own point
Listener = Callable[[str, dict[str, Any]], None]


@dataclass(slots=True)
class Counts:
    """What the agent did since it started."""

    writes: int = 0
    confirmed: int = 0
    rollbacks: int = 0
    protective: int = 0
    denied: int = 0


class Agent:
    """The decision path of one site, with its memory."""

    def __init__(
        self,
        site: Site,
        clock: Clock,
        journal: Journal,
        gate_of: Callable[[Callable[[Point], bool]], Gate],
        model: Trained | None = None,
        made: Compiled | None = None,
    ) -> None:
        """made: the site and the model, compiled already."""
        made = made or compiled(site, model)
        self.site, self.clock, self.journal = site, Steady(clock), journal
        self.layout, self.setting, self.trained = made.layout, made.setting, made.trained
        self.store = Store(self.layout)
        self.meter = Meter(self.layout)
        self.memory = Memory(journal, self.clock)
        self.under_way = 0  # decisions that are being carried out: agent.adopt
        self.control = self.memory.recall(site)
        self.counts = Counts()
        self.listeners: list[Listener] = []
        self.services = Services()
        self._cycle = 0
        self._weighed: tuple[str, list[dict[str, Any]]] = ("slow:", [])  # of the latest slow cycle
        self.executor = Executor(gate_of(self.may_write), site.points, self.clock)
        self.trial = Trial(self)

    # -- what other parts ask and tell

    def take(self, device: Device, readings: Sequence[Reading]) -> None:
        """A poll has brought readings."""
        steadied = self.clock.steadied(readings)
        self.store.update(steadied)
        if self.listeners:
            view = self.clock.stamped(self.store.standing(steadied, self.clock.now_s()))
            self.tell("readings", {"device": device, "readings": readings, "view": view})

    def snapshot(self) -> Snapshot:
        """All readings as they stand now."""
        return self.store.snapshot(self.clock.now_s())

    def use_model(self, model: Trained) -> None:
        """Judge by another trained model from now on. Raises ValueError when it does not fit."""
        self.setting = Setting.of(self.layout, fit(self.layout, model))
        self.trained = model
        self.control = but(self.control, monitor=None, findings={})

    def tell(self, kind: str, detail: dict[str, Any]) -> None:
        """Pass something on to mirror, history and screen. A listener's failure is its own."""
        if offset_s := self.clock.offset_s():  # others read the wall clock
            detail = {k: v + offset_s if k in ("ts_s", "now_s") else v for k, v in detail.items()}
        for listener in self.listeners:
            try:
                listener(kind, detail)
            except Exception:
                log.exception("listener failed", kind=kind)

    @acting
    async def change_mode(
        self, event: Event, scope: str, channel: str, role: str
    ) -> Modes | Refusal:
        """Apply a mode event; what is no longer allowed is given back at once."""
        result = modes.step(self.control.modes, event, scope, channel, role)
        body = {"change": event.value, "scope": scope, "channel": channel, "role": role}
        if isinstance(result, Refusal):
            self.note("mode_refused", {**body, "reason": result.reason})
            return result
        self.control = but(self.control, modes=result)  # first: nothing new may start
        self.control = endings.hurried(self.control, self.clock.now_s())
        self.memory.keep_modes(result)
        self.note(
            "mode",
            {
                **body,
                "mode": result.mode.value,
                "armed": sorted(result.armed),
                "killed": result.killed,
            },
        )
        await self._end(endings.endings(self._case(self.snapshot())))
        return result

    # -- the jobs

    async def observe(self) -> None:
        """Score every rack, every row and the hall; say what has changed state."""
        before = self.control.findings
        snapshot = self.snapshot()
        self.control = decide.observe(self.setting, snapshot, self.control)
        self.memory.keep_latches(self.control, self.site)
        self.meter.step(snapshot)
        for unit, finding in self.control.findings.items():
            old = before.get(unit)
            if not unit.startswith("rack:") and (old is None or old.state != finding.state):
                self._say_state(finding.unit, finding)
        self.tell("findings", {"findings": self.control.findings, "now_s": snapshot.now_s})
        self.tell("kpi", self.meter.kpi(snapshot) | {"counts": self.counts})

    @acting
    async def fast(self) -> None:
        """Answer trouble, end what must end."""
        if step_s := self.clock.stepped_s():
            self.note("clock_set", {"step_s": step_s, "offset_s": self.clock.offset_s()})
        snapshot, cycle = self.snapshot(), self._next_cycle("f")
        decision = decide.fast(self.setting, snapshot, self.control, cycle)
        self.memory.keep_yielded(self.control, decision.state)
        self.control = decision.state
        for trouble in decision.troubles:
            self.tell(
                "trouble", {"row": trouble.row, "grade": trouble.grade, "reason": trouble.reason}
            )
        await self._end(list(decision.endings))
        await self._carry_out(decision, snapshot)

    @acting
    async def slow(self) -> None:
        """Judge, learn, propose; renew what still stands."""
        snapshot, cycle = self.snapshot(), self._next_cycle("s")
        decision = decide.slow(self.setting, snapshot, self.control, cycle)
        self.control = decision.state
        self._weighed = (f"slow:{cycle}:", weighed(decision.ranked) if self.listeners else [])
        for judged in decision.judged:
            self._say_judged(judged)
        if decision.renewals:  # before anything is awaited: they are as the books are now
            try:
                self.executor.prolong(decision.renewals)
                self.control = but(self.control, leases=dict(self.executor.held))
            except JournalError as error:
                log.error("leases can't be renewed", error=str(error))
        await self._end(list(decision.endings))
        await self._carry_out(decision, snapshot)

    @acting
    async def recover(self) -> None:
        """At start: what a former run left on a device is given back, as recall() owes it.

        Nothing is known of what happened since; the optimizer finds its way again from the
        baseline. What can't be reached now is tried again by the fast loop.
        """
        owed = [debt.ending for debt in self.control.owed.values()]
        if self.journal.salvaged:
            self.note("journal_salvaged", {"reason": self.journal.salvaged})
        if owed:
            self.note("recover", {"held": [e.point for e in owed]})
            await self._end(owed)

    @acting
    async def stop(self) -> None:
        """Give back what the policy says. Called after the jobs have ended."""
        await self.trial.stop()
        if self.site.agent.on_stop == "release":
            case = self._case(self.snapshot())
            await self._end(endings.all_of(case, "the agent stops"))

    @acting
    async def act(self, proposal: Proposal) -> Verdict:
        """Judge what a person proposes and carry it out if it is permitted. Returns the verdict."""
        snapshot = self.snapshot()
        verdict = judge(self._case(snapshot), proposal, proposal.id)
        match verdict:
            case Permit():
                await self._apply(verdict, snapshot)
            case Denial():
                self.counts.denied += 1
                self._say_denied(verdict, snapshot)
        return verdict

    @acting
    async def end(self, endings: list[Ending]) -> None:
        """Give leases back now because a person wants it: not even an interlock holds them."""
        await self._end(endings, by_hand=True)

    def next_cycle(self, loop: str) -> str:
        """A name for the next cycle of a loop, unique in this run."""
        return self._next_cycle(loop)

    # -- how a decision becomes an act

    def _case(self, snapshot: Snapshot) -> Any:
        return self.setting.case(snapshot, self.control)

    def may_write(self, point: Point) -> bool:
        """True when mode and arming allow writing to a point."""
        return modes.may_write(self.control.modes, point)

    def _next_cycle(self, loop: str) -> str:
        self._cycle += 1
        return f"{loop}{self._cycle}"

    async def _carry_out(self, decision: Decision, snapshot: Snapshot) -> None:
        for verdict in decision.verdicts:
            match self._again(verdict):
                case Permit() as permit:
                    await self._apply(permit, snapshot)
                case Denial() as denial:
                    self.counts.denied += 1
                    self._say_denied(denial, snapshot)

    def _again(self, verdict: Verdict) -> Verdict:
        """Judge a permit once more at the moment it is used: others were carried out before it,
        and another loop may have acted meanwhile."""
        if isinstance(verdict, Denial):
            return verdict
        return judge(self._case(self.snapshot()), verdict.proposal, verdict.cycle)

    async def _apply(self, permit: Permit, snapshot: Snapshot) -> None:
        proposal = permit.proposal
        written = frozenset(c.point for c in proposal.changes)
        self.control = leases.reserved(self._case(self.snapshot()), permit)  # others took time
        self.control = but(self.control, busy=self.control.busy | written)
        try:
            outcomes, undo = await self.executor.apply(permit)
        finally:  # cut off by a stop, too: what stands then must be given back by it
            busy = self.control.busy - written
            self.control = but(self.control, busy=busy, leases=dict(self.executor.held))
        case = self._case(self.snapshot())
        self.control = leases.after_write(case, permit, outcomes)
        self.control = but(self.control, leases=dict(self.executor.held))
        applied = [o for o in outcomes if isinstance(o.receipt, Applied)]
        self.counts.writes += len(outcomes)
        self.counts.confirmed += len(applied)
        complete = len(applied) == len(proposal.changes)
        if complete and proposal.loop == "slow":
            self.control = decide.made(self.setting, snapshot, self.control, proposal)
        if complete and proposal.kind == "protective":
            self.counts.protective += 1
        self.memory.keep_latches(self.control, self.site)
        self._say_action(permit, outcomes, complete)
        await self._end(undo)

    async def _end(self, wanted: list[Ending], by_hand: bool = False) -> None:
        """Give back. What is decided is owed until it is done, whatever comes between: a restart, or
        an interlock that says that nothing moves."""
        if not wanted:
            return
        self.control = endings.owing(self.control, wanted, self.clock.now_s())
        if not by_hand:
            wanted = endings.free(self._case(self.snapshot()), wanted)
        outcomes = await self.executor.end(wanted)
        case = self._case(self.snapshot())
        state, held = leases.after_ending(case, outcomes), self.executor.held
        self.control = endings.settled(state, outcomes, held, case.snapshot.now_s)
        self.memory.keep_latches(self.control, self.site)
        why = {e.point: e for e in wanted}
        for outcome in outcomes:
            ending = why[outcome.receipt.point]
            rolled_back = ending.target is Target.PREVIOUS
            self.counts.rollbacks += rolled_back
            self.tell("ending", {
                "point": ending.point, "target": ending.target.value, "reason": ending.reason,
                "receipt": type(outcome.receipt).__name__.lower(), "ts_s": self.clock.now_s(),
                "detail": outcome.receipt,
            })  # fmt: skip
            log.info("given back" if isinstance(outcome.receipt, Applied) else "not given back yet",
                     point=ending.point, to=ending.target.value, reason=ending.reason,
                     receipt=type(outcome.receipt).__name__)  # fmt: skip

    # -- what is said about it

    def note(self, kind: str, body: dict[str, Any]) -> None:
        """Write an act into the journal's log and tell listeners."""
        try:
            self.journal.note(self.clock.now_s(), kind, body)
        except JournalError as error:
            log.critical("journal can't be written", error=str(error))
        log.info(kind, **body)
        self.tell("event", {"kind": kind, **body})

    def _say_state(self, unit: str, finding: Any) -> None:
        why = reason(self.setting.monitor, self.control.monitor, unit)
        log.info("unit changed state", unit=unit, mms=finding.state, deviation=round(finding.deviation, 3),
                 ema=round(finding.ema, 3), most_from=list(finding.top), why=why)  # fmt: skip
        self.tell("event", {"kind": "mms", "unit": unit, "state": finding.state, "ema": finding.ema,
                            "deviation": finding.deviation, "top": list(finding.top), "why": why,
                            "since": utc(finding.since_s)})  # fmt: skip

    def _say_denied(self, denial: Denial, snapshot: Snapshot) -> None:
        proposal = denial.proposal
        log.debug("denied", id=proposal.id, rule=denial.rule, numbers=denial.numbers)
        if not self.listeners:
            return
        detail = _about(proposal) | {"rule": denial.rule, "numbers": denial.numbers}
        detail |= self._rivals(proposal)
        if denial.rule == "mode":
            rest = objections(self._case(snapshot), proposal)
            detail["would"] = not [r for r in rest if not r.startswith("mode")]
        self.tell("decision", detail | {"verdict": "denied", "ts_s": snapshot.now_s})

    def _say_action(self, permit: Permit, outcomes: list[Outcome], complete: bool) -> None:
        detail = _about(permit.proposal) | {
            "cycle": permit.cycle,
            "complete": complete,
            "receipts": {o.receipt.point: type(o.receipt).__name__.lower() for o in outcomes},
            "why": [repr(o.receipt) for o in outcomes if not isinstance(o.receipt, Applied)],
            "ts_s": self.clock.now_s(),
        }
        say = log.info if complete else log.warning
        say("action", **{k: v for k, v in detail.items() if k not in ("ts_s",)})
        self.tell("action", detail | self._rivals(permit.proposal))

    def _rivals(self, proposal: Proposal) -> dict[str, Any]:
        """What was weighed beside a proposal of the slow loop, for its record."""
        cycle, rivals = self._weighed
        if not proposal.id.startswith(cycle):
            return {}
        own = {c.point for c in proposal.changes}
        shown = [c for i, c in enumerate(rivals) if i < MOST_RIVALS or c["point"] in own]
        return {"candidates": shown}

    def _say_judged(self, judged: Judgement) -> None:
        v = judged.verification
        detail = _about(v.proposal) | {
            "inlet_before_c": v.inlet_before_c, "inlet_c": judged.inlet_c,
            "predicted_inlet_k": v.effect.inlet_c, "realised_kw": judged.realised_kw,
            "undo": judged.undo, "ts_s": self.clock.now_s(),
        }  # fmt: skip
        self.tell("judged", detail)


def _about(proposal: Any) -> dict[str, Any]:
    """A proposal for people and topics."""
    return {
        "id": proposal.id, "loop": proposal.loop, "move": proposal.move, "scope": proposal.scope,
        "kind": str(proposal.kind), "reason": proposal.reason,
        "changes": {c.point: [c.old, c.new] for c in proposal.changes},
        "predicted_kw": proposal.effect.total_power_kw,
        "predicted_sigma_kw": proposal.effect.total_power_sigma_kw,
    }  # fmt: skip


__all__ = ["Agent", "ControlState", "Counts", "Verdict"]
