"""From what a device holds to points: a profile's tables applied to walked columns.

Pure: columns come in, points go out. A row becomes a point only where the profile says what
it is and the device says the rest (scale, unit, description) in words the profile knows.
Nothing is guessed: a row with an unknown unit or a sentinel is left out, and counted.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from config.addressing import parse_oid
from config.profile_schema import TableSection
from config.quantities import QUANTITIES, to_canonical
from drivers.snmp import number_in, text_of
from drivers.snmp_ber import Absent, Oid, Value

Rows = Mapping[Oid, Value]
MAX_ID = 64


@dataclass(frozen=True, slots=True)
class Found:
    """A point that a device offers, as it will stand in a site file."""

    id: str
    quantity: str
    oid: str
    unit: str
    scale: float = 1.0
    sentinels: tuple[float, ...] = ()
    part: bool = False
    valid_while: tuple[tuple[str, str], ...] = ()
    label: str = ""
    value: float = 0.0  # what it reads now, in the quantity's unit


@dataclass
class Expansion:
    """Points found, and how many rows were left out for what reason."""

    points: list[Found] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    def skip(self, reason: str) -> None:
        """Count a row that became no point."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1


def column_of(ref: str) -> str:
    """The column a reference reads."""
    return ref.partition("@")[0]


def columns_of(table: TableSection) -> tuple[str, ...]:
    """Every auxiliary column a table needs besides its values."""
    refs = [*table.name, *table.where, *table.check]
    refs += [
        r
        for r in (table.unit_from, table.scale_from, table.digits, table.divisor, table.factor)
        if r
    ]
    return tuple(dict.fromkeys(column_of(r) for r in refs))


def for_device(tables: Iterable[TableSection], object_id: str) -> tuple[TableSection, ...]:
    """Put the device's own sysObjectID where a profile says {device}."""

    def own(ref: str) -> str:
        return ref.replace("{device}", object_id)

    return tuple(
        table
        if "{device}" not in table.oid
        else table.model_copy(
            update={
                "oid": own(table.oid),
                "name": tuple(map(own, table.name)),
                "where": {own(k): v for k, v in table.where.items()},
                "unless": own(table.unless) if table.unless else None,
                "part_if": own(table.part_if) if table.part_if else None,
            }
        )
        for table in tables
    )


def expand(tables: tuple[TableSection, ...], columns: Mapping[str, Rows]) -> Expansion:
    """Apply tables to walked columns (column OID -> index -> value)."""
    result = Expansion()
    taken: set[str] = set()
    ids: set[str] = set()
    labels: set[tuple[str, str]] = set()
    sources: set[tuple[str, str]] = set()
    for table in tables:
        if table.unless is not None and columns.get(table.unless):
            continue
        for index, value in columns.get(table.oid, {}).items():
            oid = ".".join((table.oid, *map(str, index)))
            if oid in taken or not re.fullmatch(table.index, ".".join(map(str, index))):
                continue
            row = _Row(table, index, columns)
            if not row.matches():
                continue
            point = row.point(oid, value, ids)
            if isinstance(point, str):
                result.skip(point)
                continue
            dimension = QUANTITIES[point.quantity].unit
            if table.new_label and (dimension, point.label) in labels:
                continue
            if table.part_if and (table.part_if, point.quantity) in sources:
                point = replace(point, part=True)
            taken.add(oid)
            ids.add(point.id)
            sources.add((table.oid, point.quantity))
            labels.add((dimension, point.label))
            result.points.append(point)
    return result


