"""The agent's monitor on the bundled hall: faults found, and alarms where there is nothing.

    .venv/bin/python benchmarks/monitoring_hall.py [--seeds 3] [--train-hours 48] [--json FILE]

One model, trained as `skadi rehearse --train-hours` does on one seed in May. Then, all with other
seeds: a clean week over the turn from summer to autumn; a clean day in each of four seasons; a clean
day with the whole agent in closed loop, whose moves must raise nothing; and each fault of the
simulator's table, started after an hour, at day and at night. Reported for a fault: whether and
how soon a persistent state appears in its row, and persistent states before it began, a week.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from agent.commissioning import train_on_plant
from agent.logs import configure
from agent.plants.site import plant_site
from agent.rehearse import Rehearsal, Rehearsed
from config.addresses import NamedAddress
from control import mms, monitor
from control.layout import HALL, Layout
from control.monitor import Trained
from control.types import Snapshot
from simulators.hall import Hall

TICK_S = 10.0  # of halls left alone: half as often as an agent looks costs half
ONSET_S = 3600.0
FAULTS = {
    "fouled_filter": "D",
    "stuck_valve": "B",
    "fan_bearing": "F",
    "blanking_panel": "A",
    "sensor_drift": "D",
    "pump_cavitation": "F",
    "gpu_hot": "E",
    "add_ai_nodes_row_c": "C",
    "crac_failure": "C",
}
SEASONS = {"winter": 18, "spring": 100, "summer": 200, "autumn": 290}


@dataclass(frozen=True, slots=True)
class Run:
    """States (t, u) of all units over one run, one row a tick, and the units' names."""

    states: NDArray[np.int8]
    units: tuple[str, ...]

    def entered(self, code: int) -> int:
        """How often some unit went into a state."""
        now = self.states == code
        return int((now[1:] & ~now[:-1]).sum())

    def first_s(self, of: Sequence[int], after: int) -> float | None:
        """Seconds from tick `after` to the first persistent state among these units."""
        hit = np.flatnonzero((self.states[after:, list(of)] == mms.PERSISTENT).any(axis=1))
        return float(hit[0] * TICK_S) if len(hit) else None


def watch(trained: Trained, hours: float, hall: Hall, row: str = "") -> Run:
    """The monitor over `hours` of a hall that nobody touches; it ends once a fault in `row` is found."""
    site = plant_site(cast("Any", hall.points()), TICK_S)
    layout = Layout(site)
    names = [cast("NamedAddress", p.address).name for p in site.points.values()]
    watcher = monitor.fit(layout, trained)
    state = monitor.begin(watcher, 0.0)
    last = np.full(len(names), np.nan)
    here = np.array([row_of(u) == row for u in watcher.units])
    states = []
    for _ in range(round(hours * 3600 / TICK_S)):
        reading = hall.step(TICK_S, {})
        values = np.array([reading.get(name, np.nan) for name in names])
        last = np.where(np.isnan(values), last, values)
        age_s = np.where(np.isnan(values), TICK_S, 0.0)
        snapshot = Snapshot(hall.now_s, layout.index, values, last, age_s)
        state, _ = monitor.tick(watcher, layout, snapshot, state)
        states.append(state.mms.state)
        found = state.mms.persistent & here
        if found.any() and len(states) * TICK_S > ONSET_S:
            break
    return Run(np.array(states), watcher.units)


def row_of(unit: str) -> str:
    """The row of "rack:C05" or "row:C"; "hall" is of none."""
    return unit.partition(":")[2][:1] or unit


def fault(trained: Trained, name: str, row: str, seed: int) -> dict[str, object]:
    """One fault, one seed: where it was seen first and how soon."""
    at_night = seed % 2
    hall = Hall(seed=seed, day=140 + seed % 20, start_hour=21 if at_night else 9)
    hall.overlays.start(name, ONSET_S, None)
    run, onset = watch(trained, 4.0, hall, row), round(ONSET_S / TICK_S)
    here = [i for i, u in enumerate(run.units) if row_of(u) == row]
    there = [i for i, u in enumerate(run.units) if row_of(u) not in (row, HALL)]
    before = Run(run.states[:onset], run.units)
    return {
        "fault": name,
        "seed": seed,
        "delay_s": run.first_s(here, onset),
        "elsewhere_s": run.first_s(there, onset),
        "false_before": before.entered(mms.PERSISTENT),
    }


