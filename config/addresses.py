"""Where a point lives on the wire, one address type a protocol, and the TOML keys of each.

An address is parsed once, at load. Drivers read these fields and never the TOML.
"""

from dataclasses import dataclass
from typing import Literal

RegisterKind = Literal["coil", "discrete", "input", "holding"]
RegisterType = Literal[
    "bool", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"
]
Order = Literal["big", "little"]

REGISTER_WORDS: dict[str, int] = {
    "bool": 1, "uint16": 1, "int16": 1, "uint32": 2, "int32": 2,
    "uint64": 4, "int64": 4, "float32": 2, "float64": 4,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModbusAddress:
    """A register or coil: 0-based on the wire. `bit` picks one bit of a 16-bit register."""

    kind: RegisterKind
    offset: int
    type: RegisterType = "uint16"
    word_order: Order = "big"
    byte_order: Order = "big"
    bit: int | None = None

    @property
    def words(self) -> int:
        """Number of 16-bit registers (or 1 coil) the value takes."""
        return REGISTER_WORDS[self.type]


@dataclass(frozen=True, slots=True)
class BacnetAddress:
    """One property of a BACnet object; `present-value` unless said otherwise."""

    object_type: str
    instance: int
    property: str = "present-value"


@dataclass(frozen=True, slots=True)
class SnmpAddress:
    """One OID, as a tuple of sub-identifiers.

    valid_while: other OIDs and what they must read, or the value is in another unit.
    """

    oid: tuple[int, ...]
    valid_while: tuple[tuple[tuple[int, ...], str], ...] = ()

    def __str__(self) -> str:
        return ".".join(map(str, self.oid))


@dataclass(frozen=True, slots=True)
class MetricAddress:
    """Samples of a Prometheus exposition and how they become one number.

    kind: gauge (value), rate (counters over a sliding window_s -> per second), quantile
    (histogram buckets over a sliding window_s -> that quantile). Several samples that match are aggregated.
    `metrics` are alternatives, newest name first: the first one present is used. A label
    matches when its value is one of those given.
    """

    metrics: tuple[str, ...]
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    kind: Literal["gauge", "rate", "quantile"] = "gauge"
    quantile: float = 0.95
    window_s: float = 60.0
    min_count: int = 20
    limit: float | None = None  # raw; a quantile that can't tell when it is crossed is refused
    aggregate: Literal["sum", "mean", "max", "min"] = "sum"


@dataclass(frozen=True, slots=True)
class WorkloadAddress:
    """A knob of the workload router; `row` for the traffic share of one row."""

    knob: Literal["traffic_share_pct", "batch_window_ms", "admission_pct"]
    row: str | None = None


@dataclass(frozen=True, slots=True)
class NamedAddress:
    """A value found by its name alone: a pushed reading, or a plant's point."""

    name: str


Address = (
    ModbusAddress | BacnetAddress | SnmpAddress | MetricAddress | WorkloadAddress | NamedAddress
)
