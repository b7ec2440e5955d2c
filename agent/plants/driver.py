"""Drives a plant in the process as if it were devices: the rehearsal's only wire.

One `PlantWire` holds the plant and what was last written; one `PlantDriver` a device reads
and writes through it. Readings appear at the plant's own steps.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from agent.plants.contract import Plant, stepped
from config.addresses import NamedAddress
from config.site import Device, Point
from control.types import Present, Quality, Sweep


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
        self._names = [_name(p) for p in device.points]
        self._keys = tuple(p.key for p in device.points)
        self._low = np.array([p.about.low for p in device.points])
        self._high = np.array([p.about.high for p in device.points])

    async def connect(self) -> None:
        """Nothing to open."""

    async def read(self, now_s: float) -> Sweep:
        """The readings of the plant's last step; setpoints read as they were written."""
        given, missing = self._wire.readings, np.nan
        values = np.array([given.get(name, missing) for name in self._names])
        good = (values >= self._low) & (values <= self._high)
        if good.all():
            return Sweep(self._keys, values, now_s, {})
        faults: dict[int, tuple[Quality, str]] = {}
        for i in np.flatnonzero(~good).tolist():
            value = self._value(i)
            if value is None or value != value:  # no answer: the last stands until it is too old
                faults[i] = Quality.UNKNOWN, "the plant gives no value"
            elif self._low[i] <= value <= self._high[i]:
                values[i] = value
            else:
                reason = f"{value:g} is outside {self._low[i]:g}..{self._high[i]:g}"
                faults[i] = Quality.BAD, reason
        values[list(faults)] = missing
        return Sweep(self._keys, values, now_s, faults)

    def _value(self, at: int) -> float | None:
        """What the plant says of a point; of a setpoint it is silent about, what was written."""
        value = self._wire.readings.get(self._names[at])
        if value is None and self.device.points[at].writable is not None:
            value = self._wire.setpoints.get(self._names[at])
        return value

    async def present(self, points: Sequence[Point]) -> dict[str, Present]:
        """What stands now."""
        return {p.key: Present(self._wire.setpoints.get(_name(p))) for p in points}

    async def write_raw(self, values: Mapping[str, float | None]) -> None:
        """Write setpoints; a plant has no slots, so nothing can be relinquished."""
        names = dict(zip(self._keys, self._names, strict=True))
        for key, value in values.items():
            if value is not None:
                self._wire.put(names[key], value)

    async def close(self) -> None:
        """Nothing to close."""


def _name(point: Point) -> str:
    assert isinstance(point.address, NamedAddress)
    return point.address.name
