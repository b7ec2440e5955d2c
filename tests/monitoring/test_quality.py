"""The gate: each kind of lie is named, honest sensors are not, and nothing suspect is learned."""

from collections.abc import Callable

import numpy as np
import pytest

from control import quality
from control.quality import DRIFTING, GOOD, IMPOSSIBLE, JUMPING, MISSING, STALE, STUCK, Params

N, PERIOD_S = 12, 10.0
PARAMS = Params(stuck_s=600.0, drift_learn_s=7200.0)


def limits(**changes: object) -> quality.Limits:
    base: dict[str, object] = {
        "low": np.full(N, -20.0),
        "high": np.full(N, 80.0),
        "max_age_s": np.full(N, 25.0),
        "max_slew_per_s": np.full(N, 0.05),
        "resolution": np.full(N, 0.1),
        "moved": np.full(N, 1.0),
        "drift_limit": np.full(N, 2.0),
        "group": np.zeros(N, dtype=np.intp),
    }
    return quality.Limits(**(base | changes))  # type: ignore[arg-type]


def inlets(hours: float, seed: int) -> np.ndarray:
    """Twelve inlets of a row: common swings, own offsets, noise, a resolution of 0.1 K."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(hours * 3600 / PERIOD_S)) * PERIOD_S
    common = 22 + 1.5 * np.sin(2 * np.pi * t / 5400) + 0.5 * np.sin(2 * np.pi * t / 1300)
    own = rng.normal(0, 0.8, N)
    return np.round(common[:, None] + own + rng.normal(0, 0.1, (len(t), N)), 1)


def drive(
    x: np.ndarray, known: quality.Limits | None = None, taken: np.ndarray | None = None
) -> list[quality.State]:
    known = known or limits()
    members, state, out = known.members(), quality.start(N, 0.0), []
    for i, row in enumerate(x):
        now_s = (i + 1) * PERIOD_S
        taken_s = np.full(N, now_s) if taken is None else taken[i]
        state = quality.check(PARAMS, known, members, state, row, taken_s, now_s)
        out.append(state)
    return out


@pytest.mark.parametrize("seed", range(2))
def test_honest_sensors_are_believed(seed: int) -> None:
    codes = np.array([s.code for s in drive(inlets(8.0, seed))])
    assert (codes == GOOD).all()


def stuck(x: np.ndarray, at: int) -> None:
    x[at:, 3] = x[at, 3]


def drifting(x: np.ndarray, at: int) -> None:
    x[at:, 3] = np.round(x[at:, 3] + 3.0 * np.linspace(0, 1, len(x) - at), 1)


def jumping(x: np.ndarray, at: int) -> None:
    x[at + 100, 3] += 6.0


def impossible(x: np.ndarray, at: int) -> None:
    x[at:, 3] = 6553.5


def infinite(x: np.ndarray, at: int) -> None:
    x[at:, 3] = np.inf


def missing(x: np.ndarray, at: int) -> None:
    x[at:, 3] = np.nan


@pytest.mark.parametrize(
    ("fault", "code", "within_s"),
    [
        (stuck, STUCK, 2400.0),
        (drifting, DRIFTING, 5.6 * 3600.0),
        (jumping, JUMPING, 1010.0),
        (impossible, IMPOSSIBLE, 10.0),
        (infinite, IMPOSSIBLE, 10.0),
        (missing, MISSING, 10.0),
    ],
)
@pytest.mark.parametrize("seed", range(2))
def test_each_lie_gets_its_name_and_nobody_else_is_blamed(
    fault: Callable[[np.ndarray, int], None], code: int, within_s: float, seed: int
) -> None:
    x, at = inlets(9.0, seed + 10), round(3 * 3600 / PERIOD_S)
    fault(x, at)
    codes = np.array([s.code for s in drive(x)])
    assert (codes[:at] == GOOD).all()
    seen = np.flatnonzero(codes[:, 3] == code)
    assert len(seen)
    assert (seen[0] + 1 - at) * PERIOD_S <= within_s
    assert (np.delete(codes, 3, axis=1) == GOOD).all()


def test_a_stale_value_is_stale_and_good_again_when_it_is_read() -> None:
    x, taken = inlets(0.1, 1), None
    taken = np.repeat((np.arange(len(x)) + 1.0)[:, None] * PERIOD_S, N, axis=1)
    taken[20:40, 5] = taken[19, 5]
    codes = np.array([s.code for s in drive(x, taken=taken)])
    assert (codes[:22, 5] == GOOD).all()
    assert (codes[22:40, 5] == STALE).all()
    assert (codes[40:, 5] == GOOD).all()


def test_a_real_step_is_believed_once_confirmed() -> None:
    x = inlets(1.0, 4)
    x[200:] += 6.0  # a door opened: all of them
    codes = np.array([s.code for s in drive(x)])
    assert (codes[200] == JUMPING).all()
    assert (codes[200 + PARAMS.confirm + 2 :] == GOOD).all()


def test_a_point_without_neighbours_is_stuck_only_if_it_always_moved() -> None:
    alone = limits(group=np.full(N, -1, dtype=np.intp))
    x = inlets(6.0, 5)
    x[:, 1] = 18.0  # a setpoint: never moved, never stuck
    x[1000:, 2] = x[999, 2]
    states = drive(x, alone)
    codes = np.array([s.code for s in states])
    assert (codes[:, 1] == GOOD).all()
    assert codes[-1, 2] == STUCK
    assert (codes[:1000, 2] == GOOD).all()


def test_drift_is_not_learned_away_and_the_usual_offset_is() -> None:
    x = inlets(14.0, 6)
    at = round(4 * 3600 / PERIOD_S)
    x[at:, 3] += 3.0 * np.linspace(0, 1, len(x) - at)
    states = drive(x)
    assert states[-1].code[3] == DRIFTING
    assert abs(states[-1].usual[3] - states[at].usual[3]) < 0.5
    text = quality.explain(PARAMS, limits(), states[-1], 3, len(x) * PERIOD_S)
    assert "usual distance" in text


def test_every_verdict_has_its_sentence() -> None:
    state = drive(inlets(0.2, 7))[-1]
    for code, name in enumerate(quality.NAMES):
        changed = quality.State(
            *[
                np.full(N, code, dtype=np.int8) if f == "code" else getattr(state, f)
                for f in quality.State.__slots__
            ]
        )
        text = quality.explain(PARAMS, limits(), changed, 0, 9999.0)
        assert bool(text) == (name != "good")


def test_two_are_too_few_to_judge_by() -> None:
    few = limits(group=np.repeat(np.arange(6), 2))
    x = inlets(4.0, 8)
    x[500:, 0] = x[500, 0]
    x[:, 0] += 0.0
    codes = np.array([s.code for s in drive(x, few)])
    assert (codes[:, 1] == GOOD).all()
    assert not (codes == DRIFTING).any()


def test_states_are_replaced_not_changed() -> None:
    x = inlets(0.2, 9)
    known, before = limits(), drive(x)[-1]
    copies = {f: getattr(before, f).copy() for f in quality.State.__slots__}
    now = np.full(N, 1e6)
    quality.check(PARAMS, known, known.members(), before, x[0] + 9.0, now, 1e6)
    for name, copy in copies.items():
        assert np.array_equal(getattr(before, name), copy, equal_nan=True)
