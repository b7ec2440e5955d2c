"""IMS: what D(x) is, who gets the blame, and that a missing value is never called well."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from control import ims
from control.ims_model import ImsModel, ModelError, signed

NAMES = ("inlet_c", "outlet_c", "pdu_kw")


def make(**changes: object) -> ImsModel:
    base: dict[str, object] = {
        "features": NAMES,
        "offset": np.array([22.0, 35.0, 8.0]),
        "transform": np.diag([1.0, 0.5, 2.0]),
        "centres": np.array([[0.0, 0.0, 0.0], [10.0, 0.0, 0.0]]),
        "half_widths": np.array([[1.0, 1.0, 1.0], [0.5, 1.0, 1.0]]),
        "support": np.array([0.7, 0.3]),
        "tau_fast": 1.0,
        "tau_persist": 2.0,
        "low": np.array([20.0, 30.0, 5.0]),
        "high": np.array([24.0, 40.0, 11.0]),
    }
    return signed(ImsModel(**(base | changes)))  # type: ignore[arg-type]


def test_inside_a_region_is_exactly_zero() -> None:
    scores = ims.score(make(), np.array([[22.5, 36.9, 7.6], [32.0, 35.0, 8.0]]))
    assert scores.deviation.tolist() == [0.0, 0.0]
    assert not scores.contributions.any()
    assert not scores.unknown.any()


def test_distance_is_to_the_nearest_region_and_blames_the_right_feature() -> None:
    model = make()
    scores = ims.score(model, np.array([[22.0, 35.0, 8.0 + 2.5], [32.0 + 3.5, 35.0 + 6.0, 8.0]]))
    # 2.5 kW is z = 5, 4 outside of the box; 3.5 K over the second region is 3 out, 6 K is z 3, 2 out
    assert scores.deviation == pytest.approx([4.0, (3.0**4 + 2.0**4) ** 0.25])
    assert ims.top_contributors(model, scores, 0) == (("pdu_kw", 1.0),)
    top = ims.top_contributors(model, scores, 1)
    assert [name for name, _ in top] == ["inlet_c", "outlet_c"]
    assert [share for _, share in top] == pytest.approx([81 / 97, 16 / 97])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("column", range(3))
def test_a_value_that_is_missing_or_absurd_is_unknown(bad: float, column: int) -> None:
    x = np.array([[22.0, 35.0, 8.0], [22.0, 35.0, 80.0]])
    x[0, column] = bad
    scores = ims.score(make(), x)
    assert scores.unknown.tolist() == [True, False]
    assert np.isnan(scores.deviation[0])
    assert scores.deviation[1] > 100


def test_each_unit_is_measured_from_its_own_offset() -> None:
    model = make(units=("A01", "A02"), unit_offsets=np.array([[0.0, 0, 0], [3.0, 0, 0]]))
    x = np.array([[22.0, 35.0, 8.0], [25.0, 35.0, 8.0]])
    assert ims.score(model, x).deviation.tolist() == [0.0, 0.0]
    swapped = ims.score(model, x, ims.unit_rows(model, ["A02", "stranger"]))
    assert swapped.deviation == pytest.approx([2.0, 2.0])


def test_the_moving_mean_is_causal_and_survives_a_gap() -> None:
    model = make(smooth_alpha=0.5)
    state = ims.start(model, 1)
    rows = [[22.0, 35.0, 8.0], [22.0, np.nan, 8.0], [26.0, 35.0, 8.0]]
    unknown = []
    for row in rows:
        state, scores = ims.observe(model, state, np.array([row]))
        unknown.append(bool(scores.unknown[0]))
    assert unknown == [False, True, False]
    # in scaled space: it starts at the nearest centre, 0, and goes half of the way to 4
    assert state.mean.tolist() == [[2.0, 0.0, 0.0]]
    assert scores.deviation == pytest.approx([1.0])


def test_one_reading_does_not_outweigh_what_was_learned() -> None:
    model = make(smooth_alpha=0.1)
    state, scores = ims.observe(model, ims.start(model, 1), np.array([[29.0, 35.0, 8.0]]))
    assert state.mean[0, 0] == pytest.approx(9.7)  # from the region at 10, not from 7
    assert scores.deviation.tolist() == [0.0]


@pytest.mark.parametrize("freak", [1e3, 1e9, -1e29])
def test_one_freak_row_never_reaches_tau_persist_and_is_soon_forgotten(freak: float) -> None:
    one = {"centres": np.zeros((1, 3)), "half_widths": np.ones((1, 3)), "support": np.ones(1)}
    model = make(smooth_alpha=0.2, **one)
    state = ims.start(model, 1)
    seen = []
    for inlet in [22.0] * 5 + [freak] + [22.0] * 10:
        state, scores = ims.observe(model, state, np.array([[inlet, 35.0, 8.0]]))
        seen.append(float(scores.deviation[0]))
    assert seen[:5] == [0.0] * 5
    assert 0.0 < max(seen) <= model.tau_persist + 1e-9
    assert seen[-1] == 0.0


def test_drift_is_followed_only_where_it_may_be_and_only_so_far() -> None:
    model = make(smooth_alpha=1.0, drift_alpha=0.2, drift_cap=0.75)
    state = ims.start(model, 3)
    x = np.array([[22.9, 35.0, 8.0], [22.9, 35.0, 8.0], [27.0, 35.0, 8.0]])
    for _ in range(40):
        state, scores = ims.observe(model, state, x, learn=np.array([True, False, True]))
    assert state.drift[:, 0] == pytest.approx([0.75, 0.0, 0.0])
    assert scores.deviation == pytest.approx([0.0, 0.0, 4.0])


@pytest.mark.parametrize(("dt_s", "rows"), [(2.5, 4), (5.0, 2), (10.0, 1), (60.0, 1), (0.0, 1)])
def test_the_moving_mean_spans_the_same_time_however_often_it_is_asked(
    dt_s: float, rows: int
) -> None:
    """After 10 s of a step, or after one row where rows come no faster, it is where it was trained to be."""
    model = make(smooth_alpha=0.3, drift_alpha=0.1, drift_cap=9.0, row_s=10.0)
    state = replace(ims.start(model, 1), mean=np.zeros((1, 3)))
    for _ in range(rows):
        state, _ = ims.observe(ims.paced(model, dt_s), state, np.array([[23.0, 35.0, 8.0]]))
    assert state.mean[0] == pytest.approx([0.3, 0.0, 0.0])
    assert ims.paced(make(), dt_s).smooth_alpha == 1.0, "of unknown spacing: as it is"


def test_context_is_not_judged_but_explains() -> None:
    """A colder supply setpoint moves the inlet one to one: no deviation; a warm inlet alone is one."""
    transform = np.array([[1.0, 0, 0], [0, 1.0, 0], [-1.0, 0, 0]])
    model = make(
        features=("inlet_c", "pdu_kw", "supply_air_setpoint_c"),
        offset=np.array([22.0, 8.0, 18.0]),
        transform=transform,
        context=("supply_air_setpoint_c",),
    )
    x = np.array([[24.5, 8.0, 20.5], [24.5, 8.0, 18.0], [24.5, 8.0, np.nan]])
    scores = ims.score(model, x)
    assert scores.deviation[:2] == pytest.approx([0.0, 1.5])
    assert scores.unknown.tolist() == [False, False, True]
    assert ims.top_contributors(model, scores, 1) == (("inlet_c", 1.0),)


def test_score_leaves_its_input_alone() -> None:
    x = np.array([[22.0, np.nan, 8.0]])
    before = x.copy()
    ims.observe(make(), ims.start(make(), 1), x)
    ims.score(make(), x)
    assert np.array_equal(x, before, equal_nan=True)


def test_wrong_widths_and_lost_features_are_named() -> None:
    with pytest.raises(ValueError, match="inlet_c, outlet_c, pdu_kw"):
        ims.score(make(), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="pdu_kw"):
        ims.feature_columns(make(), ["inlet_c", "outlet_c"])
    assert ims.feature_columns(make(), ["pdu_kw", "x", "outlet_c", "inlet_c"]).tolist() == [3, 2, 0]


def test_a_model_comes_back_from_json_to_the_bit() -> None:
    model = make(trained_on={"source": "test", "rows": 3})
    back = ImsModel.from_dict(json.loads(json.dumps(model.to_dict())))
    x = np.random.default_rng(1).normal(25, 9, (50, 3))
    assert back.id == model.id
    assert np.array_equal(ims.score(model, x).deviation, ims.score(back, x).deviation)


HOSTILE = [
    ("features", ["a", "b"]),
    ("features", ["a", "a", "b"]),
    ("features", []),
    ("features", [1, 2, 3]),
    ("offset", [1.0, 2.0]),
    ("offset", [1.0, 2.0, True]),
    ("offset", [1.0, 2.0, "3"]),
    ("offset", [1.0, 2.0, float("nan")]),
    ("offset", [1.0, 2.0, 10**400]),
    ("transform", [[1.0, 0, 0], [0, 1.0, 0]]),
    ("centres", []),
    ("half_widths", [[1.0, 1.0, -1.0], [1.0, 1.0, 1.0]]),
    ("support", []),
    ("support", [0.1] * 513),
    ("tau_fast", 0.0),
    ("tau_persist", 0.5),
    ("tau_fast", None),
    ("tau_persist", float("inf")),
    ("tau_persist", float("nan")),
    ("smooth_alpha", 0.0),
    ("smooth_alpha", 1.1),
    ("units", ["a", "a"]),
    ("unit_offsets", [[0.0, 0.0, 0.0]]),
    ("trained_on", []),
    ("trained_on", {"a": [1]}),
    ("format", 2),
    ("format", True),
    ("id", "0" * 16),
    ("low", [99.0, 99.0, 99.0]),
]


@pytest.mark.parametrize(("key", "value"), HOSTILE)
def test_a_hostile_model_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(ModelError, match=key):
        ImsModel.from_dict(make().to_dict() | {key: value})


@pytest.mark.parametrize("document", [None, [], "x", 3, {}, {"format": 1}])
def test_what_is_no_model_is_refused(document: object) -> None:
    with pytest.raises(ModelError):
        ImsModel.from_dict(document)


def test_one_changed_digit_is_noticed() -> None:
    document = make().to_dict()
    document["tau_persist"] = 2.5
    with pytest.raises(ModelError, match="id"):
        ImsModel.from_dict(document)


@settings(max_examples=100, deadline=None)
@given(arrays(np.float64, (4, 3), elements=st.floats(width=64)), st.integers(1, 5))
def test_whatever_comes_in_a_score_is_a_number_or_unknown(x: np.ndarray, rows: int) -> None:
    """Any 64-bit floats at all, several times: no warning, no infinity, unknown iff not usable."""
    model = make(drift_alpha=0.1, drift_cap=1.0, smooth_alpha=0.5)
    usable = (np.abs(x) < ims.ABSURD).all(axis=1)
    scores = ims.score(model, x)
    state = ims.start(model, 4)
    for _ in range(rows):
        state, live = ims.observe(model, state, x, learn=np.ones(4, dtype=np.bool_))
        for got in (scores, live):
            assert np.array_equal(got.unknown, ~usable)
            assert np.array_equal(np.isnan(got.deviation), ~usable)
            assert (got.deviation[usable] >= 0).all()
            assert np.isfinite(got.deviation[usable]).all()
            total = got.contributions.sum(axis=1)
            assert ((np.abs(total - 1) < 1e-9) | (total == 0)).all()
        assert (np.abs(state.drift) <= model.drift_cap).all()
