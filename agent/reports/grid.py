"""Points of history on the steps of a span: what a report counts in. Holes stay holes (NaN)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.clock import utc
from agent.history.service import History
from config.site import Point

F64 = NDArray[np.float64]
STEPS_S = (60.0, 300.0, 900.0, 3_600.0, 21_600.0, 86_400.0)
MINUTE_S = 60.0
MOST_STEPS = 720


@dataclass(frozen=True, slots=True)
class Grid:
    """Points over steps: mean, low and high, (points, steps); NaN where nothing good was read."""

    points: tuple[Point, ...]
    mean: F64
    low: F64
    high: F64

    def total(self) -> F64:
        """The sum over points, (steps,); NaN where any is not known, or there is none."""
        if not self.points:
            return np.full(self.mean.shape[1], np.nan)
        summed: F64 = self.mean.sum(axis=0)
        return summed

    def by_rack(self) -> "Grid":
        """Each rack's sum over its points (its feeds), under the first of them."""
        racks = sorted({p.rack for p in self.points if p.rack})
        where = [[i for i, p in enumerate(self.points) if p.rack == r] for r in racks]
        empty = np.empty((0, self.mean.shape[1]))

        def summed(values: F64) -> F64:
            return np.array([values[w].sum(axis=0) for w in where]) if where else empty

        points = tuple(self.points[w[0]] for w in where)
        return Grid(points, summed(self.mean), summed(self.low), summed(self.high))


@dataclass(frozen=True, slots=True)
class Span:
    """The time that is reported, cut into steps."""

    since_s: float
    until_s: float
    step_s: float

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return int(np.ceil((self.until_s - self.since_s) / self.step_s))

    @property
    def starts(self) -> list[str]:
        """When each begins."""
        return [utc(self.since_s + i * self.step_s) for i in range(self.steps)]

    @property
    def hours(self) -> float:
        """How long it is."""
        return (self.until_s - self.since_s) / 3_600.0

    @staticmethod
    def of(since_s: float, until_s: float) -> "Span":
        """Steps long enough that there are at most MOST_STEPS. Raises ValueError.

        Ends with the last minute that is over: history keeps none before.
        """
        until_s = max(
            until_s // MINUTE_S * MINUTE_S, min(until_s, since_s // MINUTE_S * MINUTE_S + MINUTE_S)
        )
        if not 0 < until_s - since_s <= 366 * 86_400.0:
            raise ValueError("a report covers up to a year, and its end comes after its start")
        wanted_s = (until_s - since_s) / MOST_STEPS
        step_s = next((s for s in STEPS_S if s >= wanted_s), STEPS_S[-1])
        return Span(since_s // step_s * step_s, until_s, step_s)


async def grid(history: History, points: Sequence[Point], span: Span) -> Grid:
    """Read points onto the steps. Raises HistoryDown."""
    shape = (len(points), span.steps)
    mean, low, high = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    for i, point in enumerate(points):
        for s in await history.series(point.key, span.since_s, span.until_s, span.step_s):
            at = round((s.ts_s - span.since_s) / span.step_s)
            if s.value is not None and 0 <= at < span.steps:
                mean[i, at], low[i, at], high[i, at] = s.value, s.low, s.high
    return Grid(tuple(points), mean, low, high)


def ratio(above: F64, below: F64, known: NDArray[np.bool_]) -> dict[str, float | None]:
    """sum(above) / sum(below) where both are known, with a jackknife's 95 % interval."""
    above, below = above[known], below[known]
    if not len(below) or not below.sum() > 0:
        return {"value": None, "low": None, "high": None}
    value = float(above.sum() / below.sum())
    left = [
        (above.sum() - above[b].sum()) / rest
        for b in np.array_split(np.arange(len(above)), BLOCKS)
        if len(b) and (rest := below.sum() - below[b].sum()) > 0
    ]
    if len(left) < FEWEST_BLOCKS:
        return {"value": value, "low": None, "high": None}
    spread = np.asarray(left) - np.mean(left)
    half = 1.96 * float(np.sqrt((len(left) - 1) / len(left) * (spread**2).sum()))
    return {"value": value, "low": value - half, "high": value + half}


BLOCKS = 24  # the interval of Wh/prompt comes from leaving each out in turn
FEWEST_BLOCKS = 8


def sum_of(values: F64) -> float | None:
    """The sum of what is known; None where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.sum()) if known.size else None


def mean_of(values: F64) -> float | None:
    """The mean of what is known; None where nothing is."""
    return float(np.nanmean(values)) if values.size and not np.isnan(values).all() else None


def highest(values: F64) -> F64:
    """The highest of each step; NaN where nothing is known."""
    known = ~np.isnan(values)
    top: F64 = np.where(known, values, -np.inf).max(axis=0, initial=-np.inf)
    return np.where(np.isneginf(top), np.nan, top)
