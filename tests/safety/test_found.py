"""What the campaign found once, small: one test a fault. And that the campaign itself is fair."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core import Agent
from agent.operations.table import call
from control import leases
from control.decide import Decision
from control.guardrails import judge
from control.types import Change, Denial, Ending, Kind, Permit, Proposal, Target
from tests.safety.campaign import silence
from tests.safety.chaos import HOST, Crash, Scenario
from tests.safety.rig import FAN, SUPPLY, WATER
from tests.safety.world import INTERVAL_S, World, make_site


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with silence():
        yield


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, make_site())
    made.clock.advance(1000.0)
    return made


@pytest.fixture
async def agent(world: World) -> Agent:
    agent = world.start()
    world.poll(agent)
    await agent.observe()
    return agent


def want(agent: Agent, key: str, by: float) -> Proposal:
    """A change of one point that nothing speaks against."""
    old, now_s = agent.snapshot().value(key), agent.clock.now_s()
    assert old is not None
    change = Change(key, old, old + by)
    return Proposal(f"t{now_s}{key}", "slow", "test", (change,), "a test", Kind.NORMAL,
                    expires_s=now_s + 900.0)  # fmt: skip


def permit(agent: Agent, key: str, by: float) -> Permit:
    verdict = judge(agent._case(agent.snapshot()), want(agent, key, by), "c1")
    assert isinstance(verdict, Permit), verdict
    return verdict


async def test_a_change_that_a_stop_cuts_off_is_given_back(
    agent: Agent, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy host: the slow loop was cut off within a change that was on the wire already, and
    the stop gave back everything but that."""
    driver, written = world.drivers["crac-a1"], asyncio.Event()
    before, write = world.fields["crac-a1"].cells[SUPPLY].present(), driver.write_raw

    async def hang(values: Mapping[str, float | None]) -> None:
        await write(values)
        written.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(driver, "write_raw", hang)
        acting = asyncio.create_task(agent.act(want(agent, SUPPLY, 0.8)))
        await written.wait()
        acting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await acting
    assert world.fields["crac-a1"].cells[SUPPLY].present() != before
    await agent.stop()
    assert world.fields["crac-a1"].cells[SUPPLY].present() <= before  # baseline or the safe value
    assert agent.executor.held == {}


async def test_who_books_late_opens_no_interval_early(agent: Agent, world: World) -> None:
    """Seed 4484, P2: a giving back took 50 s; a refused move that had been decided before it was
    booked after it, at its own older time, and the interval was short by that."""
    decided, refused = agent._case(agent.snapshot()), permit(agent, FAN, 2.0)
    assert not isinstance(await agent.act(want(agent, SUPPLY, 0.8)), Denial)
    world.clock.advance(50.0)
    await agent.end([Ending(SUPPLY, Target.BASELINE, "test")])
    agent.control = leases.reserved(replace(decided, state=agent.control), refused)
    for wait_s, rule in ((INTERVAL_S - 1.0, "rate"), (1.0, "")):
        world.clock.advance(wait_s)
        world.poll(agent)
        verdict = await agent.act(want(agent, FAN, 2.0))
        assert (verdict.rule if isinstance(verdict, Denial) else "") == rule


async def test_a_move_that_waited_is_booked_when_it_is_made(agent: Agent, world: World) -> None:
    """Seed 4484, P2: endings came first and took two minutes; nobody else may change the
    equipment while the move is under way."""
    decided, snapshot = permit(agent, FAN, 2.0), agent.snapshot()
    world.clock.advance(INTERVAL_S)
    world.poll(agent)
    seen = []

    def look(_device: str, _act: str) -> None:
        seen.append(judge(agent._case(agent.snapshot()), want(agent, SUPPLY, 0.8), "c2"))

    world.drivers["crac-a1"].pause = look
    await agent._carry_out(Decision(agent.control, (decided,), ()), snapshot)
    assert seen
    assert all(isinstance(v, Denial) and v.rule == "rate" for v in seen)


def doomed(folder: Path, seed: int = 1) -> Scenario:
    """A scenario whose process dies at the next act that it may die at."""
    scenario = Scenario(seed, 200, folder)
    scenario.fatal, scenario.slow, scenario.harm = 1.0, 0.0, 0.0
    return scenario


