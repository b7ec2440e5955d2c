"""The setpoints the hall's devices hold, by id, and as arrays for the physics.

Decides whether a device would take a value at all; never whether it is wise.
"""

import math

import numpy as np

from simulators.hall.layout import CRACS, ROWS, Array
from simulators.hall.points import Knob, PlantPoint, knobs


class Refused(ValueError):
    """A device does not take this value. The message names the point and its range."""


class Setpoints:
    """Values of all knobs. `values` is by id; the arrays are kept in step with it."""

    def __init__(self, presets: dict[str, float]) -> None:
        self.knob: dict[str, Knob] = {}
        self.row: dict[str, str | None] = {}
        self.values: dict[str, float] = {}
        for kind, name, row in knobs():
            self.knob[name], self.row[name] = kind, row
            self.values[name] = float(presets.get(name, kind.baseline))
        self.baseline = dict(self.values)
        self.supply_c: Array = np.zeros(len(CRACS))
        self.fan: Array = np.zeros(len(CRACS))
        self.pump: Array = np.zeros(len(ROWS))
        self.share: Array = np.zeros(len(ROWS))
        self._refresh()

    def check(self, name: str, value: float) -> float:
        """Return the value as a float. Raises Refused for an unknown point or a value out of range."""
        kind = self.knob.get(name)
        if kind is None:
            raise Refused(f"{name}: no such setpoint in this hall")
        low, high = kind.takes
        if not math.isfinite(value) or not low <= value <= high:
            raise Refused(f"{name}: {value!r} is outside {low:g}..{high:g} {kind.unit}")
        return float(value)

    def set(self, changes: dict[str, float]) -> None:
        """Take all changes, or none. Raises Refused."""
        checked = {name: self.check(name, value) for name, value in changes.items()}
        self.values.update(checked)
        self._refresh()

    def _refresh(self) -> None:
        v = self.values
        self.supply_c = np.asarray([v[f"{c}/supply_air_setpoint_c"] for c in CRACS])
        self.fan = np.asarray([v[f"{c}/fan_rpm_setpoint_pct"] for c in CRACS]) / 100.0
        self.pump = np.asarray([v[f"pump-{r.lower()}/pump_rpm_setpoint_pct"] for r in ROWS]) / 100.0
        share = np.asarray([v[f"router/traffic_share_pct.{r}"] for r in ROWS])
        total = float(share.sum())
        # A router spreads by weight; all weights 0 is the even spread, not a stop.
        self.share = share / total if total > 0.0 else np.full(len(ROWS), 1.0 / len(ROWS))
        self.chilled_water_c = v["bms/chilled_water_setpoint_c"]
        self.batch_window_ms = v["router/batch_window_ms"]
        self.admission = v["router/admission_pct"] / 100.0

    def points(self) -> list[PlantPoint]:
        """Return every knob as a point, with the baseline it started from."""
        return [
            PlantPoint(
                name, k.quantity, k.unit, self.row[name], None,
                True, float(k.min), float(k.max), float(k.max_step), self.baseline[name],
            )
            for name, k in self.knob.items()
        ]  # fmt: skip
