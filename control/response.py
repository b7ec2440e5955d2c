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
Acts = tuple[F64, F64]  # how alike: what levels do alone, and what they do as things are

# How far along each axis an answer may change much. Judgement: coils and economizers act over a
# few kelvin of approach, chillers over more; fan laws over a quarter of the speed.
SETPOINT_K, APPROACH_K, FREE_AIR_K, SPEED_PCT = 6.0, 2.5, 5.0, 25.0
OUTDOOR_K, WET_K, LOAD = 8.0, 5.0, 0.25
ROUGH = 0.015  # of the mean: what is not settled may be off by this
CLOCK = 0.3  # what setpoints do hangs on the hour only through what is not measured
SLOW_S = 3 * 3600.0  # what drifts unseen is another after so long
AGE_S = 10 * 86_400.0  # what setpoints did is worth less after so long: seasons, repairs, new racks
AROUND = ("outdoor_c", "wet_c", "load", "cos", "sin")  # load: over its mean; the day's clock

# Sizes of the parts as shares of the mean, to be chosen from by likelihood.
_SIZES = {
    "alone": (0.03, 0.1, 0.2, 0.6),
    "acts": (0.01, 0.05, 0.2, 0.6),
    "drift": (0.01, 0.03, 0.15),
}
_WEATHER, _LINEAR = 0.3, 0.3
# What air and masses give back or take in while they follow a step, of the mean a kelvin: of the step
# itself a block, of what lags by a quarter of an hour, of what is heavy. It is no effect of levels, and is over when they stand.
_STORED = (0.15, 0.15, 0.03)
NOISE = (0.003, 0.3)  # of the mean, at least and at most
TURN = 10.0  # log-likelihood: what it takes to believe that power follows otherwise than thought
AT_REST, SAME, PAIRS_LEAST, PAIR_S = 0.3, 0.1, 4, 7200.0
# How likely they are before anything was tried: medians and spreads, log-normal. Little that was
# tried shows little, so that small sizes must be borne out.
_USUAL = {"alone": (0.2, 0.5), "acts": (0.1, 1.5)}


@dataclass(frozen=True)
class Kernel:
    """Sizes of the parts, as shares of the mean: what setpoints do in any weather and under any load
    (alone), what they do beside as things are (acts), slow drift, noise."""

    alone: float = 0.2
    acts: float = 0.2
    drift: float = 0.03
    noise: float = 0.01
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
class Response:
    """A fitted process: asked for effects, it answers with mean and 1-sigma."""

    degrees: NDArray[np.bool_]  # (f,) families in degC; the others in %
    kernel: Kernel
    seen: Seen
    parts: Parts
    scale: float
    half: F64  # (n, n), inverse of the covariance's Cholesky factor
    alpha: F64  # (n,)
    likelihood: float

    def effects(self, levels: F64, now: F64, around: F64) -> tuple[F64, F64]:
        """(mean, 1-sigma) in kW of going from levels `now` (f,) to each of `levels` (m, f), all
        surrounded by `around`, after all that was seen. Shapes (m,). What does not depend on levels
        cancels out."""
        asked = np.vstack([levels, now])
        ours = _columns(self.degrees, asked, np.tile(around, (len(asked), 1)))
        at_s = np.full(len(asked), self.seen.at_s[-1])
        mean, cov = self._posterior(ours, at_s)
        doubt = np.diag(cov) + cov[-1, -1] - 2.0 * cov[:, -1]
        sigma = np.sqrt(np.maximum(doubt, 0.0))
        return (mean - mean[-1])[:-1] * self.scale, sigma[:-1] * self.scale

    def more_kw(self, than: F64) -> F64:
        """What levels `than` (f,) would have taken more in every block seen (n,), in kW."""
        other = np.tile(than, (len(self.seen), 1))
        ours, at_s = _columns(self.degrees, other, self.seen.around), self.seen.at_s
        apart = self._alike(ours, self.parts, at_s, at_s) - self._alike(self.parts, self.parts, at_s, at_s)  # fmt: skip
        more: F64 = apart @ self.alpha * self.scale
        return more

    def doubt(self, than: F64, hours: F64) -> float:
        """1-sigma of the sum over blocks of hours (n,) times `more_kw`, in kWh."""
        other = np.tile(than, (len(self.seen), 1))
        both = _columns(self.degrees, np.vstack([other, self.seen.levels]), np.tile(self.seen.around, (2, 1)))  # fmt: skip
        _, cov = self._posterior(both, np.tile(self.seen.at_s, 2))
        signed = np.r_[hours, -hours]
        return math.sqrt(max(float(signed @ cov @ signed), 0.0)) * self.scale

    def _posterior(self, ours: Parts, at_s: F64) -> tuple[F64, F64]:
        """(mean, covariance) of what depends on levels, as shares of the mean."""
        cross = self._alike(ours, self.parts, at_s, self.seen.at_s)
        drawn = self.half @ cross.T
        return cross @ self.alpha, self._alike(ours, ours, at_s, at_s) - drawn.T @ drawn

    def _alike(self, a: Parts, b: Parts, a_s: F64, b_s: F64) -> F64:
        return _mixed(self.kernel, _acts(a, b, a_s, b_s)) + _LINEAR**2 * a[2] @ b[2].T


def wet_bulb_c(air_c: float, humidity_pct: float) -> float:
    """Wet bulb in degC from air and relative humidity at sea level; within 1 K from 5 to 99 %.

    Stull, J. Appl. Meteor. Climatol. 50 (2011) 2267, equation 1.
    """
    rh = float(np.clip(humidity_pct, 5.0, 99.0))
    return float(
        air_c * np.arctan(0.151977 * np.sqrt(rh + 8.313659)) + np.arctan(air_c + rh)
        - np.arctan(rh - 1.676331) + 0.00391838 * rh**1.5 * np.arctan(0.023101 * rh) - 4.686035
    )  # fmt: skip


