"""What cooling costs at any setpoints, in any weather, under any load: learned, with its doubt.

A Gaussian process (Rasmussen & Williams 2006) over setpoints and what surrounds them. It may take any shape: a
hall's power is often no slope but a ledge (an economizer that just suffices, a stage that
just starts), and a ledge is not found by following slopes. What physics gives it is the right
axes: free cooling ends at a difference between what is asked for and what outdoor air or a wet
surface can give, so setpoints count as themselves and against both. What drifts without a
visible cause is a slow process of its own, so that changes are credited to setpoints only as
far as they go with them. Arithmetic only: knows no limits, moves nothing.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Parts = tuple[F64, F64, F64, F64]
# What levels do alone, by its shape; what they do as things are; their slopes.
Alike = tuple[dict[str, F64], F64, F64]
Ask = tuple[Alike, Alike]  # levels to what was seen, and to each other

# How far along each axis an answer may change much. Judgement: coils and economizers act over a
# few kelvin of approach, chillers over more; fan laws over a quarter of the speed.
SETPOINT_K, APPROACH_K, FREE_AIR_K, SPEED_PCT = 6.0, 2.5, 5.0, 25.0
OUTDOOR_K, WET_K, LOAD = 8.0, 5.0, 0.25
ROUGH = 0.015  # of the mean: what is not settled may be off by this
CLOCK = 0.3  # what setpoints do hangs on the hour only through what is not measured
BLOCK_S = 900.0  # what an average is over
SLOW_S = 3 * 3600.0  # what drifts unseen is another after so long
AGE_S = 10 * 86_400.0  # what setpoints did is worth less after so long: seasons, repairs, new racks
AROUND = ("outdoor_c", "wet_c", "load", "cos", "sin")  # load: over its mean; the day's clock

_WEATHER, _LINEAR = 0.3, 0.3
# What air and masses give back or take in while they follow a step, of the mean a kelvin: of the step
# itself a block, of what lags by a quarter of an hour, of what is heavy. It is no effect of levels, and is over when they stand.
_STORED = (0.15, 0.15, 0.03)
# How likely they are before anything was tried: medians and spreads, log-normal. Little that was
# tried shows little, so that small sizes must be borne out.
_USUAL = {"alone": (0.2, 0.5), "acts": (0.1, 1.5), "stored": (1.0, 1.5), "heavy": (1.0, 1.0)}


@dataclass(frozen=True)
class Kernel:
    """Sizes of the parts, as shares of the mean: what setpoints do in any weather and under any load
    (alone), what they do beside as things are (acts), slow drift, noise."""

    alone: float = 0.2
    acts: float = 0.2
    drift: float = 0.03
    noise: float = 0.01
    stored: float = 1.0  # of _STORED: the step and what lags; what is heavy
    heavy: float = 1.0
    shape: str = "bent"  # of what setpoints do in any weather: one of SHAPES
    lags: bool = False  # power follows setpoints as air and slab do, not at once


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Averages over blocks of time. at_s, weight, kw (n,); levels (n, f) of each family of setpoints
    as air and slab have followed them; around (n, len(AROUND)), NaN where nothing was known; asked
    (n, f): levels as they were set. What power follows is for a fit to say.

    weight: how many blocks a row stands for; rough, hasty (n,): how unsettled levels, and asked, were
    (0: at rest). behind (n, f, 3): how far asked went in a block, and how far what lags is behind it.
    """

    at_s: F64
    weight: F64
    rough: F64
    kw: F64
    levels: F64
    around: F64
    asked: F64
    hasty: F64
    behind: F64

    def at_once(self) -> "Seen":
        """The same, if power follows what is set at once."""
        return replace(self, levels=self.asked, rough=self.hasty)

    def __len__(self) -> int:
        return len(self.at_s)


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """What was seen, if power follows what is set at once, or as air and slab do; and how alike it
    is, as shares of the sizes yet to be chosen: (n, n) each."""

    degrees: NDArray[np.bool_]  # (f,) families in degC; the others in %
    seen: Seen
    parts: Parts
    alike: Alike
    drift: F64
    stored: F64
    heavy: F64
    weather: F64

    def ask(self, levels: F64, now: F64, around: F64) -> Ask:
        """How alike levels (m, f), and as the last one `now` (f,), all surrounded by `around`, are to
        what was seen, and to each other, after all that was seen."""
        asked = np.vstack([levels, now])
        ours = _columns(self.degrees, asked, np.tile(around, (len(asked), 1)))
        return self._asked(ours, np.full(len(asked), self.seen.at_s[-1]))

    def other(self, than: F64) -> Alike:
        """How alike every block (n,) would have been to what was seen, at levels `than` (f,)."""
        ours = _columns(self.degrees, np.tile(than, (len(self.seen), 1)), self.seen.around)
        return _alike(ours, self.parts, self.seen.at_s, self.seen.at_s)

    def both(self, than: F64) -> Ask:
        """The same of every block at levels `than` (f,), and then of every block as it was."""
        levels = np.vstack([np.tile(than, (len(self.seen), 1)), self.seen.levels])
        ours = _columns(self.degrees, levels, np.tile(self.seen.around, (2, 1)))
        return self._asked(ours, np.tile(self.seen.at_s, 2))

    def _asked(self, ours: Parts, at_s: F64) -> Ask:
        return _alike(ours, self.parts, at_s, self.seen.at_s), _alike(ours, ours, at_s, at_s)


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """A fitted process: asked for effects, it answers with mean and 1-sigma."""

    history: History
    kernel: Kernel
    scale: float
    half: F64  # (n, n), inverse of the covariance's Cholesky factor
    alpha: F64  # (n,)
    likely: float  # log-likelihood and log-prior of the kernel

    def effects(self, ask: Ask) -> tuple[F64, F64]:
        """(mean, 1-sigma) in kW of going from the last of the levels asked for to each of the others.
        Shapes (m,). What does not depend on levels cancels out."""
        mean, cov = self._posterior(ask)
        doubt = np.diag(cov) + cov[-1, -1] - 2.0 * cov[:, -1]
        sigma = np.sqrt(np.maximum(doubt, 0.0))
        return (mean - mean[-1])[:-1] * self.scale, sigma[:-1] * self.scale

    def more_kw(self, other: Alike) -> F64:
        """What other levels would have taken more in every block seen (n,), in kW."""
        apart = _mixed(self.kernel, other) - _mixed(self.kernel, self.history.alike)
        more: F64 = apart @ self.alpha * self.scale
        return more

    def total(self, both: Ask, hours: F64) -> tuple[float, float]:
        """(mean, 1-sigma) of the sum over blocks of hours (n,) times `more_kw`, in kWh."""
        mean, cov = self._posterior(both)
        signed = np.r_[hours, -hours]
        sigma = math.sqrt(max(float(signed @ cov @ signed), 0.0))
        return float(signed @ mean) * self.scale, sigma * self.scale

    def _posterior(self, ask: Ask) -> tuple[F64, F64]:
        """(mean, covariance) of what depends on levels, as shares of the mean."""
        cross = _mixed(self.kernel, ask[0])
        drawn = self.half @ cross.T
        return cross @ self.alpha, _mixed(self.kernel, ask[1]) - drawn.T @ drawn


