"""The interlocks that come with Skadi: what trips each, what it guards, and what it does then."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from agent.store import Store
from config.interlocks import KINDS, InterlockSection
from config.quantities import QUANTITIES
from config.site import Interlock, Point, Site, Unit
from control import interlocks
from control.case import Case
from control.endings import endings
from control.guardrails import judge
from control.interlocks import dew_point_c, leaking, step, under_maintenance
from control.layout import Layout
from control.state import Trip
from control.types import Change, Denial, Kind, Lease, Permit, Proposal, Quality, Reading, Target
from tests.control.hall import NOW_S, USUAL, case

SUPPLY, FAN = "crac-a1/supply_c", "crac-a1/fan_pct"
WATER, PUMP = "chiller/water_c", "pump-a/pump_pct"
EXTRA = {  # id -> (quantity, usual)
    "chiller/water_c": ("chilled_water_setpoint_c", 14.0),
    "pump-a/pump_pct": ("pump_rpm_pct", 80.0),
    "room/air_c": ("zone_c", 24.0), "room/humidity": ("humidity_pct", 40.0),
    "room/dp": ("differential_pressure_pa", 8.0), "chiller/flow": ("flow_lps", 20.0),
    "crac-a1/measured_fan": ("fan_rpm_pct", 80.0), "bms/contact": ("state", 0.0),
}  # fmt: skip
KNOBS = {"chiller/water_c": (7.0, 18.0), "pump-a/pump_pct": (40.0, 100.0)}
AIR = {"temperature": "room/air_c", "humidity": "room/humidity"}
CONTACT: dict[str, Any] = {"point": "bms/contact"}


@dataclass(frozen=True)
class Shipped:
    """How a site writes it, a reading that is fine, one that is not, and after how long it trips."""

    keys: dict[str, Any]
    bad: dict[str, float]
    after_s: float = 0.0


# kind -> what it takes. Dew points by the Magnus formula, apart from psychrolib:
# 24 degC and 40 % -> 9.6 degC; 24 degC and 60 % -> 15.8 degC; 24 degC and 25 % -> 2.8 degC.
SHIPPED: dict[str, Shipped] = {
    "condensation": Shipped({"point": WATER, **AIR}, {WATER: 11.4}),
    "dew_point": Shipped(AIR, {"room/humidity": 60.0}, 300.0),
    "humidity": Shipped({"point": "room/humidity"}, {"room/humidity": 60.5}, 300.0),
    "airflow_floor": Shipped({"point": "crac-a1/measured_fan", "trip_below": 35.0},
                             {"crac-a1/measured_fan": 34.0}, 30.0),
    "containment": Shipped({"point": "room/dp", "trip_below": 2.0}, {"room/dp": 1.0}, 60.0),
    "evaporator_flow": Shipped({"point": "chiller/flow", "trip_below": 12.0}, {"chiller/flow": 11.0}, 10.0),
    **{k: Shipped(CONTACT, {"bms/contact": 1.0})
       for k in ("leak", "fire", "epo", "ups_on_battery", "generator", "maintenance")},
}  # fmt: skip


def lock_of(kind: str, **keys: Any) -> Interlock:
    """As a site file gives it."""
    section = InterlockSection.model_validate({"id": kind, "kind": kind, **keys})
    return Interlock(**section.model_dump())


def hall(lock: Interlock | None = None, **values: float | None) -> Case:
    """The hall with a chiller, a pump and contacts; usual readings but for `values`."""
    bare = case()
    site = bare.layout.site
    template = site.points[SUPPLY]
    points = []
    for key, (quantity, _) in EXTRA.items():
        device, _, name = key.partition("/")
        bounds = KNOBS.get(key)
        w = template.writable
        assert w is not None
        own = replace(w, min=bounds[0], max=bounds[1], max_step=5.0) if bounds else None
        points.append(Point(key, "extra", name, quantity, QUANTITIES[quantity].unit, template.address,
                            device, writable=own))  # fmt: skip
    extra = replace(site.devices[0], id="extra", points=tuple(points))
    site = replace(
        site, devices=(*site.devices, extra), interlocks=(lock,) if lock is not None else ()
    )
    layout, said = Layout(site), {**{k: v for k, (_, v) in EXTRA.items()}, **values}
    store = Store(layout)
    store.update(
        Reading(k, v, NOW_S, Quality.GOOD)
        for k, p in site.points.items()
        if (v := said.get(k, USUAL.get(p.quantity))) is not None
    )
    return replace(bare, snapshot=store.snapshot(NOW_S), layout=layout)


def stepped(at: Case, seconds: float, trips: dict[str, Trip] | None = None) -> dict[str, Trip]:
    """The interlocks after the same readings for so long."""
    trips = step(at.layout.site, at.snapshot, trips or {})
    return step(at.layout.site, replace(at.snapshot, now_s=NOW_S + seconds), trips)


def verdict(at: Case, trips: dict[str, Trip], *changes: Change, kind: Kind = Kind.NORMAL) -> Any:
    case_ = replace(at, state=replace(at.state, trips=trips))
    return judge(case_, Proposal("x", "fast", "test", changes, "", kind), "c")


def test_every_shipped_kind_is_tried_here() -> None:
    assert set(SHIPPED) | {"value", "staging"} == set(KINDS)


@pytest.mark.parametrize("kind", SHIPPED)
def test_it_trips_after_its_time_latches_and_stops_what_it_guards(kind: str) -> None:
    shipped = SHIPPED[kind]
    lock = lock_of(kind, **shipped.keys)
    fine = stepped(hall(lock), 400.0)
    assert not fine[kind].tripped, "usual readings"
    bad = hall(lock, **shipped.bad)
    if shipped.after_s:
        assert not stepped(bad, shipped.after_s - 1.0)[kind].tripped
    trips = stepped(bad, shipped.after_s)
    assert trips[kind].tripped
    # What it guards is not written, not even to be safer; what it does not guard is.
    water = Change(WATER, bad.snapshot.value(WATER), 16.0)
    for one in (water, Change(SUPPLY, 20.0, 19.0)):
        denied = verdict(bad, trips, one)
        if interlocks.guards(lock, bad.point(one.point)):
            assert isinstance(denied, Denial)
            assert denied.rule == "interlock"
        else:
            assert not (isinstance(denied, Denial) and denied.rule == "interlock")
    # Back to usual: latched until a person resets it, but for tags that people take off.
    again = stepped(hall(lock), 400.0, trips)
    assert again[kind].tripped is (kind != "maintenance")


@pytest.mark.parametrize("kind", SHIPPED)
def test_what_cannot_be_read_counts_as_tripped_and_is_not_latched(kind: str) -> None:
    lock = lock_of(kind, **SHIPPED[kind].keys)
    for key in lock.inputs:
        dark = stepped(hall(lock, **{key: None}), 1000.0)
        assert (dark[kind].tripped, dark[kind].latched) == (True, False), key
        assert not stepped(hall(lock), 0.0, dark)[kind].tripped, "it can be read again"


@pytest.mark.parametrize(
    ("kind", "target"),
    [("containment", Target.SAFE), ("humidity", Target.BASELINE), ("fire", None)],
)
def test_the_action_is_carried_out_on_what_is_held(kind: str, target: Target | None) -> None:
    lock = lock_of(kind, **SHIPPED[kind].keys)
    at = hall(lock, **SHIPPED[kind].bad)
    held = Lease(SUPPLY, 18.0, 18.0, 20.0, NOW_S - 600.0, NOW_S + 600.0, "slow:s1", True, 18.0)
    state = replace(at.state, trips=stepped(at, 400.0), leases={SUPPLY: held})
    found = endings(replace(at, state=state))
    assert [e.target for e in found] == ([target] if target else [])


def test_no_water_or_pump_moves_within_fifteen_minutes_of_a_chillers_staging() -> None:
    lock = lock_of("staging", point="bms/contact")
    at = hall(lock)
    site = at.layout.site
    first = step(site, at.snapshot, {})
    assert first["staging"].tripped, "what it did before anybody looked is not known"
    trips = step(site, replace(at.snapshot, now_s=NOW_S + 900.0), first)
    assert not trips["staging"].tripped
    staged = hall(lock, **{"bms/contact": 1.0})
    trips = step(site, replace(staged.snapshot, now_s=NOW_S + 1000.0), trips)
    for later_s, tripped in ((1899.0, True), (1900.0, False)):
        now = step(site, replace(staged.snapshot, now_s=NOW_S + later_s), trips)["staging"]
        assert (now.tripped, now.latched) == (tripped, False)
    assert isinstance(verdict(staged, trips, Change(WATER, 14.0, 15.0)), Denial)
    assert isinstance(verdict(staged, trips, Change(PUMP, 80.0, 85.0)), Denial)
    assert isinstance(verdict(staged, trips, Change(SUPPLY, 20.0, 19.0)), Permit)


def test_a_setpoint_that_would_come_too_near_the_dew_point_is_refused_before_it_is_written() -> (
    None
):
    lock = lock_of("condensation", **SHIPPED["condensation"].keys)
    at = hall(lock)
    trips = stepped(at, 0.0)
    refused = verdict(at, trips, Change(WATER, 14.0, 11.4), kind=Kind.PROTECTIVE)
    assert isinstance(refused, Denial)
    assert (refused.rule, "would trip" in refused.numbers) == ("interlock", True)
    assert isinstance(verdict(at, trips, Change(WATER, 14.0, 11.8), kind=Kind.PROTECTIVE), Permit)


@pytest.mark.parametrize(
    ("air_c", "humidity_pct", "dew_c"),
    [(25.0, 50.0, 13.9), (24.0, 40.0, 9.6), (20.0, 100.0, 20.0), (30.0, 20.0, 4.6)],  # Magnus
)
def test_dew_points(air_c: float, humidity_pct: float, dew_c: float) -> None:
    assert dew_point_c(air_c, humidity_pct) == pytest.approx(dew_c, abs=0.1)
    assert dew_point_c(air_c, 0.0) is None
    assert dew_point_c(None, 50.0) is None
    assert dew_point_c(500.0, 50.0) is None


def test_a_leaking_loop_gets_no_faster_pump_not_even_by_the_kill_switch() -> None:
    lock = lock_of("leak", **CONTACT)
    at = hall(lock, **{"bms/contact": 1.0})
    slowed = Lease(PUMP, 100.0, 100.0, 80.0, NOW_S - 600.0, NOW_S + 600.0, "slow:s1", True, 100.0)
    supply = Lease(SUPPLY, 18.0, 18.0, 20.0, NOW_S - 600.0, NOW_S + 600.0, "slow:s2", True, 18.0)
    killed = replace(at.state.modes, killed=True)
    state = replace(
        at.state, trips=stepped(at, 0.0), modes=killed, leases={PUMP: slowed, SUPPLY: supply}
    )
    assert [e.point for e in endings(replace(at, state=state))] == [SUPPLY]
    faster = replace(slowed, value=100.0, stood=80.0, baseline=80.0)
    state = replace(state, leases={PUMP: faster})
    assert [e.point for e in endings(replace(at, state=state))] == [PUMP], "slower is fine"
    dry = replace(state, trips=stepped(hall(lock), 0.0), leases={PUMP: slowed})
    assert [e.point for e in endings(replace(at, state=dry))] == [PUMP]
    assert leaking(at.layout.site, state.trips, at.point(FAN)) is None


def test_where_people_work() -> None:
    lock = lock_of("maintenance", **CONTACT, scope="row:A")
    tagged, bare = hall(lock, **{"bms/contact": 1.0}), hall(lock)
    unit = Unit("crac-b1", maintenance="bms/contact")
    for at, scopes in ((tagged, {"row:A", "equipment:crac-b1"}), (bare, set())):
        site: Site = replace(at.layout.site, units=(unit,))
        assert under_maintenance(site, at.snapshot, stepped(at, 0.0)) == scopes
    dark = hall(lock, **{"bms/contact": None})
    trips = stepped(dark, 0.0)
    assert trips["maintenance"].tripped
    assert under_maintenance(dark.layout.site, dark.snapshot, trips) == frozenset()
