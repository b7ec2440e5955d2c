"""Training an IMS model: the only place that imports scikit-learn, meant for a worker process.

Decides what "nominal" looks like from rows that are mostly so: rows that do not belong are left
out, features are scaled by noise and drift (control/ims_frame.py), what context explains is taken
away, k-means finds the regions, and thresholds come from blocks of time held out in turn. Must never
load scikit-learn in the agent's own process (87 MB and 2 s there): its import is inside the one
function that needs it, and the agent calls `train_in_worker`.
"""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.worker import WorkerFailed, finished, lowered
from control import ims, ims_calibrate, ims_frame
from control.ims_model import MAX_FEATURES, ImsModel, signed

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class TrainingError(ValueError):
    """These rows can't make a model; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to train.

    `clusters` is the most regions kept, `span_rows` the span of the moving mean that is judged,
    `margin` what the cross-validated percentiles are multiplied by at least, `context` features
    that explain others and are not judged themselves, `drift_alpha` the share of a nominal unit's
    displacement that is learned a row once in use (0: none), `row_s` the spacing of the rows.
    """

    clusters: int = 8
    fast_percentile: float = 95.0
    persist_percentile: float = 98.0
    span_rows: int = 16
    blocks: int = 5
    margin: float = 1.5
    context: tuple[str, ...] = ()
    drift_alpha: float = 0.0
    row_s: float = 0.0
    seed: int = 0
    provenance: Mapping[str, str | int | float] = field(default_factory=dict)

    @property
    def alpha(self) -> float:
        """The weight of a new row in the moving mean."""
        return 2.0 / (self.span_rows + 1.0)


MIN_ROWS = 60
MIN_KNOWN = 0.5
MIN_SUPPORT = 0.005
WINDOW = 1024
MOST_CELLS = 1_000_000  # rows times units that are held in memory
MAX_ROWS = 250_000  # rows that scales and percentiles see; more are thinned evenly
REGION_ROWS = 50_000  # rows that k-means sees
DRIFT_CAP = 3.0
WORTH = 1.25
WIDTH = 0.5  # half-width of a region, in standard deviations of the rows in it


def train(
    x: Floats | str,
    feature_names: Sequence[str],
    options: TrainOptions | None = None,
    units: Sequence[str] = (),
) -> ImsModel:
    """A model from `x`: (rows, f) for one unit, or (rows, units, f); time runs down the rows.

    `x` may be the path of a .npy file, which is then read as far as needed. Values are in the
    features' own units, NaN where missing. Of a very long history windows are taken evenly. A feature known in fewer than half of
    the rows is left out and named in `trained_on`. Raises TrainingError.
    """
    options = options or TrainOptions()
    rows_in = np.load(x, mmap_mode="r", allow_pickle=False) if isinstance(x, str) else x
    cube, names, dropped = _checked(rows_in, feature_names, units)
    own = _unit_offsets(cube)
    cube -= own
    step = _resolution(cube)
    taken = _without_gross(cube, step)
    context = tuple(n for n in options.context if n in names)
    middle, slopes = _explain(cube, [names.index(n) for n in context])
    noise = ims_frame.jump_noise(ims_frame.differences((cube - middle) @ slopes))
    smooth = _smoothed((cube - middle) @ slopes, options)
    rows = smooth[np.isfinite(smooth).all(axis=1)]
    if len(rows) < MIN_ROWS // 2:
        raise TrainingError(f"{len(rows)} rows are left after smoothing: give more rows")
    noise *= np.sqrt(options.alpha / (2.0 - options.alpha))
    seen, rows = len(rows), _thin(rows)
    step = step @ np.abs(slopes)
    keep = ims_frame.belongs(rows, noise, step)
    rows = rows[keep]
    base, taus = _chosen(_Base(names, context, middle, slopes, noise, step, seen, options), rows)
    factor = ims_calibrate.margin(taus, options.margin, seen)
    low, high = np.nanpercentile(cube.reshape(-1, len(names)), [0.5, 99.5], axis=0)
    model = base.fit(rows)
    facts: dict[str, str | int | float] = {
        "rows": seen, "regions_dropped_pct": round(100.0 * (1.0 - float(model.support.sum())), 3), "gross": taken, "trimmed": int((~keep).sum()), "margin": factor,
        "dropped": ", ".join(dropped),
    }  # fmt: skip
    return signed(
        replace(
            model,
            tau_fast=taus.tau_fast * factor,
            tau_persist=taus.tau_persist * factor,
            low=low,
            high=high,
            units=tuple(units),
            unit_offsets=own if units else np.zeros((0, len(names))),
            trained_on=facts | dict(options.provenance),
        )
    )


