"""The real agent in virtual time against a plant in the process: days in seconds.

Same decide, guardrails, gate, executor and journal as on a site; only the wire is a plant
and the clock stands still between steps. Loops run on the first tick at or after their
due time. Says what happened as one result, from readings alone.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.clock import VirtualClock, stopwatch_s
from agent.core import Agent
from agent.journal import Journal
from agent.plants.contract import Plant, made
from agent.plants.driver import PlantDriver, PlantWire
from agent.plants.site import PlantError, plant_site
from agent.tally import Tally
from config.site import Point, Site
from control.chart import doubt_kwh
from control.monitor import Trained
from drivers.gate import Gate

ALIASES = {"hall": "simulators.hall:Hall", "energyplus": "agent.plants.energyplus:EnergyPlus"}
START_S = 1_767_225_600.0  # 2026-01-01 00:00 UTC: any fixed instant will do
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What to rehearse. `controller`: skadi or fixed."""

    plant: str = "hall"
    plant_args: Mapping[str, str] = field(default_factory=dict)
    hours: float = 24.0
    controller: str = "skadi"
    site: Site | None = None
    model: Trained | None = None
    tick_s: float = 0.0  # 0: the plant's own step, at least 5 s


def load_plant(name: str, arguments: Mapping[str, str]) -> Plant:
    """Make a plant from "MODULE:CLASS" or an alias. Raises PlantError saying what is wrong."""
    target = ALIASES.get(name, name)
    if ":" not in target:
        known = ", ".join(ALIASES)
        raise PlantError(f"--plant {name!r}: write MODULE:CLASS, or one of {known}")
    return made(name, target, arguments)


class Rehearsed:
    """A plant, an agent on it, and the virtual clock between them."""

    def __init__(self, plan: Rehearsal, folder: Path) -> None:
        self.plan = plan
        self.plant = load_plant(plan.plant, plan.plant_args)
        self.wire = PlantWire(self.plant)
        self.tick_s = _tick(plan.tick_s, self.plant.step_s)
        self.site = plant_site(self.plant.points(), self.tick_s, plan.site)
        self.clock = VirtualClock(START_S)
        self.journal = Journal(folder / "journal.db")
        self.drivers = {d.id: PlantDriver(d, self.wire) for d in self.site.devices}
        self.agent = Agent(self.site, self.clock, self.journal, self._gate, plan.model)
        self.tally = Tally(self.agent.layout)
        self._due_s = {"observe": 0.0, "fast": 0.0, "slow": 0.0}

    def _gate(self, armed: Callable[[Point], bool]) -> Gate:
        return Gate(self.site.points, self.drivers, self.journal, armed)

    async def tick(self) -> bool:
        """Advance one tick: plant, readings, due loops. False: the plant has ended."""
        # The first readings are those of the plant's own step, before anything is asked of it.
        dt_s = self.tick_s if self.wire.readings else self.plant.step_s
        try:
            self.wire.step(dt_s)
        except StopIteration:
            return False
        self.clock.advance(dt_s)
        now_s = self.clock.now_s()
        for driver in self.drivers.values():
            self.agent.take(driver.device, await driver.read(now_s))
        if self.plan.controller == "skadi":
            await self._loops(now_s)
        self.tally.step(self.agent.snapshot(), dt_s)
        return True

    async def _loops(self, now_s: float) -> None:
        loops = self.site.loops
        for name, period_s, run in (
            ("observe", loops.ims_mms_s, self.agent.observe),
            ("fast", loops.fast_s, self.agent.fast),
            ("slow", loops.slow_s, self.agent.slow),
        ):
            if now_s - START_S >= self._due_s[name] - 1e-6:
                self._due_s[name] = now_s - START_S + period_s
                await run()

    async def run(self, hours: float, progress: Progress | None = None) -> None:
        """Run for so many simulated hours, or until the plant ends."""
        ticks = round(hours * 3600.0 / self.tick_s)
        for i in range(ticks):
            if not await self.tick():
                break
            if progress is not None and i % 64 == 0:
                progress(i / ticks)

    def close(self) -> None:
        """Let go of plant and journal."""
        self.plant.close()
        self.journal.close()


def _tick(wanted_s: float, step_s: float) -> float:
    """A whole multiple of the plant's step, at least 5 s unless asked otherwise."""
    floor_s = wanted_s or max(5.0, step_s)
    return max(1, round(floor_s / step_s)) * step_s


def in_memory() -> str | None:
    """A folder that costs no disk: a rehearsal's journal is as real as any, but nobody needs it
    after a power cut. None: wherever temporary files go."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


async def rehearse(plan: Rehearsal, progress: Progress | None = None) -> dict[str, Any]:
    """Rehearse and return the result as plain JSON values."""
    started_s = stopwatch_s()
    with tempfile.TemporaryDirectory(prefix="skadi-rehearse-", dir=in_memory()) as folder:
        run = Rehearsed(plan, Path(folder))
        try:
            await run.run(plan.hours, progress)
            result = run.tally.result(run.site.limits)
            truth = getattr(run.plant, "truth", None)
        finally:
            run.close()
    counts = run.agent.counts
    result |= {
        "plant": plan.plant, "controller": plan.controller, "captured": None,
        "writes": run.wire.writes, "rollbacks": counts.rollbacks,
        "readbacks_confirmed": counts.confirmed, "protective_moves": counts.protective,
        "wall_s": round(stopwatch_s() - started_s, 2),
    }  # fmt: skip
    if (chart := run.agent.control.chart) is not None:
        result["own_estimate"] = {"saved_kwh": chart.saved_kwh, "doubt_kwh": doubt_kwh(chart)}
    if callable(truth):
        result["truth"] = truth()
    return result
