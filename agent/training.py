"""Training an IMS model: the only place that imports scikit-learn, meant for a worker process.

Decides what "nominal" looks like from rows that are mostly so: a scale for each feature that
knows its noise and its drift apart, a few rows that do not belong trimmed away, regions by
k-means, and thresholds from blocks of time held out in turn. Must never load scikit-learn in the
agent's own process (87 MB and 2 s there): its import is inside the one function that needs it,
and the agent calls `train_in_worker`.
"""

import asyncio
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from control import ims_calibrate
from control.ims_model import ImsModel, signed

Floats = NDArray[np.float64]


class TrainingError(ValueError):
    """These rows can't make a model; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to train. `span_rows` is the moving mean's span; `clusters` the most regions kept."""

    clusters: int = 8
    fast_percentile: float = 95.0
    persist_percentile: float = 98.0
    span_rows: int = 10
    blocks: int = 5
    trim_pct: float = 2.0
    row_s: float = 0.0
    seed: int = 0
    provenance: Mapping[str, str | int | float] = field(default_factory=dict)


MIN_ROWS = 60
MIN_KNOWN = 0.5


def train(
    x: Floats,
    feature_names: Sequence[str],
    options: TrainOptions | None = None,
    units: Sequence[str] = (),
) -> ImsModel:
    """A model from `x`: (rows, f) for one unit, or (rows, units, f); time runs down the rows.

    Values are in the features' own units, NaN where missing. A feature known in fewer than half of
    the rows is left out and named in `trained_on`. Raises TrainingError.
    """
    options = options or TrainOptions()
    rows = np.asarray(x, dtype=np.float64)
    cube = rows[:, None, :] if rows.ndim == 2 else rows
    if cube.ndim != 3 or cube.shape[2] != len(feature_names):
        raise TrainingError(f"x has shape {rows.shape} for {len(feature_names)} feature names")
    if units and len(units) != cube.shape[1]:
        raise TrainingError(f"{len(units)} unit names for {cube.shape[1]} units")
    keep = np.isfinite(cube).mean(axis=(0, 1)) >= MIN_KNOWN
    names = tuple(n for n, k in zip(feature_names, keep, strict=True) if k)
    dropped = [n for n, k in zip(feature_names, keep, strict=True) if not k]
    if not names:
        raise TrainingError("no feature is known in half of the rows: nothing to learn from")
    cube = cube[:, :, keep]
    if len(cube) < MIN_ROWS:
        raise TrainingError(f"{len(cube)} rows; at least {MIN_ROWS} are needed")
    own = _unit_offsets(cube)
    smooth = _smoothed(cube - own, options)
    flat = smooth.reshape(-1, len(names))
    flat = flat[np.isfinite(flat).all(axis=1)]
    if len(flat) < MIN_ROWS:
        raise TrainingError(
            f"{len(flat)} rows have every feature; at least {MIN_ROWS} are needed: leave out "
            f"features that are often missing"
        )
    frame = _Frame.of(cube - own, flat, options)

    def fit(rows: Floats) -> ImsModel:
        return _fit(rows, names, frame, options)

    taus = ims_calibrate.calibrate(
        fit, flat, options.blocks, options.fast_percentile, options.persist_percentile
    )
    low, high = np.percentile(flat, [0.5, 99.5], axis=0)
    facts: dict[str, str | int | float] = {"rows": len(flat), "dropped": ", ".join(dropped)}
    return signed(
        replace(
            fit(flat),
            tau_fast=taus.tau_fast,
            tau_persist=taus.tau_persist,
            low=low,
            high=high,
            units=tuple(units),
            unit_offsets=own if units else np.zeros((0, len(names))),
            trained_on=facts | dict(options.provenance),
        )
    )


def _unit_offsets(cube: Floats) -> Floats:
    """How far each unit's usual row lies from the usual row of all, (units, f)."""
    usual = np.array([np.nanmedian(cube[:, u], axis=0) for u in range(cube.shape[1])])
    usual = np.where(np.isfinite(usual), usual, np.nanmedian(usual, axis=0))
    offsets: Floats = usual - np.median(usual, axis=0)
    return offsets


def _smoothed(cube: Floats, options: TrainOptions) -> Floats:
    """The moving mean of each unit, as `ims.observe` forms it; its first rows are left out."""
    alpha = 2.0 / (options.span_rows + 1.0)
    out = np.empty_like(cube)
    mean = np.full(cube.shape[1:], np.nan)
    for t, row in enumerate(cube):
        seen = np.isfinite(row)
        started = np.isfinite(mean)
        mean = np.where(seen, np.where(started, mean + alpha * (row - mean), row), mean)
        out[t] = np.where(seen, mean, np.nan)
    return out[min(options.span_rows, len(cube) // 4) :]


TRUSTED_SAMPLES = 400.0


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where zero is and what one is, for each feature (f,)."""

    centre: Floats
    scale: Floats

    @classmethod
    def of(cls, cube: Floats, flat: Floats, options: TrainOptions) -> "_Frame":
        """Scale = spread, widened where the rows hold few independent samples of it.

        A feature that wanders (its spread is far above its row-to-row noise) has been seen in
        few places only: n rows hold about n * (noise / spread)^2 independent samples.
        """
        alpha = 2.0 / (options.span_rows + 1.0)
        jumps = np.diff(cube, axis=0).reshape(-1, cube.shape[2])
        noise = np.sqrt(np.nanmean(jumps**2, axis=0) / 2.0) * np.sqrt(alpha / (2.0 - alpha))
        centre = np.median(flat, axis=0)
        spread = np.maximum(flat.std(axis=0), noise)
        floor = 1e-3 * np.maximum(np.abs(centre), 1.0)
        spread = np.where(spread > 0.0, spread, floor)
        samples = len(flat) * (np.where(noise > 0.0, noise, spread) / spread) ** 2
        return cls(centre, spread * np.sqrt(np.maximum(1.0, TRUSTED_SAMPLES / samples)))


def _fit(rows: Floats, names: tuple[str, ...], frame: _Frame, options: TrainOptions) -> ImsModel:
    z = (rows - frame.centre) / frame.scale
    labels, centres = _kmeans(z, options)
    support = np.bincount(labels, minlength=len(centres)) / len(z)
    widths = np.array([z[labels == k].std(axis=0) for k in range(len(centres))])
    return ImsModel(
        features=names,
        offset=frame.centre,
        transform=np.diag(1.0 / frame.scale),
        centres=centres,
        half_widths=widths,
        support=support,
        tau_fast=1.0,
        tau_persist=1.0,
        low=rows.min(axis=0),
        high=rows.max(axis=0),
        smooth_alpha=2.0 / (options.span_rows + 1.0),
        row_s=options.row_s,
    )


def _kmeans(z: Floats, options: TrainOptions) -> tuple[NDArray[np.intp], Floats]:
    from sklearn.cluster import KMeans  # here, so that importing this module stays cheap

    means = KMeans(min(options.clusters, len(z) // 10), n_init=3, random_state=options.seed).fit(z)
    return means.labels_.astype(np.intp), means.cluster_centers_.astype(np.float64)


async def train_in_worker(
    x: Floats,
    feature_names: Sequence[str],
    options: TrainOptions | None = None,
    units: Sequence[str] = (),
) -> ImsModel:
    """`train` in a fresh process of its own, which ends with it. Raises TrainingError."""
    spawn = multiprocessing.get_context("spawn")
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return await loop.run_in_executor(pool, train, x, list(feature_names), options, list(units))
