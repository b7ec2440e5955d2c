"""Which overlays are active at an instant, and what they add up to.

Decides nothing about physics; turns the table in simulators/scenarios.py into Conditions.
"""

import math
from dataclasses import dataclass

from simulators.hall.conditions import Conditions
from simulators.scenarios import OVERLAYS, Planned


@dataclass(slots=True)
class Active:
    """One overlay that was started; `stop_s` is when it ends or ended."""

    overlay: str
    start_s: float
    stop_s: float


def ramp(now_s: float, start_s: float, stop_s: float, ramp_s: float) -> float:
    """Return 0..1: up over ramp_s from start_s, down over ramp_s from stop_s."""
    if now_s < start_s:
        return 0.0
    if ramp_s <= 0.0:
        return 1.0 if now_s < stop_s else 0.0
    up = min(1.0, (now_s - start_s) / ramp_s)
    if now_s < stop_s:
        return up
    reached = min(1.0, (stop_s - start_s) / ramp_s)
    return max(0.0, reached - (now_s - stop_s) / ramp_s)


class Overlays:
    """Overlays by time. Start and stop are idempotent and take simulated seconds."""

    def __init__(self, planned: tuple[Planned, ...], origin_s: float) -> None:
        self.all: list[Active] = []
        for plan in planned:
            self.start(plan.overlay, origin_s + plan.start_s, plan.duration_s)

    def start(self, name: str, now_s: float, duration_s: float | None = None) -> Active:
        """Start an overlay; one that is running is extended, not doubled. KeyError if unknown."""
        lasts = duration_s if duration_s is not None else OVERLAYS[name].duration_s
        stop_s = math.inf if lasts is None else now_s + lasts
        for active in self.all:
            if active.overlay == name and active.start_s <= now_s < active.stop_s:
                active.stop_s = stop_s
                return active
        OVERLAYS[name]
        self.all.append(Active(name, now_s, stop_s))
        return self.all[-1]

    def stop(self, name: str, now_s: float) -> bool:
        """Stop an overlay that runs; False if none did."""
        found = False
        for active in self.all:
            if active.overlay == name and active.start_s <= now_s < active.stop_s:
                active.stop_s = now_s
                found = True
        return found

    def running(self, now_s: float) -> list[str]:
        """Return the names of overlays between start and stop."""
        return [a.overlay for a in self.all if a.start_s <= now_s < a.stop_s]

    def apply(self, now_s: float, conditions: Conditions) -> None:
        """Write the sum of all effects at `now_s` into `conditions`."""
        if not self.all:
            return
        conditions.clear()
        for active in self.all:
            for effect in OVERLAYS[active.overlay].effects:
                part = ramp(now_s, active.start_s, active.stop_s, effect.ramp_s)
                if part > 0.0:
                    conditions.add(effect.field, effect.where, effect.value * part)