def _checked(
    x: Floats, feature_names: Sequence[str], units: Sequence[str]
) -> tuple[Floats, tuple[str, ...], list[str]]:
    """The rows as (t, u, f), a copy, with the features that are known often enough."""
    cube = x[:, None, :] if x.ndim == 2 else x
    if cube.ndim != 3 or cube.shape[2] != len(feature_names):
        raise TrainingError(f"x has shape {x.shape} for {len(feature_names)} feature names")
    if units and len(units) != cube.shape[1]:
        raise TrainingError(f"{len(units)} unit names for {cube.shape[1]} units")
    if len(cube) < MIN_ROWS:
        raise TrainingError(f"{len(cube)} rows; at least {MIN_ROWS} are needed")
    cube = _windows(cube)
    keep = np.isfinite(cube).mean(axis=(0, 1)) >= MIN_KNOWN
    names = tuple(n for n, k in zip(feature_names, keep, strict=True) if k)
    dropped = [n for n, k in zip(feature_names, keep, strict=True) if not k]
    if len(names) > MAX_FEATURES:
        raise TrainingError(f"{len(names)} features; at most {MAX_FEATURES}: leave some out")
    if not names:
        raise TrainingError("no feature is known in half of the rows: nothing to learn from")
    cube = np.ascontiguousarray(cube[:, :, keep])
    cube[~(np.abs(cube) < ims.ABSURD)] = np.nan
    return cube, names, dropped


