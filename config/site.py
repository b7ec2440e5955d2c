"""The site as the running agent sees it: resolved, immutable, with every default filled in.

`config.loader` makes one of these from TOML; nothing else does. Keys of points are
"device/point" everywhere (journal, MQTT, CLI, interlocks).
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from config.addresses import Address, ModbusAddress, SnmpAddress
from config.links import SerialSection, TlsSection
from config.quantities import AIR, QUANTITIES, Quantity
from config.schema import (
    AgentSection,
    ApiSection,
    AuthSection,
    HistorySection,
    ImsSection,
    LimitsSection,
    LoopsSection,
    MmsSection,
    MqttSection,
    OptimizerSection,
    PairSection,
)
from config.secrets import SecretRef

Mode = Literal["advisory", "closed_loop"]


NO_RACKS = "no point says its rack: inlets and rack power stand nowhere; set rack and row"


@dataclass(frozen=True, slots=True)
class Writable:
    """What may be written to a point, in the quantity's own unit, and how it is given back.

    safe_value: full cooling (None: the point is given back by relinquishing, or to its
    baseline). relinquish: the device has a priority array and takes Null at our slot.
    baseline_max_age_s: a baseline read longer ago than this is not replayed; where there is no
    safe_value to take its place, a lease is not prolonged beyond it.
    """

    min: float
    max: float
    max_step: float
    deadband: float = 0.0
    min_interval_s: float = 120.0
    settle_s: float = 300.0
    max_writes_per_day: int = 96
    safe_value: float | None = None
    relinquish: bool = False
    baseline_max_age_s: float = 86_400.0


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one device. `scale`/`offset` turn raw numbers into the quantity's unit.

    part: part of another value (an outlet of a PDU) or nothing to be summed (apparent
    power): read and kept, never summed nor decided on.
    """

    key: str
    device: str
    id: str
    quantity: str
    unit: str
    address: Address
    equipment: str
    row: str | None = None
    rack: str | None = None
    zone: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    sentinels: tuple[float, ...] = ()
    part: bool = False
    max_age_s: float = 15.0
    max_slew_per_s: float = 0.0
    writable: Writable | None = None

    @property
    def limits(self) -> Writable:
        """The write limits of a writable point. Raises ValueError for any other."""
        if self.writable is None:
            raise ValueError(f"{self.key} is not writable")
        return self.writable

    @property
    def about(self) -> Quantity:
        """The row of the quantity table this point belongs to."""
        return QUANTITIES[self.quantity]

    @property
    def grain(self) -> float:
        """Half the distance between two values an integer on the wire can stand for; else 0."""
        address = self.address
        whole = isinstance(address, SnmpAddress) or (
            isinstance(address, ModbusAddress) and "int" in address.type
        )
        return abs(self.scale) * 0.5 if whole else 0.0

    def same(self, found: float | None, wanted: float | None) -> bool:
        """True when two values are one to the device: within its grain, or single precision."""
        if found is None or wanted is None:
            return found is wanted
        return abs(found - wanted) <= max(self.grain, 5e-4 * max(1.0, abs(wanted))) + 1e-9


@dataclass(frozen=True, slots=True)
class Device:
    """One thing with an address: where it is, how to speak to it, and its points."""

    id: str
    protocol: str
    points: tuple[Point, ...]
    host: str = ""
    port: int = 0
    url: str = ""
    unit_id: int = 1
    device_instance: int | None = None
    write_priority: int = 12
    timeout_s: float = 1.0
    poll_interval_s: float = 5.0
    auth: AuthSection | None = None
    token: SecretRef | None = None
    profile: str | None = None
    row: str | None = None
    rack: str | None = None
    zone: str | None = None
    local_address: str | None = None
    max_registers: int = 125
    max_gap: int = 8
    no_read: tuple[str, ...] = ()
    write_multiple: bool = False
    pause_ms: float = 0.0
    serial: SerialSection | None = None
    tls: TlsSection | None = None
    dry_run: bool = True
    program: str | None = None
    cov_lifetime_s: int | None = None
    bacnet_network: int | None = None
    bacnet_mac: str | None = None
    heartbeat: str | None = None  # the id of one of its points

    @property
    def address(self) -> str:
        """The address for people: a URL, a serial line, or host:port."""
        return self.url or (self.serial.path if self.serial else f"{self.host}:{self.port}")


