"""Plays a policy on a plant in virtual time, physics alone.

The sums are the rehearsal's own (agent/tally.py), so a reference and the agent are counted
alike. Finished runs are remembered (agent/references/cache.py).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np

from agent.clock import stopwatch_s
from agent.plants.contract import Plant, stepped
from agent.plants.site import plant_site
from agent.references.cache import Cache
from agent.references.policies import Policy, Scene, constant, fixed, hourly, pid, trim_respond
from agent.references.trial import Played, Trial
from agent.rehearse import START_S, Progress, Rehearsal, load_plant
from agent.tally import Tally
from config.addresses import NamedAddress
from config.schema import LimitsSection
from config.site import Site
from control.layout import Layout
from control.types import Snapshot

POLICIES: Mapping[str, Callable[[Scene, Any], Policy]] = {
    "fixed": lambda _scene, _values: fixed,
    "trim-respond": lambda scene, _values: trim_respond(scene),
    "pid": lambda scene, _values: pid(scene),
    "constant": lambda _scene, values: constant(values),
    "hourly": lambda _scene, values: hourly(values),
}

_WORTH_PROCESSES_S = 5.0  # of work: starting processes takes a second or two each


class Bench:
    """A plant, the arithmetic over its readings, and its time. rolled: it has run already."""

    def __init__(
        self, plant: Plant, tick_s: float, site: Site | None = None, rolled: bool = False
    ) -> None:
        self.plant, self.tick_s, self.rolled = plant, tick_s, rolled
        self.site = (
            site if rolled and site is not None else plant_site(plant.points(), tick_s, site)
        )
        self.scene = Scene(tuple(plant.points()), self.site.limits.inlet_max_c)
        self.layout = Layout(self.site)
        points = list(self.site.points.values())
        self._names = [p.address.name for p in points if isinstance(p.address, NamedAddress)]
        self._low = np.array([p.about.low for p in points])
        self._high = np.array([p.about.high for p in points])
        self._held = {
            p.id: float(p.baseline) for p in plant.points() if p.writable and p.baseline is not None
        }
        self.tally = Tally(self.layout)
        self.readings: Mapping[str, float] = {}

    def step(self, setpoints: Mapping[str, float]) -> int:
        """One tick; how many set points changed. Raises StopIteration at the plant's end."""
        changed = {k: v for k, v in setpoints.items() if self._held.get(k) != v}
        # As in the rehearsal, the first readings are those of the plant's own step.
        dt_s = self.tick_s if self.readings or self.rolled else self.plant.step_s
        readings = stepped(self.plant, dt_s, changed)
        self.readings = readings
        self._held |= changed
        got = [readings.get(n, self._held.get(n)) for n in self._names]
        values = np.array([math.nan if v is None else float(v) for v in got])
        with np.errstate(invalid="ignore"):
            values[~((values >= self._low) & (values <= self._high))] = math.nan
        now_s = START_S + self.tally.elapsed_s + dt_s
        age_s = np.zeros(len(values))
        self.tally.step(Snapshot(now_s, self.layout.index, values, values, age_s), dt_s)
        return len(changed)


def tick_of(plan: Rehearsal, plant: Plant) -> float:
    """The rehearsal's own tick: a whole multiple of the plant's step, at least 5 s unless asked."""
    floor_s = plan.tick_s or max(5.0, plant.step_s)
    return max(1, round(floor_s / plant.step_s)) * plant.step_s


def play(trial: Trial, progress: Progress | None = None) -> Played:
    """Run one policy on a fresh plant. Raises PlantError."""
    started_s = stopwatch_s()
    plan = trial.plan
    plant = load_plant(plan.plant, plan.plant_args)
    try:
        bench = Bench(plant, tick_of(plan, plant), plan.site)
        policy = POLICIES[trial.policy](bench.scene, trial.values)
        return _play(plan, bench, policy, trial, started_s, progress)
    finally:
        plant.close()