def fitted(degrees: NDArray[np.bool_], seen: Seen, kernel: Kernel) -> Response:
    """Fit to what was seen, with these sizes."""
    seen = seen if kernel.lags else seen.at_once()
    return _fit(degrees, seen, kernel, *_bare(degrees, seen))


def chosen(degrees: NDArray[np.bool_], seen: Seen, kernel: Kernel) -> Response:
    """Fit with the sizes under which what was seen is most likely, one after the other from these."""
    both = (
        (replace(kernel, lags=lags), seen if lags else seen.at_once()) for lags in (False, True)
    )
    return max((_searched(degrees, s, k) for k, s in both), key=lambda r: _likely(r) + TURN * (r.kernel.lags == kernel.lags))  # fmt: skip


def _searched(degrees: NDArray[np.bool_], seen: Seen, kernel: Kernel) -> Response:
    bare = _bare(degrees, seen)
    best = _fit(degrees, seen, replace(kernel, noise=_noise(seen)), *bare)
    for _ in range(2):
        before = best.kernel
        for name, sizes in _SIZES.items():
            others = [replace(best.kernel, **{name: s}) for s in sizes]  # type: ignore[arg-type]
            best = max((best, *(_fit(degrees, seen, k, *bare) for k in others)), key=_likely)
        if best.kernel == before:
            break
    return best


def _noise(seen: Seen) -> float:
    """By how much averages differ from the last, setpoints at rest: never to be told by a fit, that
    would take a ledge for noise. A share of the mean."""
    moving = np.abs(seen.behind[:, :, :2]).max(axis=(1, 2), initial=0.0) > SAME
    rest = (np.maximum(seen.hasty, seen.rough) < AT_REST) & ~moving
    same = np.abs(np.diff(seen.levels, axis=0)).max(axis=1, initial=0.0) < SAME
    pairs = rest[1:] & rest[:-1] & same & (np.diff(seen.at_s) < PAIR_S)
    if pairs.sum() < PAIRS_LEAST:
        return Kernel.noise
    jumps = np.diff(seen.kw)[pairs]
    return float(np.clip(np.sqrt((jumps**2).mean() / 2.0) / max(abs(seen.kw.mean()), 1e-9), *NOISE))


def _likely(response: Response) -> float:
    sizes = ((getattr(response.kernel, n), *u) for n, u in _USUAL.items())
    return response.likelihood - sum(0.5 * (math.log(s / median) / spread) ** 2 for s, median, spread in sizes)  # fmt: skip


def _bare(degrees: NDArray[np.bool_], seen: Seen) -> tuple[Parts, tuple[Acts, F64, F64]]:
    """Columns, and the covariances that the sizes scale: acts, drift, and what is always there."""
    parts = _columns(degrees, seen.levels, seen.around)
    drift = np.exp(-np.abs(seen.at_s[:, None] - seen.at_s[None]) / SLOW_S)
    stored = (seen.behind[:, degrees] * np.array(_STORED)).reshape(len(seen), -1)
    always = _WEATHER**2 * _near(parts[1], parts[1]) + _LINEAR**2 * parts[2] @ parts[2].T
    always += stored @ stored.T
    return parts, (_acts(parts, parts, seen.at_s, seen.at_s), drift, always)


def _fit(degrees: NDArray[np.bool_], seen: Seen, kernel: Kernel, parts: Parts,
         bare: tuple[Acts, F64, F64]) -> Response:  # fmt: skip
    unsettled = (ROUGH * seen.rough) ** 2
    mean = float(np.average(seen.kw, weights=seen.weight / (1e-4 + unsettled)))
    scale = max(abs(mean), 1e-9)
    cov = _mixed(kernel, bare[0]) + kernel.drift**2 * bare[1] + bare[2]
    cov[np.diag_indices(len(seen))] += (kernel.noise**2 + unsettled) / seen.weight + 1e-8
    half = np.linalg.inv(np.linalg.cholesky(cov))
    off = (seen.kw - mean) / scale
    drawn = half @ off
    likelihood = float(np.log(np.diag(half)).sum() - 0.5 * drawn @ drawn)
    return Response(degrees, kernel, seen, parts, scale, half, half.T @ drawn, likelihood)


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


def _acts(a: Parts, b: Parts, a_s: F64, b_s: F64) -> Acts:
    """How alike what setpoints do is: near each other, and not too long ago."""
    lately = np.exp(-np.abs(a_s[:, None] - b_s[None]) / AGE_S)
    return _smoothly(a[3], b[3]) * lately, _near(a[0], b[0]) * lately


def _mixed(kernel: Kernel, acts: Acts) -> F64:
    mixed: F64 = kernel.alone**2 * acts[0] + kernel.acts**2 * acts[1]
    return mixed


def _near(a: F64, b: F64) -> F64:
    """How alike rows of a and b are, 0..1: the Matern form of 3/2. Smoother ones ring at ledges."""
    far = np.sqrt(3.0 * _apart(a, b))
    near: F64 = (1.0 + far) * np.exp(-far)
    return near


def _smoothly(a: F64, b: F64) -> F64:
    """The same of 5/2: what levels do anyway is smooth, ledges lie where weather puts them."""
    far = np.sqrt(5.0 * _apart(a, b))
    near: F64 = (1.0 + far + far**2 / 3.0) * np.exp(-far)
    return near


def _apart(a: F64, b: F64) -> F64:
    squared: F64 = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None] - 2.0 * a @ b.T
    return np.maximum(squared, 0.0)
