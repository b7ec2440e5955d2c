"""An edited site file is taken over while the agent runs: what changed, or nothing at all."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.audit import read_entries
from agent.clock import WallClock
from agent.operations.table import Caller, Result, call
from agent.run import Running
from config.loader import load_site
from control.types import Change, Permit, Proposal
from tests.drivers.modbus_peer import ModbusPeer
from tests.peers import until

SITE = """\
config_version = 1
[site]
id = "t1"
simulated = true
[agent]
mode = "closed_loop"
armed = ["hall"]
data_dir = "{folder}"
poll_interval_s = 1
stale_after_s = 60
[loops]
fast_s = 10
[limits]
inlet_max_c = 28.0
[api]
listen = "127.0.0.1:0"
tokens = [{{ name = "ann", role = "operator", token = {{ env = "ANN" }} }}]
[[device]]
id = "crac"
protocol = "modbus-tcp"
host = "127.0.0.1"
port = {crac}
row = "A"
  [[device.point]]
  id = "supply_air_c"
  quantity = "supply_air_c"
  register = "input:0"
  scale = 0.1
  [[device.point]]
  id = "set_c"
  quantity = "supply_air_setpoint_c"
  register = "holding:0"
  scale = 0.1
  writable = true
  min = 17.0
  max = 26.0
  max_step = 1.0
  safe_value = 18.0
[[device]]
id = "rack"
protocol = "modbus-tcp"
host = "127.0.0.1"
port = {rack}
row = "A"
rack = "A01"
  [[device.point]]
  id = "inlet_c"
  quantity = "inlet_c"
  register = "input:0"
  scale = 0.1
"""
MORE = """\
[[device]]
id = "more"
protocol = "modbus-tcp"
host = "127.0.0.1"
port = {rack}
unit_id = 1
row = "B"
  [[device.point]]
  id = "inlet_c"
  quantity = "inlet_c"
  register = "input:1"
  scale = 0.1
