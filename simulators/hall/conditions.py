"""What is unusual right now: the sum of all active overlays, zero everywhere on a plain day.

Overlays (simulators/scenarios.py) add to these fields; the physics reads them. Nothing here
knows a scenario's name.
"""

from dataclasses import dataclass, field, fields

import numpy as np

from simulators.hall.layout import (
    CRAC_INDEX,
    N_CRACS,
    N_RACKS,
    N_ROWS,
    RACK_INDEX,
    ROW_INDEX,
    Array,
)


def _racks() -> Array:
    return np.zeros(N_RACKS)


def _cracs() -> Array:
    return np.zeros(N_CRACS)


def _rows() -> Array:
    return np.zeros(N_ROWS)


def _hall() -> Array:
    return np.zeros(1)


@dataclass(slots=True)
class Conditions:
    """Additive disturbances. Shapes: rack_* (72,), crac_* (12,), row_* (6,), hall_* (1,)."""

    rack_kw: Array = field(default_factory=_racks)  # load beside the rack's own node
    rack_air_m3s: Array = field(default_factory=_racks)  # server airflow of that load
    rack_recirculation: Array = field(default_factory=_racks)  # hot air drawn in on top, as a share
    rack_gpu_loss: Array = field(default_factory=_racks)  # GPU power on top, as a share
    rack_probe_c: Array = field(default_factory=_racks)  # what the inlet probe says too much
    crac_off: Array = field(default_factory=_cracs)  # > 0: stopped, in alarm
    crac_air_loss: Array = field(
        default_factory=_cracs
    )  # airflow lost at a given fan speed, as a share
    crac_fan_drag: Array = field(
        default_factory=_cracs
    )  # fan speed lost at a given command, as a share
    crac_coil_loss: Array = field(default_factory=_cracs)  # coil capacity lost, as a share
    crac_return_set_c: Array = field(
        default_factory=_cracs
    )  # shift of the unit's own return set point
    row_flow_loss: Array = field(
        default_factory=_rows
    )  # water flow lost at a given pump speed, as a share
    hall_outdoor_c: Array = field(default_factory=_hall)
    hall_load: Array = field(default_factory=_hall)  # arrivals on top, as a share
    hall_leak: Array = field(default_factory=_hall)
    hall_fire: Array = field(default_factory=_hall)
    hall_on_battery: Array = field(default_factory=_hall)
    hall_maintenance: Array = field(default_factory=_hall)

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
