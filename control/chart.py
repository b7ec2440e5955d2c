"""The chart: what a hall does at any setpoints, for halls steered by a few kinds of them.

Every quarter of an hour what was seen goes into a learned response (control.response). Says what
any levels should take here, in this weather, under this load, and what was saved against the
levels a hall was found at. Knows how far inlets stand above their air, and how far they may
still rise. Sees and learns only: control.aim chooses among levels, control.slow_chart moves.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from control import rest
from control.fits import Fits, chosen, fitted
from control.noise import Noise, heard
from control.peaks import highest, with_look
from control.response import AROUND, BLOCK_S, Kernel, Seen, wet_bulb_c
from control.rest import Rest
from control.signals import AIR_KNOBS, HALL, PLACE
from control.slow_model import metered

F64 = NDArray[np.float64]

LAG_S = 900.0  # air, slab and steel follow a setpoint in about this; water too
SLAB_S = 8 * 3600.0  # what is heavy
UNSETTLED = 0.03  # of a family's range: a level this far from where it has settled is rough by 1
FIRST_CHOICE = 4  # blocks: before, the sizes of things are what they usually are
SURPRISE, SURPRISE_S = 0.1, 300.0  # of the mean: a change by this ends a block early, after so long
MOST_SEEN = 240
RECENT = 48  # the latest are never merged
LOADS = (0.2, 5.0)  # of its mean: a load beyond is a meter at fault
DAY_S = 86_400.0
DIFFERS = 4.0  # sigmas of noise between averages that are not alike: those beside a ledge
FALLING_K = 0.1  # air asked for this much colder than it is: inlets still follow
UNKNOWN_K = 1.0  # what a hall's first day may still add to its inlets, falling to 0 over it


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of setpoint: its range over the site, what it is in."""

    quantity: str
    low: float
    high: float
    degrees: bool

    @property
    def span(self) -> float:
        """Its range."""
        return max(self.high - self.low, 1e-6)


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """A block under way."""

    s: float
    kw: F64  # (2,): sum over time of what is steered and of the rest
    kw_s: F64  # (2,): the seconds they were known
    levels: F64
    slab: F64
    off: float
    around: F64
    around_s: F64
    asked: F64
    asked_squared: F64


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Levels weighed (f,): what is set, of which family (-1: as the hall was found), and the expected
    effect ± 1-sigma in kW against the target, and against the levels found. with_air: goes with
    warmer air of that family, which more cooling of another kind makes bearable."""

    family: int
    level: float
    levels: F64
    kw: float
    sigma_kw: float
    found_kw: float
    found_sigma_kw: float
    with_air: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """What is known and wanted. baseline, settled, target (f,): where levels were found, where they have
    settled, where they should go; coming (len(AROUND),): what should surround an hour later, less
    what does now; peaks: as in control.peaks; rest: what is not steered; saved_kwh: against the baseline, by
    the learned response."""

    families: tuple[Family, ...]
    since_s: float
    at_s: float
    baseline: F64
    settled: F64
    slab: F64
    asked: F64
    target: F64
    sums: Sums
    seen: Seen
    peaks: F64
    usual: F64  # the first averages known: which meters there are
    rest: Rest | None = None
    noise: Noise = field(default_factory=Noise)
    blocks: int = 0
    next_choice: int = FIRST_CHOICE
    response: Fits | None = None
    over: F64 | None = None  # inlets over their air at the last look
    over_k: float = 0.0  # the highest of them, where they are known
    flicker_k: float = 0.1
    explored_s: float = 0.0
    exploring: bool = False  # the target is there to learn
    held: bool = False  # the target is there to be known, and seems to cost nothing
    aimed_s: float = 0.0
    saved_kwh: float = 0.0
    weighed: tuple[Choice, ...] = ()
    fresh: bool = False  # something was learned, and no target chosen since
    block_s: float = BLOCK_S  # how long the last average was over
    coming: F64 = field(default_factory=lambda: np.zeros(len(AROUND)))


def begin(families: tuple[Family, ...], levels: F64, places: int, now_s: float) -> Chart:
    """Nothing seen yet."""
    f = len(families)
    none = np.zeros(0)
    levels_seen = np.zeros((0, f))
    seen = Seen(none, none, none, none, levels_seen, np.zeros((0, len(AROUND))), levels_seen, none, np.zeros((0, f, 3)))  # fmt: skip
    return Chart(families, now_s, now_s, levels, levels, levels, levels, levels, _empty(f), seen, np.zeros((0, 1 + 3 * places)), np.full(len(HALL), np.nan))  # fmt: skip


def _empty(f: int) -> Sums:
    n = len(AROUND)
    return Sums(0.0, np.zeros(2), np.zeros(2), np.zeros(f), np.zeros(f), 0.0, np.zeros(n), np.zeros(n), np.zeros(f), np.zeros(f))  # fmt: skip


def take(chart: Chart, hall: F64, places: F64, air: F64, levels: F64, now_s: float) -> Chart:
    """Take in averages since the last look: hall (len(HALL),), places (n, len(PLACE)), air (n,)
    the air setpoint of each place (0 without), levels (f,) as they stand now."""
    dt_s = now_s - chart.at_s
    if dt_s <= 0 or np.isnan(levels).any():
        return chart
    followed = chart.settled + (1.0 - np.exp(-dt_s / LAG_S)) * (levels - chart.settled)
    slab = chart.slab + (1.0 - np.exp(-dt_s / SLAB_S)) * (levels - chart.slab)
    middle = (chart.settled + followed) / 2.0
    spans = np.array([f.span for f in chart.families])
    off = float((np.abs(levels - middle) / spans).max()) / UNSETTLED
    usual = np.where(np.isnan(chart.usual), hall, chart.usual)
    kw, now = _powers(hall, usual), surroundings(hall, now_s)
    s, known = chart.sums, ~np.isnan(now)
    sums = Sums(s.s + dt_s, s.kw + dt_s * np.nan_to_num(kw), s.kw_s + dt_s * ~np.isnan(kw),
                s.levels + dt_s * middle, s.slab + dt_s * (chart.slab + slab) / 2.0, s.off + dt_s * off, s.around + dt_s * np.nan_to_num(now),
                s.around_s + dt_s * known, s.asked + dt_s * levels, s.asked_squared + dt_s * levels**2)  # fmt: skip
    # Where air was lowered, inlets are still to follow: that is no rise over it.
    steered = np.array([f.quantity in AIR_KNOBS for f in chart.families])
    falling = bool(((followed - levels)[steered] > FALLING_K).any())
    over = np.where(falling, np.nan, places[:, PLACE.index("inlet_c")] - air)
    peaks = with_look(chart.peaks, over, air, places[:, PLACE.index("fan_pct")], now_s)
    over_k = float(np.fmax.reduce(over, initial=-np.inf))
    chart = replace(chart, over_k=over_k if np.isfinite(over_k) else chart.over_k)
    chart = _flickered(chart, over, off)
    chart = replace(
        chart, at_s=now_s, settled=followed, slab=slab, sums=sums, peaks=peaks, usual=usual
    )
    chart = replace(chart, rest=_rest(chart, hall, float(kw[1]), levels, dt_s))
    return _closed(chart, levels) if sums.s >= BLOCK_S - 1.0 or _surprised(chart, kw[0]) else chart


def _surprised(chart: Chart, kw: float) -> bool:
    """Whether setpoints that move, or just have, make power quite another than in the last block,
    beyond what it does by itself: that is not waited out."""
    if chart.response is None or chart.sums.s < SURPRISE_S - 1.0:
        return False
    spans = np.array([f.span for f in chart.families])
    asked = chart.sums.asked / chart.sums.s
    moved = float((np.abs(asked - chart.seen.asked[-1]) / spans).max()) > UNSETTLED
    last, least = chart.seen.kw[-1], max(SURPRISE, 4.0 * chart.response.best.kernel.noise)
    return moved and bool(abs(kw - last) > least * abs(last))


def _powers(hall: F64, usual: F64) -> F64:
    """(what setpoints steer, the rest of the total) in kW."""
    cooling, _ = metered(hall, usual)
    total = float(hall[HALL.index("total_kw")])
    rest = total - cooling if np.isfinite(total) else float(hall[HALL.index("it_kw")])
    return np.array([cooling, rest])


def surroundings(hall: F64, now_s: float) -> F64:
    """What surrounds a hall (len(AROUND),), from its averages (len(HALL),); NaN: not known."""
    at = dict(zip(HALL, hall.tolist(), strict=True))
    load = at["it_kw"] if np.isfinite(at["it_kw"]) else at["prompts_ps"]
    wet = wet_bulb_c(at["outdoor_c"], at["humidity_pct"])
    # The day's clock stands in for a load that is not measured.
    hour = 2.0 * np.pi * now_s / DAY_S if not np.isfinite(load) else np.nan
    return np.array([at["outdoor_c"], wet, load, np.cos(hour), np.sin(hour)])


def _flickered(chart: Chart, over: F64, off: float) -> Chart:
    """How much inlets over their air change from look to look by themselves, setpoints at rest."""
    if chart.over is None or off > 1.0:
        return replace(chart, over=over)
    jumps = np.abs(over - chart.over)
    jumps = jumps[np.isfinite(jumps)]
    if not jumps.size:
        return replace(chart, over=over)
    flicker_k = chart.flicker_k + 0.05 * (float(jumps.max()) - chart.flicker_k)
    return replace(chart, over=over, flicker_k=flicker_k)


def rise_k(chart: Chart, places: F64, air: F64) -> F64:
    """How far each place's inlet may still rise over its air, from what it has done in two days at
    setpoints and fans like these. (n,)"""
    over = places[:, PLACE.index("inlet_c")] - air
    rise = highest(chart.peaks, air, places[:, PLACE.index("fan_pct")]) - over
    unknown = UNKNOWN_K * max(0.0, 1.0 - (chart.at_s - chart.since_s) / DAY_S)
    # Peaks are of single looks: what inlets flicker by themselves is in them.
    likely: F64 = np.maximum(np.nan_to_num(rise, neginf=0.0), chart.flicker_k) + unknown
    return likely


def _rest(chart: Chart, hall: F64, kw: float, levels: F64, dt_s: float) -> Rest | None:
    if chart.rest is not None:
        return rest.learned(chart.rest, kw, chart.settled, levels, dt_s)
    kinds = [f.quantity for f in chart.families]
    air = np.array([k in AIR_KNOBS for k in kinds])
    inlet_c = float(hall[HALL.index("inlet_c")])
    air_c = float(chart.settled[air].mean()) if air.any() else float(hall[HALL.index("air_c")])
    fans = np.array([k == "fan_rpm_pct" for k in kinds])
    return rest.begun(kw, inlet_c, air_c, chart.settled, air, fans)


def _closed(chart: Chart, levels: F64) -> Chart:
    """A block has ended: remember it, learn."""
    s, f, went = chart.sums, len(chart.families), levels - chart.asked
    chart = replace(chart, sums=_empty(f), asked=levels)
    if s.kw_s[0] < s.s / 3.0:
        return chart
    with np.errstate(invalid="ignore"):
        around = np.where(s.around_s > 0, s.around / s.around_s, np.nan)
    if len(chart.seen):
        around = np.where(np.isnan(around), chart.seen.around[-1], around)
    seen = _with(chart, chart.at_s - s.s / 2.0, s, around, went)
    chart = replace(
        chart,
        seen=_thinned(seen, chart.families, chart.noise),
        blocks=chart.blocks + 1,
        block_s=s.s,
    )
    return replace(_fitted(chart), fresh=True)


def _with(chart: Chart, at_s: float, s: Sums, around: F64, went: F64) -> Seen:
    seen, asked = chart.seen, s.asked / s.s
    behind = [went * BLOCK_S / s.s, asked - s.levels / s.s, asked - s.slab / s.s]
    spans = np.array([f.span for f in chart.families])
    moved = np.sqrt(np.maximum(s.asked_squared / s.s - asked**2, 0.0)) / spans
    return Seen(
        np.r_[seen.at_s, at_s], np.r_[seen.weight, s.s / BLOCK_S], np.r_[seen.rough, s.off / s.s],
        np.r_[seen.kw, s.kw[0] / s.kw_s[0]], np.vstack([seen.levels, s.levels / s.s]),
        np.vstack([seen.around, around]), np.vstack([seen.asked, asked]),
        np.r_[seen.hasty, float(moved.max()) / UNSETTLED],
        np.concatenate([seen.behind, np.stack(behind, axis=1)[None]]),
    )  # fmt: skip


def _thinned(seen: Seen, families: tuple[Family, ...], noise: Noise) -> Seen:
    """At most MOST_SEEN: the two neighbours in time that differ least become one, by what they were under
    and by what was drawn: the two sides of a ledge are not one."""
    if len(seen) <= MOST_SEEN:
        return seen
    old = slice(0, len(seen) - RECENT)
    spans = np.array([f.span for f in families])
    mean_kw = float(seen.kw.mean())
    differs_kw = max(DIFFERS * noise.share(mean_kw) * abs(mean_kw), 1e-9)
    axes = np.column_stack([
        seen.at_s[old] / 7200.0, seen.levels[old] / (0.12 * spans), seen.asked[old] / (0.12 * spans), np.log(np.maximum(seen.rough[old], 0.3)),
        seen.kw[old] / differs_kw, np.nan_to_num(seen.around[old, :2]) / 3.0, np.nan_to_num(_relative(seen)[old, 2:]) / 0.15,
    ])  # fmt: skip
    together = seen.weight[old][1:] + seen.weight[old][:-1]
    i = int(np.argmin((np.diff(axes, axis=0) ** 2).sum(axis=1) + 0.02 * together))
    share = seen.weight[i : i + 2] / together[i]
    parts = (
        seen.at_s,
        seen.rough,
        seen.kw,
        seen.levels,
        seen.around,
        seen.asked,
        seen.hasty,
        seen.behind,
    )
    at_s, rough, kw, levels, around, asked, hasty, behind = (
        np.concatenate([p[:i], (np.tensordot(share, p[i : i + 2], 1))[None], p[i + 2 :]]) for p in parts
    )  # fmt: skip
    weight = np.r_[seen.weight[:i], together[i], seen.weight[i + 2 :]]
    return Seen(at_s, weight, rough, kw, levels, around, asked, hasty, behind)


def _relative(seen: Seen) -> F64:
    """What surrounds, the load as a share of its mean."""
    out = seen.around.copy()
    out[:, AROUND.index("load")] /= _mean_load(seen)
    return out


def _mean_load(seen: Seen) -> float:
    """Infinite where there is none: a share of it is 0."""
    load = seen.around[:, AROUND.index("load")]
    known = load[~np.isnan(load)]
    mean = float(known.mean()) if known.size else 1.0
    return mean if abs(mean) > 1e-9 else np.inf


def _shares(chart: Chart, relative: F64) -> F64:
    """What cooling goes with: heat, so the load over its mean where IT is metered; else 1. (n,)"""
    if not np.isfinite(chart.usual[HALL.index("it_kw")]):
        return np.ones(len(relative))
    return np.clip(relative[:, AROUND.index("load")], *LOADS)


def _fitted(chart: Chart) -> Chart:
    degrees = np.array([f.degrees for f in chart.families])
    around = _relative(chart.seen)
    seen = replace(chart.seen, around=around, kw=chart.seen.kw / _shares(chart, around))
    fits = chart.response
    kernels = tuple(f.kernel for f in fits.each) if fits is not None else (Kernel(),)
    chart = replace(chart, noise=heard(chart.noise, seen))
    if chart.blocks < chart.next_choice:
        return replace(chart, response=fitted(degrees, seen, kernels))
    following = int(1.25 * chart.blocks) + 2
    noise = chart.noise.share(float(seen.kw.mean()))
    return replace(chart, response=chosen(degrees, seen, kernels, noise), next_choice=following)


def effect_kw(chart: Chart, now: F64, levels: F64) -> tuple[F64, F64]:
    """(mean, 1-sigma) of the total in kW at each of `levels` (m, f) against `now` (f,), over the next
    hour. NaN before anything was seen."""
    if chart.response is None:
        return np.full(len(levels), np.nan), np.full(len(levels), np.nan)
    here = chart.response.best.history.seen.around[-1]
    mean, sigma = np.mean(
        [_effects(chart, now, levels, at) for at in _passing(chart, here)], axis=0
    )
    if chart.rest is None:
        return mean, sigma
    more, variance = chart.rest.effects(levels, now)
    return mean + more, np.sqrt(sigma**2 + variance)


def _effects(chart: Chart, now: F64, levels: F64, at: F64) -> tuple[F64, F64]:
    assert chart.response is not None
    share = float(_shares(chart, at[None])[0])
    mean, sigma = chart.response.effects(levels, now, at)
    return share * mean, share * sigma


def _passing(chart: Chart, here: F64) -> tuple[F64, ...]:
    """What surrounds now, and in an hour where that should be anything else."""
    if not chart.coming.any():
        return (here,)
    coming = chart.coming.copy()
    coming[AROUND.index("load")] /= _mean_load(chart.seen)
    return here, here + coming


def saved(chart: Chart) -> tuple[F64, F64]:
    """(when, how much in kWh) each block saved against the levels found, (n,), by all that is known
    now: what was believed at the time is the worse for being older."""
    if chart.response is None:
        return np.zeros(0), np.zeros(0)
    seen = chart.response.best.history.seen
    more = chart.response.more_kw(chart.baseline) * _shares(chart, seen.around)
    if chart.rest is not None:
        more = more - chart.rest.effects(seen.levels, chart.baseline)[0]
    return seen.at_s, _hours(seen) * more


def doubt_kwh(chart: Chart) -> float:
    """1-sigma of all that was saved."""
    if chart.response is None:
        return 0.0
    seen, hours = chart.response.best.history.seen, _hours(chart.response.best.history.seen)
    doubt = chart.response.doubt(chart.baseline, hours * _shares(chart, seen.around))
    if chart.rest is None:
        return doubt
    variance = chart.rest.effects(seen.levels, chart.baseline)[1]
    return float(np.hypot(doubt, hours @ np.sqrt(variance)))


def _hours(seen: Seen) -> F64:
    hours: F64 = seen.weight * BLOCK_S / 3600.0
    return hours
