"""Plants small enough to know the answer by hand; loaded by name, as anybody's own would be."""

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class P:
    """A point of the plant contract."""

    id: str
    quantity: str
    unit: str
    row: str | None = None
    rack: str | None = None
    writable: bool = False
    min: float | None = None
    max: float | None = None
    max_step: float | None = None
    baseline: float | None = None


def _knob(zone: str) -> P:
    return P(f"{zone}/supply_air_setpoint_c", "supply_air_setpoint_c", "degC", zone, None, True, 14.0, 27.0, 1.0, 18.0)  # fmt: skip


class TwoZones:
    """Two zones, 15-min steps, no racks and no prompts: zone = supply + 3 K, at once.

    Total = 100 + sum over zones of (supply - best)^2 kW. best_c: text, one value or one an hour,
    repeated: "20,24". end_h: StopIteration after so many. nan_every: each so many-th reading of a
    zone is NaN.
    """

    step_s = 900.0
    stepped = 0  # over all plants of this class: who counts on a cache must see it stand still

    def __init__(self, best_c: str = "22", end_h: str = "1e9", nan_every: str = "0") -> None:
        self.best_c = [float(b) for b in best_c.split(",")]
        self.end_s = float(end_h) * 3600.0
        self.nan_every = int(nan_every)
        self.now_s = 0.0
        self.supply_c = {"east": 18.0, "west": 18.0}
        self.closed = False

    def points(self) -> list[P]:
        """Zones, a meter, two knobs."""
        zones = [P(f"{z}/zone_c", "zone_c", "degC", z) for z in self.supply_c]
        return [*zones, P("meter/total_power_kw", "total_power_kw", "kW"), *map(_knob, self.supply_c)]  # fmt: skip

    def step(self, dt_s: float, setpoints: Mapping[str, float]) -> dict[str, float]:
        """Mean power over the steps, temperatures at the end."""
        steps = round(dt_s / self.step_s)
        assert steps * self.step_s == dt_s
        for name, value in setpoints.items():
            zone = name.partition("/")[0]
            assert name == f"{zone}/supply_air_setpoint_c"
            self.supply_c[zone] = value
        total = 0.0
        for _ in range(steps):
            if self.now_s >= self.end_s:
                raise StopIteration
            best_c = self.best_c[int(self.now_s // 3600.0) % len(self.best_c)]
            total += 100.0 + sum((s - best_c) ** 2 for s in self.supply_c.values())
            self.now_s += self.step_s
            type(self).stepped += 1
        blind = self.nan_every and round(self.now_s / self.step_s) % self.nan_every == 0
        readings = {f"{z}/zone_c": math.nan if blind else s + 3.0 for z, s in self.supply_c.items()}
        return readings | {"meter/total_power_kw": total / steps}

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True


class Engine(TwoZones):
    """The same, but it can't be copied: as a plant that holds a process."""

    def __deepcopy__(self, memo: object) -> "Engine":
        raise TypeError("cannot pickle a process")


class SaysAList(TwoZones):
    """Answers with no mapping."""

    def step(self, dt_s: float, setpoints: Mapping[str, float]) -> list[float]:  # type: ignore[override]
        """A list."""
        return [1.0]


class UnknownQuantity(TwoZones):
    """Has a point of a quantity nobody knows."""

    def points(self) -> list[P]:
        """One point too many."""
        return [*super().points(), P("x/y", "warmth", "degC")]


class Boundless(TwoZones):
    """Has a knob without bounds."""

    def points(self) -> list[P]:
        """One knob too many."""
        return [*super().points(), P("z/s", "supply_air_setpoint_c", "degC", writable=True, baseline=18.0)]  # fmt: skip


class StandsStill(TwoZones):
    """A step of no length."""

    step_s = 0.0


class Knobless(TwoZones):
    """Nothing to set."""

    def points(self) -> list[P]:
        """Readings only."""
        return [p for p in super().points() if not p.writable]