@dataclass(frozen=True, slots=True)
class Interlock:
    """A condition that stops writing, as data (config.interlocks says what the keys mean)."""

    id: str
    point: str | None
    scope: str
    action: Literal["hold", "release", "safe_value"]
    trip_above: float | None = None
    trip_below: float | None = None
    for_s: float = 0.0
    kind: str = "value"
    temperature: str | None = None
    humidity: str | None = None
    within_s: float | None = None
    only: tuple[str, ...] = ()
    latch: bool = True

    @property
    def inputs(self) -> tuple[str, ...]:
        """The points it reads."""
        return tuple(p for p in (self.point, self.temperature, self.humidity) if p is not None)


@dataclass(frozen=True, slots=True)
class Unit:
    """A cooling unit and the state points that say whether it can be counted on (1: it is so)."""

    equipment: str
    running: str | None = None
    local: str | None = None
    alarm: str | None = None
    maintenance: str | None = None
    capacity_kw: float = 1.0

    @property
    def inputs(self) -> tuple[str, ...]:
        """The points it reads."""
        found = (self.running, self.local, self.alarm, self.maintenance)
        return tuple(p for p in found if p is not None)


@dataclass(frozen=True)
class Site:
    """Everything about a site. Immutable; a reload makes a new one."""

    id: str
    area: str
    timezone: str
    agent: AgentSection
    loops: LoopsSection
    limits: LimitsSection
    ims: ImsSection
    mms: MmsSection
    optimizer: OptimizerSection
    history: HistorySection
    mqtt: MqttSection | None
    api: ApiSection | None
    devices: tuple[Device, ...]
    interlocks: tuple[Interlock, ...] = ()
    units: tuple[Unit, ...] = ()
    pair: PairSection | None = None
    simulated: bool = False
    source: Path | None = None

    @cached_property
    def points(self) -> dict[str, Point]:
        """Every point by its key."""
        return {p.key: p for d in self.devices for p in d.points}

    @cached_property
    def writable_points(self) -> dict[str, Point]:
        """The points that may be written at all, by key."""
        return {k: p for k, p in self.points.items() if p.writable is not None}

    @cached_property
    def device(self) -> dict[str, Device]:
        """Every device by its id."""
        return {d.id: d for d in self.devices}

    @cached_property
    def unit(self) -> dict[str, Unit]:
        """Every declared cooling unit by its equipment."""
        return {u.equipment: u for u in self.units}

    @cached_property
    def air_units(self) -> dict[str, dict[str, tuple[Point, ...]]]:
        """By zone, the equipment whose air may be moved there, with all its points."""
        found: dict[str, dict[str, tuple[Point, ...]]] = {}
        for p in self.writable_points.values():
            if p.zone is not None and p.quantity in AIR:
                mine = tuple(q for q in self.points.values() if q.equipment == p.equipment)
                found.setdefault(p.zone, {})[p.equipment] = mine
        return found

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """The ids of all rows, sorted."""
        return tuple(sorted({p.row for p in self.points.values() if p.row is not None}))

    @cached_property
    def racks(self) -> tuple[str, ...]:
        """The ids of all racks, sorted: the order of every per-rack array."""
        return tuple(sorted({p.rack for p in self.points.values() if p.rack is not None}))

    @cached_property
    def row_of_rack(self) -> dict[str, str]:
        """Which row a rack stands in, as far as any point says so."""
        return {p.rack: p.row for p in self.points.values() if p.rack and p.row}

    def of_quantity(self, *quantities: str) -> tuple[Point, ...]:
        """The points of these quantities, in the order of the site file."""
        found = [(i, p) for q in quantities for i, p in self._by_quantity.get(q, ())]
        return tuple(p for _, p in sorted(found, key=lambda each: each[0]))

    @cached_property
    def _by_quantity(self) -> dict[str, list[tuple[int, Point]]]:
        found: dict[str, list[tuple[int, Point]]] = {}
        for i, p in enumerate(self.points.values()):
            found.setdefault(p.quantity, []).append((i, p))
        return found
