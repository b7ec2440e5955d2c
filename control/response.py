"""What cooling costs at any setpoints, in any weather, under any load: learned, with its doubt.

A Gaussian process (Rasmussen & Williams 2006) over setpoints and what surrounds them. It may take any shape: a
hall's power is often no slope but a ledge (an economizer that just suffices, a stage that
just starts), and a ledge is not found by following slopes. What physics gives it is the right
axes: free cooling ends at a difference between what is asked for and what outdoor air or a wet
surface can give, so setpoints count as themselves and against both. What drifts without a
visible cause is a slow process of its own, so that changes are credited to setpoints only as
far as they go with them. Arithmetic only: knows no limits, moves nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

# How far along each axis an answer may change much. Judgement: coils and economizers act over a
# few kelvin of approach, chillers over more; fan laws over a quarter of the speed.
SETPOINT_K, APPROACH_K, FREE_AIR_K, SPEED_PCT = 6.0, 2.5, 5.0, 25.0
OUTDOOR_K, WET_K, LOAD = 8.0, 5.0, 0.25
ROUGH = 0.03  # of the mean: what is not settled may be off by this
CLOCK = 0.3  # what setpoints do hangs on the hour only through what is not measured
SLOW_S = 3 * 3600.0  # what drifts unseen is another after so long
AROUND = ("outdoor_c", "wet_c", "load", "cos", "sin")  # load: over its mean; the day's clock

# Sizes of the parts as shares of the mean, to be chosen from by likelihood.
_ACTS, _WEATHER, _LINEAR = (0.02, 0.06, 0.2, 0.6), 0.3, 0.3
_DRIFT, _NOISE = (0.03, 0.15), (0.003, 0.02, 0.1, 0.3)


@dataclass(frozen=True, slots=True)
class Kernel:
    """Sizes of the parts, as shares of the mean: acts of setpoints, slow drift, noise."""

    acts: float = 0.2
    drift: float = 0.03
    noise: float = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Averages over blocks of time. at_s, weight, rough, kw (n,); levels (n, f) of each family of
    setpoints; around (n, len(AROUND)), NaN where nothing was known.

    weight: how many blocks a row stands for; rough: how unsettled it was (0: at rest).
    """

    at_s: F64
    weight: F64
    rough: F64
    kw: F64
    levels: F64
    around: F64

    def __len__(self) -> int:
        return len(self.at_s)


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """A fitted process: asked for effects, it answers with mean and 1-sigma."""

    degrees: NDArray[np.bool_]  # (f,) families in degC; the others in %
    kernel: Kernel
    seen: Seen
    parts: tuple[F64, F64, F64]
    scale: float
    half: F64  # (n, n), inverse of the covariance's Cholesky factor
    alpha: F64  # (n,)
    likelihood: float

    def effects(self, levels: F64, now: F64, around: F64) -> tuple[F64, F64]:
        """(mean, 1-sigma) in kW of going from levels `now` (f,) to each of `levels` (m, f), all
        surrounded by `around`. Shapes (m,). What does not depend on levels cancels out."""
        asked = np.vstack([levels, now])
        here = np.tile(around, (len(asked), 1))
        ours = _columns(self.degrees, asked, here)
        cross = self.kernel.acts**2 * _near(ours[0], self.parts[0])
        cross += _LINEAR**2 * ours[2] @ self.parts[2].T
        mean = cross @ self.alpha
        drawn = self.half @ cross.T
        prior = self.kernel.acts**2 * _near(ours[0], ours[0]) + _LINEAR**2 * ours[2] @ ours[2].T
        cov = prior - drawn.T @ drawn
        doubt = np.diag(cov) + cov[-1, -1] - 2.0 * cov[:, -1]
        sigma = np.sqrt(np.maximum(doubt, 0.0))
        return (mean - mean[-1])[:-1] * self.scale, sigma[:-1] * self.scale


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
    return _fit(degrees, seen, kernel, *_bare(degrees, seen))


def chosen(degrees: NDArray[np.bool_], seen: Seen) -> Response:
    """Fit with the sizes under which what was seen is most likely."""
    bare = _bare(degrees, seen)
    return max((_fit(degrees, seen, k, *bare) for k in _kernels()), key=lambda r: r.likelihood)


def _kernels() -> Iterator[Kernel]:
    return (Kernel(a, d, n) for a in _ACTS for d in _DRIFT for n in _NOISE)


Parts = tuple[F64, F64, F64]


def _bare(degrees: NDArray[np.bool_], seen: Seen) -> tuple[Parts, tuple[F64, F64, F64]]:
    """Columns, and the covariances that the sizes scale: acts, drift, and what is always there."""
    parts = _columns(degrees, seen.levels, seen.around)
    drift = np.exp(-np.abs(seen.at_s[:, None] - seen.at_s[None]) / SLOW_S)
    always = _WEATHER**2 * _near(parts[1], parts[1]) + _LINEAR**2 * parts[2] @ parts[2].T
    return parts, (_near(parts[0], parts[0]), drift, always)


def _fit(degrees: NDArray[np.bool_], seen: Seen, kernel: Kernel, parts: Parts,
         bare: tuple[F64, F64, F64]) -> Response:  # fmt: skip
    unsettled = (ROUGH * seen.rough) ** 2
    mean = float(np.average(seen.kw, weights=seen.weight / (1e-4 + unsettled)))
    scale = max(abs(mean), 1e-9)
    cov = kernel.acts**2 * bare[0] + kernel.drift**2 * bare[1] + bare[2]
    cov[np.diag_indices(len(seen))] += (kernel.noise**2 + unsettled) / seen.weight + 1e-8
    half = np.linalg.inv(np.linalg.cholesky(cov))
    off = (seen.kw - mean) / scale
    drawn = half @ off
    likelihood = float(np.log(np.diag(half)).sum() - 0.5 * drawn @ drawn)
    return Response(degrees, kernel, seen, parts, scale, half, half.T @ drawn, likelihood)


def _columns(degrees: NDArray[np.bool_], levels: F64, around: F64) -> Parts:
    """(acts, weather, linear): what setpoints do, what weather and load do, and slopes."""
    outdoor, wet, load, cos, sin = around.T
    wet = np.where(np.isnan(wet), outdoor, wet)
    weather = [outdoor / OUTDOOR_K, wet / WET_K, load / LOAD, cos, sin]
    acts = [load / LOAD, CLOCK * cos, CLOCK * sin]
    linear = [load, outdoor / 20.0]
    for i, is_degrees in enumerate(degrees):
        level = levels[:, i]
        if is_degrees:
            acts += [level / SETPOINT_K, (level - wet) / APPROACH_K, (level - outdoor) / FREE_AIR_K]
            linear.append(level / 10.0)
        else:
            acts.append(level / SPEED_PCT)
            linear.append(level / 50.0)
    act, ctx, lin = (np.nan_to_num(np.column_stack(c)) for c in (acts, weather, linear))
    return act, ctx, lin


def _near(a: F64, b: F64) -> F64:
    """How alike rows of a and b are, 0..1: the Matern form of 3/2. Smoother ones ring at ledges."""
    apart = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None] - 2.0 * a @ b.T
    far = np.sqrt(3.0 * np.maximum(apart, 0.0))
    near: F64 = (1.0 + far) * np.exp(-far)
    return near
