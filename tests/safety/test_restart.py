"""P2, P4, P10 across restarts: what a new run remembers of the one before, and what it owes."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.core import Agent
from agent.field import baseline_is_old, held
from agent.operations.table import Caller, call
from control import leases
from control.modes import Event
from control.state import PROTECTIVE
from control.types import Change, Denial, Ending, Kind, Mode, Permit, Proposal, Target
from tests.safety.checkers import wire
from tests.safety.rig import FAN, PUMP, SHARE_A, SHARE_B, SUPPLY, WATER
from tests.safety.world import INTERVAL_S, World, make_site

HOST = Caller("ann", "cli", "engineer")


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, make_site())
    made.clock.advance(1000.0)
    return made


async def started(world: World) -> Agent:
    agent = world.start()
    world.poll(agent)
    await agent.observe()
    return agent


async def restarted(world: World) -> Agent:
    """The process has died; the next one takes over, and gives back what was left."""
    world.stop()
    agent = await started(world)
    await agent.recover()
    world.poll(agent)
    return agent


def want(world: World, key: str, by: float, kind: Kind = Kind.NORMAL) -> Proposal:
    now_s, holds = world.clock.now_s(), world.holds()
    old = 8.0 if key == WATER else holds[key]
    return Proposal(f"t{now_s}{key}", "slow", "test", (Change(key, old, old + by),), "a test", kind,
                    expires_s=now_s + 900.0)  # fmt: skip


async def act(world: World, agent: Agent, key: str, by: float, kind: Kind = Kind.NORMAL) -> str:
    """ "" when it was carried out, else the rule that denied it."""
    verdict = await agent.act(want(world, key, by, kind))
    return verdict.rule if isinstance(verdict, Denial) else ""


async def spend(world: World, agent: Agent) -> None:
    """One change, given back at once: nothing is held, and the interval has begun."""
    assert await act(world, agent, SUPPLY, 0.8) == ""
    await agent.end([Ending(SUPPLY, Target.BASELINE, "test")])
    assert agent.executor.held == {}
    world.poll(agent)


async def test_a_restart_gives_back_and_starts_an_interval(world: World) -> None:
    agent = await started(world)
    assert await act(world, agent, SUPPLY, 0.8) == ""
    world.clock.advance(30.0)
    agent = await restarted(world)
    assert world.holds()[SUPPLY] == 18.0
    assert agent.executor.held == {}
    world.clock.advance(INTERVAL_S - 1.0)
    world.poll(agent)
    assert await act(world, agent, FAN, -2.0) == "rate"
    world.clock.advance(1.0)
    world.poll(agent)
    assert await act(world, agent, FAN, -2.0) == ""


async def test_budgets_survive_without_anything_to_give_back(world: World) -> None:
    agent = await started(world)
    await spend(world, agent)
    world.clock.advance(60.0)
    agent = await restarted(world)
    assert await act(world, agent, SUPPLY, 0.5) == "rate"
    world.clock.advance(60.0)
    world.poll(agent)
    assert await act(world, agent, SUPPLY, 0.5) == ""


@pytest.mark.parametrize("step_s", [-86_400.0, 3600.0])
async def test_a_stepped_wall_clock_neither_opens_nor_locks_a_budget(
    world: World, step_s: float
) -> None:
    agent = await started(world)
    await spend(world, agent)
    world.clock.advance(60.0)
    world.clock.step_wall(step_s)
    agent = await restarted(world)
    assert await act(world, agent, SUPPLY, 0.5) == "rate"
    world.clock.advance(61.0)
    world.poll(agent)
    assert await act(world, agent, SUPPLY, 0.5) == ""


async def test_another_boot_has_an_unknown_history_and_waits(world: World) -> None:
    agent = await started(world)
    await spend(world, agent)
    world.clock.advance(3600.0)
    world.clock.boot_id = "another"
    agent = await restarted(world)
    assert await act(world, agent, SUPPLY, 0.5) == "rate"


async def test_a_write_counts_from_when_it_was_carried_out(world: World) -> None:
    """A slow device takes half a minute: the interval begins where it ends."""

    def slow(_device: str, act: str) -> None:
        if act == "write":
            world.clock.advance(30.0)

    agent = await started(world)
    world.drivers["crac-a1"].pause = slow
    await spend(world, agent)
    world.drivers["crac-a1"].pause = None
    world.clock.advance(INTERVAL_S - 10.0)
    agent = await restarted(world)
    assert await act(world, agent, SUPPLY, 0.5) == "rate"
    world.clock.advance(10.0)
    world.poll(agent)
    assert await act(world, agent, SUPPLY, 0.5) == ""


async def test_a_write_without_an_outcome_may_have_been_just_now(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = await started(world)
    assert world.journal is not None
    monkeypatch.setattr(world.journal, "outcome", lambda *_: None)  # the process died before it
    await act(world, agent, SUPPLY, -1.0)
    world.clock.advance(INTERVAL_S + 1.0)
    world.stop()
    agent = await started(world)
    assert agent.control.spent["crac-a1"].last_s == world.clock.now_s()


async def test_the_protective_move_of_an_interval_is_remembered(world: World) -> None:
    agent = await started(world)
    await act(world, agent, SUPPLY, -2.0, Kind.PROTECTIVE)
    world.clock.advance(30.0)
    agent = await restarted(world)
    assert PROTECTIVE + "crac-a1" in agent.control.spent
    assert await act(world, agent, SUPPLY, -1.0, Kind.PROTECTIVE) == "rate"


async def test_writes_of_the_day_are_counted_across_restarts(world: World) -> None:
    agent = await started(world)
    for _ in range(3):
        await act(world, agent, PUMP, -1.0)
        world.clock.advance(INTERVAL_S)
        agent = await restarted(world)
        world.clock.advance(INTERVAL_S)
        world.poll(agent)
    assert agent.control.spent[PUMP].count == 3
    world.clock.advance(86_401.0)
    agent = await restarted(world)
    assert agent.control.spent.get(PUMP) is None


async def test_the_kill_switch_survives_a_restart_as_a_value_and_as_a_file(world: World) -> None:
    agent = await started(world)
    await act(world, agent, SUPPLY, 0.8)
    await agent.change_mode(Event.KILL, "", "mqtt", "operator")
    assert world.holds()[SUPPLY] == 18.0, "giving back begins at once"
    agent = await restarted(world)
    assert agent.control.modes.killed
    assert await act(world, agent, SUPPLY, 0.5) == "mode"
    await agent.change_mode(Event.CLEAR, "", "cli", "engineer")
    agent = await restarted(world)
    assert (agent.control.modes.killed, agent.control.modes.mode) == (False, Mode.ADVISORY)
    (world.folder / "KILL").touch()
    agent = await restarted(world)
    assert agent.control.modes.killed


async def test_a_lowered_mode_and_a_disarmed_row_stay_so(world: World) -> None:
    agent = await started(world)
    await agent.change_mode(Event.DISARM, "row:A", "http", "operator")
    agent = await restarted(world)
    assert await act(world, agent, SUPPLY, 0.5) == "mode"
    assert await act(world, agent, "crac-b1/supply", 0.5) == ""
    await agent.change_mode(Event.LOWER, "", "http", "operator")
    agent = await restarted(world)
    assert await act(world, agent, "crac-b1/supply", 0.5) == "mode"


async def test_latched_points_stay_latched(world: World) -> None:
    agent = await started(world)
    await act(world, agent, SUPPLY, 0.8)
    world.fields["crac-a1"].operator(SUPPLY, 22.0)
    agent = await restarted(world)
    assert "changed by another hand" in agent.control.yielded[SUPPLY]
    agent = await restarted(world)
    assert await act(world, agent, SUPPLY, 0.5) == "known"
    assert world.holds()[SUPPLY] == 22.0


async def test_a_tripped_interlock_stays_tripped(world: World) -> None:
    agent = await started(world)
    world.sensors["bms-in/leak"] = 1.0
    world.poll(agent)
    await agent.observe()
    world.sensors["bms-in/leak"] = 0.0
    agent = await restarted(world)
    assert await act(world, agent, "crac-b1/supply", 0.5) == "interlock"


async def test_a_salvaged_journal_means_advisory_and_waiting(world: World) -> None:
    agent = await started(world)
    await act(world, agent, SUPPLY, 0.8)
    world.stop()
    (world.folder / "journal.db").write_bytes(b"x" * 10_000)
    agent = await restarted(world)
    assert agent.control.modes.mode is Mode.ADVISORY
    assert world.holds()[SUPPLY] == 18.0
    assert agent.control.spent["pump"].last_s == world.clock.now_s()


# -- the order of things


def logged(world: World, from_: int) -> list[str]:
    return [w.key for w in world.log[from_:] if w.by == "us"]


async def test_an_incomplete_change_is_undone_last_change_first(world: World) -> None:
    agent = await started(world)
    now_s = world.clock.now_s()
    changes = tuple(Change(k, o, n) for k, o, n in (
        (SUPPLY, 19.0, 19.5), ("crac-a2/supply", 17.5, 18.0), (PUMP, 90.0, 88.0)))  # fmt: skip
    world.fields["pump"].refuses = True
    verdict = await agent.act(Proposal("p", "slow", "m", changes, "r", expires_s=now_s + 900.0))
    assert isinstance(verdict, Permit)
    assert logged(world, 0) == [SUPPLY, "crac-a2/supply", "crac-a2/supply", SUPPLY]
    assert (world.holds()[SUPPLY], world.holds()["crac-a2/supply"]) == (19.0, 17.5)
    assert agent.executor.held == {}


async def test_cooling_is_given_back_before_work(world: World) -> None:
    agent = await started(world)
    now_s = world.clock.now_s()
    shares = (Change(SHARE_A, 50.0, 45.0), Change(SHARE_B, 50.0, 55.0))
    await agent.act(Proposal("p", "slow", "m", shares, "r", expires_s=now_s + 900.0))
    await act(world, agent, SUPPLY, 0.8)
    assert await act(world, agent, WATER, 0.4) == ""
    before = len(world.log)
    await agent.change_mode(Event.KILL, "", "cli", "engineer")
    order = logged(world, before)
    assert set(order[:2]) == {SUPPLY, WATER}
    assert order[2:] == [SHARE_A, SHARE_B]
    assert wire.left_behind(world.limits, world.log, world.holds()) == []


async def test_a_lease_ends_before_its_baseline_is_too_old_to_be_replayed(world: World) -> None:
    """Where there is neither a slot to empty nor a safe value, giving back has only the baseline."""
    batch, agent = "router/batch", await started(world)
    assert await act(world, agent, batch, 20.0) == ""
    assert await act(world, agent, PUMP, -2.0) == ""
    most_s = agent.site.points[batch].limits.baseline_max_age_s
    lease_s = agent.site.limits.lease_s
    for since_s, renewed in ((most_s - lease_s, {batch, PUMP}), (most_s - lease_s + 1.0, {PUMP})):
        now_s = world.clock.now_s()
        held = {k: replace(x, expires_s=now_s + 60.0, baseline_s=now_s - since_s)
                for k, x in agent.control.leases.items()}  # fmt: skip
        case = agent._case(agent.snapshot())
        case = replace(case, state=replace(case.state, leases=held))
        assert {x.point for x in leases.renewable(case)} == renewed


@pytest.mark.parametrize(("approved", "goes_to"), [(False, 18.0), (True, 17.5)])
async def test_an_old_baseline_is_approved_or_not_replayed(
    world: World, approved: bool, goes_to: float
) -> None:
    """After a day it yields to the safe value, unless a person says that it is still right; and that
    outlives the process."""
    key, agent = "crac-a2/supply", await started(world)
    assert await act(world, agent, key, 0.5) == ""
    world.clock.advance(agent.site.points[key].limits.baseline_max_age_s + 60.0)
    assert baseline_is_old(agent, agent.control.leases[key])
    if approved:
        told = await call(agent, "baseline.approve", {"point": key}, HOST)
        assert told.ok
        assert told.detail["baseline"] == 17.5
        assert held(agent, key)["baseline_age_s"] == 0.0  # type: ignore[index]
        assert not baseline_is_old(agent, agent.control.leases[key])
    await restarted(world)
    assert world.holds()[key] == goes_to


async def test_what_has_no_baseline_to_approve(world: World) -> None:
    agent = await started(world)
    assert await act(world, agent, WATER, 0.4) == ""
    for key, why in ((WATER, "is given back by Null"), (FAN, "nothing of ours")):
        told = await call(agent, "baseline.approve", {"point": key}, HOST)
        assert not told.ok
        assert why in told.detail["reason"]


async def test_a_baseline_outside_the_envelope_is_not_approved(world: World) -> None:
    agent = await started(world)
    assert await act(world, agent, SUPPLY, 0.8) == ""
    outside = {SUPPLY: replace(agent.control.leases[SUPPLY], baseline=5.0)}
    agent.control = replace(agent.control, leases=outside)
    told = await call(agent, "baseline.approve", {"point": SUPPLY}, HOST)
    assert (told.ok, told.refused) == (False, True)
    assert "5 is outside 16..27" in told.detail["reason"]


async def test_advisory_writes_nothing(tmp_path: Path) -> None:
    """P19: whatever is asked for, by whomever."""
    world = World(tmp_path, make_site("advisory", ()))
    agent = await started(world)
    for key, by in ((SUPPLY, 0.5), (PUMP, 2.0), (WATER, 0.3)):
        for kind in Kind:
            assert await act(world, agent, key, by, kind) == "mode"
    for _ in range(20):
        world.clock.advance(10.0)
        world.poll(agent)
        await agent.observe()
        await agent.fast()
        await agent.slow()
    await agent.stop()
    assert world.log == []
    assert wire.untouched(world.log) == []
