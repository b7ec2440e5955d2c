"""Ring one, rule by rule: what each denies, what it lets pass, and which way it is blind on purpose."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from agent.store import Store
from config.addresses import NamedAddress
from config.quantities import QUANTITIES
from config.schema import LimitsSection
from config.site import Device, Interlock, Point, Site, Unit
from control.guardrails import Case, judge, objections, towards_risk
from control.layout import Layout
from control.modes import Modes
from control.state import PROTECTIVE, ControlState, Owed, Spent, Trip, Verification
from control.types import (
    Change,
    Denial,
    Effect,
    Ending,
    Finding,
    Kind,
    Lease,
    Mode,
    Permit,
    Proposal,
    Quality,
    Reading,
    Target,
)
from tests.safety.rig import FAN, PUMP, SHARE_A, SHARE_B, SUPPLY, WATER
from tests.safety.world import INTERVAL_S, make_site

NOW_S = 1_000_000.0
CLOSED = Modes(Mode.CLOSED_LOOP, frozenset({"hall"}), Mode.CLOSED_LOOP, frozenset({"hall"}))
USUAL = {
    "inlet_c": 22.0, "pdu_kw": 6.0, "latency_p95_ms": 150.0, "state": 0.0,
    "supply_air_setpoint_c": 19.0, "fan_rpm_pct": 80.0, "pump_rpm_pct": 90.0,
    "chilled_water_setpoint_c": 8.0, "traffic_share_pct": 50.0, "batch_window_ms": 40.0,
}  # fmt: skip
SITE = make_site()
CALM = {"leak": Trip()}
SUPPLY_2 = "crac-a2/supply"


@dataclass(frozen=True)
class At:
    """A hall at an instant: usual, but for what a test says."""

    values: Mapping[str, float | None] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)
    site: Site = SITE
    tau: float | None = None

    def case(self) -> Case:
        layout = Layout(self.site)
        store = Store(layout)
        said = {k: self.values.get(k, USUAL.get(p.quantity)) for k, p in self.site.points.items()}
        store.update(Reading(k, v, NOW_S, Quality.GOOD) for k, v in said.items() if v is not None)
        memory = ControlState(**{"modes": CLOSED, "trips": CALM, **self.state})
        return Case(store.snapshot(NOW_S), memory, layout, self.tau)


def limits(**more: Any) -> Site:
    return replace(SITE, limits=SITE.limits.model_copy(update=more))


def move(key: str = SUPPLY, new: float = 19.5, old: float | None = -1.0, **more: Any) -> Proposal:
    """One change of a slow loop towards risk; old -1: what is usual."""
    usual = USUAL[SITE.points[key].quantity] if key in SITE.points else None
    changes = (Change(key, usual if old == -1.0 else old, new),)
    return replace(Proposal("p", "slow", "m", changes, "a test", expires_s=9e9), **more)


def both(
    first: tuple[str, float, float], second: tuple[str, float, float], **more: Any
) -> Proposal:
    changes = (Change(*first), Change(*second))
    return replace(move(), changes=changes, **more)


COLDER = move(new=18.5)
PROTECT = move(new=16.0, kind=Kind.PROTECTIVE, loop="fast")
EFFECT = Effect(inlet_c=1.0, inlet_sigma_k=0.5)


def killed(**more: Any) -> Mapping[str, Any]:
    return {"modes": replace(CLOSED, **more)}


def lease(value: float) -> Mapping[str, Any]:
    return {"leases": {SUPPLY: Lease(SUPPLY, 19.0, 19.0, value, 0.0, 9e9, "x", True)}}


def spent(**ago_s: float) -> Mapping[str, Any]:
    names = {"crac": "crac-a1", "protective": PROTECTIVE + "crac-a1", "point": SUPPLY}
    return {"spent": {names[k]: Spent(NOW_S - s, NOW_S - s, 1) for k, s in ago_s.items()}}


def settling(count: int) -> Mapping[str, Any]:
    one = Verification(COLDER, 0.0, None, 20.0, None, Effect())  # type: ignore[arg-type]
    return {"verifications": (one,) * count}


def found(row: str, state: str = "nominal", ema: float = 1.0, heat: float = 1.0) -> Finding:
    return Finding(f"row:{row}", ema, ema, state, 0.0, (), heat)


def finding(**rows: Finding) -> Mapping[str, Any]:
    return {"findings": {r if r == "hall" else f"row:{r}": f for r, f in rows.items()}}


def inlets(value: float | None, *racks: str) -> dict[str, float | None]:
    return {f"rack-{r}/inlet{i}": value for r in racks for i in (1, 2)}


def no_inlets() -> Site:
    devices = tuple(d for d in SITE.devices if not d.id.startswith("rack"))
    return replace(SITE, devices=devices)


def no_row_inlets(row: str) -> Site:
    """Row A without a sensor of its own: the hall's bear it out."""
    devices = tuple(d for d in SITE.devices if not d.id.startswith(f"rack-{row}"))
    return replace(SITE, devices=devices)


