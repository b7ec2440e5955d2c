"""What the slow loop watches: a few numbers of the hall and of each place, averaged over time.

A place is a row; a site without rows is one place. Averages between two looks, because one
reading is noise. Reads structure and snapshots; predicts and decides nothing, fills no gap.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from config.site import Point
from control.energy import power_now
from control.features import worst_inlets
from control.layout import Groups, Layout
from control.types import Snapshot

F64 = NDArray[np.float64]

HALL: tuple[str, ...] = (
    "total_kw", "it_kw", "cooling_kw", "prompts_ps", "outdoor_c", "fan_cube", "pump_cube", "air_c",
    "water_c", "batch_ms", "inlet_c", "hot_k", "latency_ms", "admission_pct",
    "humidity_pct",
)  # fmt: skip
PLACE: tuple[str, ...] = (
    "inlet_c",  # the worst
    "mean_inlet_c",
    "hot_k",  # what its racks are over SERVER_RAMP_C, on average
    "air_c",
    "return_c",
    "fan_pct",
    "pump_pct",
    "valve_pct",  # the widest
    "pressure_pa",
    "lone_k",  # how far the worst rack's inlet stands over every other's of the place
)
SERVER_RAMP_C = 25.0  # device facts: server fans ramp above about 25 degC
OTHERS_LEAST = 3  # so many other racks must be read to say that one stands alone
RUNNING_PCT = 5.0  # a fan below this stands: its supply air is no supply


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Running sums since the last look: hall (len(HALL),), places (n, len(PLACE)), their counts."""

    since_s: float
    hall: F64
    hall_n: F64
    places: F64
    places_n: F64

    def means(self) -> tuple[F64, F64]:
        """Mean hall (len(HALL),) and places (n, len(PLACE)); NaN where nothing was good."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.hall / self.hall_n, self.places / self.places_n


class Signals:
    """Reads the signals of one site off a snapshot. Compiled once."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.places: tuple[str | None, ...] = layout.rows or (None,)
        points = [p for p in layout.site.points.values() if not p.part]
        fans = _measured_or_set(points, "fan_rpm_pct")
        self._fans = self._at(fans)
        self._pumps = self._at(_measured_or_set(points, "pump_rpm_pct"))
        air = _readable(points, "supply_air_c") or _knobs(points, *AIR_KNOBS)
        self._air = self._at(air)
        fan_of = {p.device: layout.index[p.key] for p in fans}
        self._air_fan = np.array([fan_of.get(p.device, -1) for p in air], dtype=np.intp)
        self._water = self._at(
            _readable(points, "chilled_water_c") or _knobs(points, "chilled_water_setpoint_c")
        )
        self._batch = self._at(_knobs(points, "batch_window_ms"))
        self._humidity = self._at(_readable(points, "outdoor_humidity_pct"))
        self._admission = self._at(_knobs(points, "admission_pct"))
        self._by_place = {
            "fan_pct": self._grouped(fans),
            "pump_pct": self._grouped(_measured_or_set(points, "pump_rpm_pct")),
            "return_c": self._grouped(_readable(points, "return_air_c")),
            "pressure_pa": self._grouped(_readable(points, "differential_pressure_pa")),
        }
        self._air_groups = Groups.of([self._members(air, place) for place in self.places])
        self._valves = self._grouped(_readable(points, "valve_pct"))
        self._racks = Groups.of([
            [i for i, r in enumerate(layout.racks) if place in (None, layout.site.row_of_rack.get(r))]
            for place in self.places
        ])  # fmt: skip

    def read(self, snapshot: Snapshot) -> tuple[F64, F64]:
        """The hall's numbers (len(HALL),) and the places' (n, len(PLACE)); NaN: not known."""
        inlets = worst_inlets(self._layout, snapshot)
        hot = np.maximum(inlets - SERVER_RAMP_C, 0.0)
        power = power_now(self._layout, snapshot)
        air = self._running_air(snapshot)
        latency = snapshot.take(self._layout.latency)
        hall = np.array([
            _number(power.total_kw), _number(power.it_kw), _number(power.cooling_kw),
            _number(power.prompts_ps), _mean(snapshot.take(self._layout.outdoor)),
            _mean((snapshot.take(self._fans) / 100.0) ** 3),
            _mean((snapshot.take(self._pumps) / 100.0) ** 3),
            _mean(air), _mean(snapshot.last[self._water]), _mean(snapshot.last[self._batch]),
            _mean(inlets), _mean(hot), _max(latency), _mean(snapshot.last[self._admission]),
            _mean(snapshot.take(self._humidity)),
        ])  # fmt: skip
        return hall, self._read_places(snapshot, inlets, hot, air)

    def _read_places(self, snapshot: Snapshot, inlets: F64, hot: F64, air: F64) -> F64:
        out = np.full((len(self.places), len(PLACE)), np.nan)
        out[:, 0], out[:, 1] = self._racks.max(inlets), self._racks.mean(inlets)
        out[:, 2] = self._racks.mean(hot)
        out[:, PLACE.index("air_c")] = self._air_groups.mean(air)
        out[:, PLACE.index("lone_k")] = self._racks.leads(inlets, OTHERS_LEAST)
        out[:, PLACE.index("valve_pct")] = self._valves.max(snapshot.values)
        for name, groups in self._by_place.items():
            out[:, PLACE.index(name)] = groups.mean(snapshot.values)
        return out

    def _running_air(self, snapshot: Snapshot) -> F64:
        """Supply air of units whose fan runs (or is not measured); NaN elsewhere."""
        air = snapshot.take(self._air).copy()
        if air.size:
            speed = np.where(self._air_fan >= 0, snapshot.values[self._air_fan], 100.0)
            air[speed < RUNNING_PCT] = np.nan
        return air

    def _at(self, points: list[Point]) -> NDArray[np.intp]:
        return np.array([self._layout.index[p.key] for p in points], dtype=np.intp)

    def _in(self, points: list[Point], place: str | None) -> list[Point]:
        return [p for p in points if place is None or p.row == place]

    def _grouped(self, points: list[Point]) -> Groups:
        return Groups.of([
            [self._layout.index[p.key] for p in self._in(points, place)] for place in self.places
        ])  # fmt: skip

    def _members(self, points: list[Point], place: str | None) -> list[int]:
        """Where a place's points stand among `points`; all of them where it has none."""
        mine = [i for i, p in enumerate(points) if place is None or p.row == place]
        return mine or list(range(len(points)))