class _Row:
    """One row of a table, with access to what the device says beside the value."""

    def __init__(self, table: TableSection, index: Oid, columns: Mapping[str, Rows]) -> None:
        self.table, self.index, self.columns = table, index, columns

    def _place(self, ref: str) -> tuple[str, Oid]:
        column, _, at = ref.partition("@")
        return column, self.index if not at else tuple(map(int, self._filled(at, ".").split(".")))

    def _filled(self, pattern: str, joint: str) -> str:
        """Put parts of the index into a pattern: {1}, {2-}, and {i} for all of it."""
        parts = [str(p) for p in self.index]
        text = pattern.replace("{i}", joint.join(parts))
        text = re.sub(r"\{(\d+)-\}", lambda m: joint.join(parts[int(m[1]) - 1 :]), text)
        return re.sub(
            r"\{(\d+)\}", lambda m: parts[int(m[1]) - 1] if int(m[1]) <= len(parts) else "0", text
        )

    def _at(self, ref: str) -> Value:
        column, index = self._place(ref)
        return self.columns.get(column, {}).get(index, Absent.NO_SUCH_INSTANCE)

    def matches(self) -> bool:
        """Whether this row is one the table is about."""
        return all(
            re.search(pattern, text_of(self._at(ref)), re.IGNORECASE)
            for ref, pattern in self.table.where.items()
        )

    def point(self, oid: str, value: Value, ids: set[str]) -> Found | str:
        """The point this row is, or why it is none."""
        table = self.table
        raw = number_in(value)
        if isinstance(raw, str):
            return "no number"
        if raw in table.sentinels:
            return f"{raw:g} means: not there"
        unit, scale = self._unit(), self._scale()
        if unit is None:
            return "its unit is none that Skadi knows"
        if scale is None:
            return "its scale is not given"
        factor, shift = to_canonical(unit)
        reads = raw * scale * factor + shift
        about = QUANTITIES[table.quantity]
        if not about.low <= reads <= about.high:
            return f"{reads:g} {about.unit} can't be"
        return Found(
            self._id(ids), table.quantity, oid, unit, scale, table.sentinels, table.part,
            self._guards(), self._label(), reads,
        )  # fmt: skip

    def _unit(self) -> str | None:
        table = self.table
        if table.unit_from is None:
            return table.unit if table.unit is not None else QUANTITIES[table.quantity].unit
        said = text_of(self._at(table.unit_from))
        return next((unit for word, unit in table.units.items() if word == said), None)

    def _scale(self) -> float | None:
        """The fixed scale times what the device says of it. None: it says nothing usable."""
        table, scale = self.table, self.table.scale
        if table.scale_from:
            named = table.scales.get(text_of(self._at(table.scale_from)))
            if named is None:
                return None
            scale *= named
        if table.digits:
            digits = number_in(self._at(table.digits))
            if isinstance(digits, str) or not (-12 <= digits <= 12 and digits.is_integer()):
                return None
            scale /= 10 ** max(int(digits), 0)  # below 0: how exact it is (RFC 3433), no scale
        if table.divisor:
            divisor = number_in(self._at(table.divisor))
            if isinstance(divisor, str) or not divisor > 0:
                return None
            scale /= divisor
        if table.factor:
            factor = number_in(self._at(table.factor))
            if isinstance(factor, str):
                return None
            scale = scale / -factor if factor < 0 else scale * (factor or 1.0)
        return scale if math.isfinite(scale) and scale else None

    def _guards(self) -> tuple[tuple[str, str], ...]:
        """What must keep reading as it does now: the unit, and what the profile names."""
        refs = dict.fromkeys([*([self.table.unit_from] if self.table.unit_from else []),
                              *self.table.check])  # fmt: skip
        places = [self._place(ref) for ref in refs]
        guards = [
            (parse_oid(column) + index, self.columns.get(column, {}).get(index))
            for column, index in places
        ]
        return tuple((".".join(map(str, o)), text_of(v)) for o, v in guards if v is not None)

    def _label(self) -> str:
        said = [text_of(self._at(ref)) for ref in self.table.name]
        return " ".join(t for t in dict.fromkeys(said) if t)

    def _id(self, ids: set[str]) -> str:
        """An id from the index, which stays when a label is changed."""
        name = self._filled(self.table.id, "-")
        if name in ids or len(name) > MAX_ID:
            name = f"{name[: MAX_ID - 20]}-{'-'.join(map(str, self.index))}"[:MAX_ID]
        count = 2
        base = name
        while name in ids:
            name = f"{base[: MAX_ID - 4]}-{count}"
            count += 1
        return name
