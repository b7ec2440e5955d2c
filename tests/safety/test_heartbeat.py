"""A heartbeat at the device: it goes on while Skadi steers, and stops with it."""

import itertools
from dataclasses import replace
from pathlib import Path

from agent.core import Agent
from config.addresses import ModbusAddress
from config.site import Writable
from control.modes import Event
from tests.safety.checkers.field import Cell
from tests.safety.world import INTERVAL_S, World, make_site

BEAT = "crac-b1/alive"


def beating(tmp_path: Path) -> World:
    """The hall, with a heartbeat on one unit that nothing else is wanted of."""
    site = make_site(armed=("equipment:crac-b1",))
    [unit] = [d for d in site.devices if d.id == "crac-b1"]
    alive = replace(
        unit.points[0], key=BEAT, id="alive", quantity="state", unit="", equipment="crac-b1.heartbeat",
        address=ModbusAddress("holding", 90, "uint16"),
        writable=Writable(0.0, 100.0, 100.0, max_writes_per_day=720, safe_value=0.0),
    )  # fmt: skip
    device = replace(unit, points=(*unit.points, alive), heartbeat="alive")
    devices = tuple(device if d is unit else d for d in site.devices)
    world = World(tmp_path, replace(site, devices=devices, interlocks=()))
    world.fields["crac-b1"].cells[BEAT] = Cell(7.0, None)
    world.drivers["crac-b1"].device = device
    return world


async def minutes(world: World, agent: Agent, count: float) -> list[float]:
    """What the heartbeat read, a look every ten seconds."""
    seen = []
    for _ in range(round(count * 6)):
        world.clock.advance(10.0)
        world.poll(agent)
        await agent.fast()
        seen.append(world.holds()[BEAT])
    return seen


async def test_it_goes_on_while_we_may_steer_and_stops_when_we_may_not(tmp_path: Path) -> None:
    world = beating(tmp_path)
    agent = world.start()
    # Its equipment is armed by name: the unit's scope takes in the unit, not its heartbeat.
    seen = await minutes(world, agent, 20)
    changes = sum(a != b for a, b in itertools.pairwise(seen))
    assert changes == 0, "a heartbeat needs its own arming, or the scope of its zone, row or hall"
    await agent.change_mode(Event.KILL, "", "cli", "engineer")
    world.stop()


async def test_in_an_armed_row_it_beats_once_an_interval_and_is_journaled(tmp_path: Path) -> None:
    world = beating(tmp_path)
    world.site = replace(
        world.site, agent=world.site.agent.model_copy(update={"armed": ("row:B",)})
    )
    agent = world.start()
    seen = await minutes(world, agent, 20)
    changes = sum(a != b for a, b in itertools.pairwise(seen))
    assert changes >= 20 * 60 / INTERVAL_S - 2
    ours = [w for w in world.log if w.key == BEAT]
    assert [w.value for w in ours[:3]] == [8.0, 9.0, 10.0]
    assert world.journal is not None
    journaled = [x["point"] for i in world.journal.latest("intent", 100) for x in i["leases"]]
    assert journaled.count(BEAT) == len(ours)
    await agent.change_mode(Event.KILL, "", "cli", "engineer")
    written = len([w for w in world.log if w.key == BEAT])
    later = await minutes(world, agent, 20)
    assert len(set(later)) == 1, "it has stopped: the device falls back by itself"
    assert len([w for w in world.log if w.key == BEAT]) == written
    world.stop()


async def test_a_dead_agent_beats_no_more(tmp_path: Path) -> None:
    world = beating(tmp_path)
    world.site = replace(
        world.site, agent=world.site.agent.model_copy(update={"armed": ("row:B",)})
    )
    agent = world.start()
    await minutes(world, agent, 5)
    world.stop()
    before = world.holds()[BEAT]
    world.clock.advance(3_600.0)
    assert world.holds()[BEAT] == before
