"""Points of a knob move together; shares keep their sum; nothing leaves envelope and step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.moves import MOST_AWAY, knobs, shifted, traffic_away
from tests.control.hall import case

SHARE = st.floats(5.0, 60.0)


@given(st.tuples(SHARE, SHARE, SHARE), st.sampled_from(["A", "B", "C"]), st.floats(1.0, 100.0))
def test_shares_keep_their_sum_envelope_and_step(
    shares: tuple[float, float, float], hot: str, percent: float
) -> None:
    held = dict(zip(["A", "B", "C"], shares, strict=True))
    at = case({f"router/share.{r}": v for r, v in held.items()})
    cool = tuple(r for r in held if r != hot)
    changes = traffic_away(at.layout, at.snapshot, (hot,), cool, percent)
    if not changes:
        return
    assert [c.point for c in changes] == [f"router/share.{r}" for r in "ABC"]  # one change
    assert sum(c.new for c in changes) == pytest.approx(sum(shares), abs=1e-4)
    even = sum(shares) / 3
    for c in changes:
        row, old = c.point[-1], c.old or 0.0
        assert abs(c.new - old) <= 10.0 + 1e-4
        if row == hot:
            assert c.new <= old + 1e-4
            assert c.new >= min(old, (1 - MOST_AWAY) * even) - 1e-4
        else:
            assert old - 1e-4 <= c.new <= 60.0 + 1e-4


@given(st.floats(16.0, 27.0), st.floats(-5.0, 5.0))
def test_a_shift_stays_inside_envelope_and_step(value: float, size: float) -> None:
    at = case({"crac-a1/supply_c": value})
    knob = next(k for k in knobs(at.layout, ("supply_air",)) if k.row == "A")
    for change in shifted(knob, at.snapshot, size):
        assert 16.0 <= change.new <= 27.0
        assert abs(change.new - value) <= 1.0 + 2e-3  # rounded to a thousandth


def test_a_blind_knob_does_not_move() -> None:
    at = case({"crac-a1/supply_c": None})
    knob = next(k for k in knobs(at.layout, ("supply_air",)) if k.row == "A")
    assert shifted(knob, at.snapshot, 1.0) == ()


def test_traffic_shares_of_all_rows_are_one_knob() -> None:
    at = case()
    (knob,) = knobs(at.layout, ("traffic_shift",))
    assert {p.row for p in knob.points} == {"A", "B", "C"}
