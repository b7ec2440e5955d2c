"""How a hall's model comes from what was observed of it: context first, then IMS on the rest.

Used for plants in virtual time (agent/commissioning.py) and for history (agent/training_history.py).
"""

import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.training import TrainOptions
from control.context import Context, fit_context, without_context
from control.ims_model import ImsModel
from control.layout import FEATURES
from control.monitor import Trained, as_absorbed

F64 = NDArray[np.float64]
Train = Callable[[F64, Sequence[str], TrainOptions, Sequence[str]], Awaitable[ImsModel]]


@dataclass(frozen=True, slots=True)
class Observed:
    """Rows of features (rows, units, f), their context (rows, units, k), what was ordered
    (rows, units, o), and which rows are the hall by itself, `quiet` (rows,).

    `starts` are the rows where a new stretch begins: nothing is carried over from the row before.
    """

    x: F64
    context: Context
    orders: F64
    units: tuple[str, ...]
    quiet: NDArray[np.bool_]
    starts: tuple[int, ...] = (0,)


async def learn(seen: Observed, options: TrainOptions, train: Train) -> Trained:
    """Make a model of what was observed. Raises TrainingError."""
    context = fit_context(seen.x, seen.context, seen.units, seen.quiet)
    rest = np.stack([
        without_context(context, x, Context(*now))[0]
        for x, *now in zip(
            seen.x, seen.context.now, seen.context.quick, seen.context.slow, strict=True
        )
    ])  # fmt: skip
    if seen.quiet.all() and not np.ptp(np.nan_to_num(seen.orders), axis=0).any():
        return Trained(await train(rest, FEATURES, options, seen.units), context)
    # The hall as it runs by itself gives scales; with them the moves are seen as they will be in use:
    # less what the monitor absorbs of the agent's own.
    quiet = await train(rest[seen.quiet], FEATURES, options, seen.units)
    edges = [*seen.starts, len(rest)]
    moved = np.concatenate([
        as_absorbed(quiet, context, seen.units, seen.orders[a:b], rest[a:b], options.row_s)
        for a, b in itertools.pairwise(edges)
    ])  # fmt: skip
    return Trained(await train(moved, FEATURES, options, seen.units), context)


def stacked(rows: list[Context]) -> Context:
    """The context of many rows as one, (rows, units, k)."""
    return Context(*(np.array([getattr(r, f) for r in rows]) for f in ("now", "quick", "slow")))
