"""Runs IMS and MMS over every rack and row: one score, one state and one reason each.

Takes out what the agent itself has done before scoring: a knob we hold is no evidence, and
the inlet shift that our own setpoints explain is not trouble. Decides nothing about moves.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from control import ims, mms
from control.features import INLET, OUTLET, unit_features, unit_names
from control.ims_model import ImsModel
from control.layout import FEATURES, Layout
from control.types import Finding, Lease, Snapshot

F64 = NDArray[np.float64]
PDU = FEATURES.index("pdu_kw")
FAN, PUMP = FEATURES.index("fan_rpm_pct"), FEATURES.index("pump_rpm_pct")

# Inlet shift for one unit of a knob, in kelvin: supply air goes through one to one; a slower
# fan lets more exhaust recirculate (0.05 K a percent: judgement, refined by what is measured).
OWN_SHIFT: Mapping[str, float] = {
    "supply_air_setpoint_c": 1.0,
    "zone_setpoint_c": 1.0,
    "fan_rpm_pct": -0.05,
}


@dataclass(frozen=True, slots=True)
class Monitor:
    """A trained model fitted to a layout."""

    model: ImsModel
    columns: NDArray[np.intp]
    unit_index: NDArray[np.intp]
    units: tuple[str, ...]
    params: mms.MmsParams


@dataclass(frozen=True, slots=True, eq=False)
class MonitorState:
    """The monitor's memory between two ticks."""

    ims: ims.ImsState
    mms: mms.MmsState


def fit(layout: Layout, model: ImsModel) -> Monitor:
    """Fit a model to a layout. Raises ValueError when the model needs other features."""
    units = unit_names(layout)
    section = layout.site.mms
    return Monitor(
        model,
        ims.feature_columns(model, FEATURES),
        ims.unit_rows(model, units),
        units,
        mms.MmsParams(alpha=section.alpha, persist_ticks=section.persist_ticks),
    )


def begin(monitor: Monitor, now_s: float) -> MonitorState:
    """Nothing seen yet."""
    n = len(monitor.units)
    return MonitorState(ims.start(monitor.model, n), mms.start(n, now_s))


def tick(
    monitor: Monitor,
    layout: Layout,
    snapshot: Snapshot,
    leases: Mapping[str, Lease],
    state: MonitorState,
) -> tuple[MonitorState, dict[str, Finding]]:
    """Score every rack and row once. Returns the next memory and a finding for each unit."""
    model = monitor.model
    raw = unit_features(layout, snapshot)
    x = without_own_moves(layout, raw, leases, _centres(monitor))[:, monitor.columns]
    ims_state, scores = ims.observe(model, state.ims, x, monitor.unit_index)
    mms_state = mms.step(
        monitor.params, state.mms, scores.deviation, scores.unknown,
        model.tau_fast, model.tau_persist, snapshot.now_s,
    )  # fmt: skip
    heat = _heat(x, model, monitor.unit_index)
    findings = {
        unit: Finding(
            unit,
            float(scores.deviation[i]),
            float(mms_state.ema[i]),
            mms.STATE_NAMES[mms_state.state[i]],
            float(mms_state.since_s[i]),
            tuple(name for name, _ in ims.top_contributors(model, scores, i)),
            float(heat[i]),
        )
        for i, unit in enumerate(monitor.units)
    }
    return MonitorState(ims_state, mms_state), findings


def _centres(monitor: Monitor) -> F64:
    """The nominal centre of every unit, (n_units, 10); NaN for a feature the model lacks."""
    model = monitor.model
    centres = np.full((len(monitor.units), len(FEATURES)), np.nan)
    own = np.zeros((len(monitor.units), len(model.features)))
    if model.unit_offsets.size:
        known = monitor.unit_index >= 0
        own[known] = model.unit_offsets[monitor.unit_index[known]]
    centres[:, monitor.columns] = model.offset + own
    return centres


def without_own_moves(layout: Layout, raw: F64, leases: Mapping[str, Lease], centres: F64) -> F64:
    """The features as they would be without our setpoints, as far as those explain them."""
    x = raw.copy()
    points = layout.site.points
    held = [(points[key], lease) for key, lease in leases.items() if key in points]
    rows_of_units = np.concatenate([layout.row_of_rack, np.arange(len(layout.rows))])
    for position, row in enumerate(layout.rows):
        units = rows_of_units == position
        mine = [(p, lease) for p, lease in held if p.row == row]
        for quantity, per_unit in OWN_SHIFT.items():
            shifts = [lease.value - lease.stood for p, lease in mine
                      if p.quantity == quantity and lease.stood is not None]  # fmt: skip
            if shifts:
                x[np.ix_(units, [INLET, OUTLET])] -= per_unit * float(np.mean(shifts))
        for column, name in ((FAN, "fan_rpm_pct"), (PUMP, "pump_rpm_pct")):
            if any(p.quantity == name for p, _ in mine):
                x[units, column] = np.where(
                    np.isnan(x[units, column]), np.nan, centres[units, column]
                )
    return x


def _heat(x: F64, model: ImsModel, unit_index: NDArray[np.intp]) -> F64:
    """How far a unit is from its nominal centre towards danger: kelvin of inlet, and tenths of
    its power. Negative: over-cooled or idle. Shape (n_units,)."""
    offset = np.broadcast_to(model.offset, x.shape).copy()
    if model.unit_offsets.size:
        known = unit_index >= 0
        offset[known] += model.unit_offsets[unit_index[known]]
    heat = np.zeros(len(x))
    for name, per in (("inlet_c", 1.0), ("pdu_kw", None)):
        if name in model.features:
            column = model.features.index(name)
            centre = offset[:, column]
            scale = np.maximum(np.abs(centre), 1e-9) * 0.1 if per is None else per
            heat += np.nan_to_num((x[:, column] - centre) / scale)
    return heat
