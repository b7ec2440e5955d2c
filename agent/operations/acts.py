"""Operations that make the agent act now: a tick, a change a person asks for, giving back, a scenario.

Decides nothing about safety: a person's change passes the same guardrails, gate and read-back as
a loop's. In advisory mode it answers what it would have done. Must never write by another way.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from agent.field import baseline_age_s, held
from agent.plain import plain
from control.guardrails import objections
from control.leases import PERSONS
from control.state import replace as but
from control.types import Change, Denial, Ending, Proposal, Snapshot, Target
from drivers.gate import JournalError

if TYPE_CHECKING:
    from agent.core import Agent

OPERATOR_MOVE = "operator"
TOLD = frozenset({"action", "decision", "judged", "ending"})

NO_TRIAL_IN_ADVISORY = (
    'advisory writes nothing, a trial does: set agent.mode = "closed_loop" and arm the equipment'
    ' (agent.armed = ["equipment:NAME"]); the loops leave a point alone until its trial has passed'
)

Answer = tuple[bool, dict[str, Any], bool]  # ok, detail, refused


class Wanted(BaseModel):
    """A value a point should take, in its quantity's unit."""

    model_config = ConfigDict(extra="forbid", strict=True)

    point: Annotated[str, Field(min_length=1, max_length=130)]
    value: Annotated[float, Field(allow_inf_nan=False)]


class ApplyArguments(BaseModel):
    """One atomic change: all of `changes` or none. `dry_run`: only say what would come of it;
    `hold_s`: given back after this long (default: limits.lease_s)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    changes: Annotated[list[Wanted], Field(min_length=1, max_length=64)]
    reason: Annotated[str, Field(min_length=1, max_length=200)]
    dry_run: bool = False
    hold_s: Annotated[float, Field(ge=30, le=86_400, allow_inf_nan=False)] | None = None


class CommissionArguments(BaseModel):
    """A trial of one actuator. `step`: how far, signed (default: max_step, towards the safe side);
    `settle_s`: how long its effect is watched; `accept`: why an unclear effect is good enough;
    `dry_run`: only say what would be done."""

    model_config = ConfigDict(extra="forbid", strict=True)

    point: Annotated[str, Field(min_length=1, max_length=130)]
    step: Annotated[float, Field(allow_inf_nan=False)] | None = None
    settle_s: Annotated[float, Field(ge=10, le=7_200, allow_inf_nan=False)] | None = None
    accept: Annotated[str, Field(max_length=200)] = ""
    dry_run: bool = False


class ScenarioArguments(BaseModel):
    """An overlay of the simulated hall, such as add_ai_nodes_row_c."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [
        {"scenario": "add_ai_nodes_row_c", "action": "start", "duration_s": 300},
    ]})  # fmt: skip

    scenario: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    action: Literal["start", "stop"] = "start"
    duration_s: Annotated[float, Field(gt=0, le=604_800, allow_inf_nan=False)] | None = None


class AlarmArguments(BaseModel):
    """One alarm."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Annotated[str, Field(min_length=1, max_length=140)]


class ShelveArguments(AlarmArguments):
    """One alarm that should not call for a while: at most a shift."""

    duration_s: Annotated[float, Field(gt=0, le=28_800, allow_inf_nan=False)]
    reason: Annotated[str, Field(min_length=1, max_length=200)]


def alarm(agent: "Agent", verb: str, arguments: AlarmArguments) -> Answer:
    """Acknowledge, shelve or unshelve an alarm."""
    desk = agent.services.alarms
    if desk is None:
        return False, {"reason": "this agent keeps no alarms"}, False
    match verb, arguments:
        case "shelve", ShelveArguments():
            why = desk.shelve(arguments.id, arguments.duration_s)
        case "unshelve", _:
            why = desk.unshelve(arguments.id)
        case _:
            why = desk.acknowledge(arguments.id)
    if why is not None:
        return False, {"reason": why}, False
    return True, {"id": arguments.id, "alarms": desk.shown()}, False


async def tick(agent: "Agent") -> Answer:
    """Run the slow optimizer once, now; what it decided."""
    with _told(agent) as told:
        await agent.slow()
    return True, {"mode": agent.control.modes.mode.value, "decided": told}, False


async def apply(agent: "Agent", arguments: ApplyArguments, principal: str) -> Answer:
    """Judge a change that a person wants and, where that is allowed, make it."""
    unknown = [c.point for c in arguments.changes if c.point not in agent.site.writable_points]
    if unknown:
        return False, {"reason": f"not a writable point: {', '.join(sorted(unknown))[:300]}"}, False
    proposal = _proposal(agent, arguments, principal)
    case = agent.setting.case(agent.snapshot(), agent.control)
    against = list(objections(case, proposal))
    modes = agent.control.modes
    detail: dict[str, Any] = {
        "proposal": proposal.id, "mode": modes.mode.value, "applied": False, "objections": against,
        "changes": {c.point: [c.old, c.new] for c in proposal.changes},
    }  # fmt: skip
    if arguments.dry_run or not modes.may_act:
        would = not [o for o in against if not o.startswith("mode")]
        return True, detail | {"would_apply": would}, False
    with _told(agent) as told:
        verdict = await agent.act(proposal)
    if isinstance(verdict, Denial):
        rule = {"rule": verdict.rule, "numbers": verdict.numbers}
        return False, detail | rule | {"reason": f"{verdict.rule}: {verdict.numbers}"}, True
    done = next((t for t in told if t["type"] == "action"), {})
    applied = bool(done.get("complete"))
    detail |= {"applied": applied, "receipts": done.get("receipts", {}), "why": done.get("why", [])}
    detail["held"] = {c.point: held(agent, c.point) for c in proposal.changes}
    if not applied:
        detail["reason"] = "not every point took its value; what was written is given back"
    return applied, detail, False


def _proposal(agent: "Agent", arguments: ApplyArguments, principal: str) -> Proposal:
    snapshot = agent.snapshot()
    changes = tuple(
        Change(c.point, _present(agent, c.point, snapshot), float(c.value))
        for c in arguments.changes
    )
    rows = {agent.site.points[c.point].row for c in changes}
    row = rows.pop() if len(rows) == 1 else None
    return Proposal(
        id=f"{PERSONS}{agent.next_cycle('o')}", loop="operator", move=OPERATOR_MOVE, changes=changes,
        reason=f"{principal}: {arguments.reason}", scope=f"row:{row}" if row else "hall",
        expires_s=snapshot.now_s + (arguments.hold_s or agent.site.limits.lease_s),
    )  # fmt: skip


def _present(agent: "Agent", key: str, snapshot: Snapshot) -> float | None:
    """What the point holds: its reading, or what we have written and proved since."""
    lease = agent.control.leases.get(key)
    read_s = snapshot.now_s - snapshot.age_s[snapshot.index[key]]
    if lease is not None and lease.certain and read_s <= lease.taken_s:
        return lease.value
    return snapshot.value(key)


async def give_back(agent: "Agent", point: str, principal: str) -> Answer:
    """End a lease now: the device's own way, or its baseline. Never blocked."""
    if point not in agent.control.leases:
        return False, {"reason": f"nothing of ours is held on {point}"}, False
    with _told(agent) as told:
        await agent.end([Ending(point, Target.BASELINE, f"{principal} gives it back")])
    left = point in agent.control.leases
    detail: dict[str, Any] = {"point": point, "given_back": not left, "endings": told}
    if left:
        detail["reason"] = "the device did not confirm it; the agent keeps trying"
    return not left, detail, False


