"""Commissioning on the bundled hall in virtual time: closed loop writes nothing that has not passed."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.memory import Memory
from agent.operations.table import Caller, call
from agent.plants.site import plant_site
from agent.rehearse import Rehearsal, Rehearsed, load_plant
from config.site import Site
from control.types import Quality, Reading

POINT = "crac-a1/supply_air_setpoint_c"
PERSON = Caller("ann", "cli", "engineer")
SETTLE_S = 240.0


def real_site() -> Site:
    """The hall as a site where actuators need a trial."""
    return replace(plant_site(load_plant("hall", {"seed": "1"}).points(), 5.0), simulated=False)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Rehearsed]:
    made = Rehearsed(Rehearsal("hall", {"seed": "1"}, site=real_site()), tmp_path)
    yield made
    made.close()


async def ticks(run: Rehearsed, seconds: float) -> None:
    for _ in range(round(seconds / run.tick_s)):
        assert await run.tick()
        for _ in range(8):  # the trial is a task of its own
            await asyncio.sleep(0)


async def tried(run: Rehearsed, **more: Any) -> dict[str, Any]:
    """A whole trial of POINT; its view."""
    arguments = {"point": POINT, "settle_s": SETTLE_S, **more}
    begun = await call(run.agent, "commission", arguments, PERSON)
    assert begun.ok, begun.detail
    await ticks(run, 60.0 + SETTLE_S + 30.0)
    assert not run.agent.trial.running
    return run.agent.trial.view


async def test_nothing_is_written_before_and_something_after(run: Rehearsed) -> None:
    await ticks(run, 600.0)
    assert run.agent.counts.denied > 0, "the loops wanted nothing: silence would mean nothing"
    assert run.wire.writes == 0
    before = dict(run.wire.setpoints)
    view = await tried(run)
    assert view["ok"], view
    assert (view["old"], view["new"], view["read_back"]) == (18.0, 17.0, 17.0)
    right = {r["sensor"]: r for r in view["responses"] if r["right"]}
    assert "crac-a1/supply_air_c" in right
    assert right["crac-a1/supply_air_c"]["after"] < right["crac-a1/supply_air_c"]["before"]
    assert run.wire.writes == 2, "one step, one giving back"
    assert run.wire.setpoints == before
    entries = [e["kind"] for kind in ("commissioned",) for e in _entries(run, kind)]
    assert entries == ["commissioned"]
    await ticks(run, 1200.0)
    written = set(run.agent.control.leases)
    assert written <= {POINT}, "only what has passed may be moved"


def _entries(run: Rehearsed, kind: str) -> list[dict[str, Any]]:
    return [{"kind": kind, **e} for e in run.journal.latest(kind, 10)]


async def test_the_result_survives_a_restart_but_not_another_register(run: Rehearsed) -> None:
    await ticks(run, 60.0)
    assert (await tried(run))["ok"]
    site = run.site
    assert Memory(run.journal, run.clock).recall(site).commissioned == {POINT}
    point = replace(site.points[POINT], scale=0.1)
    devices = tuple(
        replace(d, points=tuple(point if p.key == POINT else p for p in d.points))
        for d in site.devices
    )
    again = Memory(run.journal, run.clock).recall(replace(site, devices=devices))
    assert again.commissioned == frozenset()


async def test_an_actuator_without_effect_does_not_pass_unless_a_person_says_why(
    run: Rehearsed, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run.plant.step

    def unmoved(dt_s: float, _setpoints: Any) -> Any:
        """The register takes the value, and nothing follows it."""
        return {**real(dt_s, {}), POINT: run.wire.setpoints[POINT]}

    monkeypatch.setattr(run.plant, "step", unmoved)
    await ticks(run, 60.0)
    view = await tried(run)
    assert not view["ok"]
    assert view["unclear"]
    assert run.agent.control.commissioned == frozenset()
    assert not run.agent.control.leases
    await ticks(run, 600.0)
    view = await tried(run, accept="the sensor is being replaced")
    assert view["ok"]
    assert view["accepted"] == "the sensor is being replaced"


async def test_a_point_that_reads_outside_its_envelope_is_not_even_tried(run: Rehearsed) -> None:
    await ticks(run, 30.0)
    wrong_scale = Reading(POINT, 180.0, run.clock.now_s(), Quality.GOOD)
    run.agent.store.update([wrong_scale])
    result = await call(run.agent, "commission", {"point": POINT}, PERSON)
    assert (result.ok, result.refused) == (False, True)
    assert "scale and unit" in result.detail["reason"]
    assert run.wire.writes == 0


async def test_the_agent_that_stops_gives_the_step_back(run: Rehearsed) -> None:
    await ticks(run, 60.0)
    assert (await call(run.agent, "commission", {"point": POINT}, PERSON)).ok
    await ticks(run, 90.0)
    assert run.wire.setpoints[POINT] == 17.0
    await run.agent.stop()
    assert run.wire.setpoints[POINT] == 18.0
    assert run.agent.control.commissioned == frozenset()


@pytest.mark.parametrize("channel", ["http", "mqtt"])
async def test_it_takes_a_person_on_the_host(run: Rehearsed, channel: str) -> None:
    await ticks(run, 30.0)
    result = await call(run.agent, "commission", {"point": POINT}, Caller("x", channel, "engineer"))
    assert (result.ok, result.refused) == (False, True)
    assert not run.agent.trial.running


async def test_advisory_tries_nothing(run: Rehearsed) -> None:
    await ticks(run, 30.0)
    assert (await call(run.agent, "mode.lower", {}, PERSON)).ok
    result = await call(run.agent, "commission", {"point": POINT}, PERSON)
    assert (result.ok, result.refused) == (False, True)
    assert "advisory writes nothing" in result.detail["reason"]