def wet_bulb_c(air_c: float, humidity_pct: float) -> float:
    """Wet bulb in degC from air and relative humidity at sea level; within 1 K from 5 to 99 %.

    Stull, J. Appl. Meteor. Climatol. 50 (2011) 2267, equation 1.
    """
    rh = float(np.clip(humidity_pct, 5.0, 99.0))
    return float(
        air_c * np.arctan(0.151977 * np.sqrt(rh + 8.313659)) + np.arctan(air_c + rh)
        - np.arctan(rh - 1.676331) + 0.00391838 * rh**1.5 * np.arctan(0.023101 * rh) - 4.686035
    )  # fmt: skip


def humidity_at(air_c: float, from_c: float, humidity_pct: float) -> float:
    """Relative humidity of air of `from_c` that comes to `air_c` with the moisture it has.

    Saturated vapour over water by Magnus: WMO-No. 8, annex 4.B, -45 to 60 degC.
    """
    old_c, new_c = np.clip((from_c, air_c), -45.0, 60.0)
    return float(
        humidity_pct * np.exp(17.62 * (old_c / (243.12 + old_c) - new_c / (243.12 + new_c)))
    )


def _prior(kernel: Kernel) -> float:
    """Log-prior of its sizes."""
    sizes = ((getattr(kernel, name), *usual) for name, usual in _USUAL.items())
    return -sum(0.5 * (math.log(s / median) / spread) ** 2 for s, median, spread in sizes)


