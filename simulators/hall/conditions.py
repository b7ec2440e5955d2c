"""What is unusual right now: the sum of all active overlays, zero everywhere on a plain day.

Overlays (simulators/scenarios.py) add to these fields; the physics reads them. Nothing here
knows a scenario's name.
"""

from dataclasses import dataclass, field, fields

import numpy as np

from simulators.hall.layout import CRAC_INDEX, N_CRACS, N_RACKS, N_ROWS, RACK_INDEX, ROW_INDEX, Array


def _racks() -> Array:
    return field(default_factory=lambda: np.zeros(N_RACKS))  # type: ignore[no-any-return]


def _cracs() -> Array:
    return field(default_factory=lambda: np.zeros(N_CRACS))  # type: ignore[no-any-return]


def _rows() -> Array:
    return field(default_factory=lambda: np.zeros(N_ROWS))  # type: ignore[no-any-return]


def _hall() -> Array:
    return field(default_factory=lambda: np.zeros(1))  # type: ignore[no-any-return]


@dataclass(slots=True)
class Conditions:
    """Additive disturbances. Shapes: rack_* (72,), crac_* (12,), row_* (6,), hall_* (1,)."""

    rack_kw: Array = _racks()  # load beside the rack's own node
    rack_air_m3s: Array = _racks()  # server airflow of that load
    rack_recirculation: Array = _racks()  # hot air drawn in on top, as a share
    rack_gpu_loss: Array = _racks()  # GPU power on top, as a share
    rack_probe_c: Array = _racks()  # what the inlet probe says too much
    crac_off: Array = _cracs()  # > 0: stopped, in alarm
    crac_air_loss: Array = _cracs()  # airflow lost at a given fan speed, as a share
    crac_coil_loss: Array = _cracs()  # coil capacity lost, as a share
    crac_return_set_c: Array = _cracs()  # shift of the unit's own return set point
    row_flow_loss: Array = _rows()  # water flow lost at a given pump speed, as a share
    hall_outdoor_c: Array = _hall()
    hall_load: Array = _hall()  # arrivals on top, as a share
    hall_leak: Array = _hall()
    hall_fire: Array = _hall()
    hall_on_battery: Array = _hall()
    hall_maintenance: Array = _hall()

    def clear(self) -> None:
        """Put every field back to zero."""
        for name in NAMES:
            getattr(self, name)[:] = 0.0

    def add(self, name: str, where: tuple[str, ...], value: float) -> None:
        """Add `value` to field `name` at racks, units or rows named in `where` (all if empty)."""
        target: Array = getattr(self, name)
        if not where:
            target += value
            return
        index = _INDEX[name.split("_", 1)[0]]
        for place in where:
            target[index[place]] += value


NAMES = tuple(f.name for f in fields(Conditions))
_INDEX = {"rack": RACK_INDEX, "crac": CRAC_INDEX, "row": ROW_INDEX}