def pushed(*racks: str) -> Site:
    devices = tuple(
        replace(d, protocol="push") if d.id in {f"rack-{r}" for r in racks} else d
        for d in SITE.devices
    )
    return replace(SITE, devices=devices)


def one_polled() -> Site:
    """Of row A's four inlets, rack-a1/inlet1 alone is read by us."""
    (first, second, power), rest = SITE.device["rack-a1"].points, pushed("a1", "a2").devices
    gate = Device(
        id="gate", protocol="push", points=(replace(second, key="gate/i", device="gate"),)
    )
    polled = replace(SITE.device["rack-a1"], points=(first, power))
    others = tuple(d for d in rest if d.id != "rack-a1")
    return replace(SITE, devices=(*others, polled, gate))


def told(quantity: str, *read: str) -> Site:
    """The site with a quantity's points pushed by a gate, but for those that are read."""
    gone = [p for p in SITE.points.values() if p.quantity == quantity and p.key not in read]
    rest = tuple(
        replace(d, points=tuple(p for p in d.points if p not in gone)) for d in SITE.devices
    )
    gate = Device(id="gate", protocol="push", points=tuple(replace(p, device="gate") for p in gone))
    return replace(SITE, devices=(*rest, gate))


def unit(**more: Any) -> Site:
    return replace(SITE, units=(Unit("crac-a1", **more),))


def bounds(key: str, **more: Any) -> Site:
    """The site with other write limits of one point."""
    devices = tuple(
        replace(d, points=tuple(
            replace(p, writable=replace(p.limits, **more)) if p.key == key else p for p in d.points
        ))
        for d in SITE.devices
    )  # fmt: skip
    return replace(SITE, devices=devices)


def coiled() -> Site:
    """The site with a unit whose supply air and valve are read."""
    seen = tuple(
        Point(f"coil/{q}", "coil", q, q, QUANTITIES[q].unit, NamedAddress(q), "crac-a1", row="A")
        for q in ("supply_air_c", "valve_pct")
    )
    return replace(SITE, devices=(*SITE.devices, Device(id="coil", protocol="snmp", points=seen)))


def supply(site: Site, **more: Any) -> Site:
    """The site with another supply register."""
    devices = tuple(
        replace(d, points=tuple(replace(p, **more) if p.key == SUPPLY else p for p in d.points))
        for d in site.devices
    )
    return replace(site, devices=devices)


def whole() -> Site:
    """A supply register that knows whole kelvins only."""
    return supply(SITE, address=replace(SITE.points[SUPPLY].address, type="int16"))  # type: ignore[type-var]


def rounding() -> Site:
    """A supply register of fine steps and no deadband: only float32's own rounding is left."""
    return supply(bounds(SUPPLY, deadband=0.0), scale=1e-4)


def lock(**more: Any) -> Site:
    made = Interlock("cold", "bms/water", "hall", "hold", trip_below=7.8)
    return replace(SITE, interlocks=(*SITE.interlocks, replace(made, **more)))


REAL = replace(SITE, simulated=False)
DARK_A1, WARM = inlets(None, "a1"), inlets(27.0, "a1", "a2", "b1", "b2")
P95 = {"vllm-a/p95": 235.0, "vllm-b/p95": 100.0}
TWICE = replace(move(), changes=(*move().changes, *move().changes))
GUARD = "cold"
CALM_2 = {"trips": {**CALM, GUARD: Trip()}}
OWED = {"owed": {SUPPLY: Owed(Ending(SUPPLY, Target.BASELINE, "told to"), 0.0)}}

