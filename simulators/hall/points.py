"""What the hall lets one read and write: names, quantities, bounds, sensors.

Ids are "device/point", the same as in the site file the simulators write. Decides nothing
about protocols: simulators/site.py says where each point lives on the wire.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from simulators.hall.constants import CONSTANTS as K
from simulators.hall.layout import CRACS, RACKS, ROWS


@dataclass(frozen=True, slots=True)
class PlantPoint:
    """One reading or knob; None where an attribute doesn't apply. `baseline`: before anybody acts."""

    id: str
    quantity: str
    unit: str
    row: str | None = None
    rack: str | None = None
    writable: bool = False
    min: float | None = None
    max: float | None = None
    max_step: float | None = None
    baseline: float | None = None


@dataclass(frozen=True, slots=True)
class Knob:
    """One kind of setpoint: the site's envelope, and what the device itself takes at most.

    A device accepts more than a site allows: keeping to the envelope is the writer's duty.
    """

    name: str
    quantity: str
    unit: str
    min: float
    max: float
    max_step: float
    baseline: float
    takes: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Sensor:
    """One group of readings of a kind: 1-sigma noise, absolute or relative, and resolution."""

    name: str
    quantity: str
    unit: str
    device: str  # "pdu", "gpu", "crac", "pump", "vllm", "bms"
    noise: float = 0.0
    relative: bool = False
    step: float = 0.0  # resolution; 0: as computed


# fan_rpm_setpoint_pct is a speed limit, as a Liebert iCOM's "fan max": the unit's own
# return-air controller works below it. 100 gives the unit its full authority back, so that
# baseline and safe value are one.
KNOBS: Final[dict[str, Knob]] = {
    k.name: k
    for k in (
        Knob("supply_air_setpoint_c", "supply_air_setpoint_c", "degC", 16, 27, 1, 18, (10, 35)),
        Knob("fan_rpm_setpoint_pct", "fan_rpm_pct", "%", 40, 100, 5, 100, (20, 100)),
        Knob("pump_rpm_setpoint_pct", "pump_rpm_pct", "%", 50, 100, 5, 100, (20, 100)),
        Knob("chilled_water_setpoint_c", "chilled_water_setpoint_c", "degC", 7, 18, 0.5, 7, (4, 22)),
        Knob("traffic_share_pct", "traffic_share_pct", "%", 5, 30, 5, 100 / 6, (0, 100)),
        Knob("batch_window_ms", "batch_window_ms", "ms", 0, 120, 40, 40, (0, 1000)),
        Knob("admission_pct", "admission_pct", "%", 0, 100, 50, 100, (0, 100)),
    )
}  # fmt: skip

