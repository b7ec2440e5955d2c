"""The air side: CRAC units, the plenum, rack inlets and outlets, return air.

Decides temperatures and airflows, and the heat the coils hand to the water. Energy is
conserved: what racks release is what coils, envelope and thermal masses take.
"""

import math

import numpy as np

from simulators.hall.conditions import Conditions
from simulators.hall.constants import Constants
from simulators.hall.layout import (
    CRACS_PER_ROW,
    N_CRACS,
    N_RACKS,
    N_ROWS,
    RACKS_PER_ROW,
    ROW_TABLE,
    Array,
    by_row,
    per_rack,
    rack_recirculation,
)


class Air:
    """State of the hall's air. Shapes: racks (..., 72), CRAC units (..., 12), rows (..., 6)."""

    def __init__(self, k: Constants, step_s: float) -> None:
        self._k = k
        self._step_s = step_s
        self._leak = rack_recirculation()
        self._gain_k = per_rack(np.asarray([r.plenum_gain for r in ROW_TABLE])) * k.plenum_gain_k
        mixing = k.plenum_mixing
        self._mix = (1 - mixing) * np.eye(N_ROWS) + mixing / N_ROWS  # symmetric, sums to 1
        delay = max(1, round(k.supply_delay_s / step_s))
        self._delay = [np.full(N_ROWS, 18.0) for _ in range(delay)]
        self._lag = {
            name: 1.0 - math.exp(-step_s / tau_s)
            for name, tau_s in (
                ("fan", k.crac_fan_tau_s),
                ("coil", k.coil_tau_s),
                ("return", k.return_tau_s),
                ("inlet", k.inlet_tau_s),
                ("probe", k.probe_tau_s),
                ("outlet", k.server_heat_tau_s),
            )
        }
        self.fan = np.full(N_CRACS, 0.9)
        self.fan_kw = np.zeros(N_CRACS)
        self.supply_c = np.full(N_CRACS, 18.0)
        self.return_c = np.full(N_CRACS, 26.0)
        self.valve = np.full(N_CRACS, 0.4)
        self.coil_kw = np.zeros(N_CRACS)
        self.inlet_c = np.full(N_RACKS, 19.5)
        self.probe_c = self.inlet_c.copy()
        self.outlet_c = np.full(N_RACKS, 34.0)
        self.structure_c = np.full(N_ROWS, 25.0)
        self.row_air_m3s = np.full(N_ROWS, 8.0)
        self.over_supply = np.full(N_ROWS, 0.7)

    def demand(self, at: Conditions) -> Array:
        """Return the speed (0..1) each unit's own return-air controller asks for; shape (..., 12)."""
        k = self._k
        error = self.return_c - (k.crac_return_set_c + at.crac_return_set_c)
        asked = k.crac_return_speed + k.crac_return_gain_per_k * error
        return np.minimum(np.maximum(asked, k.crac_auto_min), 1.0)

    def step(
        self,
        set_c: Array,
        fan_limit: Array,
        rack_air_m3s: Array,
        rack_heat_kw: Array,
        water_c: Array,
        row_flow_kw_k: Array,
        outdoor_c: float,
        at: Conditions,
    ) -> None:
        """Advance one step. set_c, fan_limit (..., 12): supply set points, speed limits (0..1).

        water_c: (..., 1). A leading axis, if any, is of futures rolled out side by side.
        """
        running = np.where(at.crac_off > 0.0, 0.0, 1.0)
        target = np.minimum(self.demand(at), fan_limit) * running * (1.0 - at.crac_fan_drag)
        self.fan = self.fan + self._lag["fan"] * (target - self.fan)
        k = self._k
        self.fan_kw = k.crac_fan_max_kw * self.fan**3
        flow = k.crac_air_max_m3s * self.fan * (1.0 - at.crac_air_loss) + 1e-3
        self._coils(set_c, flow, running, water_c, row_flow_kw_k, at)
        supply_c, carried = self._plenum(flow)
        self._racks(supply_c, rack_air_m3s, rack_heat_kw, at)
        self._return(supply_c, carried, rack_air_m3s, outdoor_c)

    def _coils(
        self,
        set_c: Array,
        flow: Array,
        running: Array,
        water_c: Array,
        row_flow_kw_k: Array,
        at: Conditions,
    ) -> None:
        """Cool return air to the set point as far as coil and water allow (e-NTU, counterflow)."""
        k = self._k
        c_air = k.air_kj_m3k * flow
        c_water = np.repeat(row_flow_kw_k, CRACS_PER_ROW, axis=-1) / CRACS_PER_ROW + 1e-3
        nominal_water = k.pump_flow_max_lps * k.water_kj_kgk / CRACS_PER_ROW
        ua_air = k.coil_ua_air_kw_k * (flow / k.crac_air_max_m3s) ** k.coil_air_exponent
        ua_water = k.coil_ua_water_kw_k * (c_water / nominal_water) ** k.coil_water_exponent
        ua = ua_air * ua_water / (ua_air + ua_water) * (1.0 - at.crac_coil_loss)
        c_min = np.minimum(c_air, c_water)
        ratio = np.minimum(c_min / np.maximum(c_air, c_water), 0.98)
        decay = np.exp(-ua / c_min * (1.0 - ratio))
        most = (1.0 - decay) / (1.0 - ratio * decay) * c_min * (self.return_c - water_c)
        most = np.maximum(most, 1e-6)
        fan_rise_k = self.fan_kw / c_air
        wanted = c_air * (self.return_c - (set_c - fan_rise_k))
        cooled = np.minimum(np.maximum(wanted, 0.0), most) * running
        self.valve = (cooled / most) ** k.valve_exponent
        target = self.return_c - cooled / c_air + fan_rise_k * running
        self.supply_c = self.supply_c + self._lag["coil"] * (target - self.supply_c)
        # Heat taken is what the lagged supply says, so that energy balances at every step.
        self.coil_kw = c_air * (self.return_c - self.supply_c) + self.fan_kw

    def _plenum(self, flow: Array) -> tuple[Array, Array]:
        """Mix supply air in the plenum. Returns its temperature a row, and flows between rows."""
        row_flow = by_row(flow).sum(axis=-1)
        row_c = by_row(flow * self.supply_c).sum(axis=-1) / row_flow
        carried = self._mix * row_flow[..., None, :]  # [to, from]
        self.row_air_m3s = carried.sum(axis=-1)
        return (carried * row_c[..., None, :]).sum(axis=-1) / self.row_air_m3s, carried

    def _racks(self, supply_c: Array, rack_air: Array, heat_kw: Array, at: Conditions) -> None:
        k = self._k
        self._delay.append(supply_c)
        arrived_c = per_rack(self._delay.pop(0)) + self._gain_k
        wanted = by_row(rack_air).sum(axis=-1)
        hot_c = by_row(self.outlet_c * rack_air).sum(axis=-1) / wanted
        self.over_supply = self.row_air_m3s / wanted - 1.0
        # Supply spreads over a row as its tiles do, not as its servers ask: a rack that breathes
        # more than the others is the first that runs short.
        ratio = per_rack(self.row_air_m3s / RACKS_PER_ROW) / (
            0.5 * rack_air + 0.5 * per_rack(wanted / RACKS_PER_ROW)
        )
        leak = self._leak * np.exp(-k.recirculation_decay * (ratio - 1.0)) + at.rack_recirculation
        soft = k.deficit_softness
        deficit = soft * np.logaddexp(0.0, (1.0 - ratio) / soft)
        share = np.minimum(leak + deficit, k.recirculation_max)
        hot = 0.5 * per_rack(hot_c) + 0.5 * self.outlet_c
        target = arrived_c + share * np.maximum(hot - arrived_c, 0.0)
        self.inlet_c = self.inlet_c + self._lag["inlet"] * (target - self.inlet_c)
        self.probe_c = self.probe_c + self._lag["probe"] * (self.inlet_c - self.probe_c)
        steady = self.inlet_c + heat_kw / (k.air_kj_m3k * rack_air)
        self.outlet_c = self.outlet_c + self._lag["outlet"] * (steady - self.outlet_c)

    def _return(self, supply_c: Array, carried: Array, rack_air: Array, outdoor_c: float) -> None:
        """Carry what racks release back to the units: return air, structure, envelope."""
        k = self._k
        released = k.air_kj_m3k * rack_air * (self.outlet_c - self.inlet_c)
        row_kw = by_row(released).sum(axis=-1)
        wall_k = outdoor_c - self.structure_c.mean(axis=-1, keepdims=True)
        from_wall = k.envelope_kw_k * wall_k / N_ROWS
        c_air = k.air_kj_m3k * self.row_air_m3s
        room_c = supply_c + row_kw / c_air
        into_structure = k.structure_kw_k * (room_c - self.structure_c)
        warmed_k = self._step_s * (into_structure + from_wall) / k.structure_kj_k
        self.structure_c = self.structure_c + warmed_k
        lights = k.lights_kw / N_ROWS
        mixed_c = room_c + (lights - into_structure) / c_air
        back_c = (carried * mixed_c[..., None]).sum(axis=-2) / carried.sum(axis=-2)
        target = np.repeat(back_c, CRACS_PER_ROW, axis=-1)
        self.return_c = self.return_c + self._lag["return"] * (target - self.return_c)