def history(degrees: NDArray[np.bool_], seen: Seen, lags: bool) -> History:
    """What was seen, made ready to be fitted, if power lags or follows at once."""
    seen = seen if lags else seen.at_once()
    parts = _columns(degrees, seen.levels, seen.around)
    drift = np.exp(-np.abs(seen.at_s[:, None] - seen.at_s[None]) / SLOW_S)
    masses = seen.behind[:, degrees] * np.array(_STORED)
    quick, heavy = masses[..., :2].reshape(len(seen), -1), masses[..., 2]
    weather = _WEATHER**2 * _near(_apart(parts[1], parts[1]))
    alike = _alike(parts, parts, seen.at_s, seen.at_s)
    return History(degrees, seen, parts, alike, drift, quick @ quick.T, heavy @ heavy.T, weather)


def fit(history: History, kernel: Kernel) -> Response:
    """Fit to what was seen, with these sizes."""
    seen = history.seen
    unsettled = (ROUGH * seen.rough) ** 2
    mean = float(np.average(seen.kw, weights=seen.weight / (1e-4 + unsettled)))
    scale = max(abs(mean), 1e-9)
    cov = (
        _mixed(kernel, history.alike)
        + kernel.drift**2 * history.drift
        + kernel.stored**2 * history.stored
        + kernel.heavy**2 * history.heavy
        + history.weather
    )
    cov[np.diag_indices(len(seen))] += (kernel.noise**2 + unsettled) / seen.weight + 1e-8
    half = np.linalg.inv(np.linalg.cholesky(cov))
    off = (seen.kw - mean) / scale
    drawn = half @ off
    likely = float(np.log(np.diag(half)).sum() - 0.5 * drawn @ drawn) + _prior(kernel)
    return Response(history, kernel, scale, half, half.T @ drawn, likely)


def _columns(degrees: NDArray[np.bool_], levels: F64, around: F64) -> Parts:
    """(acts, weather, linear, alone): what setpoints do as things are, what weather and load do,
    slopes, and what setpoints do anyway."""
    outdoor, wet, load, cos, sin = around.T
    weather = [outdoor / OUTDOOR_K, wet / WET_K, load / LOAD, cos, sin]
    acts = [load / LOAD, CLOCK * cos, CLOCK * sin]
    linear = [load, outdoor / 20.0]
    alone = []
    for i, is_degrees in enumerate(degrees):
        level = levels[:, i]
        if is_degrees:
            acts += [level / SETPOINT_K, (level - wet) / APPROACH_K, (level - outdoor) / FREE_AIR_K]
            linear.append(level / 10.0)
            alone.append(level / SETPOINT_K)
        else:
            acts.append(level / SPEED_PCT)
            linear.append(level / 50.0)
            alone.append(level / SPEED_PCT)
    act, ctx, lin, own = (np.nan_to_num(np.column_stack(c)) for c in (acts, weather, linear, alone))
    return act, ctx, lin, own


def _alike(a: Parts, b: Parts, a_s: F64, b_s: F64) -> Alike:
    """How alike what setpoints do is: near each other, and not too long ago; slopes always."""
    lately = np.exp(-np.abs(a_s[:, None] - b_s[None]) / AGE_S)
    apart, acts = _apart(a[3], b[3]), _apart(a[0], b[0])
    alone = {name: shape(apart) * lately for name, shape in SHAPES.items()}
    return alone, _near(acts) * lately, a[2] @ b[2].T


def _mixed(kernel: Kernel, alike: Alike) -> F64:
    alone, acts, slopes = alike
    mixed: F64 = kernel.alone**2 * alone[kernel.shape] + kernel.acts**2 * acts + _LINEAR**2 * slopes
    return mixed


def _near(squared: F64) -> F64:
    """How alike what is so far apart is, 0..1: the Matern form of 3/2. Smoother ones ring at ledges."""
    far = np.sqrt(3.0 * squared)
    near: F64 = (1.0 + far) * np.exp(-far)
    return near


def _smoothly(squared: F64) -> F64:
    """The same of 5/2: smoother, and not to be trusted across a ledge."""
    far = np.sqrt(5.0 * squared)
    near: F64 = (1.0 + far + far**2 / 3.0) * np.exp(-far)
    return near


def _steeply(squared: F64) -> F64:
    """The same of 1/2: a ledge says nothing of what lies beyond it, as a walk says nothing of its next step."""
    near: F64 = np.exp(-np.sqrt(squared))
    return near


SHAPES = {"smooth": _smoothly, "bent": _near, "ledges": _steeply}


def _apart(a: F64, b: F64) -> F64:
    squared: F64 = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None] - 2.0 * a @ b.T
    return np.maximum(squared, 0.0)
