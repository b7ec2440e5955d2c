"""What racks draw and how much air they want, from their work and their inlet air.

Decides GPU, platform and fan power, server airflow, and how heat splits between air and
water. Too warm is dear here: fans ramp, GPUs leak.
"""

import numpy as np

from simulators.hall.conditions import Conditions
from simulators.hall.constants import Constants
from simulators.hall.layout import (
    N_RACKS,
    N_ROWS,
    Array,
    by_row,
    per_rack,
    rack_liquid,
    rack_load,
)


class Racks:
    """Power and airflow of the 72 racks; all arrays have shape (..., 72)."""

    def __init__(self, k: Constants) -> None:
        self._k = k
        self._load = rack_load()
        self.liquid = rack_liquid(k.liquid_fraction)
        self._air_share = 1.0 - self.liquid
        self._full = np.ones(N_ROWS)
        self.gpu_kw = np.zeros(N_RACKS)
        self.pdu_kw = np.zeros(N_RACKS)
        self.fan_kw = np.zeros(N_RACKS)
        self.air_m3s = np.zeros(N_RACKS)
        self.air_heat_kw = np.zeros(N_RACKS)
        self.water_heat_kw = np.zeros(N_RACKS)
        self.gpu_c = np.full(N_RACKS, 45.0)

    def step(self, inlet_c: Array, dynamic: Array, water_c: Array, at: Conditions) -> None:
        """Update from inlets (..., 72), dynamic share and return water a row (..., 6)."""
        k = self._k
        load = np.minimum(per_rack(dynamic) * self._load, 1.1)
        felt_c = inlet_c * self._air_share + self.liquid * (per_rack(water_c) + k.liquid_approach_k)
        leak = 1.0 + k.gpu_leakage_per_k * (felt_c - k.gpu_leakage_ref_c) + at.rack_gpu_loss
        self.gpu_kw = (
            k.gpus_per_rack * (k.gpu_idle_kw + (k.gpu_max_kw - k.gpu_idle_kw) * load) * leak
        )
        ramp = k.server_fan_ramp_per_k * np.maximum(inlet_c - k.server_fan_ramp_c, 0.0)
        speed = np.minimum(k.server_fan_base + k.server_fan_load * load + ramp, 1.0)
        self.fan_kw = k.server_fan_max_kw * speed**3
        self.air_m3s = k.server_air_max_m3s * speed + at.rack_air_m3s
        dc_kw = self.gpu_kw + k.platform_kw + k.platform_load_kw * load + self.fan_kw
        self.pdu_kw = dc_kw / k.psu_efficiency + at.rack_kw
        self.water_heat_kw = self.gpu_kw * self.liquid
        self.air_heat_kw = self.pdu_kw - self.water_heat_kw
        # A cold plate or heat sink holds a GPU some 35 K above what cools it at full power.
        self.gpu_c = felt_c + 8.0 + 32.0 * self.gpu_kw / (k.gpus_per_rack * k.gpu_max_kw)

    def marginal_kw(self) -> float:
        """Return what a rack draws more, from no load to full, at an inlet below the fans' ramp."""
        k = self._k
        gpu_kw = k.gpus_per_rack * (k.gpu_max_kw - k.gpu_idle_kw)
        base = k.server_fan_base
        fan_kw = k.server_fan_max_kw * ((base + k.server_fan_load) ** 3 - base**3)
        return (gpu_kw + k.platform_load_kw + fan_kw) / k.psu_efficiency

    def throttle(self, inlet_c: Array) -> Array:
        """Return the speed GPUs keep at these inlets, 1 = full, mean a row; shape (..., 6)."""
        k = self._k
        if inlet_c.max() <= k.throttle_start_c:
            return self._full
        lost = np.maximum(inlet_c - k.throttle_start_c, 0.0) * k.throttle_per_k
        kept = np.maximum(1.0 - lost, 0.3)
        mean: Array = by_row(kept).mean(axis=-1)
        return mean
