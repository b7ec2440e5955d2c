"""The one table that says where each point of the hall lives on a wire.

Servers (simulators/devices) and the written site file (simulators/site_file.py) both come
from it, so they can't disagree. Register maps follow the shape of real units (holding:0 is
the supply air set point), OIDs are APC's rPDU2 (PowerNet-MIB 318.1.1.26), metric names are
dcgm-exporter's and vLLM's.
"""

from dataclasses import dataclass, field, replace
from typing import Final

from simulators.hall.layout import CRACS, RACKS_PER_ROW, ROWS
from simulators.hall.points import KNOBS, Knob

DEFAULT_PORT_BASE: Final = 15_000
RPDU2: Final = "1.3.6.1.4.1.318.1.1.26"
POWER_OID: Final = f"{RPDU2}.4.3.1.5"
TEMPERATURE_OID: Final = f"{RPDU2}.10.2.2.1.8"
BMS_INSTANCE: Final = 1200


@dataclass(frozen=True, slots=True)
class Register:
    """A Modbus register; raw = value / scale."""

    kind: str  # "input", "holding", "discrete"
    offset: int
    type: str = "uint16"
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class BacnetObject:
    """A BACnet object's present value."""

    type: str
    instance: int


@dataclass(frozen=True, slots=True)
class Oid:
    """An SNMP instance; raw = value / scale."""

    text: str
    scale: float


@dataclass(frozen=True, slots=True)
class Metric:
    """Samples of a Prometheus exposition."""

    names: tuple[str, ...]
    labels: tuple[tuple[str, str], ...] = ()
    kind: str = "gauge"
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """A knob of the workload router; `row` for a traffic share."""

    knob: str
    row: str | None = None


@dataclass(frozen=True, slots=True)
class Pushed:
    """A value that the device sends by itself; `source` is the point of the hall it measures."""

    source: str


Wire = Register | BacnetObject | Oid | Metric | Share | Pushed


@dataclass(frozen=True, slots=True)
class WirePoint:
    """A point of the hall ("device/point") on a wire; `unit` is the one spoken there."""

    id: str
    quantity: str
    unit: str
    wire: Wire
    row: str | None = None
    rack: str | None = None
    equipment: str | None = None
    knob: Knob | None = None

    @property
    def short(self) -> str:
        """The id within its device."""
        return self.id.split("/", 1)[1]


@dataclass(frozen=True, slots=True)
class SiteDevice:
    """One device with its own address; `port` 0 until bound when ports are chosen freely."""

    id: str
    protocol: str
    host: str
    port: int
    points: tuple[WirePoint, ...]
    row: str | None = None
    zone: str | None = None
    unit_id: int = 1
    snmp: str = "2c"
    path: str = ""
    hosts: dict[str, str] = field(default_factory=dict)  # GPU host name -> rack

    @property
    def url(self) -> str:
        """The address of an HTTP device."""
        return f"http://{self.host}:{self.port}{self.path}"

    def at(self, port: int) -> "SiteDevice":
        """Return the same device, bound to `port`."""
        return replace(self, port=port)


def _input(device: str, name: str, quantity: str, unit: str, at: Register, row: str) -> WirePoint:
    return WirePoint(f"{device}/{name}", quantity, unit, at, row)


def _crac(i: int, device: str, port: int) -> SiteDevice:
    row = device[5].upper()

    def setpoint(kind: str, offset: int, type_: str) -> WirePoint:
        k = KNOBS[kind]
        wire = Register("holding", offset, type_, 0.1)
        return WirePoint(f"{device}/{kind}", k.quantity, k.unit, wire, row, knob=k)

    points = (
        _input(
            device, "supply_air_c", "supply_air_c", "degC", Register("input", 0, "int16", 0.1), row
        ),
        _input(
            device, "return_air_c", "return_air_c", "degC", Register("input", 1, "int16", 0.1), row
        ),
        _input(device, "fan_rpm_pct", "fan_rpm_pct", "%", Register("input", 2, "uint16", 0.1), row),
        _input(device, "valve_pct", "valve_pct", "%", Register("input", 3, "uint16", 0.1), row),
        _input(device, "state", "state", "", Register("input", 4), row),
        setpoint("supply_air_setpoint_c", 0, "int16"),
        setpoint("fan_rpm_setpoint_pct", 1, "uint16"),
    )
    zone = f"row-{row.lower()}"
    return SiteDevice(device, "modbus-tcp", f"127.0.0.{11 + i}", port, points, row, zone)


