"""Commissioning of one actuator on the running agent: look, one step, look, give back, store.

Owns the order of things and the record. The step passes both rings, the journal and read-back
like any other change, its lease ends by itself, and it is given back whatever happens. Decides
neither the step nor what it showed (control.trial). Must never start without a person on the host.
"""

import asyncio
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from agent.clock import utc
from control import trial
from control.guardrails import objections
from control.leases import PERSONS
from control.trial import Watched
from control.types import Change, Denial, Ending, Proposal, Snapshot, Target

if TYPE_CHECKING:
    from agent.core import Agent

log = structlog.get_logger(__name__)

BEFORE_S = 60.0  # how long sensors are looked at before the step
LOOK_S = 5.0
MARGIN_S = 120.0  # for which the lease outlives the watch: giving back comes first
LOOP = "commission"


class Interrupted(Exception):
    """The trial can't go on. The message says why."""


class Trial:
    """The latest trial of an agent: at most one at a time. `view` is what is known of it."""

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent
        self._task: asyncio.Task[None] | None = None
        self.view: dict[str, Any] = {"running": False}

    @property
    def running(self) -> bool:
        """True while one goes on."""
        return self._task is not None and not self._task.done()

    def plan(self, key: str, size: float | None, settle_s: float | None) -> dict[str, Any] | str:
        """What a trial would do, or why it can't be done."""
        point = self._agent.site.points.get(key)
        if point is None:
            return f"no point {key!r}"
        old = self._agent.snapshot().value(key)
        new = trial.step(point, old, size)
        if isinstance(new, str):
            return new
        assert point.writable is not None
        wait_s = settle_s if settle_s is not None else max(point.writable.settle_s, LOOK_S)
        return {
            "point": key, "unit": point.about.unit, "old": old, "new": new, "settle_s": wait_s,
            "before_s": BEFORE_S, "sensors": len(trial.near(self._agent.site, point)),
        }  # fmt: skip

    def objections(self, plan: dict[str, Any], principal: str) -> tuple[str, ...]:
        """Every rule that objects to the step now: better said before anybody waits."""
        agent = self._agent
        case = agent.setting.case(agent.snapshot(), agent.control)
        try:
            return objections(case, self._proposal(plan, principal))
        except Interrupted as why:
            return (f"known: {why}",)

    def start(self, plan: dict[str, Any], principal: str, accept: str) -> None:
        """Begin; `view` tells how it goes."""
        self.view = {"running": True, "stage": "looking at the sensors", **plan}
        self._task = asyncio.create_task(self._run(plan, principal, accept), name="commission")

    async def stop(self) -> None:
        """The agent stops: the step is given back with everything else."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, plan: dict[str, Any], principal: str, accept: str) -> None:
        agent, key = self._agent, plan["point"]
        problems: list[str] = []
        seen = None
        try:
            seen = await self._try(plan, principal)
        except Interrupted as why:
            problems = [str(why)]
        except Exception as error:
            log.exception("commissioning failed", point=key)
            problems = [f"the agent failed ({type(error).__name__}); see its log"]
        finally:
            if key in agent.control.leases and not await self._given_back(key):
                problems.append("the device did not confirm giving back; the agent keeps trying")
        self.view = {**self.view, **self._judged(plan, seen, problems, accept), "by": principal}
        if self.view["ok"]:
            agent.control = replace(agent.control, commissioned=agent.control.commissioned | {key})
            agent.memory.keep_commissioned(agent.site, key, self.view)
        agent.note("commissioned" if self.view["ok"] else "not_commissioned", self.view)

    async def _try(self, plan: dict[str, Any], principal: str) -> Watched:
        """Look, step, look. Raises Interrupted."""
        agent, key = self._agent, plan["point"]
        sensors = [p.key for p in trial.near(agent.site, agent.site.points[key])]
        places = np.array([agent.layout.index[k] for k in sensors], dtype=np.intp)
        looks: list[tuple[float, Any]] = []
        begin_s = agent.clock.now_s()
        while agent.clock.now_s() - begin_s < plan["before_s"]:
            await agent.clock.sleep_s(LOOK_S)
            looks.append((agent.clock.now_s(), _good(agent.snapshot(), places)))
        verdict = await agent.act(self._proposal(plan, principal))
        if isinstance(verdict, Denial):
            self.view |= {"rule": verdict.rule, "numbers": verdict.numbers}
            raise Interrupted(f"refused by {verdict.rule}: {verdict.numbers}")
        lease = agent.control.leases.get(key)
        if lease is None or not lease.certain or lease.proposal != verdict.proposal.id:
            why = agent.control.yielded.get(key) or agent.control.quarantined.get(key)
            raise Interrupted(f"not written and read back: {why or 'see the agent log'}")
        self.view["read_back"] = lease.value
        step_s = agent.clock.now_s()
        self.view["stage"] = "written and read back; watching the effect"
        while (left_s := plan["settle_s"] - (agent.clock.now_s() - step_s)) > 0:
            self.view["left_s"] = round(left_s, 1)
            await agent.clock.sleep_s(LOOK_S)
            looks.append((agent.clock.now_s(), _good(agent.snapshot(), places)))
            now = agent.control.leases.get(key)
            if now is None or now.proposal != lease.proposal:
                raise Interrupted("something else took the point meanwhile; see  skadi log")
        times = np.array([t - step_s for t, _ in looks])
        return Watched(tuple(sensors), times, np.array([values for _, values in looks]))

    def _proposal(self, plan: dict[str, Any], principal: str) -> Proposal:
        agent, key = self._agent, plan["point"]
        point, snapshot = agent.site.points[key], agent.snapshot()
        now = snapshot.value(key)
        if now is None or not point.same(now, plan["old"]):
            raise Interrupted(f"it held {plan['old']:g} and holds {now} now; begin again")
        changes = [Change(key, now, plan["new"])]
        if point.quantity == "traffic_share_pct":  # shares only make sense as a whole
            others = [(v, p) for p in agent.layout.knobs(point.quantity)
                      if p.key != key and (v := snapshot.value(p.key)) is not None]  # fmt: skip
            value, other = max(others, key=lambda x: x[0], default=(0.0, point))
            if other is point:
                raise Interrupted("the share that would make room has no good reading")
            changes.append(Change(other.key, value, value - (plan["new"] - now)))
        return Proposal(
            id=f"{PERSONS}{LOOP}:{agent.next_cycle('t')}", loop=LOOP, move=LOOP,
            changes=tuple(changes), reason=f"{principal} commissions it",
            scope=f"row:{point.row}" if point.row else "hall",
            expires_s=snapshot.now_s + plan["settle_s"] + MARGIN_S,
        )  # fmt: skip

    async def _given_back(self, key: str) -> bool:
        agent = self._agent
        proposal = agent.control.leases[key].proposal
        mine = [k for k, x in agent.control.leases.items() if x.proposal == proposal]
        await agent.end([Ending(k, Target.BASELINE, "the trial is over") for k in mine])
        return not set(mine) & set(agent.control.leases)

    def _judged(
        self, plan: dict[str, Any], seen: Watched | None, problems: list[str], accept: str
    ) -> dict[str, Any]:
        """What came of it, as plain JSON values."""
        agent = self._agent
        result: dict[str, Any] = {"running": False, "stage": "done", "at": utc(agent.clock.now_s())}
        unclear: tuple[str, ...] = ()
        if seen is not None:
            point = agent.site.points[plan["point"]]
            shown = trial.shown(agent.site, point, plan["new"] - plan["old"], seen)
            problems, unclear = [*problems, *shown.wrong], shown.unclear
            result["responses"] = [asdict(r) for r in shown.responses]
        ok = seen is not None and not problems and (not unclear or bool(accept))
        given = {"accepted": accept} if ok and unclear else {}
        return result | given | {"ok": ok, "problems": problems, "unclear": list(unclear)}


def _good(snapshot: Snapshot, places: Any) -> Any:
    return snapshot.take(places)
