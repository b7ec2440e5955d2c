"""P6 and P7: every sensor and pair of sensors dropped; every subset of devices failing in a change.

The real agent with its rules and endings; what it wants is set by hand. Judged at the devices.
"""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import chain, combinations
from pathlib import Path
from random import Random

from agent.core import Agent
from control.types import Change, Proposal
from tests.safety.checkers import wire
from tests.safety.rogue import Rogue
from tests.safety.tally import Tally
from tests.safety.world import START_S, World, make_site

SITE = make_site()
TICK_S = 5.0
RELEASE_AFTER_S = 60.0  # limits.release_after_s of the hall
LEASES = {"crac-a1/supply": 19.8, "crac-a1/fan": 77.0, "crac-a2/supply": 18.2, "crac-b1/supply": 19.8,
          "pump/speed": 88.0, "bms/water": 8.4, "router/share.A": 45.0, "router/share.B": 55.0}  # fmt: skip
CHANGE = {"crac-a1/supply": 19.8, "crac-a2/supply": 18.2, "crac-b1/supply": 19.8, "pump/speed": 88.0,
          "bms/water": 8.4, "router/batch": 60.0}  # fmt: skip
SENSORS = tuple(k for k, p in SITE.points.items() if p.writable is None)
FAULTS = ("refuses", "ignores", "loses_answer", "loses_request", "lies", "dies")


def must_end(dark: Iterable[str]) -> set[str]:
    """Which leases lose their ground with these sensors, told apart from the agent.

    Cooling of a row rests on each of its racks (of the hall on more than half of them), a share on
    its row's latency, and what a leak sensor guards (row B) on that.
    """
    gone = set(dark)
    racks = {r for r in ("rack-a1", "rack-a2", "rack-b1", "rack-b2")
             if {f"{r}/inlet1", f"{r}/inlet2"} <= gone}  # fmt: skip
    ends: set[str] = set()
    if racks & {"rack-a1", "rack-a2"}:
        ends |= {"crac-a1/supply", "crac-a1/fan", "crac-a2/supply"}
    if racks & {"rack-b1", "rack-b2"}:
        ends |= {"crac-b1/supply"}
    if len(racks) > 2:
        ends |= {"pump/speed", "bms/water"}
    ends |= {f"router/share.{row.upper()}" for row in "ab" if f"vllm-{row}/p95" in gone}
    if "bms-in/leak" in gone:
        ends |= {"crac-b1/supply", "router/share.B"}
    return ends


async def _started(folder: Path, wanted: dict[str, float]) -> tuple[World, Agent]:
    world = World(folder, SITE)
    agent = world.start(Rogue)
    world.poll(agent)
    await agent.observe()
    for name, keys in _requests(wanted).items():
        baseline = {k: world.limits[k].baseline for k in keys}
        changes = tuple(Change(k, baseline[k], wanted[k]) for k in keys)
        await agent.act(Proposal(f"p-{name}", "slow", name, changes, "r", expires_s=START_S + 9e5))
    return world, agent


def _requests(wanted: dict[str, float]) -> dict[str, list[str]]:
    """One proposal an equipment: shares together."""
    found: dict[str, list[str]] = {}
    for key in wanted:
        found.setdefault(_equipment(key), []).append(key)
    return found


def _equipment(key: str) -> str:
    """Of which equipment a knob is."""
    return SITE.points[key].equipment


async def _tick(world: World, agent: Agent) -> None:
    world.clock.advance(TICK_S)
    world.poll(agent)
    await agent.observe()
    await agent.fast()


