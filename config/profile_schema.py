"""The keys of a device profile: what a model is, how to know it, and where its values live.

A profile is one TOML file, data only:

  [profile]    title, protocol, source of its facts, verified (seen on a real device) or not
               (from a document only: then everything is read-only until commissioned);
               `deny`: OIDs that must never be written; `tables_of`: other profiles whose
               tables apply too
  [match]      how `skadi scan` knows the model
  [[point]]    points with fixed addresses: what a site gets with `profile = "NAME"`; they may
               be writable, with their safe range
  [[table]]    SNMP columns that `skadi scan` expands into points, one for each row found

A profile may be written with dotted keys (profile.title = "...") and `table = [ { ... } ]`, one
column a line. OIDs that begin with a dot stand below profile.base; base "{device}" is the
sysObjectID the device gives, for vendors who number their models and repeat one tree.

In a table, an auxiliary column is written "OID" (same index as the value) or "OID@INDEX",
where INDEX may hold {1}, {2} ... for parts of the value's index and {2-} for all from the
second on: "1.3.6.1.4.1.1718.4.1.9.1.10@0" is a scalar.
"""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from config.quantities import QUANTITIES, units_for
from config.schema import Section

OID = r"(1|\{device\})(\.[0-9]{1,10}){1,60}"
REF = rf"^{OID}(@[0-9.{{}}-]+)?$"
Ref = Annotated[str, Field(pattern=REF)]
Column = Annotated[str, Field(pattern=rf"^{OID}$")]
Pattern = Annotated[str, Field(max_length=200)]


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    return pattern


class AboutSection(Section):
    """[profile]"""

    title: str
    protocol: Literal["snmp", "modbus-tcp", "bacnet-ip", "prometheus", "workload-http"]
    source: str
    verified: bool
    base: str = ""
    deny: Annotated[tuple[Column, ...], Field(strict=False)] = ()
    tables_of: Annotated[tuple[str, ...], Field(strict=False)] = ()
    note: str = ""


class MatchSection(Section):
    """[match]: all that is given must hold; the longest sys_object_id wins."""

    sys_object_id: Annotated[tuple[Column, ...], Field(strict=False)] = ()
    sys_descr: Pattern | None = None
    has: Annotated[tuple[Column, ...], Field(strict=False)] = ()  # any of these answers
    identity: Pattern | None = None  # Modbus: what a unit says of itself (FC 43), vendor first

    @field_validator("sys_descr", "identity")
    @classmethod
    def _pattern(cls, value: str | None) -> str | None:
        return value if value is None else _compiles(value)


class TableSection(Section):
    """[[table]]: one column of values. The first table that takes a row keeps it."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9{}_.-]+$")]
    quantity: str
    oid: Column
    index: Pattern = r"[0-9.]+"
    unit: str | None = None
    unit_from: Ref | None = None  # the device says the unit ...
    units: dict[str, str] = Field(default_factory=dict)  # ... in these words
    scale: float = 1.0
    digits: Ref | None = None  # the device says: divide by 10^digits
    divisor: Ref | None = None  # the device says: divide by this
    scale_from: Ref | None = None  # the device names its scale ...
    scales: dict[str, float] = Field(default_factory=dict)  # ... in these words
    factor: Ref | None = None  # the device says: multiply by this, or divide where negative
    sentinels: Annotated[tuple[float, ...], Field(strict=False)] = ()
    name: Annotated[tuple[Ref, ...], Field(strict=False)] = ()  # what the device calls it
    where: dict[Ref, Pattern] = Field(default_factory=dict)  # rows whose column matches
    check: Annotated[tuple[Ref, ...], Field(strict=False)] = ()  # verified at every read
    unless: Column | None = None  # not when this column answers too
    new_label: bool = False  # not when a point of this dimension and name was found
    part: bool = False
    part_if: Column | None = None  # part when that column gave a point of the same quantity

    @model_validator(mode="after")
    def _fits(self) -> "TableSection":
        if self.quantity not in QUANTITIES:
            raise ValueError(f"unknown quantity {self.quantity!r}")
        known = units_for(self.quantity)
        for unit in [*self.units.values(), *([self.unit] if self.unit is not None else [])]:
            if unit not in known:
                raise ValueError(f"{self.quantity} is not measured in {unit!r}")
        if bool(self.unit_from) != bool(self.units):
            raise ValueError("unit_from and units belong together")
        if bool(self.scale_from) != bool(self.scales):
            raise ValueError("scale_from and scales belong together")
        for pattern in (self.index, *self.where.values()):
            _compiles(pattern)
        return self
