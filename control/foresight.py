"""What load and weather may do in the next hour, with the doubt that past forecasts have earned.

Keeps what was measured of SERIES in steps of ten minutes for 14 days. Each time a step ends every
forecaster says what comes of it, and what it said before is held against what came: the one that was
least wrong an hour ahead in the last days is believed, and nobody but persistence until then. Bounded
in size; like all that was learned it is lost at a restart. Judges no move.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from control.forecast import FORECASTERS, History, boosted
from control.trees import Trees

F64 = NDArray[np.float64]

SERIES: tuple[str, ...] = ("it_kw", "prompts_ps", "outdoor_c")  # of signals.HALL
NAMES = (*FORECASTERS, "boosted")
STEP_S = 600.0
AHEAD = 6  # steps; most moves have settled and their lease has ended by then
KEPT = 14 * 144
JUDGED = 3 * 144  # errors of the last three days
ENOUGH = 36  # so many of them before anything but persistence is believed
BRIDGED = 6  # a longer gap of steps stays one
ABSURD = 1e9  # no load and no temperature is this large


@dataclass(frozen=True, slots=True, eq=False)
class Foresight:
    """s series, f forecasters, h = AHEAD. step: the number of the one that is open, of its clock;
    total, count (s,): its sums; values (s, up to KEPT): those before, NaN unknown; made (s, f, h, h):
    what was expected i steps ago of the step k + 1 after; errors (s, f, h, JUDGED), the last at the end;
    boosted: by series the trees that were learned last, if any."""

    step: int
    total: F64
    count: F64
    values: F64
    made: F64
    errors: F64
    boosted: tuple[Trees | None, ...] = (None,) * len(SERIES)


@dataclass(frozen=True, slots=True, eq=False)
class Outlook:
    """What is expected of a series in the steps of the hour: mean and 1-sigma (AHEAD,), and by whom."""

    by: str
    mean: F64
    sigma: F64

    def rise(self, now: float, within_s: float = AHEAD * STEP_S) -> tuple[float, float]:
        """How far it should come above `now` by more than the doubt within so long, and that 1-sigma
        doubt; (0, 0) where it should not."""
        steps = 1 + math.ceil(within_s / STEP_S)  # the first has begun already
        up, sigma = self.mean[:steps] - now, self.sigma[:steps]
        sure = np.flatnonzero(up > sigma)  # NaN is not
        if not sure.size:
            return 0.0, 0.0
        most = sure[np.argmax(up[sure])]
        return max(float(up[most]), 0.0), float(sigma[most])


def begin(now_s: float) -> Foresight:
    """Nothing measured yet."""
    s, f = len(SERIES), len(NAMES)
    return Foresight(int(now_s // STEP_S), np.zeros(s), np.zeros(s), np.full((s, 0), np.nan),
                     np.full((s, f, AHEAD, AHEAD), np.nan), np.full((s, f, AHEAD, JUDGED), np.nan))  # fmt: skip


def seen(before: Foresight | None, numbers: F64, now_s: float) -> Foresight:
    """With one more look at the series, (s,), NaN where one was not measured.

    A clock that is set back by little is waited for; one that jumps far is another clock, and all begins anew.
    """
    step = int(now_s // STEP_S)
    if before is None or not before.step - BRIDGED <= step <= before.step + KEPT:
        before = begin(now_s)
    if step > before.step:
        before = _closed(before, step)
    good = np.abs(numbers) < ABSURD
    return replace(before, total=before.total + np.where(good, numbers, 0.0), count=before.count + good)  # fmt: skip


def outlook(foresight: Foresight | None, name: str) -> Outlook | None:
    """What is expected of a series; None where nothing can be said."""
    if foresight is None:
        return None
    i = SERIES.index(name)
    best = _least_wrong(foresight.errors[i])
    made = foresight.made[i, :, 0]
    if not np.isfinite(made[best]).all():
        best = 0  # persistence
    off = foresight.errors[i, best]
    known = np.isfinite(off).sum(axis=1)
    if not np.isfinite(made[best]).all() or (known < ENOUGH).any():
        return None
    return Outlook(NAMES[best], made[best], np.sqrt(np.nanmean(off**2, axis=1)))


def _least_wrong(errors: F64) -> int:
    """The forecaster whose mean absolute error an hour ahead is the least share of persistence's,
    over the steps for which both spoke."""
    off = np.abs(errors[:, -1])
    shares = np.ones(len(off))
    for f in range(1, len(off)):
        both = np.isfinite(off[f]) & np.isfinite(off[0])
        if both.sum() >= ENOUGH:
            shares[f] = off[f, both].sum() / max(off[0, both].sum(), 1e-12)
    return int(np.argmin(shares))


def _closed(old: Foresight, step: int) -> Foresight:
    """The open step ended; those up to `step` went by without a look."""
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(old.count > 0, old.total / old.count, np.nan)
    missed = step - old.step - 1
    values = np.stack([_bridged(v, m) for v, m in zip(old.values, mean, strict=True)])
    h = np.arange(AHEAD)
    off = mean[:, None, None] - old.made[:, :, h, h]
    errors = np.concatenate([old.errors[..., 1:], off[..., None]], axis=-1)
    end_s = (old.step + 1) * STEP_S
    said = np.array([told(History(v, STEP_S, end_s), t) for v, t in zip(values, old.boosted, strict=True)])  # fmt: skip
    silent = np.full((*said.shape[:2], min(missed, AHEAD), AHEAD), np.nan)
    made = np.concatenate([silent, said[:, :, None], old.made], axis=2)[:, :, :AHEAD]
    values = np.concatenate([values, np.full((len(SERIES), missed), np.nan)], axis=1)[:, -KEPT:]
    nothing = np.zeros(len(SERIES))
    return Foresight(step, nothing, nothing, values, made, errors, old.boosted)


def _bridged(values: F64, value: float) -> F64:
    """One series with one more value. A short gap before it is bridged by a straight line: a slow loop
    that is slower than the steps leaves no holes."""
    out = np.append(values, value)
    known = np.flatnonzero(np.isfinite(out[-2 - BRIDGED :])) + max(len(out) - 2 - BRIDGED, 0)
    if np.isfinite(value) and len(known) > 1 and known[-2] < len(out) - 2:
        gap = np.arange(known[-2], len(out))
        out[gap] = np.interp(gap, known[-2:], out[known[-2:]])
    return out


def told(past: History, trees: Trees | None, ahead: int = AHEAD) -> F64:
    """What each forecaster (in the order of NAMES) expects, (f, ahead); NaN where it can't say."""
    return np.array([*(f(past, ahead) for f in FORECASTERS.values()), boosted(trees, past, ahead)])