async def _dropped(folder: Path, dark: Sequence[str]) -> list[str]:
    """Drop sensors; what ends must end in time, and nothing else may."""
    world, agent = await _started(folder, LEASES)
    agent.wanted = lambda _agent, _cycle: []  # type: ignore[attr-defined]
    if missing := LEASES.keys() - agent.executor.held.keys():
        return [f"not held to begin with: {sorted(missing)}"]
    await _tick(world, agent)
    good_s = world.clock.boot_s()  # the last good reading
    for key in dark:
        world.sensors[key] = None
    ended: dict[str, float] = {}
    for _ in range(int((RELEASE_AFTER_S + 60.0) / TICK_S)):
        await _tick(world, agent)
        for key in LEASES.keys() - agent.executor.held.keys() - ended.keys():
            ended[key] = world.clock.boot_s() - good_s
    world.stop()
    due = must_end(dark)
    late = {
        k: ended.get(k) for k in due if not ended.get(k, 1e9) <= RELEASE_AFTER_S + 15.0 + 2 * TICK_S
    }
    return [*([f"not given back in time: {late}"] if late else []),
            *([f"given back for nothing: {sorted(ended.keys() - due)}"] if ended.keys() - due else []),
            *wire.judge(world.limits, world.log, 120.0).broken]  # fmt: skip


def drop_sensors(first: int, count: int, folder: Path, _jobs: int) -> Tally:
    """Every single sensor and every pair (count 0), or `count` random sets of up to six."""
    tally, random = Tally(), Random(first)
    every = [*((s,) for s in SENSORS), *combinations(SENSORS, 2)]
    sets = every if count == 0 else [tuple(random.sample(SENSORS, random.randint(1, 6)))
                                     for _ in range(count)]  # fmt: skip
    for number, dark in enumerate(sets):
        place = folder / f"{number}"
        place.mkdir(parents=True)
        found = asyncio.run(_dropped(place, dark))
        tally.broken += [f"{dark}: {b}" for b in found]
        tally.cases += 1
    return tally


async def _failing(folder: Path, keys: Sequence[str], bad: Sequence[str], fault: str) -> list[str]:
    """A change over these points while some devices fail, from the first write on."""
    world, agent = await _started(folder, {})
    agent.wanted = lambda _agent, _cycle: []  # type: ignore[attr-defined]
    for key in bad:
        field = world.fields[key.partition("/")[0]]
        match fault:
            case "lies":
                field.lies = 0.7
            case "dies":
                field.on_write = lambda f=field: setattr(f, "up", False)  # type: ignore[misc]
            case _:
                setattr(field, fault, True)
    baseline = {k: world.limits[k].baseline for k in keys}
    changes = tuple(Change(k, baseline[k], CHANGE[k]) for k in keys)
    await agent.act(Proposal("p", "slow", "m", changes, "r", expires_s=START_S + 9e5))
    for _ in range(6):
        await _tick(world, agent)
    for field in world.fields.values():
        field.up, field.lies, field.on_write = True, 0.0, None
        field.refuses = field.ignores = field.loses_answer = field.loses_request = False
    for _ in range(int(900 / TICK_S)):
        if all(x.certain for x in agent.executor.held.values()) and not agent.control.owed:
            break
        await _tick(world, agent)
    world.stop()
    holds = {k: world.fields[k.partition("/")[0]].cells[k].present() for k in keys}
    applied = all(abs(holds[k] - CHANGE[k]) < 1e-6 for k in keys)
    left = wire.left_behind(world.limits, world.log, world.holds())
    judged = wire.judge(world.limits, world.log, 120.0).broken
    return [*judged] if applied else [*judged, *left]


def fail_devices(first: int, count: int, folder: Path, _jobs: int) -> Tally:
    """All subsets of failing devices in changes over 2..6, for each way to fail (count 0)."""
    tally, every = Tally(), list[tuple[tuple[str, ...], tuple[str, ...], str]]()
    for size in range(2, len(CHANGE) + 1):
        keys = tuple(CHANGE)[:size]
        subsets = chain.from_iterable(combinations(keys, n) for n in range(size + 1))
        every += [(keys, bad, fault) for bad in subsets for fault in (FAULTS if bad else ("",))]
    if count:
        every = Random(first).choices(every, k=count)
    for number, (keys, bad, fault) in enumerate(every):
        place = folder / f"{number}"
        place.mkdir(parents=True)
        found = asyncio.run(_failing(place, keys, bad, fault))
        tally.broken += [f"{len(keys)} devices, {fault} {bad}: {b}" for b in found]
        tally.cases += 1
    return tally