def test_nobody_dies_before_a_lie_was_looked_at(tmp_path: Path) -> None:
    """Seed 8085: what a lying device made of a write, and an agent that died meanwhile, on
    whichever device, can't be told from what an operator set."""
    scenario = doomed(tmp_path)
    liar = scenario.world.fields["crac-a1"]
    liar.lies = -2.0
    liar.write({SUPPLY: 18.0}, 14)
    scenario._pause("pump", "written")
    liar.lies = 0.0
    liar.read(SUPPLY, 14)
    with pytest.raises(Crash):
        scenario._pause("pump", "written")
    scenario.fatal = 0.0
    with pytest.raises(Crash):  # who is dead does nothing more, on any device
        scenario._pause("crac-a1", "write")
    scenario.world.stop()


@pytest.mark.parametrize("noticed", [False, True])
async def test_an_override_counts_unless_it_came_and_went_unseen(
    tmp_path: Path, noticed: bool
) -> None:
    """Seed 9452: an operator took a BACnet value and gave it back while the device could not be
    read; nothing is left to yield to. Once it could be read, it must be yielded to."""
    scenario = Scenario(1, 200, tmp_path)
    scenario.harm = scenario.fatal = scenario.slow = 0.0
    world, agent = scenario.world, scenario.agent
    world.poll(agent)
    await agent.observe()
    assert not isinstance(await agent.act(want(agent, WATER, 0.3)), Denial)
    world.fields["bms"].reads_nothing = not noticed
    scenario._operate("bms")
    assert WATER in scenario.theirs
    world.poll(agent)
    scenario._operate("bms")
    assert (WATER in scenario.theirs) == noticed
    world.stop()


async def test_another_hand_is_yielded_to_though_a_giving_back_waits(
    agent: Agent, world: World
) -> None:
    """Seed 1000813, P9: a device that had been silent answered again, with an operator's value. Its
    giving back waited for the next try, and by then that value was gone: seen, and not yielded to."""
    assert not isinstance(await agent.act(want(agent, WATER, 0.3)), Denial)
    bms = world.fields["bms"]
    bms.up = False
    await agent.end([Ending(WATER, Target.BASELINE, "test")])
    bms.operator(WATER, 9.5)
    bms.up = True
    world.clock.advance(1.0)
    assert agent.control.owed[WATER].due_s > agent.clock.now_s()
    world.poll(agent)
    await agent.fast()
    assert WATER in agent.control.yielded
    assert agent.executor.held == {}


@pytest.mark.parametrize("ends", [True, False])
async def test_a_write_that_met_an_operator_starts_an_interval(
    agent: Agent, world: World, ends: bool
) -> None:
    """Seed 1002917, P2: an operator came between our Null and its read-back. That was a write all the
    same; the next change came 70 s after it. A change that takes long and is met so, alike."""
    bms = world.fields["bms"]
    if ends:
        assert not isinstance(await agent.act(want(agent, WATER, 0.3)), Denial)
        world.clock.advance(INTERVAL_S)

    def meet(_device: str, act: str) -> None:
        if act == "write":
            world.clock.advance(25.0)
        elif act == "written":
            bms.operator(WATER, 9.5)

    world.drivers["bms"].pause = meet
    if ends:
        await agent.end([Ending(WATER, Target.BASELINE, "test")])
    else:
        await agent.act(want(agent, WATER, 0.3))
    world.drivers["bms"].pause = None
    assert WATER in agent.control.yielded
    bms.operator(WATER, None)
    agent.control = replace(agent.control, yielded={}, owed={})
    for wait_s, rule in ((INTERVAL_S - 1.0, "rate"), (1.0, "")):
        world.clock.advance(wait_s)
        world.poll(agent)
        verdict = await agent.act(want(agent, WATER, -0.3))
        assert (verdict.rule if isinstance(verdict, Denial) else "") == rule


