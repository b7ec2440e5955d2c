"""Futures rolled out side by side are what each would have been alone."""

import pytest

from simulators.hall import Hall
from simulators.hall.setpoints import Refused
from tests.simulators.make import everywhere

LIMITS = {"inlet": 28.0, "latency": 250.0, "rack": 12.0}
CANDIDATES = (
    {},
    everywhere(supply_c=22.0, fan_pct=60.0),
    everywhere(pump_pct=60.0, water_c=14.0),
    everywhere(window_ms=120.0),
    everywhere(fan_pct=30.0),  # so short of air that GPUs clock down
    {"crac-c1/supply_air_setpoint_c": 24.0, "router/traffic_share_pct.C": 10.0},
)


@pytest.mark.parametrize("scenario", ["default", "crac-failure"])
def test_each_future_is_what_it_would_be_alone(scenario: str) -> None:
    now = Hall(scenario=scenario, step_s=60)
    now.step(1800.0, {})
    found = now.futures(CANDIDATES, 3600.0, LIMITS)
    for candidate, future in zip(CANDIDATES, found, strict=True):
        alone = Hall(scenario=scenario, step_s=60)
        alone.step(1800.0, {})
        before = alone.truth()
        alone.step(3600.0, candidate)
        after = alone.truth()
        for name, rounding in (("total_kwh", 1e-6), ("prompts", 1.0)):
            if name == "total_kwh" and after["deferred_kwh"]:
                continue  # charged in the account, not metered
            made = float(str(after[name])) - float(str(before[name]))
            assert future[name] == pytest.approx(made, abs=rounding)


def test_the_hall_itself_stays_where_it_is() -> None:
    hall, twin = Hall(step_s=60, seed=3), Hall(step_s=60, seed=3)
    hall.futures(CANDIDATES, 1800.0, LIMITS)
    assert hall.step(60.0, {}) == twin.step(60.0, {})


def test_steps_over_a_limit_are_counted_by_future() -> None:
    hall = Hall(step_s=60)
    cold, warm = hall.futures(
        [everywhere(supply_c=18.0), everywhere(supply_c=27.0, water_c=16.0, fan_pct=40.0)],
        7200.0, LIMITS,
    )  # fmt: skip
    assert cold["over"] == {"inlet": 0, "latency": 0, "rack": 0}
    assert 60 < warm["over"]["inlet"] < 120
    assert hall.futures([{}], 600.0, {"rack": 1.0})[0]["over"] == {"rack": 10}
    assert hall.futures([], 600.0, LIMITS) == []


def test_what_a_device_would_not_take_is_refused() -> None:
    with pytest.raises(Refused, match="chilled_water"):
        Hall(step_s=60).futures([everywhere(water_c=99.0)], 60.0, LIMITS)
