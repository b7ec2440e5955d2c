"""The vocabulary of moves: five named ones, the same for the loops, the log and the operator.

A knob is a group of points that move together: the units of one zone, or the shares of all
rows. Decides which points a move takes and by how much; whether it is wise is the loops'.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from config.site import Point
from control.layout import Layout
from control.types import Change, Snapshot


@dataclass(frozen=True, slots=True)
class Move:
    """One named move: the quantities it changes, the sizes it may take, in their unit, and what it
    is called downwards and upwards."""

    name: str
    quantities: tuple[str, ...]
    sizes: tuple[float, ...]
    text: tuple[str, str]


MOVES: dict[str, Move] = {
    m.name: m
    for m in (
        Move("supply_air", ("supply_air_setpoint_c", "zone_setpoint_c", "chilled_water_setpoint_c"),
             (0.5, 1.0, -0.5, -1.0), ("colder air, and the water behind it", "warmer air, and the water behind it")),
        Move("fan", ("fan_rpm_pct",), (-3.0, -5.0, 3.0, 5.0), ("slower fans", "faster fans")),
        Move("pump", ("pump_rpm_pct",), (-3.0, -5.0, 3.0, 5.0), ("slower pumps", "faster pumps")),
        Move("traffic_shift", ("traffic_share_pct",), (10.0, 25.0), ("work to other rows", "work from other rows")),
        Move("batching", ("batch_window_ms",), (5.0, 10.0, 20.0, 40.0, -5.0, -10.0, -20.0, -40.0), ("a shorter batching window", "a longer batching window")),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Knob:
    """Points that move together, with the move they belong to and the scope they act in."""

    move: str
    quantity: str
    scope: str  # row:A | zone:.. | hall
    points: tuple[Point, ...]

    @cached_property
    def name(self) -> str:
        """Short and unique: the move, the quantity's first point, the scope."""
        return f"{self.move}|{self.quantity}|{self.scope}"

    @cached_property
    def row(self) -> str | None:
        """The row all its points stand in, or None."""
        rows = {p.row for p in self.points}
        return rows.pop() if len(rows) == 1 else None


def knobs(layout: Layout, allowed: tuple[str, ...]) -> tuple[Knob, ...]:
    """All knobs of a site for the allowed moves; traffic shares are one knob."""
    groups: dict[tuple[str, str, str], list[Point]] = {}
    for point in layout.site.writable_points.values():
        for move in MOVES.values():
            if point.quantity in move.quantities and move.name in allowed:
                scope = _scope(point)
                groups.setdefault((move.name, point.quantity, scope), []).append(point)
    return tuple(Knob(m, q, s, tuple(points)) for (m, q, s), points in groups.items())


def _scope(point: Point) -> str:
    if point.quantity == "traffic_share_pct":
        return "hall"
    if point.zone is not None:
        return f"zone:{point.zone}"
    return f"row:{point.row}" if point.row is not None else "hall"


def shifted(knob: Knob, snapshot: Snapshot, size: float) -> tuple[Change, ...]:
    """The changes that move a knob by `size`, within envelope and step. Empty: no room, or blind.

    All points of the knob go to one value (units of a zone don't fight each other).
    """
    held = [snapshot.value(p.key) for p in knob.points]
    known = [v for v in held if v is not None]
    if len(known) < len(held) or not known:
        return ()
    start = sum(known) / len(known)
    bounds = [p.writable for p in knob.points if p.writable is not None]
    low, high = max(b.min for b in bounds), min(b.max for b in bounds)
    step = min(b.max_step for b in bounds)
    size = max(-step, min(step, size))
    target = round(max(low, min(high, start + size)), 3)
    changes = tuple(
        Change(p.key, v, _within_step(v, target, step))
        for p, v in zip(knob.points, known, strict=True)
    )
    return changes if any(abs(c.new - (c.old or 0.0)) > 1e-6 for c in changes) else ()


def _within_step(value: float, target: float, step: float) -> float:
    return round(max(value - step, min(value + step, target)), 3)


def traffic_away(
    layout: Layout, snapshot: Snapshot, hot: tuple[str, ...], cool: tuple[str, ...], percent: float
) -> tuple[Change, ...]:
    """Move `percent` % of each hot row's share to the cool rows, evenly. Shares keep their sum."""
    points = {p.row: p for p in layout.knobs("traffic_share_pct") if p.row is not None}
    held = {row: v for row, p in points.items() if (v := snapshot.value(p.key)) is not None}
    takers = [r for r in cool if r in held and r not in hot]
    givers = [r for r in hot if r in held]
    if len(held) < len(points) or not takers or not givers:
        return ()
    new = dict(held)
    even = sum(held.values()) / len(held)
    for row in givers:
        new[row] -= _give(points[row], held[row], percent, even)
    freed = sum(held[r] - new[r] for r in givers)
    for row, room in _fill(points, held, takers, freed):
        new[row] += room
    lost = sum(held.values()) - sum(new.values())
    new[givers[0]] += lost  # what nobody could take stays
    if all(abs(new[r] - held[r]) < 1e-9 for r in new):
        return ()
    # Every row is named: shares are one change, and a router takes them as a whole.
    return tuple(Change(points[r].key, held[r], round(new[r], 6)) for r in sorted(new))


MOST_AWAY = 0.25  # of an even share: a row keeps three quarters of its work, whatever happens


def _give(point: Point, share: float, percent: float, even: float) -> float:
    """How much of a row's share may go: `percent` of an even one, down to its floor."""
    assert point.writable is not None
    floor = max(point.writable.min, (1.0 - MOST_AWAY) * even)
    return max(0.0, min(even * percent / 100.0, point.writable.max_step, share - floor))


def _fill(
    points: dict[str, Point], held: dict[str, float], takers: list[str], freed: float
) -> Iterator[tuple[str, float]]:
    """Share out what is freed, each taker within its envelope and step."""
    for left, row in zip(range(len(takers), 0, -1), takers, strict=True):
        bounds = points[row].writable
        assert bounds is not None
        part = max(0.0, min(freed / left, bounds.max - held[row], bounds.max_step))
        freed -= part
        yield row, part
