"""The controllers Skadi is measured against, on any plant, in virtual time and on physics alone.

fixed, trim-respond, pid: see agent/references/policies.py. best-constant: in hindsight, the one
constant value of each kind of knob that costs least and breaks no limit the fixed baseline keeps.
oracle: perfect model and forecast; see agent/references/oracle.py. They decide nothing on a site.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent.clock import stopwatch_s
from agent.plants.site import PlantError
from agent.references.cache import Cache
from agent.references.oracle import oracle
from agent.references.policies import SEARCHED, Group
from agent.references.run import Bench, play_all, play_all_foreseen, tick_of
from agent.references.trial import Played, Trial
from agent.rehearse import Progress, Rehearsal, load_plant

REFERENCES = ("fixed", "trim-respond", "pid", "best-constant", "oracle")

# Many runs are needed to search: the bundled hall is searched at a coarser step and what is found
# is run again at the plan's own.
COARSE: Mapping[str, Mapping[str, str]] = {"hall": {"step_s": "60"}}
_PASSES = 3
_VERIFIED_MOST = 8
# First and second spacing of a search line: 1 K then 0.5 K, else an eighth and a sixteenth.
_SPACING_C = (1.0, 0.5)
_SPACING_SHARE = (1.0 / 8.0, 1.0 / 16.0)
_PAIR_PASSES = 4
_PAIR_SHARES = (1.0 / 12.0, 1.0 / 36.0)
_FORESEEN_H = 24.0  # searched over a day first: what keeps the limits there is tried on all of them


@dataclass(slots=True)
class _Search:
    """A search under way: what was tried, by the value of each quantity."""

    plan: Rehearsal
    groups: list[Group]
    allowed: Mapping[str, int]
    cache: Cache | None
    workers: int
    foresees: bool
    hours: float = _FORESEEN_H
    tried: dict[tuple[float, ...], Played] = field(default_factory=dict)

    def run(self, points: list[tuple[float, ...]]) -> None:
        """Try these values, those tried before not again."""
        new = [p for p in dict.fromkeys(points) if p not in self.tried]
        constants = [settings(self.groups, p) for p in new]
        part = replace(self.plan, hours=min(self.plan.hours, self.hours))
        played = play_all_foreseen(part, constants, self.cache) if self.foresees else None
        if played is None:
            trials = [Trial(self.plan, "constant", c) for c in constants]
            played = play_all(trials, self.cache, self.workers)
        self.tried |= dict(zip(new, played, strict=True))

    def ranked(self) -> list[tuple[float, ...]]:
        """What breaks no limit the baseline keeps, cheapest first."""
        fit = [p for p, run in self.tried.items() if self.fits(run)]
        return sorted(fit, key=lambda p: self.tried[p].cost)

    def fits(self, played: Played) -> bool:
        """Whether a run is over each limit no longer than the fixed baseline is."""
        return all(n <= self.allowed[k] for k, n in played.result["violation_steps"].items())


def settings(groups: list[Group], values: tuple[float, ...]) -> dict[str, float]:
    """One value for each group's knobs, by point id."""
    return {i: v for g, v in zip(groups, values, strict=True) for i in g.ids}


