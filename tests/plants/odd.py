"""A plant of many shapes that the optimizer was not made with: `--plant tests.plants.odd:Odd`.

Every zone's inlet follows its supply air with a lag, over it by what load and fans make of it;
cooling takes power by one of SHAPES. What is odd about it are its arguments.
"""

import math
import random
from collections.abc import Callable, Mapping

from tests.plants.tiny import P

DAY_S = 86_400.0
LAG_S = 600.0


def _ledge(x: "At") -> float:
    """Free cooling as soon as supply is 3 K over the weather; colder air costs fans nothing."""
    return 0.3 + 0.02 * max(x.supply_c - 20.0, 0.0) ** 2 / 10.0 if x.supply_c > x.out_c + 3.0 else 1.0  # fmt: skip


def _winter(x: "At") -> float:
    """Free down to the level found; below it a compressor starts, above it air must be moved."""
    return 0.5 + (0.35 if x.supply_c < 17.8 else 0.0) + 0.03 * max(x.supply_c - 18.0, 0.0)


def _chiller(x: "At") -> float:
    """Lift: 3 % a kelvin of colder air, 2 % a kelvin of warmer weather; fans of warm servers above 24."""
    lift = 1.0 - 0.03 * (x.supply_c - 18.0) + 0.02 * (x.out_c - 15.0)
    return lift + 0.03 * max(x.supply_c - 23.0, 0.0) ** 2


def _at(best_c: float, width_k: float = 6.0) -> Callable[["At"], float]:
    return lambda x: 0.5 + ((x.supply_c - best_c) / width_k) ** 2


# Cooling power as a share of the load.
SHAPES: dict[str, Callable[["At"], float]] = {
    "flat": lambda x: 0.6,
    "cold": lambda x: 0.3 + 0.03 * (x.supply_c - 14.0),
    "warm": lambda x: 0.9 - 0.03 * (x.supply_c - 14.0),
    "at-16": _at(16.0), "at-18": _at(18.0), "at-21": _at(21.0), "sharp-18": _at(18.0, 2.5),
    "season": lambda x: _at(16.0 + 7.0 * x.day / 14.0)(x),
    "day-night": lambda x: _at(18.0 + (x.out_c - 15.0) / 2.0)(x),
    "against-weather": lambda x: _at(21.0 - (x.out_c - 15.0) / 2.0)(x),
    "ledge": _ledge, "winter": _winter, "chiller": _chiller,
}  # fmt: skip


class At:
    """Where a zone stands."""

    def __init__(self, supply_c: float, out_c: float, day: float) -> None:
        self.supply_c, self.out_c, self.day = supply_c, out_c, day