def _pump(i: int, row: str, port: int) -> SiteDevice:
    device = f"pump-{row.lower()}"
    k = KNOBS["pump_rpm_setpoint_pct"]
    points = (
        _input(
            device, "pump_rpm_pct", "pump_rpm_pct", "%", Register("input", 0, "uint16", 0.1), row
        ),
        _input(device, "flow_lps", "flow_lps", "l/s", Register("input", 1, "float32"), row),
        WirePoint(
            f"{device}/{k.name}",
            k.quantity,
            k.unit,
            Register("holding", 0, "uint16", 0.1),
            row,
            knob=k,
        ),
    )
    zone = f"row-{row.lower()}"
    return SiteDevice(device, "modbus-tcp", f"127.0.0.{31 + i}", port, points, row, zone)


# id, quantity, unit, object type, instance
_BMS_INPUTS: Final = (
    ("outdoor_c", "outdoor_c", "degC", "analog-input", 1),
    ("cooling_kw", "cooling_power_kw", "kW", "analog-input", 2),
    ("chilled_water_c", "chilled_water_c", "degC", "analog-input", 3),
    ("it_kw", "it_power_kw", "kW", "analog-input", 4),
    ("total_kw", "total_power_kw", "kW", "analog-input", 5),
    ("outdoor_humidity_pct", "outdoor_humidity_pct", "%", "analog-input", 6),
    ("humidity_pct", "humidity_pct", "%", "analog-input", 7),
    ("flow_lps", "flow_lps", "l/s", "analog-input", 8),
    ("chillers_running", "state", "", "analog-input", 9),
    ("leak", "state", "", "binary-input", 3),
    ("fire", "state", "", "binary-input", 4),
    ("ups_on_battery", "state", "", "binary-input", 5),
    ("maintenance", "state", "", "binary-input", 6),
)  # fmt: skip


def _bms(port: int) -> SiteDevice:
    points = [
        WirePoint(f"bms/{name}", quantity, unit, BacnetObject(kind, instance))
        for name, quantity, unit, kind, instance in _BMS_INPUTS
    ]
    for i, row in enumerate(ROWS):
        for name, quantity, unit, first in (
            ("zone_c", "zone_c", "degC", 11),
            ("containment_pa", "differential_pressure_pa", "Pa", 21),
        ):
            wire = BacnetObject("analog-input", first + i)
            points.append(WirePoint(f"bms/{name}.{row}", quantity, unit, wire, row))
    k = KNOBS["chilled_water_setpoint_c"]
    points.append(
        WirePoint(
            f"bms/{k.name}", k.quantity, k.unit, BacnetObject("analog-value", 7),
            equipment="chiller-1", knob=k,
        )
    )  # fmt: skip
    return SiteDevice("bms", "bacnet-ip", "127.0.1.20", port, tuple(points))


def _pdu(i: int, row: str, port: int) -> SiteDevice:
    device = f"pdu-{row.lower()}"
    points = []
    for n in range(1, RACKS_PER_ROW + 1):
        rack = f"{row}{n:02d}"
        for name, quantity, unit, oid, scale in (
            ("inlet_c", "inlet_c", "degC", f"{TEMPERATURE_OID}.{n}", 0.1),
            ("outlet_c", "outlet_c", "degC", f"{TEMPERATURE_OID}.{n + RACKS_PER_ROW}", 0.1),
            ("pdu_kw", "pdu_kw", "kW", f"{POWER_OID}.{n}", 0.01),
        ):
            points.append(
                WirePoint(f"{device}/{name}.{rack}", quantity, unit, Oid(oid, scale), row, rack)
            )
    version = "3" if row == "F" else "2c"
    return SiteDevice(device, "snmp", f"127.0.0.{41 + i}", port, tuple(points), row, snmp=version)


