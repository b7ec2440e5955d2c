"""Runs IMS and MMS over every rack and row: one score, one state and one reason each.

Takes out what commands and load explain before scoring (control.context): the agent's own
moves are not trouble. Decides nothing about moves.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from control import ims, mms
from control.context import CONTEXT, Commands, Context, ContextModel, follow, without_context
from control.features import unit_features, unit_names
from control.holdoff import ORDERS, Absorbed, absorb, allowances
from control.ims_model import ImsModel
from control.layout import FEATURES, Layout
from control.types import Finding, Snapshot

F64 = NDArray[np.float64]
FAN_PCT_PER_K = 20.0  # fan speed that is missing (or too much) and counts as a kelvin


WARM_UP_S = 90.0  # rates and latencies are windows of 60 s: before they are full, nobody knows


@dataclass(frozen=True, slots=True)
class Trained:
    """What training leaves: how features answer to commands, and the regions of the rest."""

    ims: ImsModel
    context: ContextModel | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        context = self.context.to_dict() if self.context else None
        return {"skadi_model": 1, "ims": self.ims.to_dict(), "context": context}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> "Trained":
        """Read back what to_dict wrote. Raises ValueError for anything else."""
        if not isinstance(data, dict) or data.get("skadi_model") != 1:
            raise ValueError("not a model of this version: train again")
        context = data.get("context")
        return Trained(
            ImsModel.from_dict(data["ims"]), ContextModel.from_dict(context) if context else None
        )


@dataclass(frozen=True, slots=True)
class Monitor:
    """A trained model fitted to a layout."""

    model: ImsModel
    columns: NDArray[np.intp]
    unit_index: NDArray[np.intp]
    units: tuple[str, ...]
    params: mms.MmsParams
    context: ContextModel | None
    commands: Commands
    allowances: F64


@dataclass(frozen=True, slots=True, eq=False)
class MonitorState:
    """The monitor's memory between two ticks."""

    ims: ims.ImsState
    mms: mms.MmsState
    context: Context | None = None
    absorbed: Absorbed | None = None
    at_s: float = 0.0
    begun_s: float = -np.inf


def fit(layout: Layout, trained: Trained) -> Monitor:
    """Fit a trained model to a layout. Raises ValueError when it needs other features or units."""
    model, context = trained.ims, trained.context
    units = unit_names(layout)
    if context is not None and context.units != units:
        raise ValueError("the model was trained on other racks and rows; train again")
    section = layout.site.mms
    return Monitor(
        model,
        ims.feature_columns(model, FEATURES),
        ims.unit_rows(model, units),
        units,
        mms.MmsParams(alpha=section.alpha, persist_ticks=section.persist_ticks),
        context,
        Commands(layout),
        allowances(_scales(model), _order_slopes(context, len(units))),
    )


def _order_slopes(context: ContextModel | None, n_units: int) -> F64:
    """What the context says each of ORDERS does to the features, (n_units, o, 10)."""
    out = np.zeros((n_units, len(ORDERS), len(FEATURES)))
    if context is not None:
        for i, order in enumerate(ORDERS):
            if order in CONTEXT:
                out[:, i] = context.slopes[:, CONTEXT.index(order)]
    return out


def _scales(model: ImsModel) -> F64:
    """What "one" is for each of FEATURES in its own unit, (10,); 0 for one the model lacks."""
    width = np.linalg.norm(model.transform, axis=1)
    by_name = {n: 1.0 / w if w > 0 else 0.0 for n, w in zip(model.features, width, strict=True)}
    return np.array([by_name.get(f, 0.0) for f in FEATURES])


def begin(monitor: Monitor, now_s: float) -> MonitorState:
    """Nothing seen yet."""
    n = len(monitor.units)
    return MonitorState(ims.start(monitor.model, n), mms.start(n, now_s), begun_s=now_s)


def tick(
    monitor: Monitor, layout: Layout, snapshot: Snapshot, state: MonitorState
) -> tuple[MonitorState, dict[str, Finding]]:
    """Score every rack and row once. Returns the next memory and a finding for each unit."""
    model = monitor.model
    raw = unit_features(layout, snapshot)
    commands = monitor.commands.read(snapshot)
    dt_s = snapshot.now_s - state.at_s
    context = follow(state.context, commands, dt_s)
    if monitor.context is not None:
        raw = without_context(monitor.context, raw, context)
    nominal = state.mms.latent == mms.NOMINAL
    orders = monitor.commands.orders(commands, snapshot)
    absorbed = absorb(monitor.allowances, state.absorbed, orders, raw, nominal, dt_s)
    raw = raw - absorbed.offset
    x = raw[:, monitor.columns]
    ims_state, scores = ims.observe(model, state.ims, x, monitor.unit_index, nominal)
    warming = snapshot.now_s - state.begun_s < WARM_UP_S
    mms_state = mms.step(
        monitor.params, state.mms, scores.deviation, scores.unknown | warming,
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
    return MonitorState(
        ims_state, mms_state, context, absorbed, snapshot.now_s, state.begun_s
    ), findings


def _heat(x: F64, model: ImsModel, unit_index: NDArray[np.intp]) -> F64:
    """How far a unit is from its nominal centre towards danger: kelvin of inlet, tenths of its
    power, fans slower than they should be. Negative: over-cooled or idle. Shape (n_units,)."""
    offset = np.broadcast_to(model.offset, x.shape).copy()
    if model.unit_offsets.size:
        known = unit_index >= 0
        offset[known] += model.unit_offsets[unit_index[known]]
    heat = np.zeros(len(x))
    for name, per in (("inlet_c", 1.0), ("pdu_kw", None), ("fan_rpm_pct", -FAN_PCT_PER_K)):
        if name in model.features:
            column = model.features.index(name)
            centre = offset[:, column]
            scale = np.maximum(np.abs(centre), 1e-9) * 0.1 if per is None else per
            heat += np.nan_to_num((x[:, column] - centre) / scale)
    return heat
