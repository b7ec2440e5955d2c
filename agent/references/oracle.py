"""The oracle: what perfect knowledge of plant, weather and load would have saved.

Where a plant can be copied (copy.deepcopy), the plant itself is the model: at each hour candidates
are rolled out over that hour and a quarter on copies, weather and events included; the best is taken.
A plant that foresees (`futures`, see run.py) answers a whole neighbourhood at once.
Where it can't (an engine in a process), each hour's best constant is stitched into one schedule
and that schedule is run for real. Both are lower bounds of what is possible, not proofs of it.
"""

import copy
import math
from collections.abc import Mapping
from typing import Any

from agent.clock import stopwatch_s
from agent.plants.contract import Plant
from agent.references.cache import Cache
from agent.references.policies import SEARCHED, Group
from agent.references.run import Bench, foresee, play_all, tick_of
from agent.references.trial import Trial
from agent.rehearse import Progress, Rehearsal, load_plant

EVERY_S = 3600.0
AHEAD_S = EVERY_S + 900.0  # beyond the hour: what air and metal still answer to what was set in it
ROLL_TICK_S = 300.0  # readings during a roll-out; the plant keeps its own step
_SHARES = (-0.15, -0.05, 0.05, 0.15)  # of a knob's range: how far one candidate goes
_PASSES = 2
_AT_FIRST = 6  # passes; later hours start from what was best an hour ago
_FINER = (0.12, 0.04, 0.013)  # of a knob's range: ever smaller neighbourhoods
Held = Mapping[tuple[str, ...], float]


def oracle(
    plan: Rehearsal, start: Mapping[str, Any], cache: Cache | None, progress: Progress | None
) -> dict[str, Any]:
    """Run the oracle from the best constant's result `start`; the rehearsal's JSON fields.

    `method`: roll-outs, stitched, or best-constant where neither was better than that.
    """
    plant = load_plant(plan.plant, plan.plant_args)
    try:
        copyable = _copyable(plant)
        result = (
            _by_rollouts(plan, plant, start["settings"], AHEAD_S, progress)
            if copyable
            else _stitched(plan, plant, cache)
        )
    finally:
        plant.close()
    if copyable and _over(result, start):  # an hour led where the next could not keep the limits
        plant = load_plant(plan.plant, plan.plant_args)
        try:
            result = _by_rollouts(plan, plant, start["settings"], 3.0 * AHEAD_S, progress)
        finally:
            plant.close()
    if _over(result, start) or _cost(result) > _cost(start):
        result = dict(start) | {"method": "best-constant"}
    known = start["fixed_cost"] - _cost(result) > 0.0
    return result | {"captured": 1.0 if known else None, "fixed_cost": start["fixed_cost"]}


def _over(result: Mapping[str, Any], start: Mapping[str, Any]) -> bool:
    return bool(sum(result["violation_steps"].values()) > sum(start["violation_steps"].values()))


def _copyable(plant: Plant) -> bool:
    try:
        copy.deepcopy(plant)
    except (TypeError, ValueError, AttributeError, NotImplementedError):
        return False  # it holds a process, a file or a socket: then there is nothing to roll out
    return True


def _cost(result: Mapping[str, Any]) -> float:
    per = result["wh_per_prompt"]
    return float(result["total_kwh"] if per is None else per)


def _by_rollouts(
    plan: Rehearsal,
    plant: Plant,
    start: Mapping[str, float],
    ahead_s: float,
    progress: Progress | None,
) -> dict[str, Any]:
    started_s = stopwatch_s()
    bench = Bench(plant, tick_of(plan, plant), plan.site)
    groups = bench.scene.groups(SEARCHED, by_row=True)
    held: Held = {g.ids: start.get(g.ids[0], g.baseline) for g in groups}
    improve = _foreseen if hasattr(plant, "futures") else _improve
    ticks, each = round(plan.hours * 3600.0 / bench.tick_s), max(1, round(EVERY_S / bench.tick_s))
    writes = 0
    for i in range(ticks):
        values: dict[str, float] = {}
        if i % each == 0:
            held = improve(bench, groups, held, ahead_s)
            values = {name: v for ids, v in held.items() for name in ids}
            if progress is not None:
                progress(i / ticks)
        try:
            writes += bench.step(values)
        except StopIteration:
            break
    return bench.tally.result(bench.site.limits) | {
        "plant": plan.plant, "writes": writes, "rollbacks": 0, "readbacks_confirmed": 0,
        "protective_moves": 0, "tick_s": bench.tick_s, "method": "roll-outs",
        "wall_s": round(stopwatch_s() - started_s, 2),
    }  # fmt: skip