def host_name(rack: str) -> str:
    """Return the host name of the node in a rack, as its metrics say it."""
    return f"node-{rack.lower()}"


def _gpu(i: int, row: str, port: int) -> SiteDevice:
    device = f"gpu-{row.lower()}"
    racks = [f"{row}{n:02d}" for n in range(1, RACKS_PER_ROW + 1)]
    points = tuple(
        WirePoint(
            f"{device}/gpu_power_kw.{rack}", "gpu_power_kw", "W",
            Metric(("DCGM_FI_DEV_POWER_USAGE",), (("Hostname", host_name(rack)),)), row, rack,
        )
        for rack in racks
    )  # fmt: skip
    hosts = {host_name(rack): rack for rack in racks}
    return SiteDevice(
        device, "prometheus", f"127.0.0.{51 + i}", port, points, row, path="/metrics", hosts=hosts
    )


_VLLM_POINTS: Final = (
    ("tokens_ps", "tokens_ps", "1/s", Metric(("vllm:generation_tokens_total",), (), "rate")),
    ("prompts_ps", "prompts_ps", "1/s", Metric(("vllm:request_success_total",), (), "rate")),
    ("prompts_total", "prompts_total", "", Metric(("vllm:request_success_total",))),
    (
        "latency_p95_ms", "latency_p95_ms", "s",
        Metric(("vllm:time_to_first_token_seconds",), (), "quantile"),
    ),
    ("queue_depth", "queue_depth", "", Metric(("vllm:num_requests_waiting",))),
)  # fmt: skip


def _vllm(i: int, row: str, port: int) -> SiteDevice:
    device = f"vllm-{row.lower()}"
    points = tuple(
        WirePoint(f"{device}/{name}", quantity, unit, wire, row)
        for name, quantity, unit, wire in _VLLM_POINTS
    )
    return SiteDevice(device, "prometheus", f"127.0.0.{61 + i}", port, points, row, path="/metrics")


def _router(port: int) -> SiteDevice:
    points = [
        WirePoint(
            f"router/traffic_share_pct.{row}", "traffic_share_pct", "%",
            Share("traffic_share_pct", row), row, knob=KNOBS["traffic_share_pct"],
        )
        for row in ROWS
    ]  # fmt: skip
    points += [
        WirePoint(f"router/{k.name}", k.quantity, k.unit, Share(k.name), knob=k)
        for k in (KNOBS["batch_window_ms"], KNOBS["admission_pct"])
    ]
    return SiteDevice("router", "workload-http", "127.0.0.71", port, tuple(points))


def sensors(host: str, port: int) -> SiteDevice:
    """Return the gateway of wireless room sensors: it posts to an agent's API at host:port."""
    points = [
        WirePoint(f"sensors/zone_c.{row}", "zone_c", "degC", Pushed(f"bms/zone_c.{row}"), row)
        for row in ROWS
    ]
    points.append(
        WirePoint("sensors/humidity_pct", "humidity_pct", "%", Pushed("bms/humidity_pct"))
    )
    return SiteDevice("sensors", "push", host, port, tuple(points))


def devices(port_base: int = DEFAULT_PORT_BASE) -> list[SiteDevice]:
    """Return every device of the hall. port_base 0: all ports 0, chosen when bound."""

    def port(offset: int) -> int:
        return port_base + offset if port_base else 0

    return [
        *(_crac(i, crac, port(502)) for i, crac in enumerate(CRACS)),
        *(_pump(i, row, port(502)) for i, row in enumerate(ROWS)),
        _bms(port(808)),
        *(_pdu(i, row, port(161)) for i, row in enumerate(ROWS)),
        *(_gpu(i, row, port(400)) for i, row in enumerate(ROWS)),
        *(_vllm(i, row, port(800)) for i, row in enumerate(ROWS)),
        _router(port(880)),
    ]


CONTROL_OFFSET: Final = 881  # the simulators' own control API, on 127.0.0.1
BACNET_CLIENT_OFFSET: Final = 900  # the port the site file gives the agent's BACnet side