# (rule, words of its numbers, proposal, the hall)
DENIED: dict[str, tuple[str, str, Proposal, At]] = {
    "no change": ("known", "each of its points once", replace(move(), changes=()), At()),
    "a point twice": ("known", "each of its points once", TWICE, At()),
    "a sensor": ("known", "rack-a1/inlet1 is not writable", move("rack-a1/inlet1", 20.0), At()),
    "no such point": ("known", "no/such is not writable", move("no/such"), At()),
    "not commissioned": ("known", "skadi commission crac-a1/supply", move(), At(site=REAL)),
    "quarantined": ("known", "it lied", move(), At(state={"quarantined": {SUPPLY: "it lied"}})),
    "yielded": ("known", "an operator", move(), At(state={"yielded": {SUPPLY: "an operator"}})),
    "owed": ("known", "is being given back: told to", move(), At(state=OWED)),
    "owed, though safer": ("known", "is being given back", COLDER, At(state=OWED)),
    "killed": ("mode", "kill switch on", COLDER, At(state=killed(killed=True))),
    "killed, protective": ("mode", "kill switch on", PROTECT, At(state=killed(killed=True))),
    "advisory": ("mode", "mode advisory", move(), At(state=killed(mode=Mode.ADVISORY))),
    "not armed": ("mode", f"not armed: {SUPPLY}", move(), At(state=killed(armed=frozenset()))),
    "row barred": ("mode", "not armed", move(), At(state=killed(barred=frozenset({"row:A"})))),
    "one of two not armed": ("mode", f"not armed: {PUMP}",
        both((SUPPLY, 19.0, 19.5), (PUMP, 90.0, 89.0)), At(state=killed(armed=frozenset({"row:A"})))),
    "tripped": ("interlock", "leak tripped: hold in row:B", move("crac-b1/supply"),
        At(state={"trips": {"leak": Trip(0.0, True, True)}})),
    "tripped, though safer": ("interlock", "leak tripped", move("crac-b1/supply", 18.5),
        At(state={"trips": {"leak": Trip(0.0, True, True)}})),
    "not looked at yet": ("interlock", "leak tripped", move("crac-b1/supply"), At(state={"trips": {}})),
    "would trip": ("interlock", "cold would trip at bms/water = 7.7", move(WATER, 7.7),
        At(state=CALM_2, site=lock())),
    "unit off": ("unit", "not running", COLDER, At({"bms-in/leak": 0.0}, site=unit(running="bms-in/leak"))),
    "unit in local": ("unit", "in local", move(FAN, 78.0), At({"bms-in/leak": 1.0}, {"trips": CALM},
        site=unit(local="bms-in/leak"))),
    "unit unknown": ("unit", "can't be read", move(), At({"bms-in/leak": None}, site=unit(alarm="bms-in/leak"))),
    "own point unread": ("freshness", f"{SUPPLY} has no good reading", move(), At({SUPPLY: None})),
    "blind row": ("freshness", "row A: 2 of 4 inlets have no good reading", move(), At(DARK_A1)),
    "blind hall": ("freshness", "hall: 4 of 8 inlets", move(PUMP, 88.0), At(inlets(None, "a1", "b1"))),
    "only pushed": ("evidence", "row A: every good inlet is pushed", move(), At(site=pushed("a1", "a2"))),
    "the polled one dark": ("evidence", "one that is polled must bear it out", move(),
        At({"rack-a1/inlet1": None}, site=one_polled())),
    "no inlets at all": ("freshness", "row A: no inlet is measured", move(), At(site=no_inlets())),
    "only pushed, all of the hall": ("evidence", "hall: every good inlet is pushed", move(PUMP, 88.0),
        At(site=pushed("a1", "a2", "b1", "b2"))),
    "p95 pushed alone": ("evidence", "every good p95 is pushed", move("router/batch", 60.0),
        At(site=told("latency_p95_ms"))),
    "p95 pushed alone, for a move that costs some": ("evidence", "every good p95 is pushed",
        move(effect=Effect(latency_ms=1.0)), At(site=told("latency_p95_ms"))),
    "the polled p95 dark": ("evidence", "one that is polled must bear it out", move("router/batch", 60.0),
        At({"vllm-a/p95": None}, site=told("latency_p95_ms", "vllm-a/p95"))),
    "rack power pushed alone": ("evidence", "row A: every good rack power is pushed", move(SHARE_A, 60.0),
        At(site=told("pdu_kw", "rack-b1/power"))),
    "protective towards risk": ("direction", "protective, but not in the safe",
        move(new=19.5, kind=Kind.PROTECTIVE), At()),
    "protective, half of it": ("direction", "protective, but not in the safe",
        both((SUPPLY, 19.0, 18.0), (FAN, 80.0, 78.0), kind=Kind.PROTECTIVE), At()),
    "protective, work": ("direction", "protective, but not in the safe", move(SHARE_A, 40.0, kind=Kind.PROTECTIVE), At()),
    "too warm": ("envelope", f"{SUPPLY}: 27.01 outside 16..27", move(new=27.01, old=26.9), At({SUPPLY: 26.9})),
    "too cold": ("envelope", "15.99 outside", move(new=15.99, old=16.5), At()),
    "not a number": ("envelope", "nan outside", move(new=math.nan), At()),
    "protective out of bounds": ("envelope", "15 outside", replace(PROTECT, changes=(Change(SUPPLY, 19.0, 15.0),)), At()),
    "present unknown": ("step", "present value unknown", move(old=None), At()),
    "step": ("step", "step 1.1 over 1", move(new=20.1), At()),
    "step down": ("step", "step 1.1 over 1", move(new=17.9), At()),
    "a little off what it was": ("step", "19 when proposed, 19.1 now", move(), At(state=lease(19.1))),
    "off by more than its register": ("step", "19 when proposed, 20.1 now", move(),
        At(state=lease(20.1), site=whole())),
    "not what it was": ("step", "19 when proposed, 20.5 now", move(), At(state=lease(20.5))),
    "deadband": ("deadband", "within its deadband", move(new=19.2), At(site=bounds(SUPPLY, deadband=0.3))),
    "deadband, though safer": ("deadband", "within its deadband", move(new=18.8), At(site=bounds(SUPPLY, deadband=0.3))),
    "nothing changes": ("deadband", "within its deadband", move(new=19.0), At(site=bounds(SUPPLY, deadband=0.0))),
    "too soon": ("rate", "crac-a1: changed 119 s ago, interval 120 s", move(), At(state=spent(crac=119.0))),
    "too soon, though safer": ("rate", "crac-a1: changed 119 s ago", COLDER, At(state=spent(crac=119.0))),
    "another point of it": ("rate", "crac-a1: changed 5 s ago", move(FAN, 78.0), At(state=spent(crac=5.0))),
    "the point itself": ("rate", "crac-a1/supply: changed 299 s ago, interval 300 s", move(),
        At(state=spent(point=299.0), site=bounds(SUPPLY, min_interval_s=300.0))),
    "from the future": ("rate", "changed 0 s ago", move(), At(state=spent(crac=-500.0))),
    "worn out": ("rate", "96 writes today already", move(),
        At(state={"spent": {SUPPLY: Spent(NOW_S - 900.0, NOW_S - 900.0, 96)}})),
    "second protective move": ("rate", "of this incident is made", PROTECT,
        At(state={"incidents": {"crac-a1": "p"}})),
    "protective too soon": ("rate", "protective:crac-a1: changed 119 s ago", PROTECT, At(state=spent(protective=119.0))),
    "held back": ("held_back", "m in hall was undone; held back 60 s", move(),
        At(state={"held_back": {"m|hall": NOW_S + 60.0}})),
    "held back, though safer": ("held_back", "m in hall was undone; held back 60 s", COLDER,
        At(state={"held_back": {"m|hall": NOW_S + 60.0}})),
    "the fast loop's": ("held_back", "crac-a1 is held by the fast loop", move(),
        At(state={"fast_holds": {"crac-a1": NOW_S + 1.0}})),
    "too many at once": ("at_once", "8 changes are still settling, at most 8", move(), At(state=settling(8))),
    "drifting apart": ("spread", "zone row-A: 4.10 K", move(new=19.5), At({SUPPLY_2: 15.4})),
    "predicted": ("predicted", "inlet 26.0 -> 28.0 degC, limit 28", move(effect=EFFECT), At(inlets(26.0, "a1"))),
    "predicted in the hall": ("predicted", "inlet 26.0 -> 28.0", move(PUMP, 88.0, effect=EFFECT), At(inlets(26.0, "b1"))),
    "prediction unknown": ("predicted", "inlet 22.0 -> nan", move(effect=Effect(inlet_c=math.nan)), At()),
    "latency": ("predicted", "p95 235 -> 241 ms, limit 250", move(effect=Effect(latency_ms=6.0)), At(P95)),
    "latency, by a hair": ("predicted", "p95 240 -> 240 ms", move(effect=Effect(latency_ms=0.5)),
        At({"vllm-a/p95": 239.9})),
    "latency unknown": ("predicted", "p95 nan -> nan ms", move(effect=Effect(latency_ms=6.0)),
        At({"vllm-a/p95": None, "vllm-b/p95": None})),
    "latency's effect unknown": ("predicted", "ms, limit 250", move(effect=Effect(latency_ms=math.nan)), At()),
    "without the largest unit": ("redundancy", "after its largest unit is lost, limit 32", move(), At(WARM)),
    "work to a full rack": ("rack_power", "row A: a rack at 11.5 kW, limit 12", move(SHARE_A, 60.0), At({"rack-a1/power": 11.5})),
    "work to unknown racks": ("rack_power", "row A: a rack at -inf kW", move(SHARE_A, 60.0),
        At({"rack-a1/power": None, "rack-a2/power": None})),
    "no p95 at all": ("silence", "latency silent for over 60 s", move("router/batch", 60.0),
        At({"vllm-a/p95": None, "vllm-b/p95": None})),
    "deviation": ("deviation", "row A: D(x) 7.30 near tau_persist 8.00", move(),
        At(state=finding(A=found("A", ema=7.3), B=found("B")), tau=8.0)),
    "deviation, what is left of an incident": ("deviation", "row A: D(x) 7.30 near", move(),
        At(state={**finding(A=found("A", ema=7.3, heat=0.5)), "incident_s": {"A": NOW_S}}, tau=8.0)),
    "work to what is odd": ("deviation", "row A: D(x) 7.30 near", move(SHARE_A, 60.0),
        At(state=finding(A=found("A", ema=7.3, heat=0.1)), tau=8.0)),
    "deviation, with cooling in hand": ("deviation", "row A: D(x) 7.30 near", move(),
        At({"coil/supply_air_c": 22.0, "coil/valve_pct": 60.0}, finding(A=found("A", ema=7.3)), coiled(), 8.0)),
    "deviation unknown": ("deviation", "row A: the monitor does not know", move(),
        At(state=finding(A=found("A", "unknown")), tau=8.0)),
    "deviation not looked at": ("deviation", "does not know", move(), At(state=finding(), tau=8.0)),
    "deviation of any row": ("deviation", "row B: D(x) 7.30", move(PUMP, 88.0),
        At(state=finding(A=found("A"), B=found("B", ema=7.3)), tau=8.0)),
    "deviation of the hall": ("deviation", "hall: D(x) 7.30 near tau_persist 8.00", move(PUMP, 88.0),
        At(state=finding(A=found("A"), B=found("B"), hall=found("hall", ema=7.3)), tau=8.0)),
    "the hall not known": ("deviation", "hall: the monitor does not know", move(PUMP, 88.0),
        At(state=finding(A=found("A"), B=found("B")), tau=8.0)),
}  # fmt: skip

