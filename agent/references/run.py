"""Plays a policy on a plant in virtual time, physics alone, and remembers what it gave.

The sums are the rehearsal's own (agent/tally.py), so a reference and the agent are counted
alike. Runs go to a cache on disk by everything they depend on; a damaged entry is run again.
"""

import ast
import hashlib
import importlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from agent.clock import stopwatch_s
from agent.plants.contract import Plant, stepped
from agent.plants.site import PlantError, plant_site
from agent.references.policies import Policy, Scene, constant, fixed, hourly, pid, trim_respond
from agent.rehearse import ALIASES, START_S, Progress, Rehearsal, load_plant
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


@dataclass(frozen=True, slots=True)
class Trial:
    """One run. policy: a name of POLICIES; values: its set points, plain JSON values."""

    plan: Rehearsal
    policy: str = "fixed"
    values: Any = None


@dataclass(frozen=True, slots=True)
class Played:
    """What a run gave: the rehearsal's result, and each hour's kWh and steps over a limit."""

    result: dict[str, Any]
    hours_kwh: list[float] = field(default_factory=list)
    hours_over: list[int] = field(default_factory=list)

    @property
    def cost(self) -> float:
        """Wh/prompt where there are prompts, else kWh: what is compared."""
        per = self.result["wh_per_prompt"]
        return float(self.result["total_kwh"] if per is None else per)

    @property
    def over(self) -> int:
        """Steps over any limit."""
        return sum(self.result["violation_steps"].values())


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


class Cache:
    """Finished runs on disk, one JSON file each, by a hash of all they depend on."""

    def __init__(self, folder: Path | None = None) -> None:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self.folder = folder or base / "skadi" / "references"

    def get(self, trial: Trial) -> Played | None:
        """A run made before, or None: never made, or not readable any more."""
        try:
            body = json.loads(self._path(trial).read_text(encoding="utf-8"))
            return Played(body["result"], body["hours_kwh"], body["hours_over"])
        except (OSError, ValueError, KeyError, TypeError):
            return None  # made anew, and written over

    def summary(self, name: str, plan: Rehearsal) -> dict[str, Any] | None:
        """What a reference controller gave on this plan, where it was run before."""
        played = self.get(Trial(replace(plan, controller=name, model=None), name, "summary"))
        return played.result if played else None

    def keep(self, name: str, plan: Rehearsal, result: dict[str, Any]) -> None:
        """Remember what a reference controller gave on this plan."""
        self.put(Trial(replace(plan, controller=name, model=None), name, "summary"), Played(result))

    def put(self, trial: Trial, played: Played) -> None:
        """Remember a run; whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(trial)
        body = {"result": played.result, "hours_kwh": played.hours_kwh, "hours_over": played.hours_over}  # fmt: skip
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(body), encoding="utf-8")
        part.replace(path)

    def _path(self, trial: Trial) -> Path:
        plan = trial.plan
        about = {
            "plant": ALIASES.get(plan.plant, plan.plant), "code": _code(plan.plant),
            "args": {k: [v, _content(v)] for k, v in sorted(plan.plant_args.items())},
            "hours": plan.hours, "tick_s": plan.tick_s, "site": repr(plan.site),
            "policy": trial.policy, "values": trial.values,
        }  # fmt: skip
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{trial.policy}-{digest[:32]}.json"


def _code(plant: str) -> str:
    """A hash of the source a run depends on, not of how it is laid out: the plant's package, and ours
    around it.

    A plant's module may add what lies outside its code: a function fingerprint() -> str.
    """
    try:
        module = importlib.import_module(ALIASES.get(plant, plant).partition(":")[0])
    except ImportError as error:
        raise PlantError(f"--plant {plant!r}: {error}") from error
    here = Path(__file__).parent
    agent = here.parent
    files = [agent / "tally.py", *sorted(here.glob("*.py")), *sorted((agent / "plants").glob("*.py"))]  # fmt: skip
    if module.__file__ is not None and Path(module.__file__).parent != agent / "plants":
        own = Path(module.__file__)
        files += sorted(own.parent.rglob("*.py")) if own.name == "__init__.py" else [own]
    files += [agent.parent / "control" / "energy.py"]
    digest = hashlib.sha256()
    fingerprint = getattr(module, "fingerprint", None)
    if callable(fingerprint):
        digest.update(str(fingerprint()).encode())
    for file in files:
        digest.update(ast.dump(ast.parse(file.read_bytes())).encode())
    return digest.hexdigest()


def _content(text: str) -> str | None:
    """A hash of the file an argument names, None where it names none."""
    try:
        return hashlib.sha256(Path(text).read_bytes()).hexdigest()
    except (OSError, ValueError):
        return None


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
