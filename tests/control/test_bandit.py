"""The choice among moves of work: safe arms only, chances that can be divided by, honest judging."""

from pathlib import Path

import numpy as np
import pytest

from agent.rehearse import Rehearsal, Rehearsed
from control.bandit import EXPLORE, MOVES_OF_WORK, Logged, chances, off_policy


def test_the_best_is_taken_and_little_is_tried_but_nothing_is_impossible() -> None:
    found = chances(np.array([1.0, 3.0, 0.0, -40.0]))
    assert found.sum() == pytest.approx(1.0)
    assert found.argmax() == 1
    assert 1.0 - found[1] < EXPLORE <= 0.04
    assert found.min() == pytest.approx(EXPLORE / 4)
    assert chances(np.array([0.0])) == pytest.approx(1.0)


async def _half_an_hour(folder: Path) -> list[tuple[str, float, bool]]:
    """(point, chance, free) of every arm that was weighed on the hall."""
    run = Rehearsed(Rehearsal("hall", {"step_s": "60"}, 0.5), folder)
    arms: list[tuple[str, float, bool]] = []

    def listen(kind: str, detail: dict[str, object]) -> None:
        if kind in ("action", "decision"):
            for c in detail.get("candidates", []):  # type: ignore[attr-defined]
                if c["chance"] is not None:
                    assert c["move"] in MOVES_OF_WORK
                    arms.append((c["point"], c["chance"], c["against"] is None))
                elif c["move"] in MOVES_OF_WORK and c["against"] is not None:
                    assert not c["against"].startswith("bandit")

    run.agent.listeners.append(listen)
    try:
        await run.run(0.5)
    finally:
        run.close()
    return arms


async def test_only_safe_moves_are_arms_and_the_same_state_draws_the_same(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    arms = await _half_an_hour(tmp_path / "a")
    assert any(free for _, _, free in arms)
    assert all(0.0 < chance <= 1.0 for _, chance, _ in arms)
    assert arms == await _half_an_hour(tmp_path / "b")


def _logged(n: int, bias_kw: float) -> list[Logged]:
    """Arm 0 saves 2 kW in warm weather and costs 1 in cold; arm 1 (hold) saves nothing. Predictions are
    wrong by `bias_kw`; arms were drawn 30 to 70."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(n):
        warm = float(rng.integers(2))
        true = np.array([3.0 * warm - 1.0, 0.0])
        chance = np.array([0.3, 0.7])
        chosen = int(rng.choice(2, p=chance))
        saved = float(true[chosen] + rng.normal(0.0, 0.5))
        found.append(Logged(np.array([1.0, warm, 0.0, 0.0]), chance, true + bias_kw, chosen, saved))
    return found


@pytest.mark.parametrize("bias_kw", [0.0, 2.0, -5.0])
@pytest.mark.parametrize(
    ("name", "saves_kw"), [("always", 0.5), ("never", 0.0), ("when warm", 1.0)]
)
def test_another_policy_is_judged_by_what_this_one_did(
    bias_kw: float, name: str, saves_kw: float
) -> None:
    def target(one: Logged) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        go = {"always": 1.0, "never": 0.0, "when warm": float(one.x[1])}[name]
        return np.array([go, 1.0 - go])

    mean_kw, error_kw = off_policy(_logged(4000, bias_kw), target)
    assert abs(mean_kw - saves_kw) < 4.0 * max(error_kw, 0.01)
    assert error_kw < 0.25


def test_nothing_logged_says_nothing() -> None:
    assert np.isnan(off_policy([], lambda one: one.chances)[0])
