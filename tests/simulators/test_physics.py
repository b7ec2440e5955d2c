"""Does the hall obey physics: energy, cube law, lift, recirculation, and what is dear."""

import numpy as np
import pytest

from simulators.hall import Hall
from simulators.hall.constants import CONSTANTS as K
from simulators.hall.constants import sources
from simulators.hall.layout import RACK_INDEX
from simulators.hall.weather import Weather, dew_point_c, moisture_kg_kg, wet_bulb_c
from tests.simulators.make import everywhere, run


def test_every_constant_says_where_it_comes_from() -> None:
    for name, (value, source) in sources().items():
        assert np.isfinite(value), name
        kind, _, text = source.partition(":")
        assert len(kind) > 1, name
        assert len(text.strip()) > 8, name


@pytest.mark.parametrize(
    "setpoints",
    [{}, everywhere(supply_c=23, fan_pct=60, pump_pct=70, water_c=14)],
    ids=["baseline", "warm"],
)
def test_energy_in_is_energy_out(setpoints: dict[str, float]) -> None:
    """What the hall takes in as heat leaves through the chilled water, within half a percent."""
    hall = Hall(step_s=15)
    hall.step(7200.0, setpoints)
    into = out = 0.0
    stored = float(hall.air.structure_c.sum())
    for _ in range(960):  # four hours
        hall.step(15.0, {})
        wall = K.envelope_kw_k * (hall.outdoor.dry_c - float(hall.air.structure_c.mean()))
        heat = hall.powers.it_kw + float(hall.air.fan_kw.sum() + hall.water.pump_kw.sum())
        into += heat + K.lights_kw + wall + hall.moisture.latent_kw
        out += hall.water.load_kw
    into -= (float(hall.air.structure_c.sum()) - stored) * K.structure_kj_k / 15.0
    assert out == pytest.approx(into, rel=0.005)


def test_fans_and_pumps_follow_the_cube_of_speed() -> None:
    hall = Hall()
    hall.step(600.0, everywhere(fan_pct=50, pump_pct=50))
    assert hall.air.fan_kw == pytest.approx(K.crac_fan_max_kw / 8, rel=1e-3)
    assert hall.water.pump_kw == pytest.approx(K.pump_max_kw / 8, rel=1e-3)


def test_the_fan_limit_caps_the_units_own_controller_and_100_releases_it() -> None:
    hall = Hall()
    hall.step(600.0, {})
    own = hall.air.fan.copy()
    assert ((own > 0.85) & (own < 0.97)).all()  # on return temperature, not at its stop
    hall.step(600.0, everywhere(fan_pct=70))
    assert hall.air.fan == pytest.approx(0.70, abs=1e-3)
    hall.step(1800.0, everywhere(fan_pct=100))
    assert hall.air.fan == pytest.approx(own, abs=0.02)


def test_warmer_water_lifts_cop_and_too_little_water_starves_the_coils() -> None:
    cold, warm = Hall(step_s=30), Hall(step_s=30)
    cold.step(7200.0, {})
    warm.step(7200.0, everywhere(water_c=12))
    # 5 K at 2.5 % a kelvin; some of it is lost or won by part load
    assert warm.water.cop / cold.water.cop == pytest.approx(np.exp(0.025 * 5), rel=0.03)
    starved = Hall(step_s=30)
    starved.step(7200.0, everywhere(fan_pct=60, pump_pct=50, water_c=18))
    assert (starved.air.supply_c > 20.0).all()  # the set point of 18 is out of reach
    assert (starved.air.valve > 0.99).all()


def test_inlets_rise_as_supply_falls_short_of_server_airflow() -> None:
    worst = []
    for fan in (90, 70, 60, 50, 45, 40):
        hall = Hall(step_s=30)
        hall.step(3600.0, everywhere(fan_pct=fan))
        worst.append(float(hall.air.inlet_c.max()))
    rises = np.diff(worst)
    assert (rises > 0).all()
    assert rises[-1] > 3 * rises[0]  # past the knee it gets dear quickly


