"""The scale of each feature: what is noise, what is drift, and which rows do not belong.

Decides, from training rows that may be dirty, where zero is and what "one" is for each feature.
The idea that matters: a feature that wanders (its spread is far above its row-to-row noise) has
been seen in few independent places, so its spread is a poor guide to where it may go next. n rows
of such a feature hold about n * (noise / spread)^2 independent samples, and its scale is widened
by how far that is below TRUSTED_SAMPLES. A long history of the same feature is widened less, or not
at all. Spread and noise are taken from the middle of their distributions, so that a few rows of a
fault do not make the fault look usual (Huber & Ronchetti, Robust Statistics, 2009).

Must never see a row outside of the training window. Pure numpy.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

TRUSTED_SAMPLES = 400.0
GROSS = 5.0  # raw rows further out than this many spreads are not trained on
TRIM = 3.0  # smoothed rows whose D is this many times the median D are left out
REGIME = 0.15  # a larger share than this is another regime, not dirt: it stays
UNIFORM = 12**-0.5  # standard deviation of what rounding to one step takes away
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Frame:
    """Where zero is, `centre` (f,), and what one is, `scale` (f,), in the features' own units."""

    centre: Floats
    scale: Floats


def band_spread(x: Floats, tail: float = 0.1) -> Floats:
    """Standard deviation of each column (f,) of `x` (n, f) as its middle 80 % would have it."""
    low, high = np.percentile(x, [100 * tail, 100 * (1 - tail)], axis=0)
    spread: Floats = (high - low) / (2 * _NORMAL.inv_cdf(1 - tail))
    return spread


def jump_noise(steps: Floats, keep: float = 0.9) -> Floats:
    """Row-to-row noise of each feature (f,) from its differences (n, f), the largest left out."""
    size = np.sort(np.abs(steps), axis=0)[: max(1, int(keep * len(steps)))]
    edge = _NORMAL.inv_cdf(0.5 + keep / 2)
    kept_variance = 1 - 2 * edge * _NORMAL.pdf(edge) / keep
    noise: Floats = np.sqrt((size**2).mean(axis=0) / kept_variance / 2)
    return noise


def differences(cube: Floats) -> Floats:
    """Differences (m, f) of each unit's successive whole rows in `cube` (t, u, f), gaps or not."""
    whole = np.isfinite(cube.sum(axis=2))
    return np.concatenate(
        [np.diff(cube[whole[:, u], u], axis=0) for u in range(cube.shape[1])], axis=0
    )


def resolution(rows: Floats) -> Floats:
    """The smallest step between two values of each feature (f,) in `rows` (n, f); 0 for a constant.

    A sensor that shows whole units can't be trusted to less than one: a single count up or down
    says nothing, however rarely it was seen.
    """
    if len(rows) < 2:
        return np.zeros(rows.shape[1])
    ordered = np.sort(rows, axis=0)
    steps = np.diff(ordered, axis=0)
    tiny = 1e-9 * np.maximum(np.abs(ordered[0]), np.abs(ordered[-1]))
    least: Floats = np.where(steps > tiny, steps, np.inf).min(axis=0)
    return np.where(np.isfinite(least), least, 0.0)


def gross(rows: Floats, noise: Floats, step: Floats) -> Bools:
    """Which of `rows` (n, f) are so far out in some feature that they can't be nominal.

    `step` (f,) is the features' resolution: less than GROSS of it is never gross.
    """
    low, high = np.percentile(rows, [5, 95], axis=0)
    clipped = 1.25 * np.clip(rows, low, high).std(axis=0)
    spread = np.maximum(np.maximum(clipped, band_spread(rows)), noise)
    spread = np.maximum(np.where(spread > 0, spread, _floor(rows)), step)
    far = np.abs(rows - np.median(rows, axis=0)) > GROSS * spread
    out = np.asarray(far.any(axis=1), dtype=np.bool_)
    return out & ~_regime(out)


def frame(rows: Floats, noise: Floats, count: int = 0, step: float | Floats = 0.0) -> Frame:
    """The frame of smoothed `rows` (n, f) whose row-to-row noise (f,) after smoothing is known.

    `count` is how many rows there really are, where `rows` is a part of them; `step` (f,) the
    features' resolution.
    """
    centre = np.median(rows, axis=0)
    spread = np.maximum(band_spread(rows), noise)
    spread = np.where(spread > 0, spread, _floor(rows))
    samples = max(len(rows), count) * (np.where(noise > 0, noise, spread) / spread) ** 2
    scale = spread * np.sqrt(np.maximum(1.0, TRUSTED_SAMPLES / samples))
    return Frame(centre, np.maximum(scale, UNIFORM * step))


def belongs(rows: Floats, noise: Floats, step: float | Floats = 0.0) -> Bools:
    """Which smoothed `rows` (n, f) to train on: three rounds of leaving out what is far away."""
    keep = np.ones(len(rows), dtype=np.bool_)
    for _ in range(3):
        at = frame(rows[keep], noise, step=step)
        d = (((rows - at.centre) / at.scale) ** 4).sum(axis=1) ** 0.25
        far = d > TRIM * np.median(d)
        keep = ~far if not _regime(far).any() else np.ones_like(keep)
    return keep


def _regime(out: Bools) -> Bools:
    """All true when too many rows are out for them to be dirt."""
    return np.full_like(out, out.mean() > REGIME)


def _floor(rows: Floats) -> Floats:
    """A scale for a feature that hardly moved: its rare spread, else a thousandth of its size."""
    rare = rows.std(axis=0)
    size = 1e-3 * np.maximum(np.abs(np.median(rows, axis=0)), 1.0)
    return np.where(rare > 0, rare, size)
