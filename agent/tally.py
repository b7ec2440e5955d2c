"""Adds up a rehearsal from its readings: energy, work, and steps over a limit."""

from typing import Any

import numpy as np

from config.schema import LimitsSection
from control.energy import power_now
from control.layout import Layout
from control.types import Snapshot

DAY_S = 86_400.0


class Tally:
    """One rehearsal's sums. A step without a reading of a limit counts no violation."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._limits = layout.site.limits
        self.elapsed_s = self.total_kwh = self.it_kwh = self.cooling_kwh = 0.0
        self.prompts = self.tokens = 0.0
        self.worst = {"inlet": -np.inf, "latency": -np.inf, "rack": -np.inf}
        self.violations = {"inlet": 0, "latency": 0, "rack": 0}
        self.rack_steps = self.rack_steps_good = 0
        self.days: list[float] = []

    def step(self, snapshot: Snapshot, dt_s: float) -> None:
        """Book one step of dt_s."""
        power, hours = power_now(self._layout, snapshot), dt_s / 3600.0
        day = int(self.elapsed_s // DAY_S)
        self.days += [0.0] * (day + 1 - len(self.days))
        self.elapsed_s += dt_s
        total_kwh = (power.total_kw or 0.0) * hours
        self.days[day] += total_kwh
        self.total_kwh += total_kwh
        self.it_kwh += (power.it_kw or 0.0) * hours
        self.cooling_kwh += (power.cooling_kw or 0.0) * hours
        self.prompts += (power.prompts_ps or 0.0) * dt_s
        self.tokens += (power.tokens_ps or 0.0) * dt_s
        self._book("inlet", snapshot.take(self._layout.inlets), self._limits.inlet_max_c)
        self._book("latency", snapshot.take(self._layout.latency), self._limits.latency_p95_max_ms)
        self._book("rack", self._layout.rack_kw.sum(snapshot.values), self._limits.rack_max_kw)

    def _book(self, what: str, values: np.ndarray[Any, np.dtype[np.float64]], limit: float) -> None:
        known = values[~np.isnan(values)]
        if what == "inlet":
            self.rack_steps += known.size
            self.rack_steps_good += int((known <= limit).sum())
        if known.size:
            self.worst[what] = max(self.worst[what], float(known.max()))
            self.violations[what] += bool(known.max() > limit)

    def result(self, limits: LimitsSection) -> dict[str, Any]:
        """The sums as plain JSON values; None where there was nothing to add up."""
        per = 1000.0 / self.prompts if self.prompts else None
        return {
            "hours": round(self.elapsed_s / 3600.0, 4),
            "total_kwh": self.total_kwh, "it_kwh": self.it_kwh, "cooling_kwh": self.cooling_kwh,
            "pue": self.total_kwh / self.it_kwh if self.it_kwh else None,
            "prompts": self.prompts, "tokens": self.tokens,
            "wh_per_prompt": self.total_kwh * per if per else None,
            "wh_per_1k_tokens": self.total_kwh * 1e6 / self.tokens if self.tokens else None,
            "worst_inlet_c": _number(self.worst["inlet"]),
            "worst_latency_p95_ms": _number(self.worst["latency"]),
            "worst_rack_kw": _number(self.worst["rack"]),
            "inlet_compliance_pct": 100.0 * self.rack_steps_good / self.rack_steps if self.rack_steps else None,
            "violation_steps": dict(self.violations),
            "limits": {"inlet_max_c": limits.inlet_max_c, "latency_p95_max_ms": limits.latency_p95_max_ms,
                       "rack_max_kw": limits.rack_max_kw},
            "daily_total_kwh": [round(d, 6) for d in self.days],
        }  # fmt: skip


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