ALLOWED: dict[str, tuple[Proposal, At]] = {
    "a step": (move(), At()),
    "a whole step": (move(new=20.0), At()),
    "a step off by rounding": (move(new=20.0 + 5e-10), At()),
    "to the envelope's top": (move(new=27.0, old=26.5), At({SUPPLY: 26.5, SUPPLY_2: 26.5})),
    "to the envelope's bottom": (move(new=16.0, old=16.5), At({SUPPLY: 16.5})),
    "commissioned": (move(), At(state={"commissioned": frozenset({SUPPLY})}, site=REAL)),
    "another point latched": (move(), At(state={"yielded": {FAN: "x"}, "quarantined": {PUMP: "y"}})),
    "only its row armed": (move(), At(state=killed(armed=frozenset({"row:A"})))),
    "tripped elsewhere": (move(), At(state={"trips": {"leak": Trip(0.0, True, True)}})),
    "would not trip": (move(WATER, 8.4), At(state=CALM_2, site=lock())),
    "trips on other points": (move(WATER, 7.7), At(state=CALM_2, site=lock(only=("fan_rpm_pct",)))),
    "unit well": (move(), At({"bms-in/leak": 0.0}, site=unit(alarm="bms-in/leak"))),
    "another unit off": (move("crac-a2/supply", 19.5), At({"bms-in/leak": 1.0},
        site=replace(limits(unit_loss_s=0.0), units=unit(local="bms-in/leak").units))),
    "a quarter blind": (move(), At({"rack-a1/inlet1": None})),
    "a polled one bears it out": (move(), At(site=pushed("a1"))),
    "a polled p95 bears it out": (move("router/batch", 60.0), At(site=told("latency_p95_ms", "vllm-a/p95"))),
    "p95 pushed alone, and not felt": (move(), At(site=told("latency_p95_ms"))),
    "a polled rack bears it out": (move(SHARE_A, 60.0), At(site=told("pdu_kw", "rack-a1/power"))),
    "rack power pushed alone, warmer air": (move(), At(site=told("pdu_kw"))),
    "rack power pushed alone, batching": (move("router/batch", 60.0), At(site=told("pdu_kw"))),
    "the hall bears it out": (move(), At(site=no_row_inlets("a"))),
    "work without inlets": (move(SHARE_A, 40.0), At(site=no_inlets())),
    "colder while blind": (COLDER, At({SUPPLY: None, **inlets(None, "a1", "a2")})),
    "protective while blind": (PROTECT, At(inlets(None, "a1", "a2", "b1", "b2"))),
    "protective, far": (PROTECT, At()),
    "protective, too soon for others": (PROTECT, At(state=spent(crac=1.0, point=1.0))),
    "protective after an interval": (PROTECT, At(state=spent(protective=INTERVAL_S))),
    "another incident": (PROTECT, At(state={"incidents": {"crac-b1": "p"}})),
    "as the lease has it": (move(), At(state=lease(19.05))),
    "as the lease has it, by the whole of its register": (move(), At(state=lease(20.0), site=whole())),
    "as the lease has it, in a register that rounds": (move(), At(state=lease(19.01), site=rounding())),
    "deadband's edge": (move(new=19.25), At(site=bounds(SUPPLY, deadband=0.25))),
    "one of two in its deadband": (both((SUPPLY, 19.0, 19.5), (FAN, 80.0, 80.0)), At()),
    "after an interval": (move(), At(state=spent(crac=INTERVAL_S, point=INTERVAL_S))),
    "one write left today": (move(), At(state={"spent": {SUPPLY: Spent(NOW_S - 900.0, NOW_S - 900.0, 95)}})),
    "yesterday's writes": (move(), At(state={"spent": {SUPPLY: Spent(NOW_S - 900.0, NOW_S - 86_400.0, 96)}})),
    "held back no longer": (move(), At(state={"held_back": {"m|hall": NOW_S}, "fast_holds": {"crac-a1": NOW_S}})),
    "held back elsewhere": (move(), At(state={"held_back": {"m|row:A": NOW_S + 9.0, "n|hall": NOW_S + 9.0}})),
    "the fast loop itself": (move(loop="fast"), At(state={"held_back": {"m|hall": NOW_S + 9.0},
        "fast_holds": {"crac-a1": NOW_S + 9.0}})),
    "seven settle": (move(), At(state=settling(7))),
    "colder while eight settle": (COLDER, At(state=settling(8))),
    "narrowing": (move(new=18.5), At({SUPPLY_2: 14.0})),
    "predicted, just so": (move(effect=EFFECT), At(inlets(25.5, "a1"), site=limits(unit_loss_s=0.0))),
    "warm, but elsewhere": (move(effect=EFFECT), At(inlets(27.0, "b1"), site=limits(unit_loss_s=0.0))),
    "colder in the heat": (COLDER, At(inlets(29.0, "a1", "a2"))),
    "latency, just so": (move(effect=Effect(latency_ms=5.0)), At(P95)),
    "latency that gets better": (move(effect=Effect(latency_ms=-1.0)), At({"vllm-a/p95": 400.0})),
    "latency without a word": (move(effect=Effect(latency_ms=0.0)), At({"vllm-a/p95": 400.0})),
    "one latency is enough": (move(effect=Effect(latency_ms=6.0)), At({"vllm-a/p95": None})),
    "less work to a full rack": (move(SHARE_A, 40.0), At({"rack-a1/power": 11.5})),
    "more work, other row full": (move(SHARE_A, 60.0), At({"rack-b1/power": 11.5})),
    "work to a rack just so": (move(SHARE_A, 60.0), At({"rack-a1/power": 11.39})),
    "work to a rack at its edge": (move(SHARE_A, 60.0), At({"rack-a1/power": 0.95 * 12.0})),
    "work to idle racks": (move(SHARE_A, 60.0), At({"rack-a1/power": 0.0, "rack-a2/power": 0.0})),
    "more work, this row's share as it was": (both((SHARE_A, 50.0, 50.0), (SHARE_B, 50.0, 60.0)),
        At({"rack-a1/power": 11.5})),
    "work without meters": (move(SHARE_A, 60.0), At(site=no_inlets())),
    "batching is no share": (move("router/batch", 60.0), At({"rack-a1/power": 11.9})),
    "deviation, just so": (move(), At(state=finding(A=found("A", ema=7.2), B=found("B", ema=9.0)), tau=8.0)),
    "a row in a hall far from usual": (move(),
        At(state=finding(A=found("A"), hall=found("hall", ema=9.0)), tau=8.0)),
    "a little warm, far from usual": (move(), At(state=finding(A=found("A", ema=9.0, heat=0.99)), tau=8.0)),
    "no warmer than the air is anyway": (move(),
        At({"coil/supply_air_c": 22.0, "coil/valve_pct": 100.0}, finding(A=found("A", ema=9.0)), coiled(), 8.0)),
    "the end of an incident": (move(),
        At(state={**finding(A=found("A", ema=9.0, heat=0.49)), "incident_s": {"A": NOW_S}}, tau=8.0)),
    "work, too cold": (move(SHARE_A, 60.0), At(state=finding(A=found("A", ema=9.0, heat=0.0)), tau=8.0)),
    "too cold, far from usual": (move(), At(state=finding(A=found("A", ema=9.0, heat=0.0)), tau=8.0)),
    "colder, far from usual": (COLDER, At(state=finding(A=found("A", ema=9.0)), tau=8.0)),
    "fast, far from usual": (move(loop="fast"), At(state=finding(A=found("A", ema=9.0)), tau=8.0)),
    "no model": (move(), At(state=finding(A=found("A", ema=9.0)))),
}  # fmt: skip


