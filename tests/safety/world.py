"""A small hall for the safety tests: two rows, real agent, devices of tests.safety.checkers.

The field devices and their judge know nothing of the agent; this module is the bridge: it
describes the hall once to both sides, and carries the driver contract over to the devices.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agent.adopt import Compiled
from agent.clock import VirtualClock
from agent.core import Agent
from agent.journal import Journal
from config.addresses import BacnetAddress, ModbusAddress, NamedAddress, WorkloadAddress
from config.quantities import QUANTITIES, SAFE_DIRECTION, WORK
from config.schema import (
    AgentSection,
    HistorySection,
    ImsSection,
    LimitsSection,
    LoopsSection,
    MmsSection,
    OptimizerSection,
)
from config.site import Device, Interlock, Point, Site, Writable
from control.types import Present, Quality, Reading, Sweep
from drivers.contract import Refused, Transient
from drivers.gate import Gate
from tests.safety.checkers.field import Cell, Field, No, Silent, Wrote
from tests.safety.checkers.wire import Limits

START_S = 1_767_225_600.0
INTERVAL_S = 120.0
ROWS = {"A": ("crac-a1", "crac-a2"), "B": ("crac-b1",)}

# device -> (row, [(id, quantity, low, high, step, baseline, safe)])
KNOBS: dict[str, tuple[str | None, list[tuple[str, str, float, float, float, float, float | None]]]] = {
    "crac-a1": ("A", [("supply", "supply_air_setpoint_c", 16.0, 27.0, 1.0, 19.0, 18.0),
                      ("fan", "fan_rpm_pct", 40.0, 100.0, 5.0, 80.0, 100.0)]),
    "crac-a2": ("A", [("supply", "supply_air_setpoint_c", 16.0, 27.0, 1.0, 17.5, 18.0)]),
    "crac-b1": ("B", [("supply", "supply_air_setpoint_c", 16.0, 27.0, 1.0, 19.0, 18.0)]),
    "pump": (None, [("speed", "pump_rpm_pct", 40.0, 100.0, 5.0, 90.0, 100.0)]),
    "bms": (None, [("water", "chilled_water_setpoint_c", 7.0, 18.0, 0.5, 8.0, None)]),
    "router": (None, [("share.A", "traffic_share_pct", 0.0, 100.0, 25.0, 50.0, None),
                      ("share.B", "traffic_share_pct", 0.0, 100.0, 25.0, 50.0, None),
                      ("batch", "batch_window_ms", 0.0, 120.0, 40.0, 40.0, None)]),
}  # fmt: skip
SENSORS = {"rack-a1": "A", "rack-a2": "A", "rack-b1": "B", "rack-b2": "B"}


def _knob(
    device: str, row: str | None, spec: tuple[str, str, float, float, float, float, float | None]
) -> Point:
    id_, quantity, low, high, step, _, safe = spec
    equipment = f"router.{quantity}" if device == "router" else device
    address: BacnetAddress | WorkloadAddress | ModbusAddress
    if device == "bms":
        address = BacnetAddress("analog-value", 1)
    elif device == "router":
        row = id_.partition(".")[2] or None
        address = WorkloadAddress(quantity, row)  # type: ignore[arg-type]
    else:
        address = ModbusAddress("holding", len(id_), "float32")
    return Point(
        key=f"{device}/{id_}", device=device, id=id_, quantity=quantity,
        unit=QUANTITIES[quantity].unit, address=address, equipment=equipment, row=row,
        zone=f"row-{row}" if row else None,
        writable=Writable(low, high, step, 0.1, INTERVAL_S, 60.0, 96, safe, device == "bms"),
    )  # fmt: skip


def _sensor(device: str, id_: str, quantity: str, row: str, rack: str | None) -> Point:
    return Point(
        key=f"{device}/{id_}", device=device, id=id_, quantity=quantity,
        unit=QUANTITIES[quantity].unit, address=NamedAddress(id_), equipment=device, row=row,
        rack=rack, max_slew_per_s=QUANTITIES[quantity].max_slew_per_s,
    )  # fmt: skip


def make_site(
    mode: str = "closed_loop", armed: tuple[str, ...] = ("hall",), simulated: bool = True
) -> Site:
    """The hall as the agent sees it."""
    devices = [
        Device(id=name, protocol="modbus-tcp", host="127.0.0.1", port=1, row=row,
               points=tuple(_knob(name, row, k) for k in knobs))
        for name, (row, knobs) in KNOBS.items()
    ]  # fmt: skip
    for name, row in SENSORS.items():
        points = [_sensor(name, f"inlet{i}", "inlet_c", row, name) for i in (1, 2)]
        points.append(_sensor(name, "power", "pdu_kw", row, name))
        devices.append(Device(id=name, protocol="snmp", points=tuple(points)))
    latency = tuple(_sensor(f"vllm-{r.lower()}", "p95", "latency_p95_ms", r, None) for r in ROWS)
    devices += [Device(id=p.device, protocol="prometheus", points=(p,)) for p in latency]
    leak = Point("bms-in/leak", "bms-in", "leak", "state", "", NamedAddress("leak"), "bms-in")
    devices.append(Device(id="bms-in", protocol="push", points=(leak,)))
    return Site(
        id="lab", area="hall", timezone="UTC", simulated=simulated, devices=tuple(devices),
        agent=AgentSection(mode=mode, armed=armed), loops=LoopsSection(), ims=ImsSection(),  # type: ignore[arg-type]
        limits=LimitsSection(write_interval_s=INTERVAL_S, zone_spread_max_k=4.0), mms=MmsSection(),
        optimizer=OptimizerSection(), history=HistorySection(), mqtt=None, api=None,
        interlocks=(Interlock("leak", "bms-in/leak", "row:B", "hold", trip_above=0.5),),
    )  # fmt: skip


def limits_of() -> dict[str, Limits]:
    """The same hall as the judge at the wire sees it."""
    found = {}
    for device, (_, knobs) in KNOBS.items():
        for id_, quantity, low, high, step, baseline, safe in knobs:
            equipment = f"router.{quantity}" if device == "router" else device
            key = f"{device}/{id_}"
            found[key] = Limits(key, equipment, low, high, step, SAFE_DIRECTION.get(quantity, 0),
                                baseline, safe, device == "bms", quantity in WORK, 96,
                                quantity == "traffic_share_pct")  # fmt: skip
    return found


class BridgeDriver:
    """The driver contract over one field device."""

    def __init__(self, device: Device, field_: Field) -> None:
        self.device = device
        self.field = field_
        self.pause: Callable[[str, str], None] | None = None  # called at each act, to interfere
        self.turns = 0  # how often others get a turn at each act

    async def connect(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def read(self, now_s: float) -> list[Reading]:
        """Every knob as it reads now."""
        found = await self.present(self.device.points)
        return [Reading(k, p.value, now_s, Quality.GOOD) for k, p in found.items()]

    async def present(self, points: Sequence[Point]) -> dict[str, Present]:
        """Value, active priority and our slot of each point."""
        await self._at("present")
        try:
            priority = self.device.write_priority
            read = {p.key: self.field.read(p.key, priority) for p in points}
        except Silent as error:
            raise Transient(str(error)) from error
        return {k: Present(v, active, ours, slots=self.field.cells[k].slots is not None)
                for k, (v, active, ours) in read.items()}  # fmt: skip

    async def write_raw(self, values: Mapping[str, float | None]) -> None:
        """One request."""
        await self._at("write")
        try:
            self.field.write(values, self.device.write_priority)
        except No as error:
            raise Refused(str(error)) from error
        except Silent as error:
            raise Transient(str(error)) from error
        await self._at("written")

    async def _at(self, act: str) -> None:
        for _ in range(self.turns):
            await asyncio.sleep(0)
        if self.pause is not None:
            self.pause(self.device.id, act)


@dataclass
class World:
    """The hall's devices and sensors, and the agents that come and go on one journal."""

    folder: Path
    site: Site
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(START_S))
    log: list[Wrote] = field(default_factory=list)
    made: Compiled | None = None  # the site compiled, where many worlds have one

    def __post_init__(self) -> None:
        self.limits = limits_of()
        self.fields = {
            name: Field(name, self.clock.boot_s, {f"{name}/{k[0]}": Cell(k[5], {} if name == "bms" else None)
                                                 for k in knobs}, self.log)
            for name, (_, knobs) in KNOBS.items()
        }  # fmt: skip
        self.drivers = {n: BridgeDriver(self.site.device[n], f) for n, f in self.fields.items()}
        self.sensors = {p.key: _normal(p) for p in self.site.points.values() if not p.writable}
        self.journal: Journal | None = None

    def start(self, kind: type[Agent] = Agent) -> Agent:
        """A new run of the agent on the journal as it is."""
        self.journal = Journal(
            self.folder / "journal.db", lambda: (self.clock.boot_id, self.clock.boot_s())
        )

        def gate(armed: Callable[[Point], bool]) -> Gate:
            assert self.journal is not None
            return Gate(self.site.points, self.drivers, self.journal, armed)

        return kind(self.site, self.clock, self.journal, gate, made=self.made)

    def stop(self) -> None:
        """The process is gone; only what is on disk stays."""
        if self.journal is not None:
            self.journal.close()

    def poll(self, agent: Agent) -> None:
        """Every sensor and every knob of a device that answers."""
        now_s = self.clock.now_s()
        read = {k: v for k, v in self.sensors.items() if v is not None}
        for field_ in self.fields.values():
            if field_.up and not field_.reads_nothing:
                read |= {key: cell.present() for key, cell in field_.cells.items()}
                field_.seen |= field_.cells.keys()
        values = np.fromiter(read.values(), np.float64, len(read))
        bad = dict.fromkeys(np.flatnonzero(~np.isfinite(values)).tolist(), (Quality.BAD, ""))
        agent.store.update(Sweep(tuple(read), values, now_s, bad))

    def holds(self) -> dict[str, float]:
        """What stands on each device: the value, or our slot's content (NaN: empty)."""
        found = {}
        for name, field_ in self.fields.items():
            for key, cell in field_.cells.items():
                ours = (cell.slots or {}).get(self.site.device[name].write_priority, math.nan)
                found[key] = cell.value if cell.slots is None else ours
        return found


def _normal(point: Point) -> float | None:
    return {"inlet_c": 22.0, "pdu_kw": 6.0, "latency_p95_ms": 150.0}.get(point.quantity, 0.0)
