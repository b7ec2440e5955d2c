"""Running totals of energy and work, from snapshots: the agent's own view of Wh/prompt.

Integrates what is metered; a gap is a gap: time without a good total is counted as unknown
and neither energy nor prompts are booked for it.
"""

from typing import Any

import numpy as np

from control.energy import power_now
from control.features import worst_inlets
from control.layout import Layout
from control.types import Snapshot

LONGEST_STEP_S = 60.0  # a longer gap between two looks is unknown, not interpolated


class Meter:
    """Energy (kWh), prompts and limits since the start."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._before_s: float | None = None
        self.total_kwh = self.it_kwh = self.cooling_kwh = 0.0
        self.prompts = self.tokens = 0.0
        self.known_s = self.unknown_s = 0.0

    def use(self, layout: Layout) -> None:
        """Go on with another layout of the same site."""
        self._layout = layout

    def step(self, snapshot: Snapshot) -> None:
        """Book the time since the last snapshot."""
        before_s, self._before_s = self._before_s, snapshot.now_s
        if before_s is None or snapshot.now_s <= before_s:
            return
        dt_s = snapshot.now_s - before_s
        now = power_now(self._layout, snapshot)
        # Energy without the work that it was spent on would make every prompt look dearer.
        uncounted = bool(len(self._layout.prompts)) and now.prompts_ps is None
        if now.total_kw is None or uncounted or dt_s > LONGEST_STEP_S:
            self.unknown_s += dt_s
            return
        hours = dt_s / 3600.0
        self.known_s += dt_s
        self.total_kwh += now.total_kw * hours
        self.it_kwh += (now.it_kw or 0.0) * hours
        self.cooling_kwh += (now.cooling_kw or 0.0) * hours
        self.prompts += (now.prompts_ps or 0.0) * dt_s
        self.tokens += (now.tokens_ps or 0.0) * dt_s

    def kpi(self, snapshot: Snapshot) -> dict[str, Any]:
        """The hall now and since the start, for topics and screens. None: not known."""
        now = power_now(self._layout, snapshot)
        inlets = worst_inlets(self._layout, snapshot)
        latency = snapshot.take(self._layout.latency)
        racks_kw = self._layout.rack_kw.sum(snapshot.values)
        return {
            "ts_s": snapshot.now_s,
            "it_kw": now.it_kw, "cooling_kw": now.cooling_kw, "total_kw": now.total_kw,
            "pue": now.pue, "prompts_ps": now.prompts_ps, "tokens_ps": now.tokens_ps,
            "wh_per_prompt": now.wh_per_prompt, "terms": dict(now.terms),
            "wh_per_prompt_mean": self.total_kwh * 1000.0 / self.prompts if self.prompts else None,
            "total_kwh": self.total_kwh, "prompts": self.prompts,
            "known_s": self.known_s, "unknown_s": self.unknown_s,
            "worst_inlet_c": _most(inlets), "worst_latency_p95_ms": _most(latency),
            "worst_rack_kw": _most(racks_kw),
        }  # fmt: skip


def _most(values: np.ndarray[Any, np.dtype[np.float64]]) -> float | None:
    return float(np.nanmax(values)) if values.size and not np.isnan(values).all() else None