@pytest.mark.parametrize("name", DENIED)
def test_denied(name: str) -> None:
    """The first rule that objects, with its numbers; and `objections` names it too."""
    rule, words, proposal, at = DENIED[name]
    verdict = judge(at.case(), proposal, "c1")
    assert isinstance(verdict, Denial), verdict
    assert (verdict.rule, verdict.proposal) == (rule, proposal)
    assert words in verdict.numbers
    assert objections(at.case(), proposal)[0] == f"{rule}: {verdict.numbers}"


@pytest.mark.parametrize("name", ALLOWED)
def test_allowed(name: str) -> None:
    """What the promises allow, up to the edges."""
    proposal, at = ALLOWED[name]
    verdict = judge(at.case(), proposal, "c1")
    assert verdict == Permit(proposal, "c1", NOW_S, NOW_S + at.site.limits.permit_s)
    assert objections(at.case(), proposal) == ()


def test_every_rule_that_objects_is_named() -> None:
    at = At(state={**killed(mode=Mode.ADVISORY), **spent(crac=1.0)})
    told = [o.partition(":")[0] for o in objections(at.case(), move(new=28.5))]
    assert told == ["mode", "envelope", "step", "rate", "spread"]


@pytest.mark.parametrize(("proposal", "risky"), [
    (move(new=19.1), True), (move(new=18.9), False), (move(new=19.0), True),
    (move(FAN, 81.0), False), (move(FAN, 79.0), True), (move(old=None), True),
    (move(SHARE_A, 40.0), True), (move(SHARE_A, 60.0), True), (move(new=math.nan), True),
    (both((SUPPLY, 19.0, 18.0), (FAN, 80.0, 79.0)), True),
    (both((SUPPLY, 19.0, 18.0), (FAN, 80.0, 82.0)), False),
])  # fmt: skip
def test_which_way_is_towards_risk(proposal: Proposal, risky: bool) -> None:
    assert towards_risk(At().case(), proposal) is risky


def test_a_permit_lasts_as_long_as_the_site_says() -> None:
    verdict = judge(At(site=limits(permit_s=7.0)).case(), move(), "c9")
    assert verdict == Permit(move(), "c9", NOW_S, NOW_S + 7.0)
    assert LimitsSection().permit_s == 20.0