def approve_baseline(agent: "Agent", point: str) -> Answer:
    """Let what stood before us count as read now: a person knows that it is still right.

    It can't be read again while ours stands in its place. Giving back writes it for another
    baseline_max_age_s, and the safe value after that.
    """
    lease = agent.control.leases.get(point)
    if lease is None:
        return False, {"reason": f"nothing of ours is held on {point}"}, False
    bounds = agent.site.points[point].limits
    if bounds.relinquish or lease.baseline is None:
        return False, {"reason": f"{point} is given back by Null, not to a baseline"}, False
    if not bounds.min <= lease.baseline <= bounds.max:
        reason = f"{lease.baseline:g} is outside {bounds.min:g}..{bounds.max:g}: never written"
        return False, {"reason": reason}, True
    age_s = baseline_age_s(agent, lease)
    try:
        agent.executor.prolong([replace(lease, baseline_s=agent.clock.now_s())])
    except JournalError as error:
        return False, {"reason": f"journal: {error}"}, False
    agent.control = but(agent.control, leases=dict(agent.executor.held))
    return True, {"point": point, "baseline": lease.baseline, "was_age_s": age_s}, False


def commission(agent: "Agent", arguments: CommissionArguments, principal: str) -> Answer:
    """Say what a trial would do, or begin it; `commission.status` tells how it goes."""
    trial = agent.trial
    if trial.running:
        return False, {"reason": f"a trial of {trial.view['point']} is under way"}, False
    if not agent.control.modes.may_act:
        return False, {"reason": NO_TRIAL_IN_ADVISORY}, True
    plan = trial.plan(arguments.point, arguments.step, arguments.settle_s)
    if isinstance(plan, str):
        return False, {"reason": plan}, True
    if against := trial.objections(plan, principal):
        rule, _, numbers = against[0].partition(": ")
        detail = {"reason": f"refused by {against[0]}", "rule": rule, "numbers": numbers}
        return False, plan | detail | {"objections": list(against)}, True
    if not arguments.dry_run:
        trial.start(plan, principal, arguments.accept)
    return True, plan, False


async def scenario(agent: "Agent", arguments: ScenarioArguments) -> Answer:
    """Start or stop an overlay of the simulated hall."""
    start = agent.services.scenario
    if not agent.site.simulated:
        return False, {"reason": "this is no simulated site (site.simulated)"}, True
    if start is None:
        return False, {"reason": "set api.simulator_url: skadi sim prints it as `control`"}, False
    ok, detail = await start(arguments.scenario, arguments.action, arguments.duration_s)
    return ok, detail, False


@contextmanager
def _told(agent: "Agent") -> Iterator[list[dict[str, Any]]]:
    """What the agent tells meanwhile about decisions."""
    told: list[dict[str, Any]] = []

    def listen(kind: str, detail: dict[str, Any]) -> None:
        if kind in TOLD and len(told) < 256:
            told.append({"type": kind, **plain(detail)})

    agent.listeners.append(listen)
    try:
        yield told
    finally:
        agent.listeners.remove(listen)
