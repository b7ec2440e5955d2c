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
    """State of loop and plant. Row arrays have shape (..., 6), all others (..., 1)."""

    def __init__(self, k: Constants, step_s: float) -> None:
        self._k = k
        self._pump_lag = 1.0 - math.exp(-step_s / k.pump_tau_s)
        self._loop_lag = 1.0 - math.exp(-step_s / k.water_loop_tau_s)
        self._plant_lag = 1.0 - math.exp(-step_s / k.chiller_tau_s)
        self.pump = np.ones(N_ROWS)
        self.pump_kw = np.zeros(N_ROWS)
        self.flow_lps = np.full(N_ROWS, k.pump_flow_max_lps)
        self.row_return_c = np.full(N_ROWS, 12.0)
        self.supply_c = np.asarray([7.0])
        self.return_c = np.asarray([12.0])
        self.chillers = np.asarray([2.0])
        self.load_kw = np.asarray([500.0])
        self.free_kw = np.asarray([0.0])
        self.chiller_kw = np.asarray([100.0])
        self.cop = np.asarray([k.chiller_cop])
        self.condenser_c = 25.0
        self.tower_kw = np.asarray([15.0])
        self.primary_kw = k.primary_pump_kw

    @property
    def row_kw_k(self) -> Array:
        """Heat capacity flow of each row's water; shape (..., 6)."""
        return self.flow_lps * self._k.water_kj_kgk

    def pumps(self, speed: Array, at: Conditions) -> None:
        """Move the row pumps (..., 6) towards `speed` (0..1)."""
        k = self._k
        self.pump = self.pump + self._pump_lag * (speed - self.pump)
        self.pump_kw = k.pump_max_kw * self.pump**3
        self.flow_lps = k.pump_flow_max_lps * self.pump * (1.0 - at.row_flow_loss)

    def step(self, heat_kw: Array, set_c: Array | float, wet_c: float) -> None:
        """Advance loop and plant. heat_kw (..., 6): what coils and cold plates put in a row's
        water; set_c: one value, or (..., 1)."""
        flow = self.row_kw_k
        steady_c = self.supply_c + (heat_kw + self.pump_kw) / flow
        self.row_return_c = self.row_return_c + self._loop_lag * (steady_c - self.row_return_c)
        total = flow.sum(axis=-1, keepdims=True)
        mixed_c = (flow * self.row_return_c).sum(axis=-1, keepdims=True) / total
        self.return_c = self.return_c + self._loop_lag * (mixed_c - self.return_c)
        self._cool(total, set_c, wet_c)

    def _cool(self, flow_kw_k: Array, set_c: Array | float, wet_c: float) -> None:
        """Bring return water towards `set_c`: economizer first, chillers for the rest."""
        k = self._k
        wanted_c = self.supply_c + self._plant_lag * (set_c - self.supply_c)
        load = np.maximum(0.0, flow_kw_k * (self.return_c - wanted_c))
        tower_c = wet_c + k.tower_approach_k
        head_k = self.return_c - (tower_c + k.economizer_approach_k)
        most = k.economizer_effectiveness * flow_kw_k * head_k
        most = np.where(head_k > k.economizer_start_k, most, 0.0)
        free = np.minimum(load, most)
        mechanical = load - free
        # What free cooling leaves of the whole way to the setpoint, not of this step's part
        # of it: whether a chiller runs must not hang on how long a step is.
        self._stage(mechanical, flow_kw_k * (self.return_c - set_c) - most)
        short = np.maximum(0.0, mechanical - self.chillers * k.chiller_capacity_kw)
        self.supply_c = wanted_c + short / flow_kw_k
        mechanical = mechanical - short
        self.load_kw, self.free_kw = load - short, free
        self.condenser_c = max(tower_c, k.condenser_min_c)
        self.chiller_kw = self._chiller_power(mechanical)
        pumps = k.condenser_pump_kw * (self.chillers > 0.0) + k.economizer_pump_kw * (free > 0.0)
        self.tower_kw = k.tower_fan_kw_per_kw * (self.load_kw + self.chiller_kw) + pumps

    def _stage(self, carried_kw: Array, called_kw: Array) -> None:
        """Start or stop chillers (0..2) with hysteresis: the first by what its setpoint calls
        for, the second by what the first one carries."""
        k, n = self._k, self.chillers
        share, call = carried_kw / k.chiller_capacity_kw, called_kw / k.chiller_capacity_kw
        start = (n == 0.0) & (call > k.chiller_start) | (n == 1.0) & (share > k.chiller_stage_up)
        stop = (n == 1.0) & (call <= k.chiller_stop) | (n == 2.0) & (share < k.chiller_stage_down)
        self.chillers = n + start - stop

    def _chiller_power(self, mechanical_kw: Array) -> Array:
        k = self._k
        part = mechanical_kw / (np.maximum(self.chillers, 1.0) * k.chiller_capacity_kw)
        cop = (
            k.chiller_cop
            * np.exp(k.chiller_cop_per_k * (self.supply_c - k.chiller_cop_ref_c))
            * math.exp(-k.chiller_cond_per_k * (self.condenser_c - k.chiller_cond_ref_c))
            * np.maximum(0.5, 1.0 - k.chiller_plf_curve * (part - k.chiller_plf_best) ** 2)
        )
        on = self.chillers > 0.0
        self.cop = np.where(on, cop, self.cop)
        return np.where(on, mechanical_kw / cop + k.chiller_min_kw * self.chillers, 0.0)
