"""What sensors say: true values with noise, resolution and lag, as readings by id.

Decides nothing about the hall; one vector operation for all readings of a step.
"""

from typing import TYPE_CHECKING

import numpy as np

from simulators.hall.layout import N_ROWS, RACKS_PER_ROW, Array
from simulators.hall.points import PlantPoint, Sensor, readings

if TYPE_CHECKING:
    from simulators.hall.plant import Hall

RUNNING, ALARM = 1.0, 3.0  # values of a unit's state; 0 is off, 2 is standby


class Measure:
    """Readings of a hall. `points` are in the order of the vector."""

    def __init__(self, hall: "Hall", rng: np.random.Generator) -> None:
        self._hall = hall
        self._rng = rng
        both = list(readings())
        self.points: list[PlantPoint] = [p for _, p in both]
        sensors: list[Sensor] = [s for s, _ in both]
        self._ids = [p.id for p in self.points]
        self._absolute = np.asarray([0.0 if s.relative else s.noise for s in sensors])
        self._relative = np.asarray([s.noise if s.relative else 0.0 for s in sensors])
        self._step = np.asarray([s.step or 1e-6 for s in sensors])
        self._power = np.flatnonzero([s.unit == "kW" for s in sensors])
        self._p95 = np.flatnonzero([s.quantity == "latency_p95_ms" for s in sensors])
        self._humid = np.flatnonzero([s.unit == "%" for s in sensors])
        self._sum = np.zeros(len(self._power))
        self._steps = 0
        self._vector = np.zeros(len(sensors))

    def begin(self) -> None:
        """Forget sums; a new interval starts."""
        self._sum[:] = 0.0
        self._steps = 0

    def accumulate(self) -> None:
        """Take in the step just made."""
        self._vector = self._true()
        self._sum += self._vector[self._power]
        self._steps += 1

    def read(self) -> dict[str, float]:
        """Return readings by id: means of powers, ends of the rest, setpoints as held."""
        vector = self._vector
        vector[self._power] = self._sum / self._steps
        noise = self._rng.standard_normal(len(vector))
        said = vector + noise * (self._absolute + self._relative * np.abs(vector))
        said = np.rint(said / self._step) * self._step
        said[self._humid] = np.minimum(np.maximum(said[self._humid], 0.0), 100.0)
        values = dict(zip(self._ids, np.round(said, 6).tolist(), strict=True))
        for place in self._p95[np.isnan(vector[self._p95])]:
            del values[self._ids[place]]
        values.update(self._hall.setpoints.values)
        return values

    def _true(self) -> Array:
        h = self._hall
        air, water, work, at = h.air, h.water, h.work, h.conditions
        served_ps = work.served / h.step_s
        off = at.crac_off > 0.0
        row_inlet = air.inlet_c.reshape(N_ROWS, RACKS_PER_ROW).mean(axis=1)
        return np.concatenate(
            [
                air.probe_c + at.rack_probe_c, air.outlet_c, h.racks.pdu_kw, h.racks.gpu_kw,
                air.supply_c, air.return_c, air.fan * 100.0, air.valve * 100.0,
                np.where(off, ALARM, RUNNING),
                water.pump * 100.0, water.flow_lps, served_ps * h.k.generated_tokens, served_ps,
                h.prompts_total, work.latency.shown_ms, work.queue, row_inlet,
                h.k.containment_pa * air.over_supply, self._hall_values(),
            ]
        )  # fmt: skip

    def _hall_values(self) -> list[float]:
        h = self._hall
        at, water, powers = h.conditions, h.water, h.powers
        return [
            h.outdoor.dry_c, h.outdoor.humidity_pct,
            h.moisture.humidity_pct(float(h.air.inlet_c.mean())), float(water.supply_c[0]),
            float(water.flow_lps.sum()), powers.it_kw, powers.cooling_kw, powers.total_kw,
            float(water.chillers[0]), float(at.hall_leak[0] > 0.0), float(at.hall_fire[0] > 0.0),
            float(at.hall_on_battery[0] > 0.0), float(at.hall_maintenance[0] > 0.0),
        ]  # fmt: skip