"""
LOCK = """\
[[interlock]]
id = "hot"
point = "crac/supply_air_c"
trip_above = 15.0
action = "hold"
"""
ENVIRON = {"ANN": "operator-0123456789abcdef", "BOB": "operator-fedcba9876543210"}


@dataclass
class World:
    """An agent that runs on two devices, and its site file."""

    running: Running
    file: Path
    crac: ModbusPeer
    rack: ModbusPeer

    async def edited(self, old: str, new: str) -> Result:
        """What `reload` says after an edit."""
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new, 1))
        return await call(self.running.agent, "reload", {}, Caller("ann", "cli", "engineer"))

    def value(self, key: str) -> float | None:
        return self.running.agent.snapshot().value(key)

    async def write(self, value: float) -> None:
        """A setpoint of ours on the CRAC."""
        agent = self.running.agent
        now_s = agent.clock.now_s()
        old = agent.snapshot().value("crac/set_c")
        proposal = Proposal(
            id="test", loop="slow", move="supply_air", reason="test", scope="hall",
            changes=(Change("crac/set_c", old, value),), expires_s=now_s + 600,
        )  # fmt: skip
        outcomes, _ = await agent.executor.apply(Permit(proposal, "c1", now_s, now_s + 20))
        assert [type(o.receipt).__name__ for o in outcomes] == ["Applied"]
        from dataclasses import replace

        agent.control = replace(agent.control, leases=dict(agent.executor.held))


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    async with ModbusPeer() as crac, ModbusPeer() as rack:
        crac.input[0], crac.holding[0] = 200, 200
        rack.input |= {0: 220, 1: 230}
        file = tmp_path / "site.toml"
        file.write_text(SITE.format(folder=tmp_path / "data", crac=crac.port, rack=rack.port))
        (tmp_path / "data").mkdir()
        running = Running(load_site(file), WallClock(speed=5.0), None)
        task = asyncio.create_task(running.run())
        made = World(running, file, crac, rack)
        await until(lambda: made.value("rack/inlet_c") and made.value("crac/set_c"))
        yield made
        running.stopping.set()
        await task


async def test_a_narrower_envelope_counts_at_once_and_what_is_outside_goes_back(
    world: World,
) -> None:
    await world.write(21.0)
    assert world.crac.holding[0] == 210
    result = await world.edited("max = 26.0", "max = 20.5")
    assert result.ok, result.detail
    assert [c.split(":")[0] for c in result.detail["changed"]] == ["point crac/set_c.max"]
    assert world.crac.holding[0] == 180  # the safer of its baseline and full cooling
    assert world.running.agent.control.leases == {}
    outcome = await call(
        world.running.agent, "actions.apply",
        {"changes": [{"point": "crac/set_c", "value": 20.8}], "reason": "too warm now"},
        Caller("ann", "cli", "engineer"),
    )  # fmt: skip
    assert outcome.refused


async def test_what_fits_is_kept(world: World) -> None:
    await world.write(21.0)
    inlet = world.value("rack/inlet_c")
    result = await world.edited("inlet_max_c = 28.0", "inlet_max_c = 27.0")
    assert result.ok, result.detail
    assert world.running.agent.layout.site.limits.inlet_max_c == 27.0
    assert world.crac.holding[0] == 210
    assert set(world.running.agent.control.leases) == {"crac/set_c"}
    assert world.value("rack/inlet_c") == inlet  # not asked again, not forgotten


async def test_devices_come_go_and_move(world: World) -> None:
    agent = world.running.agent
    result = await world.edited("[[device]]\nid = \"rack\"", MORE.format(rack=world.rack.port).replace(
        "port", "timeout_s = 1\nport", 1) + "[[device]]\nid = \"rack\"")  # fmt: skip
    assert not result.ok  # two devices at one address: a problem of the file
    text = world.file.read_text().replace("unit_id = 1", "unit_id = 2")
    world.file.write_text(text)
    result = await world.edited("unit_id = 2", "unit_id = 3")
    assert result.ok, result.detail
    await until(lambda: world.value("more/inlet_c") == 23.0)
    assert agent.layout.rows == ("A", "B")
    assert set(world.running.poller.stats) == {"crac", "rack", "more"}
    at = text.index('[[device]]\nid = "more"')
    end = text.index("[[device]]", at + 10)
    world.file.write_text(text[:at] + text[end:])
    result = await world.edited('register = "input:0"\n  scale = 0.1\n  [[', 'register = "input:0"\n  scale = 0.2\n  [[')  # fmt: skip
    assert result.ok, result.detail
    await until(lambda: world.value("crac/supply_air_c") == 40.0)
    assert "more/inlet_c" not in agent.site.points
    assert set(world.running.poller.stats) == {"crac", "rack"}
    asked = len(world.rack.requests)
    await until(lambda: len(world.rack.requests) > asked + 2)  # the others are polled on


async def test_periods_tokens_and_interlocks(world: World) -> None:
    result = await world.edited("fast_s = 10", "fast_s = 2")
    assert result.ok, result.detail
    scheduler: Any = world.running._scheduler
    assert scheduler._scheduler.get_job("fast").trigger.period.total_seconds() == 2 / 5.0
    api: Any = world.running.surfaces.api
    assert api.context.tokens.person(f"Bearer {ENVIRON['BOB']}") is None
    result = await world.edited('env = "ANN"', 'env = "BOB"')
    assert result.ok, result.detail
    assert api.context.tokens.person(f"Bearer {ENVIRON['BOB']}").principal == "ann"
    assert api.context.tokens.person(f"Bearer {ENVIRON['ANN']}") is None
    result = await world.edited("[[device]]", LOCK + "[[device]]")
    assert result.ok, result.detail
    await world.running.agent.observe()
    assert world.running.agent.control.trips["hot"].tripped


async def test_a_lower_mode_gives_everything_back(world: World) -> None:
    await world.write(21.0)
    result = await world.edited('mode = "closed_loop"', 'mode = "advisory"')
    assert result.ok, result.detail
    assert not world.running.agent.control.modes.may_act
    await until(lambda: world.crac.holding[0] == 180)
    again = await world.edited('mode = "advisory"', 'mode = "closed_loop"')
    assert again.refused
    assert not world.running.agent.control.modes.may_act


NOTHING = [
    ("max = 26.0", "max = 27.0", "wider"),
    ("min = 17.0", 'min = "cold"', "min: input"),
    ("[limits]", "[limits", "syntax"),
    ('env = "ANN"', 'env = "NOBODY"', "NOBODY is not set"),
    ("[loops]", '[ims]\nmodel = "no.json"\n[loops]', "no.json"),
    ("inlet_max_c = 28.0", "inlet_max_c = 27.0\nrack_max_kw = 13", "rack_max_kw"),
]


@pytest.mark.parametrize(("old", "new", "why"), NOTHING)
async def test_a_bad_file_changes_nothing(world: World, old: str, new: str, why: str) -> None:
    running = world.running
    before = (running.site, running.agent.site, running.agent.store, running.agent.executor,
              dict(running.drivers), running.agent.control.modes)  # fmt: skip
    result = await world.edited(old, new)
    assert not result.ok
    assert why in result.detail["reason"], result.detail
    assert "nothing was changed" in result.detail["reason"]
    after = (running.site, running.agent.site, running.agent.store, running.agent.executor,
             dict(running.drivers), running.agent.control.modes)  # fmt: skip
    assert all(a is b or a == b for a, b in zip(before, after, strict=True))
    asked = len(world.crac.requests)
    await until(lambda: len(world.crac.requests) > asked)


async def test_a_setpoint_that_cant_be_given_back_stops_the_reload(world: World) -> None:
    await world.write(21.0)
    await world.crac.stop()
    result = await world.edited("max = 26.0", "max = 20.5")
    assert not result.ok
    assert "can't be given back" in result.detail["reason"]
    assert world.running.site.points["crac/set_c"].writable.max == 26.0  # type: ignore[union-attr]


async def test_a_signal_reloads_and_is_audited(world: World) -> None:
    world.file.write_text(
        world.file.read_text().replace("inlet_max_c = 28.0", "inlet_max_c = 26.5")
    )
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: world.running.site.limits.inlet_max_c == 26.5)

    def noted() -> list[dict[str, Any]]:
        entries = read_entries(world.running.journal.path, 0, 1_000)
        return [e for e in entries if e.get("operation") == "reload"]

    await until(noted)
    assert (noted()[-1]["channel"], noted()[-1]["ok"]) == ("signal", True)
