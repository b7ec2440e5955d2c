"""Reference controllers against plants whose best answer is known by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.plants.site import PlantError
from agent.references.cache import Cache
from agent.references.controllers import run_reference
from agent.references.policies import Scene, pid, trim_respond
from agent.references.run import play, play_all
from agent.references.trial import Trial
from agent.rehearse import Rehearsal, load_plant, rehearse
from tests.plants.tiny import TwoZones


def plan(plant: str = "TwoZones", hours: float = 24.0, **arguments: str) -> Rehearsal:
    return Rehearsal(f"tests.plants.tiny:{plant}", arguments, hours, "fixed")


def reference(name: str, *args: Any, **kwargs: str) -> dict[str, Any]:
    return run_reference(name, plan(*args, **kwargs))


@pytest.mark.parametrize(
    "case",
    [
        plan(hours=6),
        plan(hours=6, nan_every="5"),
        plan(hours=48, best_c="16,26"),
        plan("TwoZones", 10.0, end_h="3"),
        Rehearsal("hall", {"step_s": "60", "seed": "2"}, 1.0, "fixed"),
    ],
    ids=["plain", "blind", "two days", "ends", "hall"],
)
async def test_fixed_is_counted_as_the_rehearsal_counts_it(case: Rehearsal) -> None:
    agent = await rehearse(case)
    alone = run_reference("fixed", case)
    assert set(agent) <= set(alone)
    assert {k: alone[k] for k in agent if k != "wall_s"} == {k: v for k, v in agent.items() if k != "wall_s"}  # fmt: skip


def test_fixed_by_hand() -> None:
    result = reference("fixed", best_c="22")
    assert result["total_kwh"] == pytest.approx(24 * (100 + 2 * 16))
    assert result["daily_total_kwh"] == [pytest.approx(24 * 132)]
    assert result["wh_per_prompt"] is None
    assert result["worst_inlet_c"] == 21.0
    assert result["writes"] == 0


def test_a_plant_that_ends_is_counted_until_then() -> None:
    result = run_reference("fixed", plan("TwoZones", 100.0, end_h="7"))
    assert result["hours"] == 7.0


@pytest.mark.parametrize(("best_c", "found_c"), [("22", 22.0), ("15.5", 15.5), ("19.6", 19.5), ("10", 14.0)])  # fmt: skip
def test_best_constant_finds_the_minimum_in_half_kelvins(best_c: str, found_c: float) -> None:
    result = reference("best-constant", best_c=best_c)
    assert set(result["settings"].values()) == {found_c}
    assert len(result["settings"]) == 2
    kw = 100 + 2 * (found_c - float(best_c)) ** 2
    assert result["total_kwh"] == pytest.approx(24 * kw)
    assert result["captured"] == 1.0


def test_best_constant_keeps_the_limit_where_the_minimum_is_beyond_it() -> None:
    result = reference("best-constant", best_c="27")
    assert set(result["settings"].values()) == {25.0}  # zone = supply + 3 and 28 is the limit
    assert result["violation_steps"]["inlet"] == 0


def test_best_constant_where_the_baseline_is_best() -> None:
    result = reference("best-constant", best_c="18")
    assert result["captured"] is None
    assert result["total_kwh"] == pytest.approx(2400.0)


@pytest.mark.parametrize(("plant", "method"), [("TwoZones", "roll-outs"), ("Engine", "stitched")])
def test_oracle_follows_what_no_constant_can(plant: str, method: str) -> None:
    hours = "16,16,16,16,24,24,24,24"
    best = reference("best-constant", plant, best_c=hours)
    oracle = reference("oracle", plant, best_c=hours)
    assert best["total_kwh"] == pytest.approx(24 * (100 + 2 * 16), rel=0.001)
    assert oracle["method"] == method
    saved = best["total_kwh"] - oracle["total_kwh"]
    assert saved >= 0.8 * 24 * 32  # 32 kW lie between the best constant and the best schedule
    assert oracle["violation_steps"] == best["violation_steps"]


def test_on_a_plant_that_foresees_the_oracle_beats_the_best_constant(tmp_path: Path) -> None:
    hall, cache = Rehearsal("hall", {"step_s": "60"}, 2.0, "fixed"), Cache(tmp_path)
    fixed, best, oracle = (
        run_reference(name, hall, cache=cache) for name in ("fixed", "best-constant", "oracle")
    )
    assert best["total_kwh"] < 0.85 * fixed["total_kwh"]
    assert oracle["method"] == "roll-outs"
    assert oracle["total_kwh"] < best["total_kwh"]
    assert sum(oracle["violation_steps"].values()) == 0


def test_trim_and_respond_by_hand() -> None:
    plant = TwoZones()
    act = trim_respond(Scene(tuple(plant.points()), 28.0))
    cold = {"east/zone_c": 21.0, "west/zone_c": 21.0}
    east, west = "east/supply_air_setpoint_c", "west/supply_air_setpoint_c"
    assert act(0.0, {}) == {}
    assert act(599.0, cold) == {}  # Td: 10 minutes after the start
    assert act(600.0, cold) == {east: pytest.approx(18.1), west: pytest.approx(18.1)}
    assert act(700.0, cold) == {}  # T: every 2 minutes
    assert act(720.0, cold)[east] == pytest.approx(18.2)
    # 28.5 is 2.5 K above where requests begin (2 K below the limit): 3 requests, 0.6 K at most.
    warm = act(840.0, {"east/zone_c": 28.5, "west/zone_c": 26.5})
    assert warm == {east: pytest.approx(17.6), west: pytest.approx(18.0)}
    blind = act(960.0, {"east/zone_c": float("nan")})
    assert blind[east] == pytest.approx(17.7)


def test_pi_settles_the_worst_probe_below_the_limit() -> None:
    played = play(Trial(plan(hours=48), "pid"))
    assert played.result["worst_inlet_c"] == pytest.approx(26.5, abs=0.3)
    assert played.over == 0


def test_pi_stays_where_it_is_when_blind() -> None:
    act = pid(Scene(tuple(TwoZones().points()), 28.0))
    assert act(0.0, {"east/zone_c": float("nan")}) == {}


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        ("SaysAList", "not a mapping"),
        ("UnknownQuantity", "unknown quantity 'warmth'"),
        ("Boundless", "needs min and max"),
        ("StandsStill", "step_s"),
        ("Nobody", "Nobody"),
    ],
)
@pytest.mark.parametrize("name", ["fixed", "trim-respond", "best-constant", "oracle"])
def test_a_plant_that_breaks_the_contract_is_told_so(plant: str, says: str, name: str) -> None:
    with pytest.raises(PlantError, match=says):
        reference(name, plant)


def test_nothing_to_search() -> None:
    with pytest.raises(PlantError, match="no knob"):
        reference("best-constant", "Knobless")
    assert reference("trim-respond", "Knobless")["writes"] == 0


def test_unknown_names_and_arguments() -> None:
    with pytest.raises(ValueError, match="one of fixed"):
        run_reference("magic", plan())
    with pytest.raises(PlantError, match="unexpected keyword"):
        load_plant("tests.plants.tiny:TwoZones", {"colour": "red"})


def test_finished_runs_are_remembered_and_damaged_ones_made_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    first = run_reference("best-constant", plan(), cache=cache)
    stepped = TwoZones.stepped
    again = run_reference("best-constant", plan(), cache=cache)
    assert TwoZones.stepped == stepped
    assert {k: v for k, v in again.items() if k != "wall_s"} == {k: v for k, v in first.items() if k != "wall_s"}  # fmt: skip
    for file in tmp_path.iterdir():
        file.write_text('{"result": 1', encoding="utf-8")
    assert run_reference("best-constant", plan(), cache=cache)["total_kwh"] == first["total_kwh"]
    assert TwoZones.stepped > stepped


def test_a_file_of_known_runs_spares_them(tmp_path: Path) -> None:
    """Those of the same code and arguments; others are run."""
    made = Cache(tmp_path / "here")
    first = run_reference("best-constant", plan(), cache=made)
    known = tmp_path / "known.json"
    known.write_text(json.dumps(dict([made.named("best-constant", plan())])), encoding="utf-8")
    elsewhere, stepped = Cache(tmp_path / "there", known), TwoZones.stepped
    again = run_reference("best-constant", plan(), cache=elsewhere)
    assert again["total_kwh"] == first["total_kwh"]
    assert TwoZones.stepped == stepped
    run_reference("best-constant", plan(best_c="23"), cache=elsewhere)
    assert TwoZones.stepped > stepped
    with pytest.raises(KeyError, match="was never run"):
        elsewhere.named("oracle", plan())


def test_another_argument_is_another_run(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for best_c, kw in (("18", 100.0), ("22", 132.0)):
        got = play_all([Trial(plan(best_c=best_c))], cache)[0]
        assert got.result["total_kwh"] == pytest.approx(24 * kw)


def test_processes_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.references.run._WORTH_PROCESSES_S", 0.0)
    trials = [Trial(plan(hours=2), "constant", {"east/supply_air_setpoint_c": v}) for v in (20.0, 21.0, 24.0)]  # fmt: skip
    alone, spread = play_all(trials, None), play_all(trials, None, workers=2)
    assert [p.hours_kwh for p in alone] == [p.hours_kwh for p in spread]
    assert alone[0].hours_kwh == [pytest.approx(120.0), pytest.approx(120.0)]
