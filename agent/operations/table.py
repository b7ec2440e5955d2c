"""Every operation on a running agent, in one table: name, arguments, role, function.

CLI, MQTT and HTTP are adapters over it: the same call, the same result, the same audit entry.
Raising anything takes an engineer on the host; the functions here don't trust adapters with it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.api.views import modes_json
from agent.core import Agent
from agent.field import MOST_PATTERNS, NoSuchPoint, held, readings
from agent.operations import acts, looks, models
from config.checks import unknown_scope
from config.schema import Scope
from control.layout import HALL
from control.modes import Event, Refusal
from control.state import Trip
from control.types import Finding


class NoArguments(BaseModel):
    """An operation that takes nothing."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ScopeArguments(NoArguments):
    """An operation on one armed scope."""

    scope: Scope


class PointArguments(NoArguments):
    """An operation on one point."""

    point: str


class ReadArguments(NoArguments):
    """Points by key, device, quantity or pattern; all of them when none is named."""

    points: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=130)]], Field(max_length=MOST_PATTERNS)
    ] = Field(default_factory=list)


class InterlockArguments(NoArguments):
    """An operation on one interlock."""

    id: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, over which channel (cli, signal, file, mqtt, http), in which role."""

    principal: str
    channel: str
    role: str


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a call. `refused`: a limit or a role said no; `invalid`: it made no sense."""

    ok: bool
    detail: dict[str, Any]
    refused: bool = False
    invalid: bool = False


