"""IMS: how far is a unit (a rack, a row, the hall) from everything seen while it was well.

Decides one number a unit, D(x) >= 0, which features make it up, and whether it can be
known at all. A model is data: a linear map into a scaled space, a handful of regions there
(a centre with a half-width for each feature) and two thresholds. D is the distance to the
nearest region and exactly zero inside one, so a healthy unit scores 0 and not "some noise".
Distances are 4-norms: with the Euclidean one the noise of many quiet features drowns the one
that is off, with the largest alone two features slightly off are no worse than one.
After NASA's Inductive Monitoring System: Iverson, "Inductive System Health Monitoring",
2004, and "System Health Monitoring for Space Mission Operations", IEEE Aerospace 2008.

Must never: call a unit nominal when an input it needs is missing (it is unknown), look at
a later row, learn anything (agent/training.py does, in another process), or write to an array
it was given. Pure numpy; no clock, no I/O, no scikit-learn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from control.ims_model import ImsModel

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Indexes = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Scores:
    """What IMS says about n units at one instant; f is the number of the model's features.

    `deviation` (n,) is NaN where `unknown` (n,) is true. `contributions` (n, f) are shares of
    the fourth power of the deviation, summing to 1 where the deviation is above 0 and all 0 elsewhere.
    """

    deviation: Floats
    contributions: Floats
    unknown: Bools


@dataclass(frozen=True, slots=True, eq=False)
class ImsState:
    """What is remembered of each unit, in scaled space: its moving mean and its learned drift.

    `mean` (n, f) is NaN until a unit's first whole row. `drift` (n, f) is how far the unit's
    usual place has been followed since training; it stays 0 unless `observe` may learn.
    """

    mean: Floats
    drift: Floats


def start(model: ImsModel, n_units: int) -> ImsState:
    """No memory yet, for `n_units` units."""
    shape = (n_units, len(model.features))
    return ImsState(np.full(shape, np.nan), np.zeros(shape))


def observe(
    model: ImsModel,
    state: ImsState,
    x: Floats,
    unit_index: Indexes | None = None,
    learn: Bools | None = None,
) -> tuple[ImsState, Scores]:
    """Take one row a unit, `x` (n, f) in the features' own units, and score its moving mean.

    A unit's mean starts at the region nearest to its first row: a single reading does not outweigh
    what was learned. For the same reason a row is taken as at most tau_persist / smooth_alpha
    outside of all regions: one freak row can't alarm. A unit with a NaN in its row is unknown now and keeps its mean. `learn` (n,)
    says where drift may be followed (nominal, no hold-off, no maintenance); it is followed only
    where D is under half of tau_fast as well, by `model.drift_alpha` a row and never further than
    `model.drift_cap`. Raises ValueError on a wrong width or number of rows.
    """
    if len(x) != len(state.mean):
        raise ValueError(f"{len(x)} rows for {len(state.mean)} units: one row a unit")
    z = _bounded(model, scaled(model, x, unit_index), state.drift)
    known = ~np.isnan(z.sum(axis=1))[:, None]
    old = state.mean
    fresh = np.isnan(old)
    if fresh.any():
        old = np.where(fresh & known, _nearest(model, z - state.drift) + state.drift, old)
    mean = np.where(known, old + model.smooth_alpha * (z - old), old)
    at = mean - state.drift
    scores = score_scaled(model, np.where(known, at, np.nan))
    if learn is None or model.drift_alpha <= 0.0:
        return ImsState(mean, state.drift), scores
    may = learn & (scores.deviation < 0.5 * model.tau_fast)
    step = np.where(may[:, None], model.drift_alpha * (at - _nearest(model, at)), 0.0)
    drift = np.clip(state.drift + step, -model.drift_cap, model.drift_cap)
    return ImsState(mean, drift), scores


def paced(model: ImsModel, dt_s: float) -> ImsModel:
    """The model for rows `dt_s` apart where it was trained on slower ones: its moving mean spans the
    same time and its drift is as fast, in seconds. Faster than trained only: after a gap a row weighs
    no more than any other."""
    if not 0.0 < dt_s < 0.99 * model.row_s:
        return model
    share = dt_s / model.row_s
    smooth, drift = (1.0 - (1.0 - a) ** share for a in (model.smooth_alpha, model.drift_alpha))
    return replace(model, smooth_alpha=smooth, drift_alpha=drift)


def _bounded(model: ImsModel, z: Floats, drift: Floats) -> Floats:
    reach = model.tau_persist / model.smooth_alpha
    low = (model.centres - model.half_widths).min(axis=0) - reach
    high = (model.centres + model.half_widths).max(axis=0) + reach
    inside: Floats = np.clip(z - drift, low, high) + drift
    return inside


def _nearest(model: ImsModel, z: Floats) -> Floats:
    """The centre of the region nearest to each row (n, f); any for a row that is not known."""
    gap = np.abs(z[:, None, :] - model.centres).sum(axis=2)
    nearest: Floats = model.centres[np.where(np.isnan(gap), np.inf, gap).argmin(axis=1)]
    return nearest


ABSURD = 1e30  # no quantity is this large


def score(model: ImsModel, x: Floats, unit_index: Indexes | None = None) -> Scores:
    """Score `x` (n, f), one row a unit, columns in the order of `model.features`, no memory.

    `unit_index` (n,) says which of `model.units` each row is (see `unit_rows`), -1 for one
    the model has not met; without it rows are taken in the order of `model.units` when there
    are as many, and otherwise no unit's own offset is used. Raises ValueError on a wrong width.
    """
    return score_scaled(model, scaled(model, x, unit_index))


def scaled(model: ImsModel, x: Floats, unit_index: Indexes | None = None) -> Floats:
    """`x` (n, f) in scaled space; a row with a missing or absurd value is NaN throughout."""
    if x.ndim != 2 or x.shape[1] != len(model.features):
        raise ValueError(
            f"x has shape {x.shape}; model {model.id} wants (n, {len(model.features)}): "
            f"{', '.join(model.features)}"
        )
    sane = np.where(np.abs(x) < ABSURD, x, np.nan)
    z: Floats = (sane - _offsets(model, x.shape[0], unit_index)) @ model.transform
    return z


def score_scaled(model: ImsModel, z: Floats) -> Scores:
    """Score rows (n, f) that are in scaled space already."""
    unknown = np.isnan(z.sum(axis=1))
    outside = np.abs(z[:, None, :] - model.centres) - model.half_widths
    np.maximum(outside, 0.0, out=outside)
    outside *= outside
    outside *= outside
    fourth = outside.sum(axis=2)
    fourth[unknown] = 0.0
    nearest = fourth.argmin(axis=1)
    rows = np.arange(z.shape[0])
    best = fourth[rows, nearest]
    share = outside[rows, nearest] / np.where(best > 0.0, best, 1.0)[:, None]
    share[unknown] = 0.0
    return Scores(np.where(unknown, np.nan, np.sqrt(np.sqrt(best))), share, unknown)


def _offsets(model: ImsModel, n_rows: int, unit_index: Indexes | None) -> Floats:
    if not model.units:
        return model.offset
    if unit_index is not None:
        known = unit_index >= 0
        own = model.unit_offsets[np.where(known, unit_index, 0)]
        return np.where(known[:, None], model.offset + own, model.offset)
    if len(model.units) == n_rows:
        return model.offset + model.unit_offsets
    return model.offset


def unit_rows(model: ImsModel, units: Sequence[str]) -> Indexes:
    """Where each of `units` stands in the model, -1 for a unit it has not met."""
    at = {name: index for index, name in enumerate(model.units)}
    return np.array([at.get(name, -1) for name in units], dtype=np.intp)


def feature_columns(model: ImsModel, names: Sequence[str]) -> Indexes:
    """The columns of a matrix with columns `names` that make the model's own, in its order.

    Raises ValueError naming each feature the matrix lacks.
    """
    at = {name: index for index, name in enumerate(names)}
    lost = [name for name in model.features if name not in at]
    if lost:
        raise ValueError(f"model {model.id} needs features that are not here: {', '.join(lost)}")
    return np.array([at[name] for name in model.features], dtype=np.intp)


def top_contributors(
    model: ImsModel, scores: Scores, unit: int, count: int = 3
) -> tuple[tuple[str, float], ...]:
    """The up to `count` features that make most of one unit's deviation, with their shares 0..1.

    Features that contribute nothing are left out, so a unit inside a region has none.
    """
    share = scores.contributions[unit]
    order = np.argsort(-share, kind="stable")[:count]
    return tuple((model.features[i], float(share[i])) for i in order if share[i] > 0.0)
