"""Drives a plant in the process as if it were devices: the rehearsal's only wire.

One `PlantWire` holds the plant and what was last written; one `PlantDriver` a device reads
and writes through it. Readings appear at the plant's own steps.
"""

import math
from collections.abc import Mapping, Sequence

from agent.plants.contract import Plant, stepped
from config.addresses import NamedAddress
from config.site import Device, Point
from control.types import Present, Quality, Reading


class PlantWire:
    """The plant between two steps: its last readings, its setpoints, what is to be written."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.setpoints = {
            p.id: float(p.baseline) for p in plant.points() if p.writable and p.baseline is not None
        }
        self._pending: dict[str, float] = {}
        self.readings: dict[str, float] = {}
        self.writes = 0

    def step(self, dt_s: float) -> None:
        """Advance the plant with what was written since the last step."""
        pending, self._pending = self._pending, {}
        self.readings = stepped(self.plant, dt_s, pending)

    def put(self, name: str, value: float) -> None:
        """Write a setpoint; the plant sees it at its next step."""
        self._pending[name] = self.setpoints[name] = value
        self.writes += 1


class PlantDriver:
    """The driver contract over a plant's wire, for one device's points."""

    def __init__(self, device: Device, wire: PlantWire) -> None:
        self.device = device
        self._wire = wire
        self._plan = [(p, _name(p), p.about.low, p.about.high) for p in device.points]

    async def connect(self) -> None:
        """Nothing to open."""

    async def read(self, now_s: float) -> list[Reading]:
        """The readings of the plant's last step; setpoints read as they were written."""
        return [self._reading(*plan, now_s) for plan in self._plan]

    def _reading(self, point: Point, name: str, low: float, high: float, now_s: float) -> Reading:
        value = self._wire.readings.get(name)
        if value is not None and low <= value <= high and value - value == 0.0:  # finite
            return Reading(point.key, value, now_s, Quality.GOOD)
        if value is None and point.writable is not None:
            value = self._wire.setpoints.get(name)
        if value is None:
            return Reading(point.key, None, now_s, Quality.MISSING, "the plant gives no value")
        if not (math.isfinite(value) and low <= value <= high):
            reason = f"{value:g} is outside {low:g}..{high:g}"
            return Reading(point.key, None, now_s, Quality.BAD, reason)
        return Reading(point.key, float(value), now_s, Quality.GOOD)

    async def present(self, points: Sequence[Point]) -> dict[str, Present]:
        """What stands now."""
        return {p.key: Present(self._wire.setpoints.get(_name(p))) for p in points}

    async def write_raw(self, values: Mapping[str, float | None]) -> None:
        """Write setpoints; a plant has no slots, so nothing can be relinquished."""
        names = {p.key: name for p, name, *_ in self._plan}
        for key, value in values.items():
            if value is not None:
                self._wire.put(names[key], value)

    async def close(self) -> None:
        """Nothing to close."""


def _name(point: Point) -> str:
    assert isinstance(point.address, NamedAddress)
    return point.address.name