def _windows(cube: Floats) -> Floats:
    """A copy, in float64, of the whole, or of evenly spaced windows of WINDOW rows of it."""
    t, u = cube.shape[:2]
    room = max(MOST_CELLS // u // WINDOW, 1)
    if t <= room * WINDOW:
        return np.array(cube, dtype=np.float64)
    starts = np.linspace(0, t - WINDOW, room).astype(int)
    return np.concatenate([cube[s : s + WINDOW] for s in starts]).astype(np.float64)


def _unit_offsets(cube: Floats) -> Floats:
    """How far each unit's usual row lies from the usual row of all, (units, f)."""
    usual = np.array([np.nanmedian(cube[:, u], axis=0) for u in range(cube.shape[1])])
    usual = np.where(np.isfinite(usual), usual, np.nanmedian(usual, axis=0))
    offsets: Floats = usual - np.median(usual, axis=0)
    return offsets


def _resolution(cube: Floats) -> Floats:
    """The finest step that any unit shows of each feature (f,)."""
    steps = [ims_frame.resolution(u[np.isfinite(u.sum(axis=1))]) for u in cube.swapaxes(0, 1)]
    finest: Floats = np.min([np.where(s > 0, s, np.inf) for s in steps], axis=0)
    return np.where(np.isfinite(finest), finest, 0.0)


def _without_gross(cube: Floats, step: Floats) -> int:
    """Blank out (in place) rows that can't be nominal; says how many."""
    flat = cube.reshape(-1, cube.shape[2])
    whole = np.flatnonzero(np.isfinite(flat.sum(axis=1)))
    if len(whole) < max(MIN_ROWS, 2 * cube.shape[1]):
        raise TrainingError(
            f"{len(whole)} rows have every feature; at least {MIN_ROWS} are needed: leave out "
            f"features that are often missing"
        )
    noise = ims_frame.jump_noise(ims_frame.differences(cube))
    out = whole[ims_frame.gross(flat[whole], noise, step)]
    flat[out] = np.nan
    return len(out)


def _explain(cube: Floats, context: list[int]) -> tuple[Floats, Floats]:
    """The middle (f,) and the slopes (f, f) that take away what the context columns explain.

    (x - middle) @ slopes leaves each other feature's residual and 0 in the context columns.
    """
    flat = cube.reshape(-1, cube.shape[2])
    flat = _thin(flat[np.isfinite(flat).all(axis=1)])
    middle = np.median(flat, axis=0)
    slopes = np.eye(cube.shape[2])
    if context:
        centred = flat - middle
        spread = np.maximum(centred[:, context].std(axis=0), 1e-12)
        c = centred[:, context] / spread
        gram = c.T @ c + 1e-3 * len(c) * np.eye(len(context))
        slopes[context] -= np.linalg.solve(gram, c.T @ centred) / spread[:, None]
        slopes[:, context] = 0.0
    return middle, slopes


def _smoothed(cube: Floats, options: TrainOptions) -> Floats:
    """The moving mean of each unit, as `ims.observe` forms it, as rows (t * u, f)."""
    seen = np.isfinite(cube.sum(axis=2))[:, :, None]
    mean = np.zeros(cube.shape[1:])
    for t, row in enumerate(cube):
        mean = np.where(seen[t], mean + options.alpha * (row - mean), mean)
        cube[t] = np.where(seen[t], mean, np.nan)
    settled = np.arange(len(cube)) % WINDOW >= min(options.span_rows, WINDOW // 4)
    return cube[settled].reshape(-1, cube.shape[2])


def _thin(rows: Floats, most: int = MAX_ROWS) -> Floats:
    return rows[:: -(-len(rows) // most) or 1]


@dataclass(frozen=True, slots=True)
class _Base:
    """What all fits of one training share; `fit` makes an unsigned model of smoothed rows."""

    names: tuple[str, ...]
    context: tuple[str, ...]
    middle: Floats
    slopes: Floats
    noise: Floats
    step: Floats
    count: int
    options: TrainOptions

    def fit(self, rows: Floats) -> ImsModel:
        at = ims_frame.frame(rows, self.noise, self.count, self.step)
        z = (rows - at.centre) / at.scale
        centres, widths, support = _regions(_thin(z, REGION_ROWS), self.options)
        return ImsModel(
            features=self.names,
            offset=self.middle,
            transform=self.slopes / at.scale,
            centres=centres + at.centre / at.scale,
            half_widths=widths,
            support=support,
            tau_fast=1.0,
            tau_persist=1.0,
            low=np.zeros(len(self.names)),
            high=np.zeros(len(self.names)),
            smooth_alpha=self.options.alpha,
            row_s=self.options.row_s,
            drift_alpha=self.options.drift_alpha,
            drift_cap=DRIFT_CAP,
            context=self.context,
        )

    def judge(self, rows: Floats, others: Floats) -> Floats:
        """D (n,) of `others` (n, f) by a model of `rows`, both smoothed and explained."""
        model = self.fit(rows)
        scale = ims_frame.frame(rows, self.noise, self.count, self.step).scale
        return ims.score_scaled(model, others / scale).deviation


def _chosen(base: _Base, rows: Floats) -> tuple[_Base, ims_calibrate.Thresholds]:
    """The fewest regions whose held-out p98 is within WORTH of the best, and their thresholds.

    More regions than the rows support fit noise, and pay for it in the blocks held out.
    """
    most = base.options.clusters
    tried = []
    for count in sorted({k for k in (1, 2, 4, 8, 16, 32) if k < most} | {most}):
        options = replace(base.options, clusters=count)
        one = replace(base, options=options)
        taus = ims_calibrate.calibrate(
            one.judge, rows, options.blocks, options.fast_percentile, options.persist_percentile
        )
        tried.append((one, taus))
    best = min(taus.tau_persist for _, taus in tried)
    return next(pair for pair in tried if pair[1].tau_persist <= WORTH * best)


def _regions(z: Floats, options: TrainOptions) -> tuple[Floats, Floats, Floats]:
    """Centres (k, f), half-widths (k, f) and support (k,) of the regions that rows `z` fill."""
    from sklearn.cluster import KMeans  # here, so that importing this module stays cheap
    from threadpoolctl import threadpool_limits

    count = max(1, min(options.clusters, len(z) // 20))
    with threadpool_limits(1):  # the host has other work; threads that wait for a core spin
        means = KMeans(count, n_init=3, random_state=options.seed).fit(z)
    labels = means.labels_
    support = np.bincount(labels, minlength=count) / len(z)
    kept = np.flatnonzero(support >= MIN_SUPPORT)
    widths = np.array([WIDTH * z[labels == k].std(axis=0) for k in kept])
    return means.cluster_centers_[kept].astype(np.float64), widths, support[kept]


async def train_in_worker(
    x: Floats | str,
    feature_names: Sequence[str],
    options: TrainOptions | None = None,
    units: Sequence[str] = (),
) -> ImsModel:
    """`train` in a fresh process of low priority, which ends with it, or when this is cancelled.

    Rows, order and model go through files in a folder of their own, so that nothing large is
    copied through a pipe and the worker imports nothing but this module. Raises TrainingError.
    """
    with tempfile.TemporaryDirectory(prefix="skadi-train-") as name:
        folder = Path(name)
        rows = x if isinstance(x, str) else str(folder / "rows.npy")
        if not isinstance(x, str):
            await asyncio.to_thread(np.save, rows, x)
        order = {
            "rows": rows, "features": list(feature_names), "units": list(units),
            "options": asdict(options or TrainOptions()),
        }  # fmt: skip
        (folder / "order.json").write_text(json.dumps(order), encoding="utf-8")
        answer = await run_worker("agent.training", folder)
    return ImsModel.from_dict(answer["model"])


async def run_worker(
    module: str, folder: Path, environ: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run `python -m MODULE FOLDER` and read the answer.json it leaves. Raises TrainingError."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, str(folder), stderr=asyncio.subprocess.PIPE,
        env=None if environ is None else {**os.environ, **environ},
    )  # fmt: skip
    try:
        await finished(worker)
    except WorkerFailed as error:
        raise TrainingError(f"the training process {error}") from error
    answer: dict[str, Any] = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    if "error" in answer:
        raise TrainingError(answer["error"])
    return answer


def work(folder: Path) -> None:
    """What the worker does: order.json and its rows in, answer.json out."""
    lowered()
    order = json.loads((folder / "order.json").read_text(encoding="utf-8"))
    chosen = order["options"] | {"context": tuple(order["options"]["context"])}
    try:
        model = train(order["rows"], order["features"], TrainOptions(**chosen), order["units"])
        answer: dict[str, object] = {"model": model.to_dict()}
    except ValueError as error:  # TrainingError, and the calibration's own
        answer = {"error": str(error)}
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    work(Path(sys.argv[1]))
