"""The exact accounting of the hall: energy, prompts, limits. Knows true values, not sensors.

Nothing before the meter's start counts. Deferred jobs are charged: what they would have
taken is added before Wh/prompt is stated.
"""

from dataclasses import dataclass, field
from typing import Generic

import numpy as np

from simulators.hall.constants import Constants
from simulators.hall.layout import N_RACKS, Array, Number


@dataclass(slots=True)
class Powers(Generic[Number]):
    """Mean electrical power over one step, kW."""

    it_kw: Number
    ups_kw: Number
    crac_kw: Number
    chiller_kw: Number
    pump_kw: Number
    tower_kw: Number
    other_kw: Number

    def of_one(self) -> "Powers[float]":
        """The same as plain numbers, where no futures are rolled out."""
        return Powers(float(self.it_kw), float(self.ups_kw), float(self.crac_kw), float(self.chiller_kw),
                      float(self.pump_kw), float(self.tower_kw), float(self.other_kw))  # fmt: skip

    @property
    def cooling_kw(self) -> Number:
        """CRAC units, chillers, pumps, tower, humidifier."""
        return self.crac_kw + self.chiller_kw + self.pump_kw + self.tower_kw + self.other_kw

    @property
    def total_kw(self) -> Number:
        """All of the hall: IT, losses, cooling."""
        return self.it_kw + self.ups_kw + self.cooling_kw


@dataclass(slots=True)
class Meter:
    """Sums since `start_s`."""

    k: Constants
    start_s: float
    hours: float = 0.0
    prompts: float = 0.0
    rejected: float = 0.0
    it_kwh: float = 0.0
    ups_kwh: float = 0.0
    crac_kwh: float = 0.0
    chiller_kwh: float = 0.0
    pump_kwh: float = 0.0
    tower_kwh: float = 0.0
    other_kwh: float = 0.0
    server_fan_kwh: float = 0.0
    worst_inlet_c: float = -np.inf
    worst_latency_p95_ms: float = 0.0
    worst_rack_kw: float = 0.0
    rack_samples: int = 0
    rack_samples_over: int = 0
    violation_steps: dict[str, int] = field(
        default_factory=lambda: {"inlet": 0, "latency": 0, "rack": 0}
    )
    over_s: float = 0.0
    daily_total_kwh: list[float] = field(default_factory=list)

    def add(
        self,
        now_s: float,
        dt_s: float,
        powers: Powers[float],
        served: float,
        rejected: float,
        inlet_c: Array,
        rack_kw: Array,
        p95_ms: Array,
        server_fan_kw: float,
    ) -> None:
        """Add one step that ended at `now_s`."""
        if now_s <= self.start_s:
            return
        hours = dt_s / 3600.0
        self.hours += hours
        self.prompts += served
        self.rejected += rejected
        for name in ("it", "ups", "crac", "chiller", "pump", "tower", "other"):
            key = f"{name}_kwh"
            setattr(self, key, getattr(self, key) + getattr(powers, f"{name}_kw") * hours)
        self.server_fan_kwh += server_fan_kw * hours
        self._day(now_s, powers.total_kw * hours)
        self._limits(dt_s, inlet_c, rack_kw, p95_ms)

    def _day(self, now_s: float, kwh: float) -> None:
        day = int((now_s - self.start_s - 1e-6) // 86_400.0)
        while len(self.daily_total_kwh) <= day:
            self.daily_total_kwh.append(0.0)
        self.daily_total_kwh[day] += kwh

    def _limits(self, dt_s: float, inlet_c: Array, rack_kw: Array, p95_ms: Array) -> None:
        inlet, rack = float(inlet_c.max()), float(rack_kw.max())
        latency = float(np.fmax.reduce(p95_ms, initial=0.0))
        self.worst_inlet_c = max(self.worst_inlet_c, inlet)
        self.worst_rack_kw = max(self.worst_rack_kw, rack)
        self.worst_latency_p95_ms = max(self.worst_latency_p95_ms, latency)
        over = {
            "inlet": inlet > self.k.inlet_max_c,
            "latency": latency > self.k.latency_p95_max_ms,
            "rack": rack > self.k.rack_max_kw,
        }
        self.rack_samples += N_RACKS
        if over["inlet"]:
            self.rack_samples_over += int((inlet_c > self.k.inlet_max_c).sum())
        for name, broken in over.items():
            self.violation_steps[name] += broken
        if any(over.values()):
            self.over_s += dt_s

    def truth(self, deferred_jobs: float, deferred_it_kwh: float) -> dict[str, object]:
        """Return the account as plain numbers. it, ups and cooling are as metered.

        deferred_it_kwh: what jobs not done would have taken at the PDU; it is charged to the
        total with the run's own overhead (PUE) on it.
        """
        cooling = self.crac_kwh + self.chiller_kwh + self.pump_kwh + self.tower_kwh + self.other_kwh
        metered = self.it_kwh + self.ups_kwh + cooling
        pue = metered / self.it_kwh if self.it_kwh else None
        deferred_kwh = deferred_it_kwh * (pue or 1.0)
        total = metered + deferred_kwh
        tokens = self.prompts * self.k.generated_tokens
        good = self.rack_samples - self.rack_samples_over
        return {
            "hours": self.hours,
            "prompts": round(self.prompts),
            "tokens": round(tokens),
            "rejected": round(self.rejected),
            "jobs_deferred": round(deferred_jobs),
            "deferred_kwh": deferred_kwh,
            "it_kwh": self.it_kwh,
            "ups_kwh": self.ups_kwh,
            "cooling_kwh": cooling,
            "cooling": {
                "crac_kwh": self.crac_kwh,
                "chiller_kwh": self.chiller_kwh,
                "pump_kwh": self.pump_kwh,
                "tower_kwh": self.tower_kwh,
                "humidifier_kwh": self.other_kwh,
            },
            "server_fan_kwh": self.server_fan_kwh,
            "total_kwh": total,
            "pue": pue,
            "wh_per_prompt": 1000.0 * total / self.prompts if self.prompts else None,
            "wh_per_1k_tokens": 1e6 * total / tokens if tokens else None,
            "worst_inlet_c": self.worst_inlet_c if self.rack_samples else None,
            "inlet_compliance_pct": 100.0 * good / self.rack_samples if self.rack_samples else None,
            "worst_latency_p95_ms": self.worst_latency_p95_ms,
            "worst_rack_kw": self.worst_rack_kw,
            "violation_steps": dict(self.violation_steps),
            "minutes_over_limit": self.over_s / 60.0,
            "daily_total_kwh": list(self.daily_total_kwh),
        }