RACK_SENSORS: Final = (
    Sensor("inlet_c", "inlet_c", "degC", "pdu", K.noise_air_c, False, 0.1),
    Sensor("outlet_c", "outlet_c", "degC", "pdu", K.noise_air_c, False, 0.1),
    Sensor("pdu_kw", "pdu_kw", "kW", "pdu", K.noise_power, True, 0.01),
    Sensor("gpu_power_kw", "gpu_power_kw", "kW", "gpu", K.noise_power, True, 0.001),
)
CRAC_SENSORS: Final = (
    Sensor("supply_air_c", "supply_air_c", "degC", "crac", K.noise_air_c, False, 0.1),
    Sensor("return_air_c", "return_air_c", "degC", "crac", K.noise_air_c, False, 0.1),
    Sensor("fan_rpm_pct", "fan_rpm_pct", "%", "crac", K.noise_fan_pct, False, 0.1),
    Sensor("valve_pct", "valve_pct", "%", "crac", 0.0, False, 0.1),
    Sensor("state", "state", "", "crac"),
)
ROW_SENSORS: Final = (
    Sensor("pump_rpm_pct", "pump_rpm_pct", "%", "pump", K.noise_fan_pct, False, 0.1),
    Sensor("flow_lps", "flow_lps", "l/s", "pump", 0.004, True, 0.01),
    Sensor("tokens_ps", "tokens_ps", "1/s", "vllm"),
    Sensor("prompts_ps", "prompts_ps", "1/s", "vllm"),
    Sensor("prompts_total", "prompts_total", "", "vllm"),
    Sensor("latency_p95_ms", "latency_p95_ms", "ms", "vllm", K.noise_latency, True, 0.1),
    Sensor("queue_depth", "queue_depth", "", "vllm", 0.0, False, 1.0),
    Sensor("zone_c", "zone_c", "degC", "bms", K.noise_air_c, False, 0.1),
    Sensor("containment_pa", "differential_pressure_pa", "Pa", "bms", 0.15, False, 0.1),
)
HALL_SENSORS: Final = (
    Sensor("outdoor_c", "outdoor_c", "degC", "bms", K.noise_air_c, False, 0.1),
    Sensor("outdoor_humidity_pct", "outdoor_humidity_pct", "%", "bms", K.noise_humidity_pct, False, 0.1),
    Sensor("humidity_pct", "humidity_pct", "%", "bms", K.noise_humidity_pct, False, 0.1),
    Sensor("chilled_water_c", "chilled_water_c", "degC", "bms", K.noise_water_c, False, 0.01),
    Sensor("flow_lps", "flow_lps", "l/s", "bms", 0.003, True, 0.01),
    Sensor("it_kw", "it_power_kw", "kW", "bms", K.noise_power, True, 0.1),
    Sensor("cooling_kw", "cooling_power_kw", "kW", "bms", K.noise_power, True, 0.1),
    Sensor("total_kw", "total_power_kw", "kW", "bms", K.noise_power, True, 0.1),
    Sensor("chillers_running", "state", "", "bms"),
    Sensor("leak", "state", "", "bms"),
    Sensor("fire", "state", "", "bms"),
    Sensor("ups_on_battery", "state", "", "bms"),
    Sensor("maintenance", "state", "", "bms"),
)  # fmt: skip


def readings() -> Iterator[tuple[Sensor, PlantPoint]]:
    """Yield every reading in the order in which the hall computes them."""
    for sensor in RACK_SENSORS:
        for rack in RACKS:
            name = f"{sensor.device}-{rack[0].lower()}/{sensor.name}.{rack}"
            yield sensor, PlantPoint(name, sensor.quantity, sensor.unit, rack[0], rack)
    for sensor in CRAC_SENSORS:
        for crac in CRACS:
            row = crac[5].upper()
            yield sensor, PlantPoint(f"{crac}/{sensor.name}", sensor.quantity, sensor.unit, row)
    for sensor in ROW_SENSORS:
        for row in ROWS:
            name = f"{sensor.device}-{row.lower()}/{sensor.name}"
            if sensor.device == "bms":
                name = f"bms/{sensor.name}.{row}"
            yield sensor, PlantPoint(name, sensor.quantity, sensor.unit, row)
    for sensor in HALL_SENSORS:
        yield sensor, PlantPoint(f"bms/{sensor.name}", sensor.quantity, sensor.unit)


def knobs() -> Iterator[tuple[Knob, str, str | None]]:
    """Yield (kind, id, row) of every setpoint of the hall."""
    for crac in CRACS:
        for kind in ("supply_air_setpoint_c", "fan_rpm_setpoint_pct"):
            yield KNOBS[kind], f"{crac}/{kind}", crac[5].upper()
    for row in ROWS:
        kind = "pump_rpm_setpoint_pct"
        yield KNOBS[kind], f"pump-{row.lower()}/{kind}", row
    yield KNOBS["chilled_water_setpoint_c"], "bms/chilled_water_setpoint_c", None
    for row in ROWS:
        yield KNOBS["traffic_share_pct"], f"router/traffic_share_pct.{row}", row
    yield KNOBS["batch_window_ms"], "router/batch_window_ms", None
    yield KNOBS["admission_pct"], "router/admission_pct", None