class Odd:
    """Arguments, as text: shape; zones; racks (a zone, 0: zone temperatures only); step_s;
    knobs (air, fan, air+fan, water); load_kw, swing (of the load over a day); out_c, out_swing_k;
    low_c, high_c, max_step_c, baseline_c ("none": has none); rise_k (inlet over supply);
    prompts (1: there are); noise (share of power and, in K, of inlets); lost (share of readings);
    event ("dead-crac" or "racks") on day event_day; end_h; total (0: IT and cooling only)."""

    def __init__(self, shape: str = "at-21", zones: str = "1", racks: str = "0", step_s: str = "300",
                 knobs: str = "air", load_kw: str = "100", swing: str = "0.1", out_c: str = "15",
                 out_swing_k: str = "6", low_c: str = "14", high_c: str = "27", max_step_c: str = "1",
                 baseline_c: str = "18", rise_k: str = "3", prompts: str = "0", noise: str = "0.002",
                 lost: str = "0", event: str = "", event_day: str = "5", end_h: str = "1e9",
                 weather: str = "1", total: str = "1") -> None:  # fmt: skip
        self.shape, self.step_s, self.knobs = SHAPES[shape], float(step_s), knobs
        self.zones = [f"z{i}" for i in range(int(zones))]
        self.racks = int(racks)
        self.load_kw, self.swing = float(load_kw), float(swing)
        self.out_c, self.out_swing_k = float(out_c), float(out_swing_k)
        self.low_c, self.high_c, self.max_step_c = float(low_c), float(high_c), float(max_step_c)
        self.baseline_c = None if baseline_c == "none" else float(baseline_c)
        self.rise_k, self.prompts, self.noise = float(rise_k), prompts == "1", float(noise)
        self.lost, self.event, self.event_s = float(lost), event, float(event_day) * DAY_S
        self.end_s, self.weather, self.total = float(end_h) * 3600.0, weather == "1", total == "1"
        start_c = 18.0 if self.baseline_c is None else self.baseline_c
        self.supply_c = dict.fromkeys(self.zones, start_c)
        self.fan_pct = dict.fromkeys(self.zones, 90.0)
        self.water_c = 8.0
        self.inlet_c = dict.fromkeys(self.zones, start_c + self.rise_k)
        self.random, self.now_s = random.Random(7), 0.0

    def points(self) -> list[P]:
        """What these arguments ask for."""
        found = [
            P("meter/it_power_kw", "it_power_kw", "kW"),
            P("meter/cooling_power_kw", "cooling_power_kw", "kW"),
        ]
        if self.total:
            found.append(P("meter/total_power_kw", "total_power_kw", "kW"))
        if self.weather:
            found.append(P("weather/outdoor_c", "outdoor_c", "degC"))
        if self.prompts:
            found.append(P("work/prompts_ps", "prompts_ps", "1/s"))
        for z in self.zones:
            found += [
                P(f"{z}/r{i}/inlet_c", "inlet_c", "degC", z, f"{z}{i}") for i in range(self.racks)
            ]
            if not self.racks:
                found.append(P(f"{z}/zone_c", "zone_c", "degC", z))
            if "air" in self.knobs:
                found.append(P(f"{z}/supply", "supply_air_setpoint_c", "degC", z, None, True, self.low_c,
                               self.high_c, self.max_step_c, self.baseline_c))  # fmt: skip
            if "fan" in self.knobs:
                found.append(
                    P(f"{z}/fan", "fan_rpm_pct", "%", z, None, True, 40.0, 100.0, 10.0, 90.0)
                )
        if "water" in self.knobs:
            found.append(
                P(
                    "plant/water",
                    "chilled_water_setpoint_c",
                    "degC",
                    None,
                    None,
                    True,
                    6.0,
                    16.0,
                    1.0,
                    8.0,
                )
            )
        return found

    def step(self, dt_s: float, setpoints: Mapping[str, float]) -> dict[str, float]:
        """Mean power over dt_s, temperatures at its end."""
        steps = round(dt_s / self.step_s)
        if steps < 1 or steps * self.step_s != dt_s:
            raise ValueError(f"dt_s: {dt_s} is no whole multiple of {self.step_s}")
        known = {p.id: p for p in self.points() if p.writable}
        for name, value in setpoints.items():
            point = known[name]
            assert point.min is not None
            assert point.max is not None
            assert point.min <= value <= point.max
            zone = name.partition("/")[0]
            if point.quantity == "chilled_water_setpoint_c":
                self.water_c = value
            else:
                (self.supply_c if point.quantity == "supply_air_setpoint_c" else self.fan_pct)[
                    zone
                ] = value
        it_kw = cooling_kw = 0.0
        for _ in range(steps):
            if self.now_s >= self.end_s:
                raise StopIteration
            it, cooling = self._once()
            it_kw, cooling_kw = it_kw + it / steps, cooling_kw + cooling / steps
        return self._readings(it_kw, cooling_kw)

    def _load(self) -> float:
        hour = 2.0 * math.pi * (self.now_s % DAY_S) / DAY_S
        more = 1.3 if self.event == "racks" and self.now_s >= self.event_s else 1.0
        return more * (1.0 + self.swing * math.sin(hour - 2.0))

    def _out(self) -> float:
        day = self.now_s / DAY_S
        return (
            self.out_c
            + self.out_swing_k * math.sin(2.0 * math.pi * day - 2.5)
            + 3.0 * math.sin(1.1 * day)
        )

    def _once(self) -> tuple[float, float]:
        load, out, day = self._load(), self._out(), self.now_s / DAY_S
        it = cooling = 0.0
        dead = self.event == "dead-crac" and self.now_s >= self.event_s
        for i, z in enumerate(self.zones):
            fan = self.fan_pct[z] / 90.0
            supply = self.supply_c[z] if "air" in self.knobs else 18.0
            rise = self.rise_k * load / fan**1.3 + (3.0 if dead and i == 0 else 0.0)
            self.inlet_c[z] += (supply + rise - self.inlet_c[z]) * (
                1.0 - math.exp(-self.step_s / LAG_S)
            )
            inlet = self.inlet_c[z]
            mine = self.load_kw * load / len(self.zones)
            servers = 1.0 + 0.002 * (inlet - 21.0) + 0.004 * max(inlet - 25.0, 0.0)
            share = self.shape(At(supply, out, day))
            if "fan" in self.knobs:
                share = 0.7 * share + 0.25 * fan**3
            if "water" in self.knobs:
                share *= (
                    1.0 - 0.025 * (self.water_c - 8.0) + 0.01 * max(self.water_c - 12.0, 0.0) ** 2
                )
            it += mine * servers
            cooling += mine * share
        self.now_s += self.step_s
        return it, cooling

    def _readings(self, it_kw: float, cooling_kw: float) -> dict[str, float]:
        def noisy(value: float, sigma: float) -> float:
            return math.nan if self.random.random() < self.lost else self.random.gauss(value, sigma)

        kw = {
            "it_power_kw": it_kw,
            "cooling_power_kw": cooling_kw,
            "total_power_kw": it_kw + cooling_kw,
        }
        out = {
            f"meter/{k}": noisy(v, self.noise * v)
            for k, v in kw.items()
            if self.total or k != "total_power_kw"
        }
        if self.weather:
            out["weather/outdoor_c"] = noisy(self._out(), 20.0 * self.noise)
        if self.prompts:
            out["work/prompts_ps"] = 50.0 * self._load()
        for z in self.zones:
            for i in range(self.racks):
                out[f"{z}/r{i}/inlet_c"] = noisy(self.inlet_c[z] - 0.15 * i, 20.0 * self.noise)
            if not self.racks:
                out[f"{z}/zone_c"] = noisy(self.inlet_c[z], 20.0 * self.noise)
        return out

    def close(self) -> None:
        """Holds nothing."""