def _play(plan: Rehearsal, bench: Bench, policy: Policy, trial: Trial, started_s: float,
          progress: Progress | None) -> Played:  # fmt: skip
    ticks = round(plan.hours * 3600.0 / bench.tick_s)
    hours_kwh, hours_over, writes = [0.0], [0], 0
    for i in range(ticks):
        before, over = bench.tally.total_kwh, sum(bench.tally.violations.values())
        hour = int(bench.tally.elapsed_s // 3600.0)
        try:
            writes += bench.step(policy(i * bench.tick_s, bench.readings))
        except StopIteration:
            break
        while len(hours_kwh) <= hour:
            hours_kwh.append(0.0)
            hours_over.append(0)
        hours_kwh[hour] += bench.tally.total_kwh - before
        hours_over[hour] += sum(bench.tally.violations.values()) - over
        if progress is not None and i % 64 == 0:
            progress(i / ticks)
    result = bench.tally.result(bench.site.limits) | {
        "plant": plan.plant, "controller": trial.policy, "writes": writes, "rollbacks": 0,
        "readbacks_confirmed": 0, "protective_moves": 0, "captured": None,
        "tick_s": bench.tick_s, "wall_s": round(stopwatch_s() - started_s, 2),
    }  # fmt: skip
    truth = getattr(bench.plant, "truth", None)
    if callable(truth):
        result["truth"] = truth()
    return Played(result, hours_kwh, hours_over)


def play_all(trials: Sequence[Trial], cache: Cache | None, workers: int = 1,
             progress: Progress | None = None) -> list[Played]:  # fmt: skip
    """Run many trials, those in the cache not again; in processes of their own if workers > 1."""
    got = [cache.get(t) if cache else None for t in trials]
    missing = [t for t, g in zip(trials, got, strict=True) if g is None]
    made: list[Played] = []
    for trial, played in zip(missing, _run(missing, workers), strict=True):
        if cache is not None:
            cache.put(trial, played)
        made.append(played)
        if progress is not None:
            progress(len(made) / len(missing))
    fresh = iter(made)
    return [g if g is not None else next(fresh) for g in got]


# What noise may add to the highest of many thousand readings, five sigmas of usual sensors: a plant
# that foresees knows the truth, the tally reads probes. degC, and shares of ms and kW.
_FLICKER_C, _FLICKER_SHARE = 0.35, {"latency": 0.05, "rack": 0.01}


def foresee(
    plant: Plant, limits: LimitsSection, settings: Sequence[Mapping[str, float]], dt_s: float
) -> list[Played] | None:
    """What each of these settings, held for dt_s from now, would give; None: the plant can't say.

    A plant says it with `futures(candidates, dt_s, limits)`, limits being inlet (degC), latency
    (ms) and rack (kW): for each candidate total_kwh, prompts, and over, the steps over each limit.
    """
    futures = getattr(plant, "futures", None)
    if not callable(futures):
        return None
    most = {
        "inlet": limits.inlet_max_c - _FLICKER_C,
        "latency": limits.latency_p95_max_ms * (1.0 - _FLICKER_SHARE["latency"]),
        "rack": limits.rack_max_kw * (1.0 - _FLICKER_SHARE["rack"]),
    }
    return [
        Played(
            {
                "total_kwh": f["total_kwh"],
                "wh_per_prompt": 1000.0 * f["total_kwh"] / f["prompts"] if f["prompts"] else None,
                "violation_steps": f["over"],
            }
        )
        for f in futures(settings, dt_s, most)
    ]


def play_all_foreseen(
    plan: Rehearsal, settings: Sequence[Mapping[str, float]], cache: Cache | None
) -> list[Played] | None:
    """Each constant's outcome over a whole plan, together on one plant; None where it can't."""
    trials = [Trial(plan, "foreseen", s) for s in settings]
    got = [cache.get(t) if cache else None for t in trials]
    missing = [i for i, g in enumerate(got) if g is None]
    if missing:
        plant = load_plant(plan.plant, plan.plant_args)
        try:
            site = plant_site(plant.points(), tick_of(plan, plant), plan.site)
            made = foresee(plant, site.limits, [settings[i] for i in missing], plan.hours * 3600.0)
        finally:
            plant.close()
        if made is None:
            return None
        for i, played in zip(missing, made, strict=True):
            got[i] = played
            if cache is not None:
                cache.put(trials[i], played)
    return [g for g in got if g is not None]


def _run(trials: Sequence[Trial], workers: int) -> Iterator[Played]:
    """Each trial's run, in order, as they are done: what is done is kept if the rest fails."""
    if not trials:
        return
    first = play(trials[0])
    yield first
    rest = trials[1:]
    if workers <= 1 or first.result["wall_s"] * len(rest) < _WORTH_PROCESSES_S:
        yield from map(play, rest)
        return
    with ProcessPoolExecutor(min(workers, len(rest)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(play, rest)
