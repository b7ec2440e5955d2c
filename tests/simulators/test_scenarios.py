"""Overlays compose, start and stop; scenarios do to the hall what they say."""

import numpy as np
import pytest

from simulators.hall import Hall
from simulators.hall.conditions import NAMES, Conditions
from simulators.hall.layout import RACK_INDEX
from simulators.hall.overlays import Overlays, ramp
from simulators.scenarios import OVERLAYS, SCENARIOS
from tests.simulators.make import everywhere, run


@pytest.mark.parametrize("name", sorted(OVERLAYS))
def test_every_overlay_names_fields_and_places_that_exist(name: str) -> None:
    conditions = Conditions()
    for effect in OVERLAYS[name].effects:
        assert effect.field in NAMES
        conditions.add(effect.field, effect.where, effect.value)
    assert any(getattr(conditions, field).any() for field in NAMES)
    conditions.clear()
    assert not any(getattr(conditions, field).any() for field in NAMES)


def test_every_planned_overlay_exists() -> None:
    assert {p.overlay for s in SCENARIOS.values() for p in s.overlays} <= set(OVERLAYS)


def test_ramps() -> None:
    assert [ramp(t, 10, 100, 20) for t in (0, 10, 20, 50, 100, 110, 130)] == [
        0, 0, 0.5, 1, 1, 0.5, 0,
    ]  # fmt: skip
    assert [ramp(t, 10, 15, 20) for t in (15, 17.5, 20)] == [0.25, 0.125, 0]
    assert [ramp(t, 10, 15, 0) for t in (9, 10, 14.9, 15)] == [0, 1, 1, 0]


def test_overlays_add_up_and_can_be_stopped() -> None:
    overlays, at = Overlays((), 0.0), Conditions()
    overlays.start("blanking_panel", 0.0)
    overlays.start("crac_failure", 0.0, 100.0)
    overlays.start("crac_failure", 50.0, 100.0)  # extended, not doubled
    overlays.apply(60.0, at)
    assert at.rack_recirculation[RACK_INDEX["A07"]] == pytest.approx(0.18)
    assert at.crac_off.sum() == 1.0
    assert overlays.running(149.0) == ["blanking_panel", "crac_failure"]
    assert overlays.stop("blanking_panel", 70.0)
    assert not overlays.stop("blanking_panel", 80.0)
    overlays.apply(151.0, at)
    assert not at.rack_recirculation.any()
    assert not at.crac_off.any()
    with pytest.raises(KeyError):
        overlays.start("nope", 0.0)


def test_heat_spike_makes_row_c_clearly_hotter_and_passes() -> None:
    hall = Hall(scenario="heat-spike")
    hall.step(19 * 60.0, {})
    before = hall.air.inlet_c.copy()
    hall.step(30 * 60.0, {})
    rise = hall.air.inlet_c - before
    hot = [RACK_INDEX[r] for r in ("C05", "C06")]
    assert (rise[hot] > 5.0).all()
    others = np.delete(rise, slice(24, 36))
    assert (np.abs(others) < 1.0).all()
    assert 9.0 < hall.racks.pdu_kw[hot].min() < hall.racks.pdu_kw[hot].max() < 12.0
    hall.step(50 * 60.0, {})
    assert hall.air.inlet_c[hot] == pytest.approx(before[hot], abs=0.5)


def test_heat_spike_in_a_warm_hall_breaks_the_limit_unless_row_c_is_helped() -> None:
    """Physics allows to hold it: the row's own cooling at full, and some traffic elsewhere."""
    warm = everywhere(supply_c=22, fan_pct=60, pump_pct=70, water_c=14)
    assert run(warm, scenario="heat-spike")["minutes_over_limit"] > 30
    hall = Hall(scenario="heat-spike", hours=2, step_s=10)
    hall.step(24 * 60.0, warm)
    help_c = {f"crac-c{i}/supply_air_setpoint_c": 18.0 for i in (1, 2)}
    help_c |= {f"crac-c{i}/fan_rpm_setpoint_pct": 100.0 for i in (1, 2)}
    help_c |= {"pump-c/pump_rpm_setpoint_pct": 100.0, "router/traffic_share_pct.C": 10.0}
    help_c |= {f"router/traffic_share_pct.{r}": 18.0 for r in "ABDEF"}
    hall.step(10.0, help_c)
    while not hall.over:
        hall.step(10.0, {})
    assert hall.truth()["minutes_over_limit"] == 0


def test_over_cooled_row_e_is_colder_and_its_fans_are_higher() -> None:
    hall = Hall(scenario="over-cooled")
    readings = hall.step(5.0, {})
    inlet = {r: readings[f"bms/zone_c.{r}"] for r in "ABCDEF"}
    fans = {r: readings[f"crac-{r.lower()}1/fan_rpm_pct"] for r in "ABCDEF"}
    assert inlet["E"] < min(inlet[r] for r in "ABCDF") - 0.4
    assert fans["E"] > max(fans[r] for r in "ABCDF") + 5
    assert hall.setpoints.baseline["crac-e1/supply_air_setpoint_c"] == 16.0


def test_a_failing_crac_is_held_at_baseline_and_not_by_slow_fans() -> None:
    hall = Hall(scenario="crac-failure")
    hall.step(39 * 60.0, {})
    readings = hall.step(10 * 60.0, {})
    assert readings["crac-c1/state"] == 3.0
    assert readings["crac-c1/fan_rpm_pct"] < 1.0
    assert readings["crac-c2/state"] == 1.0
    assert float(hall.air.inlet_c.max()) < 22.0
    slow = run(everywhere(supply_c=22, fan_pct=60), scenario="crac-failure", hours=1.5)
    assert slow["worst_inlet_c"] > 28.0
    assert slow["inlet_compliance_pct"] < 100.0


def test_hot_weather_costs() -> None:
    assert run(scenario="heat-wave", hours=12)["pue"] > run(hours=12)["pue"] + 0.02


@pytest.mark.parametrize(
    ("overlay", "reading", "way"),
    [
        ("fouled_filter", "bms/containment_pa.D", -1),
        ("stuck_valve", "crac-b1/supply_air_c", +1),
        ("blanking_panel", "pdu-a/inlet_c.A07", +1),
        ("sensor_drift", "pdu-d/inlet_c.D04", +1),
        ("pump_cavitation", "pump-f/flow_lps", -1),
        ("gpu_hot", "gpu-e/gpu_power_kw.E03", +1),
        ("leak", "bms/leak", +1),
        ("fire", "bms/fire", +1),
        ("ups_on_battery", "bms/ups_on_battery", +1),
        ("maintenance", "bms/maintenance", +1),
        ("load_surge", "vllm-a/tokens_ps", +1),
        ("hot_afternoon", "bms/outdoor_c", +1),
    ],
)
def test_faults_show_where_they_should(overlay: str, reading: str, way: int) -> None:
    plain, struck = Hall(step_s=30), Hall(step_s=30)
    struck.overlays.start(overlay, struck.now_s)
    for hall in (plain, struck):
        hall.step(7200.0, {})
    difference = struck.step(60.0, {})[reading] - plain.step(60.0, {})[reading]
    assert difference * way > 0.1
