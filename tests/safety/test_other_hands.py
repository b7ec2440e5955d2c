"""Whoever else writes: a unit group that overwrites, a device that forgets, another host. Yielded to."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.operations.table import Caller, call
from tests.safety.rogue import Rogue
from tests.safety.world import World, make_site

SUPPLY, WATER = "crac-a1/supply", "bms/water"
HOST, BROKER = Caller("ann", "cli", "engineer"), Caller("ann", "mqtt", "engineer")


async def holding(tmp_path: Path, key: str, value: float) -> tuple[World, Rogue]:
    """A hall in which a person has set one point by way of the agent."""
    world = World(tmp_path, make_site())
    agent = started(world)
    world.poll(agent)
    await agent.observe()
    made = await call(
        agent, "actions.apply",
        {"changes": [{"point": key, "value": value}], "reason": "test", "hold_s": 3600.0}, HOST,
    )  # fmt: skip
    assert made.ok, made.detail
    assert agent.control.leases[key].certain
    return world, agent


def started(world: World) -> Rogue:
    agent = world.start(Rogue)
    assert isinstance(agent, Rogue)
    agent.wanted = lambda _agent, _cycle: []
    return agent


async def tick(world: World, agent: Rogue, seconds: float = 10.0) -> None:
    world.clock.advance(seconds)
    world.poll(agent)
    await agent.observe()
    await agent.fast()


async def latched(world: World, agent: Rogue, key: str, theirs: float) -> None:
    """What they have set stays, over a restart too, until a person on the host says otherwise."""
    assert key in agent.control.yielded, agent.control
    assert key not in agent.control.leases
    written = len(world.log)
    for _ in range(30):
        await tick(world, agent)
    assert len(world.log) == written, "yielded to, never fought"
    world.stop()
    again = started(world)
    world.poll(again)
    assert key in again.control.yielded
    wanted = {"changes": [{"point": key, "value": theirs + 0.5}], "reason": "test"}
    world.clock.advance(86_400.0)
    await tick(world, again)
    refused = await call(again, "actions.apply", wanted, HOST)
    assert (refused.ok, refused.refused) == (False, True)
    assert "skadi arm --resume" in refused.detail["reason"]
    remote = await call(again, "resume", {"point": key}, BROKER)
    assert (remote.ok, remote.refused) == (False, True)
    assert (await call(again, "resume", {"point": key}, HOST)).ok
    assert key not in again.control.yielded
    world.stop()


async def test_a_group_mode_that_overwrites_is_yielded_to(tmp_path: Path) -> None:
    world, agent = await holding(tmp_path, SUPPLY, 20.0)
    await tick(world, agent)
    assert SUPPLY in agent.control.leases, "a value that stands is no other hand's"
    world.fields["crac-a1"].cells[SUPPLY].value = 17.0  # the master of the group says 17 to all
    await tick(world, agent)
    assert world.holds()[SUPPLY] == 17.0
    await latched(world, agent, SUPPLY, 17.0)


async def test_a_device_that_lost_its_priority_array_is_not_rewritten(tmp_path: Path) -> None:
    world, agent = await holding(tmp_path, WATER, 8.5)
    cell = world.fields["bms"].cells[WATER]
    assert cell.slots
    cell.slots.clear()  # it has restarted
    await tick(world, agent)
    assert cell.slots == {}
    await latched(world, agent, WATER, 8.0)


@pytest.mark.parametrize("priority", [1, 8])
async def test_an_operators_slot_rules_and_ours_is_emptied(tmp_path: Path, priority: int) -> None:
    world, agent = await holding(tmp_path, WATER, 8.5)
    cell = world.fields["bms"].cells[WATER]
    assert cell.slots is not None
    cell.slots[priority] = 7.5
    await tick(world, agent)
    assert cell.slots == {priority: 7.5}
    await latched(world, agent, WATER, 7.5)


async def test_another_hosts_slot_is_not_taken_over(tmp_path: Path) -> None:
    world = World(tmp_path, make_site())
    agent = started(world)
    cell = world.fields["bms"].cells[WATER]
    assert cell.slots is not None
    cell.slots[12] = 9.0  # another agent, on another host, at our own priority
    world.poll(agent)
    await agent.observe()
    wanted = {"changes": [{"point": WATER, "value": 9.5}], "reason": "test"}
    made = await call(agent, "actions.apply", wanted, HOST)
    assert not made.ok
    assert "not empty" in str(made.detail)
    assert cell.slots == {12: 9.0}
    world.stop()


async def test_what_a_person_wrote_ends_when_they_said(tmp_path: Path) -> None:
    world, agent = await holding(tmp_path, SUPPLY, 20.0)
    for _ in range(59):
        await tick(world, agent, 60.0)
        await agent.slow()
    assert world.holds()[SUPPLY] == 20.0
    await tick(world, agent, 120.0)
    assert world.holds()[SUPPLY] != 20.0
    assert SUPPLY not in agent.control.leases
    assert replace(agent.control, yielded={}).yielded == agent.control.yielded, "nobody else did it"
    world.stop()
