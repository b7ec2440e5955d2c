"""Forecasts of load and weather: exact where the series is, silent where nothing can be said, never less
careful than without them."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from control import foresight, slow_chart, slow_loop
from control.forecast import (
    DAY_S,
    FORECASTERS,
    Forecaster,
    History,
    boosted,
    ridge,
    seasonal,
)
from control.foresight import AHEAD, ENOUGH, KEPT, STEP_S, Foresight, Outlook
from control.moves import Knob
from control.response import AROUND
from control.signals import HALL, PLACE
from control.trees import Trees
from control.types import Change, Effect
from tests.control.hall import view

F64 = NDArray[np.float64]
DAY = round(DAY_S / STEP_S)
WALL_S = 1_699_999_800.0  # a step begins


@cache
def usual() -> Foresight:
    """Three days that repeat."""
    return followed(day(3 * DAY))


def past(values: F64) -> History:
    return History(values, STEP_S, WALL_S)


def day(n: int) -> F64:
    at_s = WALL_S + (np.arange(n) - KEPT) * STEP_S
    return 100.0 + 20.0 * np.sin(2 * np.pi * at_s / DAY_S)


def followed(values: F64, start_s: float = WALL_S, looks: int = 1) -> Foresight:
    """What is foreseen of IT power after these steps, looked at so often each."""
    state = None
    for i, value in enumerate(values):
        for j in range(looks):
            now_s = start_s + (i + j / looks) * STEP_S
            state = foresight.seen(state, np.array([value, np.nan, np.nan]), now_s)
    assert state is not None
    return foresight.seen(state, np.full(3, np.nan), start_s + len(values) * STEP_S)


@pytest.mark.parametrize("forecaster", FORECASTERS.values())
def test_what_never_changes_is_foreseen_exactly(forecaster: Forecaster) -> None:
    assert forecaster(past(np.full(3 * DAY, 7.3)), AHEAD) == pytest.approx(np.full(AHEAD, 7.3))


def test_a_day_that_repeats_is_foreseen_exactly() -> None:
    values = day(5 * DAY)
    known, comes = values[:-AHEAD], values[-AHEAD:]
    assert seasonal(past(known), AHEAD) == pytest.approx(comes)
    assert ridge(past(known), AHEAD) == pytest.approx(comes, abs=0.2)  # of 20


def test_a_trend_goes_on() -> None:
    """Beside a day before that rose as well, a day later."""
    values = 0.01 * np.arange(3 * DAY)
    comes = values[-1] + 0.01 * np.arange(1, AHEAD + 1)
    assert seasonal(past(values), AHEAD) == pytest.approx(comes)
    assert ridge(past(values), AHEAD) == pytest.approx(comes)


def test_a_day_that_was_not_measured_is_taken_from_the_one_before() -> None:
    values = day(4 * DAY)
    known, comes = values[:-AHEAD].copy(), values[-AHEAD:]
    known[-DAY : -DAY + 2 * AHEAD] = np.nan
    assert seasonal(past(known), AHEAD) == pytest.approx(comes)
    known[-2 * DAY : -2 * DAY + 2 * AHEAD] = np.nan
    assert np.isnan(seasonal(past(known), AHEAD)).all()
    assert ridge(past(known), AHEAD) == pytest.approx(comes, abs=1.0)


@pytest.mark.parametrize("n", [0, 1, 2, AHEAD, 30])
def test_too_little_to_say_anything(n: int) -> None:
    values = day(n)
    assert np.isnan(seasonal(past(values), AHEAD)).all()
    assert np.isnan(ridge(past(values), AHEAD)).all()
    assert np.isfinite(FORECASTERS["persistence"](past(values), AHEAD)).all() == (n > 0)


READINGS = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.floats(-100.0, 100.0))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(READINGS, min_size=1, max_size=60),
    st.lists(st.floats(-2.0 * DAY_S, 2.0 * DAY_S), min_size=1, max_size=8),
)
@example([1e308, -1e308, 1e308], [DAY_S])
@example([5.0], [-DAY_S])
def test_whatever_comes_in_what_comes_out_is_a_number_with_its_doubt(
    readings: list[float], jumps_s: list[float]
) -> None:
    """Readings of any kind and a clock that is set again and again, after three days as usual."""
    state: Foresight | None = usual()
    now_s = WALL_S + 3 * DAY_S
    for i, reading in enumerate(readings):
        now_s += STEP_S if i % 10 else jumps_s[i // 10 % len(jumps_s)]
        state = foresight.seen(state, np.full(3, reading), now_s)
        for name in foresight.SERIES:
            seen = foresight.outlook(state, name)
            if seen is not None:
                assert np.isfinite(seen.mean).all()
                assert np.isfinite(seen.sigma).all()
                assert (seen.sigma >= 0.0).all()
                assert 0.0 <= seen.rise(100.0)[0] < np.inf
    assert state is not None
    assert state.values.shape[1] <= KEPT
    assert (np.abs(state.values[np.isfinite(state.values)]) <= foresight.ABSURD).all()


def test_nothing_is_foreseen_before_errors_are_known_and_persistence_first() -> None:
    assert foresight.outlook(None, "it_kw") is None
    assert foresight.outlook(followed(day(ENOUGH)), "it_kw") is None
    first = foresight.outlook(followed(day(ENOUGH + 2 * AHEAD)), "it_kw")
    assert first is not None
    assert first.by == "persistence"


def test_who_was_least_wrong_is_believed_and_its_doubt_is_what_it_was_off() -> None:
    rng = np.random.default_rng(1)
    wandering = np.cumsum(rng.normal(0, 1, 4 * DAY))
    for values, best, sigma in ((day(4 * DAY), "seasonal", 0.0),
                                (day(4 * DAY) + rng.normal(0, 1, 4 * DAY), "ridge", 1.1),
                                (wandering, "persistence", AHEAD**0.5)):  # fmt: skip
        seen = foresight.outlook(followed(values), "it_kw")
        assert seen is not None
        assert seen.by == best
        assert seen.sigma[-1] == pytest.approx(sigma, rel=0.25, abs=1e-6)


def test_looks_within_a_step_are_averaged_and_short_gaps_bridged() -> None:
    assert followed(np.array([1.0, 2.0]), looks=5).values[0] == pytest.approx([1.0, 2.0])
    state = foresight.begin(WALL_S)
    for i, value in ((0, 1.0), (3, 4.0), (3 + 2 * foresight.BRIDGED, 0.0)):
        state = foresight.seen(state, np.array([value, np.nan, np.nan]), WALL_S + i * STEP_S)
    state = foresight.seen(state, np.full(3, np.nan), WALL_S + 16 * STEP_S)
    assert state.values[0, :4] == pytest.approx([1.0, 2.0, 3.0, 4.0])
    assert np.isnan(state.values[0, 4:-1]).all()


def test_a_clock_that_jumps_begins_anew_and_one_that_is_nudged_does_not() -> None:
    state = usual()
    here_s = WALL_S + 3 * DAY_S
    for set_s, kept in ((-900.0, True), (-DAY_S, False), (DAY_S, True), (3e8, False)):
        after = foresight.seen(state, np.full(3, 100.0), here_s + set_s)
        assert (after.values.shape[1] >= 3 * DAY) == kept, set_s


# One tree: input 1 at most 0.5 -> -2, else +3.
STUMP = {"inputs": 2, "base": 1.0, "feature": [[1, 0, 0]], "threshold": [[0.5, 0.0, 0.0]],
         "left": [[1, 1, 2]], "right": [[2, 1, 2]], "value": [[0.0, -2.0, 3.0]]}  # fmt: skip


def test_trees_tell_what_their_leaves_say_and_survive_their_file() -> None:
    trees = Trees.from_dict(STUMP)
    x = np.array([[9.0, 0.5], [9.0, 0.6], [-9.0, -1e9]])
    assert trees.predict(x) == pytest.approx([-1.0, 4.0, -1.0])
    assert trees.to_dict() == STUMP
    assert np.isnan(boosted(trees, past(day(3 * DAY)), AHEAD)).all(), "learned from something else"
    assert np.isnan(boosted(None, past(day(3 * DAY)), AHEAD)).all()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("left", [[5, 1, 2]]),
        ("right", [[-1, 1, 2]]),
        ("feature", [[2, 0, 0]]),
        ("feature", [[-1, 0, 0]]),
        ("feature", [1, 0, 0]),
        ("value", [[0.0, float("nan"), 1.0]]),
        ("threshold", [[1.0, 2.0]]),
        ("base", "inf"),
        ("base", None),
        ("inputs", "x"),
        ("value", [[0.0, [1.0], 2.0]]),
        ("left", [[10**30, 1, 2]]),
    ],
)
def test_what_is_no_tree_is_refused(key: str, value: object) -> None:
    with pytest.raises(ValueError, match="tree"):
        Trees.from_dict({**STUMP, key: value})


def outlook(by: float, sigma: float, now: float = 100.0) -> Outlook:
    return Outlook("ridge", np.full(AHEAD, now + by), np.full(AHEAD, sigma))


def test_only_a_rise_beyond_the_doubt_counts_and_whole() -> None:
    assert outlook(5.0, 4.0).rise(100.0) == pytest.approx((5.0, 4.0))
    assert outlook(5.0, 6.0).rise(100.0) == (0.0, 0.0)
    assert outlook(-50.0, 1.0).rise(100.0) == (0.0, 0.0)
    assert outlook(5.0, 4.0).rise(np.nan) == (0.0, 0.0)
    climbing = Outlook("ridge", 100.0 + np.arange(1.0, AHEAD + 1), np.full(AHEAD, 0.5))
    assert [climbing.rise(100.0, s)[0] for s in (0.0, 900.0, 1e9)] == [1.0, 3.0, AHEAD]


BATCH = Knob("batching", "batch_window_ms", "hall", ())
WATER = Knob("pump", "chilled_water_setpoint_c", "hall", ())
EFFECTS = {BATCH: Effect(-1.0, 0.1, 0.0, 0.0, 5.0), WATER: Effect(-1.0, 0.1, 0.0, 0.0, 0.0)}


def against(knob: Knob, old: float, new: float, **ahead: Outlook) -> str | None:
    """What speaks against a move of a hall with valves at 90 % and p95 well within its limit."""
    places = np.full((3, len(PLACE)), 20.0)
    places[:, PLACE.index("valve_pct")], places[:, PLACE.index("return_c")] = 90.0, 32.0
    at = view(places, water_c=12.0, latency_ms=200.0)
    at = type(at)(at.case, at.signals, at.hall, at.places, at.belief, None, ahead)
    judge = slow_loop._slow_prompts if knob is BATCH else slow_loop._coil
    return judge(at, knob, (Change("x", old, new),), EFFECTS[knob])


def test_a_move_towards_risk_is_judged_with_the_load_that_comes() -> None:
    assert against(BATCH, 50.0, 55.0) is None
    assert against(WATER, 12.0, 12.5) is None
    slow = against(BATCH, 50.0, 55.0, prompts_ps=outlook(1000.0, 10.0))
    full = against(WATER, 12.0, 12.5, it_kw=outlook(20.0, 5.0))
    assert slow is not None
    assert "before its lease ends" in slow
    assert "by ridge" in slow
    assert full is not None
    assert "foreseen: it_kw 100 -> 120 ± 5" in full


@pytest.mark.parametrize(("by", "sigma"), [(-60.0, 1.0), (5.0, 30.0), (0.0, 0.0)])
def test_a_load_that_falls_or_is_in_doubt_changes_nothing(by: float, sigma: float) -> None:
    ahead = {name: outlook(by, sigma) for name in foresight.SERIES}
    for new in (11.0, 12.5, 20.0):
        assert against(WATER, 12.0, new, **ahead) == against(WATER, 12.0, new)
    for new in (45.0, 55.0):
        assert against(BATCH, 50.0, new, **ahead) == against(BATCH, 50.0, new)


def test_no_forecast_stops_a_move_towards_caution() -> None:
    ahead = {name: outlook(80.0, 1.0) for name in foresight.SERIES}
    assert against(WATER, 12.0, 11.5, **ahead) is None


def test_what_comes_is_the_hour_foreseen_and_nothing_where_nobody_knows_better() -> None:
    hall = np.full(len(HALL), np.nan)
    hall[[HALL.index("it_kw"), HALL.index("outdoor_c"), HALL.index("humidity_pct")]] = (
        100.0,
        20.0,
        50.0,
    )
    at = replace(view(np.full((1, len(PLACE)), 20.0)), hall=hall)

    def comes(**ahead: Outlook) -> list[float]:
        return slow_chart.coming(replace(at, ahead=ahead), 0.0).tolist()

    assert comes() == [0.0] * len(AROUND)
    stays = replace(outlook(30.0, 1.0), by="persistence")
    assert comes(it_kw=stays, outdoor_c=stays) == [0.0] * len(AROUND)
    warmer = comes(it_kw=outlook(30.0, 1.0), outdoor_c=outlook(10.0, 1.0, now=20.0))
    # By a psychrometric chart 20 degC and 50 % are 13.8 degC wet, 30 degC with that moisture 17.3.
    assert warmer == pytest.approx([10.0, 3.5, 30.0, 0.0, 0.0], abs=1.0)
    hall[HALL.index("it_kw")], hall[HALL.index("prompts_ps")] = np.nan, 50.0
    silent = comes(it_kw=outlook(30.0, 1.0), prompts_ps=outlook(0.0, 1.0, now=60.0))
    assert silent[2] == pytest.approx(10.0)  # prompts against prompts, while IT power is not known