def _improve(bench: Bench, groups: list[Group],
             held: Held, ahead_s: float) -> Held:  # fmt: skip
    """Coordinate search around what is held: fewest steps over a limit, then least cost."""
    best, score = held, _rollout(bench, held, ahead_s)
    for _ in range(_PASSES):
        before = score
        for group in groups:
            for share in _SHARES:
                value = best[group.ids] + share * (group.max - group.min)
                value = min(group.max, max(group.min, value))
                if abs(value - best[group.ids]) < 1e-9:
                    continue
                tried = {**best, group.ids: value}
                if (found := _rollout(bench, tried, ahead_s)) < score:
                    best, score = tried, found
        if score == before:
            break
    return best


def _foreseen(bench: Bench, groups: list[Group], held: Held, ahead_s: float) -> Held:
    """The same from whole neighbourhoods, ever finer: every knob of every row, all of a kind, kinds
    two by two; then the gains together, as many as still help."""
    best, score = held, _scores(bench, [held], ahead_s)[0]
    at_first = bench.tally.elapsed_s == 0.0
    for share in _FINER if at_first else _FINER[1:]:
        for _ in range(_AT_FIRST if at_first else 1):
            moves = _moves(groups, best, share)
            scores = _scores(bench, [{**best, **m} for m in moves], ahead_s)
            gains = sorted((s, i) for i, s in enumerate(scores) if s < score)
            if not gains:
                break
            together = _together(best, [moves[i] for _, i in gains])
            tried = [{**best, **moves[gains[0][1]]}, *together]
            found = min(zip(_scores(bench, tried, ahead_s), range(len(tried)), strict=True))
            score, best = found[0], tried[found[1]]
    return best


def _moves(groups: list[Group], best: Held, share: float) -> list[Held]:
    def move(members: list[Group], sign: float) -> Held:
        return {
            g.ids: min(g.max, max(g.min, best[g.ids] + sign * share * (g.max - g.min)))
            for g in members
        }

    kinds = list(dict.fromkeys(g.quantity for g in groups))
    tied = {
        (k, sign): move([g for g in groups if g.quantity == k], sign)
        for k in kinds for sign in (-1.0, 1.0)
    }  # fmt: skip
    single = [move([g], sign) for g in groups for sign in (-1.0, 1.0)]
    pairs: list[Held] = [
        {**a, **b} for (i, _), a in tied.items() for (j, _), b in tied.items() if i < j
    ]
    return [m for m in [*single, *tied.values(), *pairs] if any(best[k] != v for k, v in m.items())]


def _together(best: Held, moves: list[Held]) -> list[Held]:
    """The first 2, 4, 8 … of these moves at once, whole and half; an earlier one has its way."""
    found: list[Held] = []
    for count in (2, 4, 8, 16, len(moves)):
        merged: dict[tuple[str, ...], float] = {}
        for move in reversed(moves[:count]):
            merged |= move
        found += [
            {**best, **{k: best[k] + part * (v - best[k]) for k, v in merged.items()}}
            for part in (1.0, 0.5)
        ]
    return found


def _scores(bench: Bench, tried: list[Held], ahead_s: float) -> list[tuple[int, float]]:
    settings = [{name: v for ids, v in held.items() for name in ids} for held in tried]
    played = foresee(bench.plant, bench.site.limits, settings, ahead_s)
    return [(p.over, p.cost) for p in played or ()]


def _rollout(bench: Bench, held: Held, ahead_s: float) -> tuple[int, float]:
    """(steps over a limit, Wh/prompt or kWh) of holding these for ahead_s, on a copy."""
    plant = copy.deepcopy(bench.plant)
    step_s = plant.step_s
    trial = Bench(plant, max(1, round(ROLL_TICK_S / step_s)) * step_s, bench.site, rolled=True)
    values = {name: v for ids, v in held.items() for name in ids}
    for i in range(max(1, math.ceil(ahead_s / trial.tick_s))):
        try:
            trial.step(values if i == 0 else {})
        except StopIteration:
            break
    tally = trial.tally
    cost = tally.total_kwh / tally.prompts if tally.prompts else tally.total_kwh
    return sum(tally.violations.values()), cost


def _stitched(plan: Rehearsal, plant: Plant, cache: Cache | None) -> dict[str, Any]:
    """Each hour the constant that was cheapest then, among those within limits; run for real."""
    bench = Bench(plant, tick_of(plan, plant), plan.site)
    groups = bench.scene.groups(SEARCHED, by_row=False)
    runs = []
    for group in groups:
        count = int(group.max - group.min) if group.quantity.endswith("_c") else 8
        for i in range(count + 1):
            value = group.min + (group.max - group.min) * i / count
            values = {g.ids: (value if g is group else g.baseline) for g in groups}
            runs.append({name: v for ids, v in values.items() for name in ids})
    played = play_all([Trial(plan, "constant", r) for r in runs], cache)
    hours = min(len(p.hours_kwh) for p in played)
    schedule = [
        min(
            zip(runs, played, strict=True),
            key=lambda pair: (pair[1].hours_over[hour], pair[1].hours_kwh[hour]),
        )[0]
        for hour in range(hours)
    ]
    result = play_all([Trial(plan, "hourly", schedule)], cache)[0].result
    return result | {"method": "stitched"}
