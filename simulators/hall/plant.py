"""The hall as a plant: composes air, water, racks and work, and steps them in virtual time.

Owns its clock; never reads the host's. The same arguments and the same setpoints give the
same readings to the last bit. No controller lives here: only what devices do by themselves.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from simulators.hall.air import Air
from simulators.hall.arrivals import Arrivals
from simulators.hall.conditions import Conditions
from simulators.hall.constants import CONSTANTS
from simulators.hall.futures import futures
from simulators.hall.layout import N_ROWS, RACKS_PER_ROW, Array, by_row
from simulators.hall.measure import Measure
from simulators.hall.meter import Meter, Powers
from simulators.hall.moisture import Moisture
from simulators.hall.overlays import Overlays
from simulators.hall.points import PlantPoint
from simulators.hall.racks import Racks
from simulators.hall.setpoints import Setpoints
from simulators.hall.water import Water
from simulators.hall.weather import DAY_S, Weather
from simulators.hall.workload import Workload
from simulators.scenarios import SCENARIOS, names

YEAR = 2026
DEFAULT_DAY = 135.0  # 15 May: neither summer nor winter
DEFAULT_START_HOUR = 7.0  # UTC; 9:00 on the site's clock in summer, load near its mean
SETTLE_S = 5400.0  # run at baseline before time 0, so that nothing starts cold
_WEATHER_EVERY_S = 60.0


class Hall:
    """A hall of 6 rows and 72 racks. Satisfies the plant contract of `skadi rehearse`.

    Arguments are keywords, as text or numbers: seed, scenario (a name of
    simulators/scenarios.py), hours (then StopIteration), step_s (1..60), day (of the year,
    from 1), start_hour (UTC), trace ("diurnal", "azure" or a CSV), warmup_s (before the
    meter and the scenario start). Raises ValueError for what it doesn't know.
    """

    def __init__(
        self,
        *,
        seed: str | int = 1,
        scenario: str = "default",
        hours: str | float | None = None,
        step_s: str | float = 5.0,
        day: str | float | None = None,
        start_hour: str | float | None = None,
        trace: str | None = None,
        warmup_s: str | float = 0.0,
    ) -> None:
        if scenario not in SCENARIOS:
            raise ValueError(f"scenario: {scenario!r} is unknown; one of {names()}")
        plan = SCENARIOS[scenario]
        self.scenario = scenario
        self.seed = int(seed)
        self.step_s = _number("step_s", step_s, 1.0, 60.0)
        first_day = _number(
            "day", plan.args.get("day", DEFAULT_DAY) if day is None else day, 1, 366
        )
        hour = DEFAULT_START_HOUR if start_hour is None else start_hour
        self._origin_s = (first_day - 1.0) * DAY_S + _number("start_hour", hour, 0, 24) * 3600.0
        warm_s = _number("warmup_s", warmup_s, 0.0, 7 * DAY_S)
        self._end_s = (
            float("inf") if hours is None else warm_s + 3600.0 * _number("hours", hours, 0, 1e6)
        )
        k = self.k = CONSTANTS
        self._rng = np.random.default_rng([self.seed, 2])
        self.setpoints = Setpoints(dict(plan.presets))
        self.conditions = Conditions()
        self.weather = Weather(k, self.seed)
        self.arrivals = Arrivals(
            k, np.random.default_rng([self.seed, 3]), trace or plan.args.get("trace", "diurnal")
        )
        self.work = Workload(k)
        self.racks = Racks(k)
        self.air = Air(k, self.step_s)
        self.water = Water(k, self.step_s)
        self.now_s = -SETTLE_S
        self._weather_due_s = -np.inf
        self._look_outside()
        self.moisture = Moisture(k, self.outdoor.moisture_kg_kg)
        self.powers = Powers[float](0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        self.prompts_total = np.zeros(N_ROWS)
        self.energy_kwh = np.zeros(len(self.racks.pdu_kw))
        self.gpu_energy_kwh = np.zeros(len(self.racks.pdu_kw))
        self.meter = Meter(k, warm_s)
        self.measure = Measure(self, np.random.default_rng([self.seed, 4]))
        settled = [p for p in plan.overlays if p.start_s <= 0.0]
        self.overlays = Overlays(tuple(settled), -SETTLE_S)
        while self.now_s < -1e-9:
            self.advance()
            self._account(self.step_s)
        self.now_s = 0.0
        for counter in self.counters():
            counter[:] = 0.0
        for planned in plan.overlays:
            if planned.start_s > 0.0:
                self.overlays.start(planned.overlay, warm_s + planned.start_s, planned.duration_s)

    # --- the plant contract ---------------------------------------------------------------

    def points(self) -> list[PlantPoint]:
        """Return every reading and every knob."""
        return [*self.measure.points, *self.setpoints.points()]

    def step(self, dt_s: float, setpoints: Mapping[str, float]) -> dict[str, float]:
        """Apply setpoints, advance dt_s (a whole multiple of step_s), return readings by id.

        Powers are means over dt_s, everything else is as at its end; setpoints are read back
        too. A p95 without enough requests is absent. Raises StopIteration when `hours` are
        over, ValueError for a dt_s or a setpoint that can't be.
        """
        if self.now_s >= self._end_s - 1e-9:
            raise StopIteration
        steps = round(dt_s / self.step_s)
        if steps < 1 or abs(steps * self.step_s - dt_s) > 1e-6:
            raise ValueError(f"dt_s: {dt_s} is no whole multiple of step_s {self.step_s:g}")
        if setpoints:
            self.setpoints.set(dict(setpoints))
        self.measure.begin()
        for _ in range(steps):
            self.advance()
            self._account(self.step_s)
            self.measure.accumulate()
        return self.measure.read()

    def close(self) -> None:
        """Nothing to release: the hall lives in memory."""

    # --- beyond the contract --------------------------------------------------------------

    @property
    def utc(self) -> datetime:
        """The simulated time."""
        return datetime(YEAR, 1, 1, tzinfo=UTC) + timedelta(seconds=self._origin_s + self.now_s)

    @property
    def over(self) -> bool:
        """True once `hours` are over."""
        return self.now_s >= self._end_s - 1e-9

    def counters(self) -> tuple[Array, Array, Array, Array]:
        """Return what only grows: prompts and latency counters a row, kWh at PDU and GPUs a rack."""
        return self.prompts_total, self.work.latency.counters, self.energy_kwh, self.gpu_energy_kwh

    def truth(self) -> dict[str, object]:
        """Return the exact account since the meter's start; deferred jobs are charged."""
        k, work = self.k, self.work
        owed = work.job_backlog
        share = work.marginal_share(self.setpoints.batch_window_ms)
        it_kwh = owed * share * self.racks.marginal_kw() * RACKS_PER_ROW / 3600.0
        return {
            "scenario": self.scenario,
            "seed": self.seed,
            **self.meter.truth(owed / k.job_prompts, it_kwh),
        }

    def futures(
        self, candidates: Sequence[Mapping[str, float]], dt_s: float, limits: Mapping[str, float]
    ) -> list[dict[str, Any]]:
        """What each candidate's setpoints, held for dt_s from now, would give; see futures.py."""
        return futures(self, candidates, dt_s, limits)

    def start_meter(self) -> None:
        """Start the account anew, from now."""
        self.meter = Meter(self.k, self.now_s)

    def _look_outside(self) -> None:
        if self.now_s >= self._weather_due_s:
            offset = float(self.conditions.hall_outdoor_c[0])
            self.outdoor = self.weather.at(self._origin_s + self.now_s, offset)
            self._weather_due_s = self.now_s + _WEATHER_EVERY_S

    def advance(self) -> None:
        """One native step of the physics, nothing counted."""
        dt, k = self.step_s, self.k
        self.overlays.apply(self.now_s, self.conditions)
        self._look_outside()
        at, to, air, water = self.conditions, self.setpoints, self.air, self.water
        arrived = self.arrivals.draw(self._origin_s + self.now_s, dt, float(at.hall_load[0]))
        throttle = self.racks.throttle(air.inlet_c)
        self.work.step(dt, arrived, to.share, to.batch_window_ms, to.admission, throttle)
        self.racks.step(air.inlet_c, self.work.dynamic, water.row_return_c, at)
        water.pumps(to.pump, at)
        air.step(
            to.supply_c, to.fan, self.racks.air_m3s, self.racks.air_heat_kw,
            water.supply_c, water.row_kw_k, self.outdoor.dry_c, at,
        )  # fmt: skip
        self.moisture.step(
            dt, self.outdoor.moisture_kg_kg,
            air.row_air_m3s.sum(axis=-1, keepdims=True) * k.air_kg_m3,
            air.supply_c.mean(axis=-1, keepdims=True), water.supply_c,
        )  # fmt: skip
        to_water = by_row(air.coil_kw).sum(axis=-1) + self.moisture.latent_kw / N_ROWS
        to_water = to_water + by_row(self.racks.water_heat_kw).sum(axis=-1)
        water.step(to_water, to.chilled_water_c, self.outdoor.wet_c)
        self.now_s += dt

    def power_now(self) -> Powers[Array]:
        """Return the powers of the last step; one value, or one of each future rolled out."""
        k, air, water = self.k, self.air, self.water
        it = self.racks.pdu_kw.sum(axis=-1)
        losses = k.ups_no_load * k.ups_rated_kw + (k.ups_load + k.distribution_loss) * it
        running = (self.conditions.crac_off <= 0.0).sum()
        return Powers(
            it, losses, air.fan_kw.sum(axis=-1) + k.crac_idle_kw * running,
            water.chiller_kw[..., 0], water.pump_kw.sum(axis=-1) + water.primary_kw,
            water.tower_kw[..., 0], self.moisture.humidifier_kw[..., 0],
        )  # fmt: skip

    def _account(self, dt: float) -> None:
        air = self.air
        self.powers = self.power_now().of_one()
        self.prompts_total += self.work.served
        self.energy_kwh += self.racks.pdu_kw * (dt / 3600.0)
        self.gpu_energy_kwh += self.racks.gpu_kw * (dt / 3600.0)
        self.meter.add(
            self.now_s, dt, self.powers, float(self.work.served.sum()),
            float(self.work.rejected.sum()), air.inlet_c, self.racks.pdu_kw,
            self.work.latency.p95_ms, float(self.racks.fan_kw.sum()),
        )  # fmt: skip


def _number(name: str, value: str | float, low: float, high: float) -> float:
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"{name}: {value!r} is not a number") from None
    if not low <= number <= high:
        raise ValueError(f"{name}: {value} is outside {low:g}..{high:g}")
    return number
