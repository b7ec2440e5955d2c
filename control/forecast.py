"""What comes of a regular series of the past: functions of one shape, any of which may be the best.

`Forecaster`: a history and how many steps ahead in, the expected value at each of those steps out, or
all NaN where it can't say yet. Here are persistence, the day before, a ridge regression and boosted trees; what keeps
histories and chooses by past errors is control/foresight.py. Knows no clock and decides nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from control.trees import Trees

F64 = NDArray[np.float64]

DAY_S = 86_400.0
HELD_S = 3600.0  # a last value older than this says nothing of now
LAGS_S = (600.0, 1200.0, 1800.0, 3600.0, 7200.0, 10_800.0)  # how the last hours went
HARMONICS = 3  # of the day: its shape down to eight hours
RIDGE = 0.02  # of the rows: what slopes must explain to be believed, by judgement
ROWS_LEAST = 36  # to fit anything to


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """values (n,) every step_s, NaN where nothing was measured; the last one is of the step that
    ended at end_s. Any clock will do whose days are 86,400 s long."""

    values: F64
    step_s: float
    end_s: float

    def steps(self, seconds: float) -> int:
        """So many steps are about so many seconds, at least one."""
        return max(round(seconds / self.step_s), 1)

    @property
    def now(self) -> float:
        """The last value that still says something of now; NaN: there is none."""
        known = self.values[-self.steps(HELD_S) :]
        known = known[np.isfinite(known)]
        return float(known[-1]) if known.size else np.nan


Forecaster = Callable[[History, int], F64]


def persistence(past: History, ahead: int) -> F64:
    """It stays as it is, (ahead,)."""
    return np.full(ahead, past.now)


def seasonal(past: History, ahead: int) -> F64:
    """As it went from this time of day a day before (or two, where that is not known), from where
    it stands now, (ahead,)."""
    day = past.steps(DAY_S)
    steps = np.arange(1, ahead + 1)
    for days in (1, 2):
        here = len(past.values) - 1 - days * day
        if here >= 0 and ahead <= day:
            went = past.values[here + steps] - past.values[here]
            if np.isfinite(went).all():
                expected: F64 = past.now + went
                return expected
    return np.full(ahead, np.nan)


def ridge(past: History, ahead: int) -> F64:
    """How it went on from hours like the last ones at this time of day, (ahead,).

    One regression a step ahead, all of them solved at once and in closed form (Hoerl & Kennard 1970;
    direct multi-step, Ben Taieb et al. 2012). It tells the change from now, and shrinks
    towards the mean change: what knows nothing is persistence.
    """
    seen = len(past.values) - ahead
    if seen < ROWS_LEAST or not np.isfinite(past.values[-1]):
        return np.full(ahead, np.nan)
    x = told(past)
    x = x[:, np.isfinite(x[-1])]  # by what is known now
    later = np.lib.stride_tricks.sliding_window_view(past.values[1:], ahead)
    y = later - past.values[:seen, None]
    rows = np.isfinite(x[:seen]).all(axis=1) & np.isfinite(y).all(axis=1)
    if rows.sum() < ROWS_LEAST:
        return np.full(ahead, np.nan)
    known, went = x[:seen][rows], y[rows]
    middle, spread, usual = known.mean(axis=0), known.std(axis=0), went.mean(axis=0)
    # What has hardly moved is told by nothing: rounding must not become a slope.
    moving = spread > 1e-9 * (np.abs(middle) + np.abs(past.now)) + 1e-12
    z = (known - middle)[:, moving] / spread[moving]
    gram = z.T @ z + RIDGE * len(z) * np.eye(z.shape[1])
    slopes = np.linalg.solve(gram, z.T @ (went - usual))
    change = usual + ((x[-1] - middle)[moving] / spread[moving]) @ slopes
    expected: F64 = past.values[-1] + np.clip(change, went.min(axis=0), went.max(axis=0))
    return expected


def boosted(trees: Trees | None, past: History, ahead: int) -> F64:
    """How trees that were learned from this history some time ago say that it goes on, (ahead,)."""
    x = told(past)[-1:] if trees is not None and len(past.values) else np.zeros((0, 0))
    if trees is None or x.shape != (1, trees.inputs - 1) or not np.isfinite(x).all():
        return np.full(ahead, np.nan)
    steps = np.arange(1.0, ahead + 1)[:, None]
    expected: F64 = past.values[-1] + trees.predict(np.hstack([np.repeat(x, ahead, axis=0), steps]))
    return expected


def told(past: History) -> F64:
    """What a regression is told at each step, (n, k): how far the value is from those before, how it
    stands, how it went on the day before, and the time of day. The day before only once there are two."""
    v, n = past.values, len(past.values)
    columns = [v - _before(v, past.steps(lag_s)) for lag_s in LAGS_S]
    columns.append(v - _mean(v))
    day, hour = past.steps(DAY_S), past.steps(3600.0)
    if n > 2 * day:
        yesterday = _before(v, day)
        columns += [_before(v, day - k) - yesterday for k in (hour, 3 * hour, 6 * hour)]
    angle = 2.0 * np.pi * (past.end_s + (np.arange(n) - n + 1) * past.step_s) / DAY_S
    for k in range(1, HARMONICS + 1):
        columns += [np.cos(k * angle), np.sin(k * angle)]
    return np.stack(columns, axis=1)


def _before(values: F64, steps: int) -> F64:
    """Each value's forerunner so many steps before; NaN where there is none."""
    return np.concatenate([np.full(min(steps, len(values)), np.nan), values[:-steps]])


def _mean(values: F64) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else np.nan


FORECASTERS: Mapping[str, Forecaster] = {
    "persistence": persistence,
    "seasonal": seasonal,
    "ridge": ridge,
}