def run_reference(
    name: str,
    plan: Rehearsal,
    progress: Progress | None = None,
    *,
    cache: Cache | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """Run a reference controller; the rehearsal's JSON fields, and `settings` where it searched.

    name: one of REFERENCES. cache: where finished runs are kept (None: nowhere). Raises
    PlantError for a plant that does not keep its contract, ValueError for an unknown name.
    """
    if name not in REFERENCES:
        raise ValueError(f"controller {name!r} is unknown; one of {', '.join(REFERENCES)}")
    if cache is not None and (kept := cache.summary(name, plan)) is not None:
        return kept
    started_s = stopwatch_s()
    if name == "best-constant":
        result = best_constant(plan, cache, workers, progress)
    elif name == "oracle":
        start = best_constant(_coarse(plan), cache, workers, None)
        result = oracle(_coarse(plan), start, cache, progress)
    else:
        result = play_all([Trial(plan, name)], cache, 1, progress)[0].result
    result = result | {"controller": name, "wall_s": round(stopwatch_s() - started_s, 2)}
    if cache is not None:
        cache.keep(name, plan, result)
    return result


def captured(plan: Rehearsal, result: Mapping[str, Any], cache: Cache) -> float | None:
    """The share of the oracle's saving (else the best constant's) over the fixed baseline that a
    result has; None where those were not run on this plan before, or save nothing."""
    fixed = cache.summary("fixed", plan)
    best = cache.summary("oracle", plan) or cache.summary("best-constant", plan)
    if fixed is None or best is None or not cost(fixed) > cost(best):
        return None
    return (cost(fixed) - cost(result)) / (cost(fixed) - cost(best))


def cost(result: Mapping[str, Any]) -> float:
    """Wh/prompt where there are prompts, else kWh: what is compared."""
    per = result["wh_per_prompt"]
    return float(result["total_kwh"] if per is None else per)


def best_constant(
    plan: Rehearsal, cache: Cache | None, workers: int = 1, progress: Progress | None = None
) -> dict[str, Any]:
    """The best constant in hindsight; all knobs of one quantity take the same value.

    One quantity: a grid of 1 K (or an eighth of the range), then half of it around the best.
    Several: the same along one after the other, until a pass brings nothing; where the plant
    foresees many at once, then two by two, ever finer: what fans gain, air may lose.
    """
    search = _start(_coarse(plan), cache, workers)
    if not search.groups:
        raise PlantError(f"best-constant: the plant has no knob of {', '.join(SEARCHED)}")
    at = tuple(g.baseline for g in search.groups)
    search.run([at])
    for turn in range(_PASSES):
        before = at
        for axis in range(len(search.groups)):
            at = _along(search, at, axis)
            if progress is not None:
                progress((turn * len(at) + axis + 1) / (_PASSES * len(at) + 1))
        if at == before or len(at) == 1 or search.foresees:
            break
    for share in _PAIR_SHARES if search.foresees else ():
        for _ in range(_PAIR_PASSES):
            before = at
            search.run(_two_by_two(search.groups, at, share))
            at = _best(search, at)
            if at == before:
                break
    if search.foresees and plan.hours > _FORESEEN_H:
        search = _over_the_whole(search)
    return _verified(plan, search, cache)


def _over_the_whole(day: _Search) -> _Search:
    """What keeps the limits for a day may not for a fortnight: the same search, from there on."""
    search = replace(day, hours=day.plan.hours, tried={})
    search.run(day.ranked())
    at = _best(search, tuple(g.baseline for g in day.groups))
    for _ in range(2):
        search.run(_two_by_two(search.groups, at, _PAIR_SHARES[-1]))
        at = _best(search, at)
    return search


def _two_by_two(
    groups: list[Group], at: tuple[float, ...], share: float
) -> list[tuple[float, ...]]:
    """All points that lie `share` of their ranges from `at` on one axis or on two."""
    ways = [
        [
            at[i],
            *(v for s in (-share, share) if g.min <= (v := at[i] + s * (g.max - g.min)) <= g.max),
        ]
        for i, g in enumerate(groups)
    ]
    found: list[tuple[float, ...]] = []
    for i, first in enumerate(ways):
        for v in first[1:]:
            one = _moved(at, i, v)
            found.append(one)
            found += [_moved(one, j, w) for j in range(i + 1, len(ways)) for w in ways[j][1:]]
    return found


def _coarse(plan: Rehearsal) -> Rehearsal:
    faster = COARSE.get(plan.plant)
    if faster is None or "step_s" in plan.plant_args:
        return plan
    return replace(plan, plant_args={**plan.plant_args, **faster})


def _start(plan: Rehearsal, cache: Cache | None, workers: int) -> _Search:
    plant = load_plant(plan.plant, plan.plant_args)
    try:
        groups = Bench(plant, tick_of(plan, plant), plan.site).scene.groups(SEARCHED, by_row=False)
        foresees = hasattr(plant, "futures")
    finally:
        plant.close()
    fixed = play_all([Trial(plan)], cache)[0]
    return _Search(plan, groups, fixed.result["violation_steps"], cache, workers, foresees)


def _along(search: _Search, at: tuple[float, ...], axis: int) -> tuple[float, ...]:
    """The best point on a line through `at`: coarse first, then finer around the best."""
    group = search.groups[axis]
    coarse, fine = (
        _SPACING_C
        if group.quantity.endswith("_c")
        else [(group.max - group.min) * s for s in _SPACING_SHARE]
    )
    count = int((group.max - group.min) / coarse + 1e-9)
    line = [group.min + i * coarse for i in range(count + 1)] + [group.max]
    search.run([_moved(at, axis, v) for v in line])
    best = _best(search, at)
    if search.foresees:
        return best  # finer two by two
    near = [v for v in (best[axis] - fine, best[axis] + fine) if group.min <= v <= group.max]
    search.run([_moved(best, axis, v) for v in near])
    return _best(search, best)


def _moved(at: tuple[float, ...], axis: int, value: float) -> tuple[float, ...]:
    return (*at[:axis], round(value, 6), *at[axis + 1 :])


def _best(search: _Search, otherwise: tuple[float, ...]) -> tuple[float, ...]:
    ranked = search.ranked()
    return ranked[0] if ranked else otherwise


def _verified(plan: Rehearsal, search: _Search, cache: Cache | None) -> dict[str, Any]:
    """The cheapest that also keeps the limits at the plan's own step; fixed where none does."""
    fixed = play_all([Trial(plan)], cache)[0]
    allowed = replace(search, allowed=fixed.result["violation_steps"])
    chosen, values = fixed, dict[str, float]()
    for point in search.ranked()[:_VERIFIED_MOST]:
        constants = settings(search.groups, point)
        played = play_all([Trial(plan, "constant", constants)], cache)[0]
        if allowed.fits(played):
            chosen, values = played, constants
            break
    known = fixed.cost - chosen.cost > 0.0
    return chosen.result | {
        "settings": values, "runs": len(search.tried), "captured": 1.0 if known else None,
        "fixed_cost": fixed.cost, "best_cost": chosen.cost,
    }  # fmt: skip