def quiet(trained: Trained, name: str, hours: float, seed: int, day: int) -> dict[str, object]:
    """Clean operation: how many alarms there were all the same."""
    run = watch(trained, hours, Hall(seed=seed, day=day))
    return {
        "run": name,
        "hours": hours,
        "transient": run.entered(mms.TRANSIENT),
        "persistent": run.entered(mms.PERSISTENT),
    }


def moving(trained: Trained, hours: float, seed: int) -> dict[str, object]:
    """Clean operation with the agent in closed loop: what its own moves raised."""
    states: list[list[str]] = []

    def listen(kind: str, detail: dict[str, Any]) -> None:
        if kind == "findings" and detail["findings"]:
            states.append([f.state for f in detail["findings"].values()])

    async def run() -> int:
        plan = Rehearsal("hall", {"seed": str(seed), "day": "139"}, hours, model=trained)
        with tempfile.TemporaryDirectory() as folder:
            made = Rehearsed(plan, Path(folder))
            made.agent.listeners.append(listen)
            try:
                await made.run(hours)
                return made.agent.counts.writes
            finally:
                made.close()

    writes = asyncio.run(run())
    codes = np.array([[mms.STATE_NAMES.index(s) for s in row] for row in states], dtype=np.int8)
    units = Run(codes, tuple(map(str, range(codes.shape[1]))))
    return {"run": "a day in closed loop", "hours": hours, "writes": writes,
            "transient": units.entered(mms.TRANSIENT), "persistent": units.entered(mms.PERSISTENT)}  # fmt: skip


PARTS = ("week", "seasons", "moving", "faults")


def model_of(path: Path | None, train_hours: float) -> Trained:
    """The model in a file, or one trained now (and written there)."""
    if path is not None and path.exists():
        return Trained.from_dict(json.loads(path.read_text()))
    plan = Rehearsal("hall", {"seed": "7001"}, train_hours, "fixed", tick_s=5.0)
    trained = asyncio.run(train_on_plant(plan))
    if path is not None:
        path.write_text(json.dumps(trained.to_dict()))
    return trained


def faults(trained: Trained, seeds: int, only: Sequence[str]) -> list[dict[str, object]]:
    """Every fault, a line each."""
    found = []
    for name, row in FAULTS.items():
        if only and name not in only:
            continue
        runs = [fault(trained, name, row, 9001 + s) for s in range(seeds)]
        found.extend(runs)
        delays = sorted(float(str(r["delay_s"])) for r in runs if r["delay_s"] is not None)
        middle = f"{np.median(delays):6.0f} s (longest {delays[-1]:.0f} s)" if delays else "never"
        early = sum(int(str(r["false_before"])) for r in runs) * 168 / (len(runs) * ONSET_S / 3600)
        print(
            f"{name:20s} found {len(delays)}/{len(runs)}  {middle}  false {early:.0f}/week",
            flush=True,
        )
    return found


def main() -> int:
    """Run it; exit 1 when a clean run has a persistent state."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train-hours", type=float, default=48.0)
    parser.add_argument("--week-hours", type=float, default=168.0)
    parser.add_argument("--moving-hours", type=float, default=24.0)
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; default: all")
    parser.add_argument("--fault", choices=list(FAULTS), action="append", help="one; default: all")
    parser.add_argument("--model", type=Path, help="the model's file; made where it does not exist")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    asked = parser.parse_args()
    configure(level="warning")
    parts = asked.only or PARTS
    trained = model_of(asked.model, asked.train_hours)
    facts = SimpleNamespace(**trained.ims.trained_on)
    print(f"model {trained.ims.id}: {facts.rows} rows, margin {facts.margin:.2f}", flush=True)
    clean: list[dict[str, object]] = []

    def add(figures: dict[str, object]) -> None:
        clean.append(figures)
        print(figures, flush=True)

    if "week" in parts:
        add(quiet(trained, "a week in September", asked.week_hours, 8001, 262))
    if "seasons" in parts:
        for i, (season, day) in enumerate(SEASONS.items()):
            add(quiet(trained, season, 24.0, 8100 + i, day))
    if "moving" in parts:
        add(moving(trained, asked.moving_hours, 8200))
    found = faults(trained, asked.seeds, asked.fault or ()) if "faults" in parts else []
    if asked.json:
        out = {"model": trained.ims.id, "facts": vars(facts), "clean": clean, "faults": found}
        asked.json.write_text(json.dumps(out, indent=1))
    false = sum(int(str(c["persistent"])) for c in clean)
    return 1 if false else 0


if __name__ == "__main__":
    sys.exit(main())