AIR_KNOBS = ("supply_air_setpoint_c", "zone_setpoint_c")


def begin(signals: Signals, now_s: float) -> Window:
    """Nothing summed yet."""
    n = len(signals.places)
    return Window(now_s, np.zeros(len(HALL)), np.zeros(len(HALL)), np.zeros((n, len(PLACE))),
                  np.zeros((n, len(PLACE))))  # fmt: skip


def add(window: Window, hall: F64, places: F64) -> Window:
    """The window with one more look; what is NaN is not counted."""
    good, known = ~np.isnan(hall), ~np.isnan(places)
    return Window(
        window.since_s,
        window.hall + np.where(good, hall, 0.0),
        window.hall_n + good,
        window.places + np.where(known, places, 0.0),
        window.places_n + known,
    )


def named(hall: F64) -> Mapping[str, float]:
    """The hall's numbers by name."""
    return dict(zip(HALL, hall.tolist(), strict=True))


def _readable(points: list[Point], quantity: str) -> list[Point]:
    return [p for p in points if p.quantity == quantity and p.writable is None]


def _knobs(points: list[Point], *quantities: str) -> list[Point]:
    return [p for p in points if p.quantity in quantities and p.writable is not None]


def _measured_or_set(points: list[Point], quantity: str) -> list[Point]:
    return _readable(points, quantity) or _knobs(points, quantity)


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _mean(values: F64) -> float:
    good = values[~np.isnan(values)]
    return float(good.mean()) if good.size else np.nan


def _max(values: F64) -> float:
    good = values[~np.isnan(values)]
    return float(good.max()) if good.size else np.nan
