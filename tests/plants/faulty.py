"""A plant seen through bad sensors: `--plant tests.plants.faulty:Faulty --plant-arg plant=hall`.

The plant itself is untouched, and what it really took and how warm it really was stands in `truth`.
Two of its inlet probes (zones where it has none) are the bad ones, in different rows where there
are several.
"""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from agent.plants.site import PlantPoint
from agent.references.run import Bench
from agent.rehearse import load_plant

FAULTS = ("noise", "stuck", "drift", "lost")
NOISE_K, NOISE_SHARE = 0.2, 0.005  # 1-sigma of temperatures; of everything else, of its value
LOST = 0.1  # of all readings
STUCK_FROM_S = 2 * 3600.0
DRIFT_K, DRIFT_FROM_S, DRIFT_S = 3.0, 6 * 3600.0, 12 * 3600.0  # in full after 18 h


class Faulty:
    """Arguments, as text: plant (an alias or MODULE:CLASS); faults, of FAULTS, joined by "+"; the
    others are the plant's own. Raises ValueError for a fault that is not known."""

    def __init__(self, plant: str, faults: str = "+".join(FAULTS), **arguments: str) -> None:
        self.faults = frozenset(faults.split("+"))
        if unknown := self.faults - set(FAULTS):
            raise ValueError(
                f"faults: {', '.join(sorted(unknown))} unknown; of {', '.join(FAULTS)}"
            )
        self._plant = load_plant(plant, arguments)
        self.step_s = self._plant.step_s
        self._bench = Bench(self._plant, max(self.step_s, 5.0))
        self._points = {p.id: p for p in self._plant.points()}
        probes = [p.id for p in self._points.values() if p.quantity == "inlet_c"]
        probes = probes or [p.id for p in self._points.values() if p.quantity == "zone_c"]
        self.stuck, self.drifting = probes[len(probes) // 6], probes[(5 * len(probes)) // 6]
        self._stuck_c = math.nan
        self._random = random.Random(11)

    def points(self) -> Sequence[PlantPoint]:
        """The plant's own."""
        return self._plant.points()

    def step(self, dt_s: float, setpoints: Mapping[str, float]) -> dict[str, float]:
        """The plant's readings after dt_s, as these sensors say them."""
        self._bench.step(setpoints)
        return {k: self._said(k, v) for k, v in self._bench.readings.items()}

    def _said(self, name: str, value: float) -> float:
        point, now_s = self._points[name], self._bench.tally.elapsed_s
        if point.writable:
            return value
        if name == self.stuck and "stuck" in self.faults:
            if not now_s >= STUCK_FROM_S or math.isnan(self._stuck_c):
                self._stuck_c = value
            value = self._stuck_c
        elif "noise" in self.faults:
            sigma = NOISE_K if point.unit == "degC" else NOISE_SHARE * abs(value)
            value = self._random.gauss(value, sigma)
        if name == self.drifting and "drift" in self.faults:
            value += DRIFT_K * min(max((now_s - DRIFT_FROM_S) / DRIFT_S, 0.0), 1.0)
        lost = "lost" in self.faults and self._random.random() < LOST
        return math.nan if lost else value

    def truth(self) -> dict[str, Any]:
        """What a rehearsal's result would be with good sensors."""
        return self._bench.tally.result(self._bench.site.limits)

    def close(self) -> None:
        """Close the plant."""
        self._plant.close()
