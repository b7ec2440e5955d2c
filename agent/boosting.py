"""Gradient boosting for the forecasts: learned once a day in a worker, told by control/trees.py.

Decides when trees are worth learning and from which rows; control/foresight.py holds what they say against
what came, as it does with every forecaster. Nothing is stored: what they are learned from is lost at a
restart as well. scikit-learn is imported in the worker only.
"""

import asyncio
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import structlog
from numpy.typing import NDArray

from agent.training import TrainingError, run_worker
from agent.worker import lowered
from control.forecast import DAY_S, History, told
from control.foresight import AHEAD, STEP_S
from control.state import replace as but
from control.trees import Trees

if TYPE_CHECKING:
    from agent.core import Agent

F64 = NDArray[np.float64]

log = structlog.get_logger(__name__)

DAYS_LEAST = 3.0  # what the day before tells needs two, and then some rows
ROWS_LEAST, ROWS_MOST = 500, 6_000
TREES, DEPTH, RATE, PART, LEAF = 100, 3, 0.05, 0.7, 20  # small and slow, usual for short series


def boost(past: History, ahead: int = AHEAD) -> Trees | None:
    """Trees that tell the change from now (Friedman 2001, Huber's loss) by what a ridge is told and how
    many steps ahead; None where there is too little to learn from."""
    from sklearn.ensemble import GradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    if len(past.values) * past.step_s < DAYS_LEAST * DAY_S:
        return None
    x, v = told(past), past.values
    rows = np.concatenate([
        np.column_stack([x[:-h], np.full(len(v) - h, h), v[h:] - v[:-h]]) for h in range(1, ahead + 1)
    ])  # fmt: skip
    rows = rows[np.isfinite(rows).all(axis=1)]
    if len(rows) < ROWS_LEAST:
        return None
    rows = rows[:: -(-len(rows) // ROWS_MOST)]
    with threadpool_limits(1):
        made = GradientBoostingRegressor(
            loss="huber", n_estimators=TREES, max_depth=DEPTH, learning_rate=RATE, subsample=PART,
            min_samples_leaf=LEAF, random_state=0,
        ).fit(rows[:, :-1], rows[:, -1])  # fmt: skip
    trees = [e.tree_ for e in made.estimators_[:, 0]]
    most = max(t.node_count for t in trees)
    feature, left, right = (np.tile(np.arange(most), (len(trees), 1)) for _ in range(3))
    threshold, value = np.zeros((2, len(trees), most))
    feature[:] = 0
    for i, t in enumerate(trees):
        inner = np.flatnonzero(t.children_left >= 0)
        feature[i, inner], threshold[i, inner] = t.feature[inner], t.threshold[inner]
        left[i, inner], right[i, inner] = t.children_left[inner], t.children_right[inner]
        value[i, : t.node_count] = RATE * t.value[:, 0, 0]
    base = float(made.init_.constant_.ravel()[0])
    return Trees(rows.shape[1] - 1, base, feature, threshold, left, right, value)


async def boost_in_worker(values: F64, end_s: float) -> tuple[Trees | None, ...]:
    """`boost` for each series (s, n) whose last step ended at end_s, in a process of low priority. Raises
    TrainingError."""
    with tempfile.TemporaryDirectory(prefix="skadi-boost-") as name:
        folder = Path(name)
        await asyncio.to_thread(np.save, folder / "values.npy", values)
        (folder / "order.json").write_text(json.dumps({"end_s": end_s}), encoding="utf-8")
        answer = await run_worker("agent.boosting", folder)
    try:
        found = tuple(None if t is None else Trees.from_dict(t) for t in answer["trees"])
    except ValueError as error:
        raise TrainingError(str(error)) from error
    if len(found) != len(values):
        raise TrainingError(f"{len(found)} forecasts for {len(values)} series")
    return found


async def renew(agent: "Agent") -> None:
    """Learn anew from what the agent remembers of load and weather, if that is enough."""
    seen = agent.control.foresight
    if seen is None or seen.values.shape[1] * STEP_S < DAYS_LEAST * DAY_S:
        return
    found = await boost_in_worker(seen.values, seen.step * STEP_S)
    now = agent.control.foresight
    if now is not None:
        agent.control = but(agent.control, foresight=replace(now, boosted=found))
    log.info("forecasts learned", series=sum(t is not None for t in found))


def work(folder: Path) -> None:
    """What the worker does: values.npy and order.json in, answer.json out."""
    lowered()
    end_s = float(json.loads((folder / "order.json").read_text(encoding="utf-8"))["end_s"])
    values = np.load(folder / "values.npy", allow_pickle=False)
    trees = [boost(History(v, STEP_S, end_s)) for v in values]
    answer = {"trees": [None if t is None else t.to_dict() for t in trees]}
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    work(Path(sys.argv[1]))
