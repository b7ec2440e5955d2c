"""The gate on a hall's probes: a flat line is not nominal, and a warm place does not vanish."""

from dataclasses import replace

import numpy as np
import pytest

from agent.plants.site import plant_site
from agent.rehearse import load_plant
from control import decide, quality
from control.alarms import Severity
from control.causes import Facts, causes
from control.decide import Setting
from control.guardrails import objections
from control.layout import Layout
from control.modes import initial
from control.sensors import NOT_SCORED, Looked, Probes, believed, look
from control.state import ControlState
from control.types import Change, Proposal, Snapshot

STEP_S = 30.0


@pytest.fixture(scope="module")
def layout() -> Layout:
    return Layout(plant_site(load_plant("hall", {"seed": "1"}).points(), 5.0))


def swinging(layout: Layout, ticks: int, seed: int = 0) -> np.ndarray:
    """Snapshots' values (ticks, points): every inlet and outlet swings with its row."""
    rng = np.random.default_rng(seed)
    t = np.arange(ticks) * STEP_S
    x = np.full((ticks, len(layout.index)), 50.0)
    for p in layout.site.points.values():
        if p.quantity in ("inlet_c", "outlet_c") and p.rack:
            level = 21.0 if p.quantity == "inlet_c" else 33.0
            wave = level + 1.2 * np.sin(2 * np.pi * t / 5400)
            x[:, layout.index[p.key]] = np.round(wave + rng.normal(0, 0.1, ticks), 1)
    return x


def run(layout: Layout, x: np.ndarray) -> tuple[Probes, list[Looked], list[Snapshot]]:
    probes, looked, seen, shots = Probes.of(layout), None, [], []
    for i, row in enumerate(x):
        known = ~np.isnan(row)
        shots.append(
            Snapshot(1e9 + i * STEP_S, layout.index, row, row, np.where(known, 0.0, np.inf))
        )
        looked = look(probes, looked, shots[-1])
        seen.append(looked)
    return probes, seen, shots


def key(layout: Layout, rack: str, quantity: str) -> str:
    return next(
        p.key for p in layout.site.points.values() if (p.rack, p.quantity) == (rack, quantity)
    )


def test_honest_probes_are_scored(layout: Layout) -> None:
    x = swinging(layout, 400)
    x[:, layout.index[key(layout, "A01", "inlet_c")]] = np.nan  # one was never read
    probes, seen, shots = run(layout, x)
    assert len(probes.keys) == 144
    assert {v for s in seen for v in s.suspect} == set()
    assert believed(seen[-1], shots[-1]) is shots[-1]


def test_a_flat_line_while_its_row_moves_is_not_scored_and_calls_after_a_while(
    layout: Layout,
) -> None:
    x, stuck = swinging(layout, 400), key(layout, "B05", "inlet_c")
    x[100:, layout.index[stuck]] = x[100, layout.index[stuck]]
    _probes, seen, shots = run(layout, x)
    assert list(seen[-1].suspect) == [stuck]
    assert seen[-1].suspect[stuck][0] == "stuck"
    masked = believed(seen[-1], shots[-1])
    assert np.isnan(masked.value(stuck) or np.nan)
    assert np.isnan(masked.values).sum() == 1
    assert not np.isnan(shots[-1].values).any(), "the snapshot itself is left alone"
    state = ControlState(initial(layout.site, None), looked=seen[-1])
    [cause] = [
        c
        for c in causes(layout, shots[-1], state, Facts({}, 10), frozenset())
        if c.id == f"probe:{stuck}"
    ]
    assert cause.severity is Severity.LOW
    assert "stuck" in cause.text


def test_one_jump_waits_for_a_second_reading(layout: Layout) -> None:
    x, jumps = swinging(layout, 60), key(layout, "C03", "outlet_c")
    x[40, layout.index[jumps]] += 25.0
    _, seen, _ = run(layout, x)
    assert [i for i, s in enumerate(seen) if jumps in s.suspect] == [40]
    assert seen[40].suspect[jumps][0] == "jumping"


def test_a_place_that_really_warms_is_named_and_still_scored(layout: Layout) -> None:
    assert quality.DRIFTING not in NOT_SCORED
    ticks = int(1.6 * 86_400 / STEP_S)
    x, warm = swinging(layout, ticks), key(layout, "D04", "inlet_c")
    at = layout.index[warm]
    begin = int(1.2 * 86_400 / STEP_S)
    x[begin:, at] += np.minimum(np.arange(ticks - begin) * STEP_S / 3600, 3.0)
    _probes, seen, shots = run(layout, x)
    assert seen[-1].suspect[warm][0] == "drifting"
    assert believed(seen[-1], shots[-1]) is shots[-1]


def test_the_decision_path_keeps_the_gates_memory(layout: Layout) -> None:
    setting, state = Setting.of(layout, None), ControlState(initial(layout.site, None))
    x = swinging(layout, 3)
    for i, row in enumerate(x):
        shot = Snapshot(1e9 + i * STEP_S, layout.index, row, row, np.zeros(len(row)))
        state = decide.observe(setting, shot, replace(state))
    assert state.looked is not None
    assert (state.looked.state.code == quality.GOOD).all()


def test_suspect_probes_are_no_evidence_for_a_move_towards_risk(layout: Layout) -> None:
    x = swinging(layout, 400)
    for i in range(1, 5):  # four of the twelve racks of row B
        at = layout.index[key(layout, f"B{i:02}", "inlet_c")]
        x[100:, at] = x[100, at]
    _, seen, shots = run(layout, x)
    setting, shot = Setting.of(layout, None), shots[-1]
    supply = "crac-b1/supply_air_setpoint_c"
    shot.values[layout.index[supply]] = 18.0
    for looked, fresh in ((seen[99], True), (seen[-1], False)):
        case = setting.case(shot, ControlState(initial(layout.site, None), looked=looked))
        risky = Proposal("x", "slow", "supply_air", (Change(supply, 18.0, 19.0),), "")
        against = [o for o in objections(case, risky) if o.startswith("freshness")]
        assert bool(against) is not fresh
        assert fresh or "4 of 12 inlets" in against[0]
        cooler = replace(risky, changes=(Change(supply, 18.0, 17.0),))
        assert not [o for o in objections(case, cooler) if o.startswith("freshness")]