async def test_a_restart_leaves_what_an_interlock_holds(tmp_path: Path) -> None:
    """Found once the campaign looked (P23): a leak holds all as it is, and an agent that was started
    again gave it back all the same. It stays owed, and goes back when a person has reset the leak."""
    world = World(tmp_path, make_site())
    agent = world.start()
    held = "crac-b1/supply"
    world.poll(agent)
    await agent.observe()
    assert not isinstance(await agent.act(want(agent, held, 0.5)), Denial)
    world.sensors["bms-in/leak"] = 1.0
    world.poll(agent)
    await agent.observe()
    world.stop()
    agent = world.start()
    await agent.recover()
    world.poll(agent)
    await agent.observe()
    await agent.fast()
    assert held in agent.executor.held
    world.sensors["bms-in/leak"] = 0.0
    world.poll(agent)
    await call(agent, "interlock.reset", {"id": "leak"}, HOST)
    world.clock.advance(10.0)
    world.poll(agent)
    await agent.observe()
    await agent.fast()
    assert agent.executor.held == {}
    world.stop()


async def test_another_hand_is_noticed_while_an_interlock_holds(agent: Agent, world: World) -> None:
    """Seed 1007402, P9: a leak held a register of ours; an operator set it to this and that for a quarter
    of an hour, to our own value in the end, and once the leak was reset it was ours again."""
    held, unit = "crac-b1/supply", world.fields["crac-b1"]
    assert not isinstance(await agent.act(want(agent, held, 0.5)), Denial)
    ours = unit.cells[held].present()
    world.sensors["bms-in/leak"] = 1.0
    for value in (None, ours - 2.0, ours):
        if value is not None:
            unit.operator(held, value)
        world.clock.advance(10.0)
        world.poll(agent)
        await agent.observe()
        await agent.fast()
    assert held in agent.executor.held
    assert held in agent.control.yielded


async def test_another_hand_is_noticed_though_a_device_refuses_to_let_go(
    agent: Agent, world: World
) -> None:
    """Seed 1010364, P9: an operator's value stood while the device refused every giving back; when it
    took one at last the operator had gone, seen at each try and yielded to at none."""
    assert not isinstance(await agent.act(want(agent, WATER, 0.3)), Denial)
    bms = world.fields["bms"]
    bms.refuses = True
    bms.operator(WATER, 9.5)
    for _ in range(2):
        world.clock.advance(10.0)
        world.poll(agent)
        await agent.fast()
    bms.operator(WATER, None)
    bms.refuses = False
    world.clock.advance(60.0)
    world.poll(agent)
    await agent.fast()
    assert agent.executor.held == {}
    assert WATER in agent.control.yielded


async def test_whoever_was_noticed_is_known_after_a_death_too(agent: Agent, world: World) -> None:
    """Seed 1011255, P9: the same, and the agent died in between. The next run knew of nobody."""
    assert not isinstance(await agent.act(want(agent, WATER, 0.3)), Denial)
    bms = world.fields["bms"]
    bms.refuses = True
    await agent.end([Ending(WATER, Target.BASELINE, "test")])
    bms.operator(WATER, 9.5)
    world.clock.advance(10.0)
    world.poll(agent)
    await agent.fast()
    assert WATER in agent.control.yielded
    world.stop()
    again = world.start()
    assert "9.5" in again.control.yielded[WATER]
    world.stop()


@pytest.mark.parametrize("refused", [True, False])
async def test_whoever_the_gate_alone_has_seen_is_yielded_to(
    agent: Agent, world: World, refused: bool
) -> None:
    """Seed 1078452, P9: an operator's value came between two polls, when a kill gave everything back;
    the gate read it, the device refused (or went silent), and by the next poll it was gone again."""
    assert not isinstance(await agent.act(want(agent, WATER, 0.3)), Denial)
    bms = world.fields["bms"]
    bms.operator(WATER, 9.5)
    bms.refuses, bms.loses_answer = refused, not refused
    bms.on_write = lambda: setattr(bms, "reads_nothing", not refused)
    await agent.end([Ending(WATER, Target.BASELINE, "test")])
    assert "at priority 8 (9.5)" in agent.control.yielded[WATER]
    assert WATER in agent.executor.held, "what we have there is still to be taken out"
    bms.operator(WATER, None)
    bms.refuses = bms.loses_answer = bms.reads_nothing = False
    world.clock.advance(60.0)
    world.poll(agent)
    await agent.fast()
    assert agent.executor.held == {}
    assert WATER in agent.control.yielded
    world.stop()
    assert WATER in world.start().control.yielded
    world.stop()
