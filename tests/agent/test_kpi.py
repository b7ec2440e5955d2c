"""Running totals book what is known and call the rest unknown."""

import pytest

from agent.kpi import LONGEST_STEP_S, Meter
from agent.store import Store
from config.site import Device, Site
from control.layout import Layout
from tests.agent.make import point, reading, site

POWER = ("it", "cooling", "prompts")


def hall() -> tuple[Store, Meter]:
    made: Site = site()
    extra = Device(id="m", protocol="push", points=(
        point("m", "cooling", "cooling_power_kw"), point("m", "prompts", "prompts_ps"),
    ))  # fmt: skip
    object.__setattr__(made, "devices", (*made.devices, extra))
    layout = Layout(made)
    return Store(layout), Meter(layout)


def read(store: Store, at_s: float, it_kw: float, cooling_kw: float, prompts_ps: float) -> None:
    store.update([
        reading("rack-a01/pdu_kw", it_kw, at_s),
        reading("m/cooling", cooling_kw, at_s),
        reading("m/prompts", prompts_ps, at_s),
    ])  # fmt: skip


def test_an_hour_of_known_power_is_booked() -> None:
    store, meter = hall()
    for i in range(361):
        read(store, 10.0 * i, 60.0, 20.0, 40.0)
        meter.step(store.snapshot(10.0 * i))
    kpi = meter.kpi(store.snapshot(3600.0))
    assert meter.total_kwh == pytest.approx(80.0)
    assert meter.prompts == pytest.approx(144_000)
    assert kpi["wh_per_prompt"] == pytest.approx(80_000 / 3600 / 40)
    assert kpi["wh_per_prompt_mean"] == pytest.approx(80_000 / 144_000)
    assert kpi["pue"] == pytest.approx(80 / 60)
    assert kpi["terms"] == {"it": "metered", "cooling": "metered", "total": "summed"}


def test_a_missing_term_means_no_wh_per_prompt_and_time_unknown() -> None:
    store, meter = hall()
    read(store, 0.0, 60.0, 20.0, 40.0)
    meter.step(store.snapshot(0.0))
    store.update([reading("rack-a01/pdu_kw", 60.0, 30.0), reading("m/prompts", 40.0, 30.0)])
    snapshot = store.snapshot(30.0)  # cooling is 30 s old: stale
    meter.step(snapshot)
    assert meter.kpi(snapshot)["wh_per_prompt"] is None
    assert meter.kpi(snapshot)["terms"]["cooling"] == "missing"
    assert (meter.known_s, meter.unknown_s, meter.total_kwh) == (0.0, 30.0, 0.0)


def test_a_long_gap_is_not_interpolated() -> None:
    store, meter = hall()
    read(store, 0.0, 60.0, 20.0, 40.0)
    meter.step(store.snapshot(0.0))
    late_s = LONGEST_STEP_S + 1.0
    read(store, late_s, 60.0, 20.0, 40.0)
    meter.step(store.snapshot(late_s))
    assert (meter.total_kwh, meter.unknown_s) == (0.0, late_s)
