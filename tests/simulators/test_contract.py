"""The hall as a plant: the contract of `skadi rehearse`."""

import math

import pytest

from config.quantities import QUANTITIES
from simulators.hall import Hall
from simulators.hall.setpoints import Refused


def test_points_say_what_the_contract_asks() -> None:
    points = Hall().points()
    ids = [p.id for p in points]
    assert len(ids) == len(set(ids))
    assert {p.rack for p in points if p.rack} == {
        f"{row}{n:02d}" for row in "ABCDEF" for n in range(1, 13)
    }
    for p in points:
        assert p.quantity in QUANTITIES
        assert p.unit == QUANTITIES[p.quantity].unit
        if p.writable:
            assert None not in (p.min, p.max, p.max_step, p.baseline)
            assert p.min <= p.baseline <= p.max
        else:
            assert p.baseline is None
    assert sum(p.writable for p in points) == 24 + 6 + 1 + 6 + 2


def test_readings_are_those_of_points_and_believable() -> None:
    hall = Hall()
    readings = hall.step(hall.step_s, {})
    points = {p.id: p for p in hall.points()}
    assert set(readings) == set(points)
    for name, value in readings.items():
        about = QUANTITIES[points[name].quantity]
        assert about.low <= value <= about.high, name


def test_same_seed_same_trace_to_the_bit() -> None:
    def trace(seed: int) -> list[dict[str, float]]:
        hall = Hall(seed=str(seed), scenario="heat-spike")
        changes = {"crac-a1/fan_rpm_setpoint_pct": 80.0}
        return [hall.step(5.0, changes if i == 7 else {}) for i in range(40)]

    assert trace(3) == trace(3)
    assert trace(3) != trace(4)


def test_arguments_are_text_and_hours_end_by_stop_iteration() -> None:
    hall = Hall(seed="1", hours="0.05", step_s="10", scenario="winter", day="20")
    for _ in range(18):
        hall.step(10.0, {})
    with pytest.raises(StopIteration):
        hall.step(10.0, {})
    hall.close()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"scenario": "nope"}, "scenario"),
        ({"step_s": "0.1"}, "step_s"),
        ({"step_s": "fast"}, "step_s"),
        ({"hours": "-1"}, "hours"),
        ({"day": "400"}, "day"),
        ({"start_hour": "nan"}, "start_hour"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, str], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Hall(**arguments)


def test_only_whole_steps() -> None:
    hall = Hall(step_s=5)
    for dt_s in (0.0, 2.5, 7.0):
        with pytest.raises(ValueError, match="dt_s"):
            hall.step(dt_s, {})


@pytest.mark.parametrize("value", [math.nan, math.inf, 9.0, 36.0])
def test_a_device_refuses_what_it_cannot_do_and_takes_none_of_the_change(value: float) -> None:
    hall = Hall()
    both = {"crac-a1/fan_rpm_setpoint_pct": 80.0, "crac-a1/supply_air_setpoint_c": value}
    with pytest.raises(Refused, match="crac-a1/supply_air_setpoint_c"):
        hall.step(5.0, both)
    assert hall.setpoints.values["crac-a1/fan_rpm_setpoint_pct"] == 100.0
    with pytest.raises(Refused, match="no such setpoint"):
        hall.step(5.0, {"crac-z9/fan_rpm_setpoint_pct": 80.0})


def test_powers_are_means_over_the_interval() -> None:
    fine, coarse = Hall(), Hall()
    parts = [fine.step(5.0, {})["bms/it_kw"] for _ in range(60)]
    whole = coarse.step(300.0, {})["bms/it_kw"]
    assert whole == pytest.approx(sum(parts) / len(parts), rel=0.004)  # metering noise


def test_warm_up_is_not_metered() -> None:
    hall = Hall(warmup_s=600, hours=0.5, step_s=30)
    hall.step(600.0, {})
    assert hall.truth()["prompts"] == 0
    assert hall.truth()["wh_per_prompt"] is None
    while not hall.over:
        hall.step(30.0, {})
    assert hall.truth()["hours"] == pytest.approx(0.5)


def test_sensors_are_noisy_quantised_and_right_on_average() -> None:
    hall = Hall()
    said, true = [], []
    for _ in range(120):
        said.append(hall.step(5.0, {})["pdu-b/inlet_c.B03"])
        true.append(float(hall.air.inlet_c[14]))
    assert len(set(said)) > 1
    assert all(abs(s * 10 - round(s * 10)) < 1e-6 for s in said)
    assert sum(said) / 120 == pytest.approx(sum(true) / 120, abs=0.05)
