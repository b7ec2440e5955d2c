"""The water side: row pump units, the chilled-water loop, chillers, tower, economizer.

Decides chilled-water temperatures and the electricity of everything beyond the coils.
COP improves with warmer chilled water and cooler condenser water (lift) and is best at
part load; a plate exchanger pre-cools return water whenever the tower can.
"""

import math

import numpy as np

from simulators.hall.conditions import Conditions
from simulators.hall.constants import Constants
from simulators.hall.layout import N_ROWS, Array


class Water:
    """State of loop and plant. Row arrays have shape (6,)."""

    def __init__(self, k: Constants, step_s: float) -> None:
        self._k = k
        self._pump_lag = 1.0 - math.exp(-step_s / k.pump_tau_s)
        self._loop_lag = 1.0 - math.exp(-step_s / k.water_loop_tau_s)
        self._plant_lag = 1.0 - math.exp(-step_s / k.chiller_tau_s)
        self.pump = np.ones(N_ROWS)
        self.pump_kw = np.zeros(N_ROWS)
        self.flow_lps = np.full(N_ROWS, k.pump_flow_max_lps)
        self.row_return_c = np.full(N_ROWS, 12.0)
        self.supply_c = 7.0
        self.return_c = 12.0
        self.chillers = 2
        self.load_kw = 500.0
        self.free_kw = 0.0
        self.chiller_kw = 100.0
        self.cop = k.chiller_cop
        self.condenser_c = 25.0
        self.tower_kw = 15.0
        self.primary_kw = k.primary_pump_kw

    @property
    def row_kw_k(self) -> Array:
        """Heat capacity flow of each row's water; shape (6,)."""
        return self.flow_lps * self._k.water_kj_kgk

    def pumps(self, speed: Array, at: Conditions) -> None:
        """Move the row pumps (6,) towards `speed` (0..1)."""
        k = self._k
        self.pump += self._pump_lag * (speed - self.pump)
        self.pump_kw = k.pump_max_kw * self.pump**3
        self.flow_lps = k.pump_flow_max_lps * self.pump * (1.0 - at.row_flow_loss)

    def step(self, heat_kw: Array, set_c: float, wet_c: float) -> None:
        """Advance loop and plant. heat_kw (6,): what coils and cold plates put in a row's water."""
        into = heat_kw + self.pump_kw
        steady_c = self.supply_c + into / self.row_kw_k
        self.row_return_c += self._loop_lag * (steady_c - self.row_return_c)
        flow = self.row_kw_k
        total = float(flow.sum())
        mixed_c = float((flow * self.row_return_c).sum()) / total
        self.return_c += self._loop_lag * (mixed_c - self.return_c)
        wanted_c = self.supply_c + self._plant_lag * (set_c - self.supply_c)
        self._cool(total, wanted_c, wet_c)

    def _cool(self, flow_kw_k: float, wanted_c: float, wet_c: float) -> None:
        """Bring return water to `wanted_c`: economizer first, chillers for the rest."""
        k = self._k
        load = max(0.0, flow_kw_k * (self.return_c - wanted_c))
        tower_c = wet_c + k.tower_approach_k
        head_k = self.return_c - (tower_c + k.economizer_approach_k)
        free = 0.0
        if head_k > k.economizer_start_k:
            free = min(load, k.economizer_effectiveness * flow_kw_k * head_k)
        mechanical = load - free
        self._stage(mechanical)
        most = self.chillers * k.chiller_capacity_kw
        if mechanical > most:
            wanted_c += (mechanical - most) / flow_kw_k
            mechanical = most
            load = free + most
        self.supply_c = wanted_c
        self.load_kw, self.free_kw = load, free
        self.condenser_c = max(tower_c, k.condenser_min_c)
        self.chiller_kw = self._chiller_power(mechanical)
        rejected = load + self.chiller_kw
        pumps = (k.condenser_pump_kw if self.chillers else 0.0) + (
            k.economizer_pump_kw if free > 0.0 else 0.0
        )
        self.tower_kw = k.tower_fan_kw_per_kw * rejected + pumps

    def _stage(self, mechanical_kw: float) -> None:
        """Start or stop chillers (0..2) with hysteresis."""
        k = self._k
        one = k.chiller_capacity_kw
        if self.chillers == 0:
            self.chillers = 1 if mechanical_kw > 0.05 * one else 0
        elif self.chillers == 1:
            if mechanical_kw > k.chiller_stage_up * one:
                self.chillers = 2
            elif mechanical_kw <= 0.01 * one:
                self.chillers = 0
        elif mechanical_kw < k.chiller_stage_down * one:
            self.chillers = 1

    def _chiller_power(self, mechanical_kw: float) -> float:
        k = self._k
        if self.chillers == 0:
            return 0.0
        part = mechanical_kw / (self.chillers * k.chiller_capacity_kw)
        self.cop = (
            k.chiller_cop
            * math.exp(k.chiller_cop_per_k * (self.supply_c - k.chiller_cop_ref_c))
            * math.exp(-k.chiller_cond_per_k * (self.condenser_c - k.chiller_cond_ref_c))
            * max(0.5, 1.0 - k.chiller_plf_curve * (part - k.chiller_plf_best) ** 2)
        )
        return mechanical_kw / self.cop + k.chiller_min_kw * self.chillers