def test_too_warm_is_dear_at_the_servers() -> None:
    hall, warm = Hall(step_s=30), Hall(step_s=30)
    hall.step(3600.0, {})
    warm.step(3600.0, everywhere(supply_c=27))
    assert warm.racks.fan_kw.sum() > 1.4 * hall.racks.fan_kw.sum()
    assert warm.racks.gpu_kw.sum() > 1.01 * hall.racks.gpu_kw.sum()


def test_liquid_cooled_racks_give_less_heat_to_the_air() -> None:
    hall = Hall()
    hall.step(60.0, {})
    rise = hall.air.outlet_c - hall.air.inlet_c
    assert rise[RACK_INDEX["B10"]] < 0.75 * rise[RACK_INDEX["B03"]]


def test_the_economizer_works_when_it_is_cold_outside() -> None:
    winter, summer = Hall(scenario="winter"), Hall(day=200)
    for hall in (winter, summer):
        hall.step(3600.0, {})
    assert winter.water.free_kw > 0.9 * winter.water.load_kw
    assert winter.water.chiller_kw < 0.2 * summer.water.chiller_kw
    assert summer.water.free_kw == 0.0


def test_cold_water_dries_a_damp_hall() -> None:
    cold, warm = Hall(day=200, step_s=30), Hall(day=200, step_s=30)
    cold.step(4 * 3600.0, everywhere(water_c=7))
    warm.step(4 * 3600.0, everywhere(water_c=16))
    assert cold.moisture.dew_point_c < warm.moisture.dew_point_c - 0.5


def test_weather_is_berlin_like() -> None:
    weather = Weather(K, 5)
    hours = [weather.at(h * 3600.0) for h in range(0, 8760, 3)]
    dry = np.asarray([o.dry_c for o in hours])
    assert dry.mean() == pytest.approx(K.year_mean_c, abs=0.5)
    assert dry.max() < 38
    assert dry.min() > -20
    assert all(o.wet_c <= o.dry_c and 0 < o.humidity_pct <= 100 for o in hours)
    # Stull (2011), his own example: 20 degC at 50 % is a wet bulb of 13.7 degC
    assert wet_bulb_c(20.0, 50.0) == pytest.approx(13.7, abs=0.05)
    assert dew_point_c(moisture_kg_kg(12.0, 100.0)) == pytest.approx(12.0, abs=0.01)


def test_steps_of_any_length_agree() -> None:
    fine, coarse = run(step_s=5), run(step_s=30)
    assert coarse["cooling_kwh"] == pytest.approx(fine["cooling_kwh"], rel=0.01)
    assert coarse["worst_inlet_c"] == pytest.approx(fine["worst_inlet_c"], abs=0.2)


def test_a_perfect_controller_could_save_an_eighth_and_a_careless_one_loses() -> None:
    """Head-room of the default day by one set of constants, with every limit held."""
    baseline = run(hours=24, step_s=60)
    good = run(
        everywhere(supply_c=22, fan_pct=60, pump_pct=70, water_c=15, window_ms=80),
        hours=24, step_s=60,
    )  # fmt: skip
    saving = 1 - good["wh_per_prompt"] / baseline["wh_per_prompt"]
    assert saving > 0.12
    assert good["minutes_over_limit"] == 0
    for careless in ({"supply_c": 22.0}, {"supply_c": 27.0}):
        worse = run(everywhere(**careless), hours=24, step_s=60)
        assert worse["wh_per_prompt"] > 1.02 * baseline["wh_per_prompt"], careless


@pytest.mark.parametrize("step_s", [5, 15, 60])
def test_chillers_take_over_where_free_cooling_ends_however_short_a_step(step_s: int) -> None:
    """Water left to the economizer, then called for at 7 degC on a day too warm for it."""
    hall = Hall(hours=30, step_s=step_s, seed=2)
    hall.step(3 * 3600.0, everywhere(water_c=22.0))
    assert hall.water.chillers == 0
    hall.step(3 * 3600.0, everywhere(water_c=7.0))
    assert hall.water.chillers >= 1
    assert hall.water.supply_c == pytest.approx(7.0, abs=0.2)
