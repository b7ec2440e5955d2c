"""Trouble is graded, each grade has its means, and cold is no trouble."""

from dataclasses import replace

import numpy as np
import pytest

from control import fast_loop
from control.decide import Setting, fast
from control.features import read_inlets, worst_inlets
from control.types import Finding, Proposal
from tests.control.hall import P, case, finding

TAU_FAST = 5.0


def wanted(found: dict[str, Finding], **values: float) -> list[Proposal]:
    at = case({k.replace("__", "/"): v for k, v in values.items()}, found)
    return fast_loop.proposals(at, fast_loop.troubles(at, TAU_FAST), "f1")


@pytest.mark.parametrize(
    ("state", "deviation", "heat", "grades"),
    [
        ("nominal", 1.0, 2.0, []),  # warm, and as it always is
        ("transient", 6.0, 2.0, [1]),
        ("persistent", 9.0, 2.0, [2]),
        ("persistent", 9.0, -3.0, []),  # over-cooled: the slow loop's to save in
        ("unknown", 9.0, 0.0, []),
    ],
)
def test_the_monitors_word_is_graded(
    state: str, deviation: float, heat: float, grades: list[int]
) -> None:
    at = case(findings={"row:B": finding("B", state, deviation, heat)})
    assert [t.grade for t in fast_loop.troubles(at, TAU_FAST)] == grades


def test_an_inlet_near_its_limit_is_trouble_whatever_the_monitor_says() -> None:
    for findings in ({}, {"row:B": finding("B", "nominal", 0.0, 0.0)}):
        at = case({"pdu-b/inlet_c.B01": 27.2}, findings)
        (trouble,) = fast_loop.troubles(at, None)
        assert (trouble.row, trouble.grade) == ("B", 3)


def test_deviation_alone_moves_traffic_only() -> None:
    moves = wanted({"row:B": finding("B", "transient", 6.0, 2.0)}, **{"pdu-b/inlet_c.B01": 25.0})
    assert {p.move for p in moves} == {"traffic_shift"}
    shares = {c.point: c.new - (c.old or 0.0) for p in moves for c in p.changes}
    assert shares["router/share.B"] < 0 < shares["router/share.A"]


def test_near_the_limit_everything_is_wanted_and_cooling_goes_to_its_safe_value() -> None:
    moves = wanted({}, **{"pdu-b/inlet_c.B01": 27.5})
    assert {p.move for p in moves} >= {"traffic_shift", "pre_cool_air", "admission"}
    cooling = {c.point: c.new for p in moves if p.move == "pre_cool_air" for c in p.changes}
    assert cooling == {"crac-b1/supply_c": 18.0, "crac-b1/fan_pct": 100.0}


@pytest.mark.parametrize(
    ("valve_pct", "colder"), [(50.0, False), (70.0, False), (70.1, True), (None, True)]
)
def test_the_halls_water_waits_while_the_rows_own_coils_have_cooling_in_hand(
    valve_pct: float | None, colder: bool
) -> None:
    more = (
        P("bms/water", "chilled_water_setpoint_c", "degC", None, None, True, 7, 18, 0.5, 7),
        P("crac-b1/valve", "valve_pct", "%", "B"),
        P("crac-a1/valve", "valve_pct", "%", "A"),
    )
    said = {"pdu-b/inlet_c.B01": 27.5, "bms/water": 14.0, "crac-b1/valve": valve_pct}
    at = case(said | {"crac-a1/valve": 90.0}, more=more)
    moves = fast_loop.proposals(at, fast_loop.troubles(at, TAU_FAST), "f1")
    assert {"pre_cool_air"} <= {p.move for p in moves}
    assert ("pre_cool_plant" in {p.move for p in moves}) is colder


def test_no_cooling_move_of_the_fast_loop_ever_goes_towards_risk() -> None:
    moves = wanted({"row:A": finding("A", "persistent", 9.0, 3.0)}, **{"pdu-a/inlet_c.A02": 27.9})
    for proposal in moves:
        for change in proposal.changes:
            if change.point.startswith("crac-") and change.old is not None:
                safer = -1 if "supply" in change.point else 1
                assert (change.new - change.old) * safer > 0, change


def test_what_a_silent_probe_may_have_risen_by_is_a_level_and_no_slope() -> None:
    """25 degC, not read for 20 s: it may be warmer by now, and nothing says that it rises."""
    at = case({"pdu-b/inlet_c.B01": 25.0})
    inlets = worst_inlets(at.layout, at.snapshot)
    state = replace(
        at.state, inlet_trend=np.column_stack([inlets, inlets]), trend_s=at.snapshot.now_s
    )
    silent = replace(at.snapshot, now_s=at.snapshot.now_s + 20.0, age_s=at.snapshot.age_s + 20.0,
                     values=np.full_like(at.snapshot.values, np.nan))  # fmt: skip
    after = fast(Setting.of(at.layout, None), silent, state, "f1")
    assert worst_inlets(at.layout, silent).max() >= 25.5
    assert read_inlets(at.layout, silent).max() == 25.0
    assert after.state.inlet_trend is not None
    assert np.array_equal(after.state.inlet_trend[:, 0], after.state.inlet_trend[:, 1])
