"""Trees for the forecasts: learned in a worker, told without scikit-learn, taken up beside the others."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from agent import boosting
from agent.training import TrainingError
from control import foresight
from control.forecast import History, boosted, persistence
from control.foresight import AHEAD, STEP_S
from tests.control.hall import case

START_S = 1_699_999_800.0


def saw(n: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A load that climbs for three hours and falls at once: no straight line tells when."""
    return 100.0 + 5.0 * (np.arange(n) % 18)


async def test_trees_foresee_what_no_line_does_and_the_worker_brings_them_whole() -> None:
    known, comes = saw(1009), saw(1009 + AHEAD)[1009:]
    past = History(known[:720], STEP_S, START_S)
    values = np.stack([past.values, np.full(720, np.nan)])
    trees, none = await boosting.boost_in_worker(values, START_S)
    assert none is None
    later = History(known, STEP_S, START_S + 289 * STEP_S)
    off = np.abs(boosted(trees, later, AHEAD) - comes).mean()
    assert off < 0.2 * np.abs(persistence(later, AHEAD) - comes).mean()
    here = boosting.boost(past)
    assert here is not None
    assert boosted(here, later, AHEAD) == pytest.approx(boosted(trees, later, AHEAD))


async def test_two_days_are_too_little_for_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> None:
        raise AssertionError("no worker was wanted")

    monkeypatch.setattr(boosting, "run_worker", never)
    control = replace(case().state, foresight=foresight.begin(START_S))
    agent = SimpleNamespace(control=control)
    await boosting.renew(cast("Any", agent))
    assert agent.control is control


async def test_what_was_learned_is_taken_up_and_what_is_no_tree_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer: dict[str, object] = {}

    async def worker(*_: object) -> dict[str, object]:
        return answer

    monkeypatch.setattr(boosting, "run_worker", worker)
    seen = replace(foresight.begin(START_S), values=np.full((3, 600), 7.0))
    agent = SimpleNamespace(control=replace(case().state, foresight=seen))
    stump = {"inputs": 1, "base": 0.0, "feature": [[0]], "threshold": [[0.0]], "left": [[0]],
             "right": [[0]], "value": [[1.0]]}  # fmt: skip
    answer["trees"] = [stump, None, None]
    await boosting.renew(cast("Any", agent))
    assert agent.control.foresight.boosted[0].inputs == 1
    kept = agent.control
    for wrong in ([stump], [{**stump, "left": [[-1]]}, None, None]):
        answer["trees"] = wrong
        with pytest.raises(TrainingError):
            await boosting.renew(cast("Any", agent))
        assert agent.control is kept