Function = Callable[[Agent, Any, Caller], Awaitable[Result]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the table."""

    name: str
    arguments: type[BaseModel]
    role: str  # the least role: viewer < operator < engineer
    changes: bool
    run: Function


RANK = {"viewer": 0, "operator": 1, "engineer": 2}


def _mode_event(event: Event) -> Function:
    async def run(agent: Agent, arguments: Any, caller: Caller) -> Result:
        scope = getattr(arguments, "scope", "")
        if scope and (nowhere := unknown_scope(agent.site, scope)):
            return Result(False, {"reason": nowhere})
        result = await agent.change_mode(event, scope, caller.channel, caller.role)
        if isinstance(result, Refusal):
            return Result(False, {"reason": result.reason}, refused=True)
        return Result(True, modes_json(result))

    return run


async def _status(agent: Agent, _arguments: Any, _caller: Caller) -> Result:
    snapshot = agent.snapshot()
    state = agent.control
    kpi = agent.meter.kpi(snapshot)
    return Result(True, {
        "site": agent.site.id, "area": agent.site.area, "modes": modes_json(state.modes), "kpi": kpi,
        "leases": {k: held(agent, k) for k in state.leases},
        "rows": {u.removeprefix("row:"): _judged(f)
                 for u, f in state.findings.items() if u.startswith("row:")},
        "hall": _judged(state.findings[HALL]) if HALL in state.findings else None,
        "yielded": dict(state.yielded), "quarantined": dict(state.quarantined),
        "tripped": sorted(i for i, t in state.trips.items() if t.tripped),
        "alarms": agent.services.alarms.shown() if agent.services.alarms else [],
        "counts": {k: getattr(agent.counts, k) for k in agent.counts.__slots__},
    })  # fmt: skip


def _judged(f: Finding) -> dict[str, Any]:
    return {"mms": f.state, "deviation": f.deviation, "ema": f.ema}


def _look(name: str) -> Function:
    async def run(agent: Agent, arguments: Any, _caller: Caller) -> Result:
        return Result(*looks.LOOKS[name](agent, arguments))

    return run


async def _read(agent: Agent, arguments: ReadArguments, _caller: Caller) -> Result:
    try:
        return Result(True, {"readings": readings(agent, arguments.points)})
    except NoSuchPoint as error:
        return Result(False, {"reason": str(error)}, invalid=True)


async def _resume(agent: Agent, arguments: PointArguments, caller: Caller) -> Result:
    point = arguments.point
    state = agent.control
    if caller.channel not in ("cli", "file"):
        return Result(
            False, {"reason": "resuming a point takes a person on the host"}, refused=True
        )
    if point not in state.yielded and point not in state.quarantined:
        return Result(False, {"reason": f"{point} is neither yielded nor quarantined"})
    yielded = {k: v for k, v in state.yielded.items() if k != point}
    quarantined = {k: v for k, v in state.quarantined.items() if k != point}
    agent.journal.resume(agent.clock.now_s(), point, asdict(caller))
    agent.control = replace(state, yielded=yielded, quarantined=quarantined)
    return Result(True, {"resumed": point})


async def _reset(agent: Agent, arguments: InterlockArguments, caller: Caller) -> Result:
    if caller.channel not in ("cli", "file"):
        return Result(False, {"reason": "an interlock is reset on the host"}, refused=True)
    if arguments.id not in agent.control.trips:
        return Result(False, {"reason": f"no interlock {arguments.id!r}"})
    agent.control = replace(agent.control, trips={**agent.control.trips, arguments.id: Trip()})
    agent.memory.keep_latches(agent.control, agent.site)
    return Result(True, {"reset": arguments.id})


async def _tick(agent: Agent, _arguments: Any, _caller: Caller) -> Result:
    return Result(*await acts.tick(agent))


async def _apply(agent: Agent, arguments: acts.ApplyArguments, caller: Caller) -> Result:
    return Result(*await acts.apply(agent, arguments, caller.principal))


async def _give_back(agent: Agent, arguments: PointArguments, caller: Caller) -> Result:
    return Result(*await acts.give_back(agent, arguments.point, caller.principal))


async def _approve(agent: Agent, arguments: PointArguments, caller: Caller) -> Result:
    if caller.channel not in ("cli", "file"):
        return Result(False, {"reason": "a baseline is approved on the host"}, refused=True)
    return Result(*acts.approve_baseline(agent, arguments.point))


async def _commission(agent: Agent, arguments: acts.CommissionArguments, caller: Caller) -> Result:
    if caller.channel not in ("cli", "file"):
        return Result(False, {"reason": "commissioning takes a person on the host"}, refused=True)
    return Result(*acts.commission(agent, arguments, caller.principal))


async def _commission_status(agent: Agent, _arguments: Any, _caller: Caller) -> Result:
    return Result(True, agent.trial.view)


async def _scenario(agent: Agent, arguments: acts.ScenarioArguments, _caller: Caller) -> Result:
    return Result(*await acts.scenario(agent, arguments))


async def _reload(agent: Agent, _arguments: Any, _caller: Caller) -> Result:
    if agent.services.reload is None:
        return Result(False, {"reason": "this agent was not started from a site file"})
    return Result(*await agent.services.reload())


async def _train(agent: Agent, arguments: models.TrainArguments, caller: Caller) -> Result:
    return Result(*await models.train(agent, arguments, caller.principal))


async def _models(agent: Agent, _arguments: Any, _caller: Caller) -> Result:
    return Result(*await models.listed(agent))


async def _activate(agent: Agent, arguments: models.ActivateArguments, caller: Caller) -> Result:
    return Result(*await models.activate(agent, arguments, caller.principal))


async def _exclude(agent: Agent, arguments: models.ExcludeArguments, caller: Caller) -> Result:
    return Result(*await models.exclude(agent, arguments, caller.principal))


def _alarm(verb: str) -> Function:
    async def run(agent: Agent, arguments: Any, _caller: Caller) -> Result:
        return Result(*acts.alarm(agent, verb, arguments))

    return run


OPERATIONS: dict[str, Operation] = {
    o.name: o
    for o in (
        Operation("status", NoArguments, "viewer", False, _status),
        Operation("overview", NoArguments, "viewer", False, _look("overview")),
        Operation("devices", NoArguments, "viewer", False, _look("devices")),
        Operation("heatmap", NoArguments, "viewer", False, _look("heatmap")),
        Operation("events", looks.EventArguments, "viewer", False, _look("events")),
        Operation("read", ReadArguments, "viewer", False, _read),
        Operation("mode.lower", NoArguments, "operator", True, _mode_event(Event.LOWER)),
        Operation("mode.raise", NoArguments, "engineer", True, _mode_event(Event.RAISE)),
        Operation("arm", ScopeArguments, "engineer", True, _mode_event(Event.ARM)),
        Operation("disarm", ScopeArguments, "operator", True, _mode_event(Event.DISARM)),
        Operation("kill", NoArguments, "operator", True, _mode_event(Event.KILL)),
        Operation("kill.clear", NoArguments, "engineer", True, _mode_event(Event.CLEAR)),
        Operation("resume", PointArguments, "engineer", True, _resume),
        Operation("baseline.approve", PointArguments, "engineer", True, _approve),
        Operation("interlock.reset", InterlockArguments, "engineer", True, _reset),
        Operation("optimizer.tick", NoArguments, "operator", True, _tick),
        Operation("actions.apply", acts.ApplyArguments, "operator", True, _apply),
        Operation("actions.give_back", PointArguments, "operator", True, _give_back),
        Operation("commission", acts.CommissionArguments, "engineer", True, _commission),
        Operation("commission.status", NoArguments, "viewer", False, _commission_status),
        Operation("reload", NoArguments, "engineer", True, _reload),
        Operation("alarm.ack", acts.AlarmArguments, "operator", True, _alarm("ack")),
        Operation("alarm.shelve", acts.ShelveArguments, "operator", True, _alarm("shelve")),
        Operation("alarm.unshelve", acts.AlarmArguments, "operator", True, _alarm("unshelve")),
        Operation("ims.train", models.TrainArguments, "operator", True, _train),
        Operation("models.exclude", models.ExcludeArguments, "operator", True, _exclude),
        Operation("models.list", NoArguments, "viewer", False, _models),
        Operation("models.activate", models.ActivateArguments, "engineer", True, _activate),
        Operation("demo.scenario", acts.ScenarioArguments, "operator", True, _scenario),
    )
}


async def call(agent: Agent, name: str, arguments: Any, caller: Caller) -> Result:
    """Check and run one operation; a change is in the audit log whatever came of it."""
    operation = OPERATIONS.get(name)
    if operation is None:
        near = get_close_matches(name[:64], OPERATIONS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "skadi call lists them"
        return Result(False, {"reason": f"unknown operation {name[:64]!r}; {hint}"}, invalid=True)
    if RANK.get(caller.role, -1) < RANK[operation.role]:
        result = Result(False, {"reason": f"{name} needs role {operation.role}"}, refused=True)
    else:
        try:
            parsed = operation.arguments.model_validate(arguments)
        except ValidationError as error:
            reason = "; ".join(
                f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()
            )
            result = Result(False, {"reason": reason}, invalid=True)
        else:
            result = await operation.run(agent, parsed, caller)
    if operation.changes:
        agent.note("command", {
            "operation": name, "arguments": arguments, "principal": caller.principal,
            "channel": caller.channel, "role": caller.role, "ok": result.ok, "detail": result.detail,
        })  # fmt: skip
    return result
