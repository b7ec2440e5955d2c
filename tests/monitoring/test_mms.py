"""MMS: what makes a deviation persistent, what does not, and how it ends."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from control import mms
from control.mms import NOMINAL, PERSISTENT, TRANSIENT, UNKNOWN, MmsParams, MmsState

FAST, PERSIST = 1.0, 1.2
PARAMS = MmsParams()


def drive(values: list[float], held: bool = False, state: MmsState | None = None) -> list[MmsState]:
    """One unit through a list of scores, one a second; NaN is a missing one."""
    state = state or mms.start(1, -1.0)
    out = []
    for t, value in enumerate(values):
        d = np.array([value])
        state = mms.step(PARAMS, state, d, np.isnan(d), FAST, PERSIST, float(t), np.array([held]))
        out.append(state)
    return out


def codes(states: list[MmsState]) -> list[int]:
    return [int(s.state[0]) for s in states]


def test_before_the_first_score_a_unit_is_unknown() -> None:
    assert mms.start(2, 0.0).state.tolist() == [UNKNOWN, UNKNOWN]


def test_nominal_stays_nominal() -> None:
    assert set(codes(drive([0.0, 0.3, 0.5, 0.9] * 20))) == {NOMINAL}


def test_a_step_goes_through_transient_to_persistent_and_back_early() -> None:
    seen = codes(drive([0.2] * 5 + [3.0] * 20 + [0.0] * 12))
    assert seen[:5] == [NOMINAL] * 5
    assert seen[5] == TRANSIENT or seen[6] == TRANSIENT
    first = seen.index(PERSISTENT)
    assert 5 + PARAMS.persist_ticks - 1 <= first <= 5 + PARAMS.persist_ticks + 2
    assert set(seen[first:25]) == {PERSISTENT}
    # the slow EMA alone falls below the level after four rows more than the fast one
    assert seen[25:].index(NOMINAL) <= PARAMS.clear_ticks + 1
    assert PERSISTENT not in seen[32:]


def test_one_freak_value_is_never_persistent() -> None:
    seen = codes(drive([0.2] * 10 + [1e6] + [0.2] * 60))
    assert PERSISTENT not in seen
    assert TRANSIENT in seen


def test_hysteresis_does_not_flap_at_the_threshold() -> None:
    rng = np.random.default_rng(3)
    values = [*[3.0] * 20, *(FAST + rng.normal(0, 0.02, 200))]
    seen = codes(drive([float(v) for v in values]))
    assert sum(a != b for a, b in itertools.pairwise(seen[20:])) <= 1


def test_relief_a_fault_that_ended_and_left_something_behind_is_transient() -> None:
    seen = codes(drive([20.0] * 20 + [2.0] * (PARAMS.relief_ticks + 20)))
    fell = 20 + seen[20:].index(TRANSIENT)
    assert fell <= 20 + 10
    again = fell + seen[fell:].index(PERSISTENT)  # still there: it is a fault of its own
    assert PARAMS.relief_ticks - 2 <= again - fell <= PARAMS.relief_ticks + 2
    assert set(seen[again:]) == {PERSISTENT}


def test_relief_ends_at_once_when_the_deviation_grows_again() -> None:
    seen = codes(drive([20.0] * 20 + [2.0] * 20 + [20.0] * 20))
    assert TRANSIENT in seen[20:40]
    assert PERSISTENT in seen[40 : 40 + PARAMS.persist_ticks + 4]


def test_missing_values_are_unknown_and_forget_nothing() -> None:
    states = drive([3.0] * 20 + [np.nan] * 50 + [3.0])
    assert codes(states)[20:70] == [UNKNOWN] * 50
    assert int(states[50].latent[0]) == PERSISTENT
    assert codes(states)[70] == PERSISTENT


def test_a_nan_score_not_marked_unknown_is_unknown_all_the_same() -> None:
    nan = np.array([np.nan])
    state = mms.step(PARAMS, mms.start(1, 0.0), nan, np.array([False]), FAST, PERSIST, 1.0)
    assert state.state[0] == UNKNOWN


def test_hold_off_raises_nothing_and_leaves_nothing_behind() -> None:
    states = drive([0.2] * 5 + [5.0] * 200, held=True)
    assert set(codes(states)) == {NOMINAL}
    assert codes(drive([0.2] * 20, state=states[-1])) == [NOMINAL] * 20


def test_hold_off_does_not_clear_what_was_persistent_before() -> None:
    before = drive([3.0] * 20)[-1]
    assert set(codes(drive([3.0] * 30, held=True, state=before))) == {PERSISTENT}


def test_since_is_when_the_state_changed() -> None:
    states = drive([0.2] * 5 + [3.0] * 20)
    first = codes(states).index(PERSISTENT)
    assert states[-1].since_s[0] == float(first)


def test_units_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(7)
    values = rng.lognormal(0, 0.6, (300, 5))
    values[rng.random(values.shape) < 0.1] = np.nan
    together, alone = mms.start(5, 0.0), [mms.start(1, 0.0) for _ in range(5)]
    for t, d in enumerate(values):
        together = mms.step(PARAMS, together, d, np.isnan(d), FAST, PERSIST, float(t))
        for u in range(5):
            one = d[u : u + 1]
            alone[u] = mms.step(PARAMS, alone[u], one, np.isnan(one), FAST, PERSIST, float(t))
            assert alone[u].state[0] == together.state[u]
            assert alone[u].evidence[0] == together.evidence[u]
    assert set(together.state) <= {0, 1, 2, 3}


def test_an_old_state_is_never_changed() -> None:
    old = drive([3.0] * 20)[-1]
    copies = {name: getattr(old, name).copy() for name in ("ema", "over", "state", "evidence")}
    mms.step(PARAMS, old, np.array([0.0]), np.array([False]), FAST, PERSIST, 99.0)
    for name, copy in copies.items():
        assert np.array_equal(getattr(old, name), copy)


def test_why_speaks_with_the_numbers() -> None:
    persistent = drive([3.0] * 20)[-1]
    assert "tau_persist 1.2" in mms.explain(PARAMS, persistent, 0, FAST, PERSIST)
    gone = drive([np.nan], state=persistent)[-1]
    assert mms.explain(PARAMS, gone, 0, FAST, PERSIST) == (
        "an input is missing; persistent when last known"
    )


def test_resize_keeps_units_by_name_and_starts_new_ones_unknown() -> None:
    old = drive([3.0] * 20)[-1]
    new = mms.resize(old, np.array([-1, 0], dtype=np.intp), 50.0)
    assert new.state.tolist() == [UNKNOWN, PERSISTENT]
    assert new.since_s[0] == 50.0


@pytest.mark.parametrize(
    ("name", "value"),
    [("alpha", 0.0), ("alpha", 1.5), ("clear", 0.0), ("persist_ticks", 0), ("evidence", -1.0)],
)
def test_parameters_without_meaning_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        MmsParams(**{name: value})  # type: ignore[arg-type]


@settings(max_examples=80, deadline=None)
@given(
    arrays(np.float64, (30, 3), elements=st.floats(0, 1e12) | st.just(np.nan)),
    arrays(np.bool_, (30, 3)),
)
def test_whatever_the_scores_the_state_machine_keeps_its_promises(
    scores: np.ndarray, held: np.ndarray
) -> None:
    state = mms.start(3, 0.0)
    for t, (d, h) in enumerate(zip(scores, held, strict=True)):
        new = mms.step(PARAMS, state, d, np.isnan(d), FAST, PERSIST, float(t), h)
        assert np.array_equal(new.state == UNKNOWN, np.isnan(d))
        raised = (new.latent == PERSISTENT) & (state.latent != PERSISTENT)
        assert not (raised & (h | np.isnan(d))).any()
        assert (new.over[raised] >= PARAMS.persist_ticks).all()
        assert (new.evidence[raised] >= PARAMS.evidence).all()
        assert (new.since_s == np.where(new.state == state.state, state.since_s, t)).all()
        assert (new.latent != UNKNOWN).all()
        state = new
