"""Where setpoints should go: the best levels that a hall can afford to be wrong about.

Every quarter of an hour all levels of each kind of setpoint are weighed over their whole envelope,
with what the chart knows. The best is the target, doubt counting for a level (an upper confidence
bound, Srinivas et al. 2010), so that what is not known is tried where it may pay. But only as far as the
hall can afford it: what may be lost must be covered by what was saved in the last week and by a
small allowance (conservative bandits: Wu et al. 2016). The levels a hall was found at are always
among those weighed, and always affordable. Moves nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from control.chart import Chart, Choice, effect_kw, saved
from control.signals import AIR_KNOBS

F64 = NDArray[np.float64]

OPTIMISM = 1.0  # sigmas of doubt that count for a level
# Sigmas of doubt that count against a level where nothing may be tried, beyond those of the levels found;
# at most so much of the total.
PRUDENCE, PRUDENT = 0.5, 0.01
CAUTION = 1.0  # sigmas of doubt that count as lost
ALLOWANCE_H = 0.1  # of the total power: what a week may lose to learning, 0.06 %
WRONG_H = 0.75  # how long it takes to see that a level is dear, and to leave it
SURE, SWITCHBACK_S = 1.0, 24 * 3600.0  # a saving of fewer sigmas is looked at again after so long
WEEK_S = 7 * 86_400.0
WARMER_K = (0.5, 1.0, 2.0, 4.0)
# Of its range: how far beyond what was seen at rest a target may be; as far as what was seen is wide,
# within these. Who has seen half a kelvin does not know what three will do.
BEYOND = (0.08, 0.2)
EXPLORING_MOST, EXPLORING_FREE_S = 0.02, 6 * 3600.0  # of the time, and at first: 4 % in two weeks
STEPS = 52  # levels weighed over a family's range, at least a quarter of a kelvin apart
ARRIVED = 0.06  # of its range: a target this near is reached; until then it stands
ARRIVE_S = 7200.0  # at most
# What seems to cost nothing may be held where nothing may be tried any more, if what it may cost until it is
# known is covered: walls and slab take a day, and small effects are seen behind them only. For so long, and
# while it seems to cost less than this of the total.
KNOWN_H, HELD_S, HELD_COSTS = 12.0, 24 * 3600.0, 0.002
SMALL = 0.02  # of the total: effects in more doubt than this are not small
SETTLED = 0.5  # rough by less: an average tells what its levels take


@dataclass(frozen=True, slots=True)
class Means:
    """What a hall can afford now: kWh that may be lost, of which total; whether there is time to try
    what is likely dearer; what a change of target must be worth."""

    kwh: float
    total_kw: float
    floor_kw: float
    may_try: bool

    def cover(self, found_kw: float, sigma_kw: float, hours: float) -> bool:
        """Whether levels, by their effect against those found, may be held for so long."""
        return (found_kw + CAUTION * sigma_kw) * hours <= self.kwh


def aimed(chart: Chart, total_kw: float, floor_kw: float, most: F64, least: F64) -> Chart:
    """Choose the target, each family within least..most (f,): what inlets allow. total_kw: of the
    hall, floor_kw: what a change of target must be worth."""
    if not chart.fresh or chart.response is None:
        return replace(chart, target=np.clip(chart.target, least, most))
    age_s = chart.at_s - chart.since_s
    when_s, kwh = saved(chart)
    chart = replace(chart, fresh=False, saved_kwh=float(kwh.sum()), weighed=_weighed(chart),
                    explored_s=chart.explored_s + chart.block_s * chart.exploring)  # fmt: skip
    lately = float(kwh[when_s >= chart.at_s - WEEK_S].sum())
    bears_kwh = max(ALLOWANCE_H * total_kw + lately, 0.0)
    may_try = chart.explored_s <= EXPLORING_MOST * age_s + EXPLORING_FREE_S
    if may_try and (back := _looking_back(chart, most, least)) is not None:
        return back
    return _chosen(chart, Means(bears_kwh, total_kw, floor_kw, may_try), most, least)


def _looking_back(chart: Chart, most: F64, least: F64) -> Chart | None:
    """At the levels found, where a saving is not sure and they were not seen for long; else None."""
    found, sigma = effect_kw(chart, chart.baseline, np.clip(chart.target, least, most)[None])
    if found[0] + SURE * sigma[0] <= 0.0 or not _not_seen_lately(chart):
        return None
    back = np.clip(chart.baseline, least, most)
    return replace(chart, target=back, aimed_s=chart.at_s, exploring=True, held=False)


def _chosen(chart: Chart, means: Means, most: F64, least: F64) -> Chart:
    within = np.clip(chart.target, least, most)
    found, sigma = effect_kw(chart, chart.baseline, within[None])
    found_kw, sigma_kw = float(found[0]), float(sigma[0])
    stays = means.cover(found_kw, sigma_kw, WRONG_H)
    if stays and _under_way(chart, OPTIMISM * means.may_try):
        return replace(chart, target=within)
    fit = _fit(chart, means, most, least)
    likely_kw = min((0.0, *(c.kw for c in fit)))
    if stays and chart.held and _held_on(chart, means, likely_kw, found_kw, sigma_kw):
        return replace(chart, target=within)
    best = min(fit, key=lambda c: _worth(c, means, likely_kw, sigma_kw), default=None)
    if best is None or (stays and _worth(best, means, likely_kw, sigma_kw) >= -means.floor_kw):
        return replace(chart, target=within, exploring=False, held=False)
    exploring, held = best.kw > likely_kw + means.floor_kw, _seems_free(best, means, likely_kw)
    target = np.clip(best.levels, least, most) if best.with_air is None else best.levels
    return replace(chart, target=target, aimed_s=chart.at_s, exploring=exploring, held=held)


def _fit(chart: Chart, means: Means, most: F64, least: F64) -> list[Choice]:
    """The levels weighed that inlets allow, that are not far beyond what was seen, and affordable."""
    low, high = _tried(chart)
    low, high = np.maximum(low, least) - 1e-9, np.minimum(high, most) + 1e-9
    return [
        c for c in chart.weighed
        if (c.family < 0 or means.cover(c.found_kw, c.found_sigma_kw, WRONG_H)) and _within(chart, c, low, high, most)
    ]  # fmt: skip


def _worth(c: Choice, means: Means, likely_kw: float, sigma_kw: float) -> float:
    """What a change to these levels takes more, the less the better, with its doubt."""
    if means.may_try or _seems_free(c, means, likely_kw):
        return c.kw - OPTIMISM * c.sigma_kw
    # Where nothing may be tried, what is not borne out against the levels found is left.
    most_kw = PRUDENT * means.total_kw
    return c.kw + min(PRUDENCE * c.found_sigma_kw, most_kw) - min(PRUDENCE * sigma_kw, most_kw)


def _seems_free(c: Choice, means: Means, likely_kw: float) -> bool:
    """Whether levels may be held to be known, though there is no time to try: a small effect, likely as
    good as the best there is."""
    small = c.found_sigma_kw <= SMALL * means.total_kw and c.kw <= likely_kw + means.floor_kw
    return not means.may_try and small and means.cover(c.found_kw, c.found_sigma_kw, KNOWN_H)


def _held_on(chart: Chart, means: Means, likely_kw: float, found_kw: float, sigma_kw: float) -> bool:  # fmt: skip
    """Whether what is held to be known is held on: not long enough, and it does not seem to cost."""
    soon = chart.at_s - chart.aimed_s < HELD_S
    cheap = likely_kw >= -HELD_COSTS * means.total_kw
    return soon and cheap and means.cover(found_kw, sigma_kw, KNOWN_H)


def _not_seen_lately(chart: Chart) -> bool:
    """Whether it is long since the hall was at the levels it was found at."""
    spans = np.array([f.span for f in chart.families])
    near = (np.abs(chart.seen.levels - chart.baseline) / spans).max(axis=1) <= ARRIVED
    return chart.at_s - float(chart.seen.at_s[near].max(initial=chart.since_s)) > SWITCHBACK_S


def _within(chart: Chart, c: Choice, low: F64, high: F64, most: F64) -> bool:
    if c.family < 0:
        return True
    return bool(low[c.family] <= c.level <= high[c.family]) and _bearable(chart, c, most, high)


def _weighed(chart: Chart) -> tuple[Choice, ...]:
    """Every level of each family, the others where they should be, trades with air, and the levels
    found."""
    asked = [(-1, 0.0, chart.baseline, None), *_asked(chart)]
    levels = np.vstack([a[2] for a in asked])
    effects = np.stack(
        [*effect_kw(chart, chart.target, levels), *effect_kw(chart, chart.baseline, levels)]
    )
    return tuple(
        Choice(i, level, row, kw, sigma_kw, found_kw, found_sigma_kw, air)
        for (i, level, row, air), (kw, sigma_kw, found_kw, found_sigma_kw) in zip(asked, effects.T.tolist(), strict=True)
    )  # fmt: skip


def _asked(chart: Chart) -> Iterator[tuple[int, float, F64, int | None]]:
    for i, family in enumerate(chart.families):
        spacing = max(family.span / STEPS, 0.25 if family.degrees else 2.0)
        line = np.arange(family.low, family.high + 1e-9, spacing)
        for level in (*line.tolist(), family.high, float(chart.baseline[i])):
            yield i, level, _put(chart.target, {i: level}), None
        for level, air, warmer in _trades(chart, i, line):
            yield i, level, _put(chart.target, {i: level, air: warmer}), air


def _put(levels: F64, new: dict[int, float]) -> F64:
    out = levels.copy()
    for i, level in new.items():
        out[i] = level
    return out


def _trades(chart: Chart, i: int, line: F64) -> list[tuple[float, int, float]]:
    """(level, air family, warmer level): more of family i, less of air's cold."""
    family = chart.families[i]
    if family.quantity in AIR_KNOBS:
        return []
    safer = line[line > chart.target[i]] if not family.degrees else line[line < chart.target[i]]
    airs = [j for j, f in enumerate(chart.families) if f.quantity in AIR_KNOBS]
    return [(float(v), j, float(chart.target[j] + k)) for v in safer[:: max(1, len(safer) // 8)] for j in airs
            for k in WARMER_K if chart.target[j] + k <= chart.families[j].high]  # fmt: skip


def _bearable(chart: Chart, c: Choice, most: F64, high: F64) -> bool:
    """Whether a trade's warmer air will be within what inlets allow: what stands over the air
    falls at least as the fan turns faster (mixing and temperature rise, both); elsewhere a tenth."""
    if c.with_air is None:
        return True
    j = c.with_air
    warmer, now, over = float(c.levels[j]), chart.target[c.family], chart.over_k
    speed = now / c.level if chart.families[c.family].quantity == "fan_rpm_pct" else 0.9
    gain_k = max(over, 0.0) * (1.0 - speed)
    return bool(warmer <= min(most[j] + gain_k, chart.families[j].high))


def _tried(chart: Chart) -> tuple[F64, F64]:
    """The levels that were seen at rest, and a little beyond: further only when that has shown itself,
    and nothing new while what was done last has not settled."""
    seen = chart.seen.levels[chart.seen.rough <= SETTLED]
    if not len(seen):
        return chart.baseline, chart.baseline
    low, high = seen.min(axis=0), seen.max(axis=0)
    spans = np.array([f.span for f in chart.families])
    beyond = np.clip(high - low, BEYOND[0] * spans, BEYOND[1] * spans)
    beyond = beyond if chart.seen.rough[-1] <= SETTLED else 0.0 * spans
    return low - beyond, high + beyond


def _under_way(chart: Chart, optimism: float) -> bool:
    """Whether to go on to the target, or to stay there until it is known: it may still be better
    than where the hall is, and than where it was found."""
    spans = np.array([f.span for f in chart.families])
    away = float((np.abs(chart.settled - chart.target) / spans).max()) > ARRIVED
    if chart.at_s - chart.aimed_s > ARRIVE_S:
        return False
    if not away:
        kw, sigma_kw = effect_kw(chart, chart.baseline, chart.target[None])
        return bool(chart.seen.rough[-1] > SETTLED and kw[0] < sigma_kw[0])
    kw, sigma_kw = effect_kw(chart, chart.settled, chart.target[None])
    return bool(kw[0] - optimism * sigma_kw[0] < 0.0)
