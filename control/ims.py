"""IMS: how far is a unit (a rack, a row, the hall) from everything seen while it was well.

Decides one number a unit, D(x) >= 0, which features make it up, and whether it can be
known at all. A model is data: a linear map into a scaled space, a handful of regions there
(a centre with a half-width for each feature) and two thresholds. D is the distance to the
nearest region and exactly zero inside one, so a healthy unit scores 0 and not "some noise".
After NASA's Inductive Monitoring System: Iverson, "Inductive System Health Monitoring",
2004, and "System Health Monitoring for Space Mission Operations", IEEE Aerospace 2008.

Must never: call a unit nominal when an input it needs is missing (it is unknown), look at
a later row, learn anything (agent/training.py does, in another process), or write to an array
it was given. Pure numpy; no clock, no I/O, no scikit-learn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
    the squared deviation, summing to 1 where the deviation is above 0 and all 0 elsewhere.
    """

    deviation: Floats
    contributions: Floats
    unknown: Bools


@dataclass(frozen=True, slots=True)
class ImsState:
    """The moving mean each unit is judged by: `mean` (n, f), NaN until a unit's first row."""

    mean: Floats


def start(model: ImsModel, n_units: int) -> ImsState:
    """No memory yet, for `n_units` units."""
    return ImsState(np.full((n_units, len(model.features)), np.nan))


def observe(
    model: ImsModel, state: ImsState, x: Floats, unit_index: Indexes | None = None
) -> tuple[ImsState, Scores]:
    """Take one row a unit, `x` (n, f) in the features' own units, and score its moving mean.

    A feature that is NaN in this row makes its unit unknown now and leaves that feature's
    mean as it was. Raises ValueError if `x` does not have the state's shape.
    """
    if x.shape != state.mean.shape:
        raise ValueError(f"x has shape {x.shape}, the state {state.mean.shape}: one row a unit")
    seen = np.isfinite(x)
    alpha = np.where(np.isnan(state.mean), 1.0, model.smooth_alpha)
    old = np.where(np.isnan(state.mean), 0.0, state.mean)
    fresh = np.where(seen, x, 0.0)
    mean = np.where(seen, old + alpha * (fresh - old), state.mean)
    return ImsState(mean), score(model, np.where(seen, mean, np.nan), unit_index)


_ABSURD = 1e100  # no quantity is this large; keeps squares finite


def score(model: ImsModel, x: Floats, unit_index: Indexes | None = None) -> Scores:
    """Score `x` (n, f), one row a unit, columns in the order of `model.features`, no memory.

    `unit_index` (n,) says which of `model.units` each row is (see `unit_rows`), -1 for one
    the model has not met; without it rows are taken in the order of `model.units` when there
    are as many, and otherwise no unit's own offset is used. Raises ValueError on a wrong width.
    """
    if x.ndim != 2 or x.shape[1] != len(model.features):
        raise ValueError(
            f"x has shape {x.shape}; model {model.id} wants (n, {len(model.features)}): "
            f"{', '.join(model.features)}"
        )
    offset = _offsets(model, x.shape[0], unit_index)
    sane = np.where(np.abs(x) < _ABSURD, x, np.nan)
    z = (sane - offset) @ model.transform
    unknown = np.isnan(z.sum(axis=1))
    outside = np.abs(z[:, None, :] - model.centres) - model.half_widths
    np.maximum(outside, 0.0, out=outside)
    outside *= outside
    squared = outside.sum(axis=2)
    squared[unknown] = 0.0
    nearest = squared.argmin(axis=1)
    rows = np.arange(x.shape[0])
    best = squared[rows, nearest]
    share = outside[rows, nearest] / np.where(best > 0.0, best, 1.0)[:, None]
    share[unknown] = 0.0
    return Scores(np.where(unknown, np.nan, np.sqrt(best)), share, unknown)


def _offsets(model: ImsModel, n_rows: int, unit_index: Indexes | None) -> Floats:
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


def pool(x: Floats, group: Indexes, n_groups: int) -> Floats:
    """The mean row of each group, (n_groups, f): a row's or the hall's vector from its racks'.

    A feature known in fewer than half of a group's units is NaN there: too few to speak for it.
    """
    known = np.isfinite(x)
    total = np.zeros((n_groups, x.shape[1]))
    count = np.zeros((n_groups, x.shape[1]))
    size = np.zeros(n_groups)
    np.add.at(total, group, np.where(known, x, 0.0))
    np.add.at(count, group, known)
    np.add.at(size, group, 1.0)
    enough = (count * 2 >= size[:, None]) & (count > 0)
    return np.where(enough, total / np.maximum(count, 1.0), np.nan)
