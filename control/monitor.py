"""Runs IMS and MMS over every rack, every row and the hall: one score, one state and one reason each.

Takes out what commands and load explain before scoring (control.context): the agent's own
moves are not trouble. Decides nothing about moves.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from control import ims, mms
from control.context import (
    CONTEXT,
    Commands,
    Context,
    ContextModel,
    follow,
    learned,
    without_context,
)
from control.features import unit_features, unit_names
from control.holdoff import DOUBT, ORDERS, Absorbed, absorb, allowances, corrected
from control.ims_model import ImsModel
from control.layout import FEATURES, HALL, Layout
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
    unseen: NDArray[np.bool_]
    allowances: F64
    centre: F64


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
        raise ValueError(
            "the model was trained on other units (racks, rows, the hall); train again"
        )
    section = layout.site.mms
    return Monitor(
        model,
        ims.feature_columns(model, FEATURES),
        ims.unit_rows(model, units),
        units,
        mms.MmsParams(alpha=section.alpha, persist_ticks=section.persist_ticks),
        context,
        Commands(layout),
        _unseen(context, len(units)),
        _allowances(model, context, units),
        _centre(model, units),
    )


def _centre(model: ImsModel, units: tuple[str, ...]) -> F64:
    """Where each unit's features usually are, (n_units, f); NaN for what the model lacks."""
    out = np.full((len(units), len(FEATURES)), np.nan)
    places = [FEATURES.index(f) for f in model.features]
    rows = ims.unit_rows(model, units)
    own = model.unit_offsets[np.maximum(rows, 0)] if model.unit_offsets.size else 0.0
    out[:, places] = model.offset + np.where(rows[:, None] >= 0, own, 0.0)
    return out


def _order_slopes(context: ContextModel | None, n_units: int) -> F64:
    """What the context says each of ORDERS does to the features, (n_units, o, f)."""
    out = np.zeros((n_units, len(ORDERS), len(FEATURES)))
    if context is not None:
        for i, order in enumerate(ORDERS):
            if order in CONTEXT:
                out[:, i] = context.slopes[:, CONTEXT.index(order)]
    return out


def _allowances(model: ImsModel, context: ContextModel | None, units: tuple[str, ...]) -> F64:
    """What each of ORDERS may shift in each unit, (n_units, o, f)."""
    slopes, usual = _order_slopes(context, len(units)), _centre(model, units)
    return allowances(_scales(model), slopes, _unseen(context, len(units)), usual)


def _unseen(context: ContextModel | None, n_units: int) -> NDArray[np.bool_]:
    """Which of ORDERS training has not seen to vary, (n_units, o)."""
    out = np.zeros((n_units, len(ORDERS)), dtype=np.bool_)
    if context is not None:
        seen = learned(context)
        for i, order in enumerate(ORDERS):
            if order in CONTEXT:
                out[:, i] = ~seen[:, CONTEXT.index(order)]
    return out


def _scales(model: ImsModel) -> F64:
    """What "one" is for each of FEATURES in its own unit, (10,); 0 for one the model lacks."""
    width = np.linalg.norm(model.transform, axis=1)
    by_name = {n: 1.0 / w if w > 0 else 0.0 for n, w in zip(model.features, width, strict=True)}
    return np.array([by_name.get(f, 0.0) for f in FEATURES])


def as_absorbed(
    model: ImsModel,
    context: ContextModel | None,
    units: tuple[str, ...],
    orders: F64,
    rest: F64,
    row_s: float,
) -> F64:
    """What the monitor would have scored: rest (rows, units, f) less what it absorbs of moves,
    orders (rows, units, o). For training, where every unit is nominal."""
    per_step = _allowances(model, context, units)
    centre, nominal = _centre(model, units), np.ones(len(units), dtype=np.bool_)
    out, absorbed = rest.copy(), None
    for i in range(len(rest)):
        absorbed = absorb(per_step, absorbed, orders[i], rest[i], nominal, row_s)
        out[i] = corrected(rest[i], centre, absorbed.offset)
    return out


def begin(monitor: Monitor, now_s: float) -> MonitorState:
    """Nothing seen yet."""
    n = len(monitor.units)
    return MonitorState(ims.start(monitor.model, n), mms.start(n, now_s), begun_s=now_s)


def with_drift(state: MonitorState, drift: F64) -> MonitorState:
    """The memory with a drift (n_units, f) that a former run learned. Raises ValueError when it is
    another model's."""
    if drift.shape != state.ims.drift.shape or not np.isfinite(drift).all():
        raise ValueError(f"a drift of shape {drift.shape}, not {state.ims.drift.shape}")
    return replace(state, ims=replace(state.ims, drift=drift))


def worked_on(layout: Layout, units: Sequence[str], tags: Collection[str]) -> NDArray[np.bool_]:
    """Which units (n,) people work at: `tags` are scopes (hall, row:A, rack:A01, equipment:crac-a1),
    equipment stands for its row, and the hall has people in it wherever they are."""
    site = layout.site
    rows = {p.row for p in site.points.values() if f"equipment:{p.equipment}" in tags}

    def at(unit: str) -> bool:
        if unit == HALL:
            return bool(tags)
        kind, _, name = unit.partition(":")
        row = name if kind == "row" else site.row_of_rack.get(name)
        return "hall" in tags or unit in tags or f"row:{row}" in tags or row in rows

    return np.array([at(unit) for unit in units], dtype=np.bool_)


def tick(
    monitor: Monitor,
    layout: Layout,
    snapshot: Snapshot,
    state: MonitorState,
    tags: frozenset[str] = frozenset(),
) -> tuple[MonitorState, dict[str, Finding]]:
    """Score every rack, every row and the hall once. Returns the next memory and a finding for each unit.

    tags: the scopes where people work, as a tag says: there nothing new becomes persistent, and
    nothing is learned.
    """
    raw = unit_features(layout, snapshot)
    commands = monitor.commands.read(snapshot)
    dt_s = snapshot.now_s - state.at_s
    model = ims.paced(monitor.model, dt_s)
    context = follow(state.context, commands, dt_s)
    moved_k = np.zeros(len(raw))
    if monitor.context is not None:
        raw, moved_k = without_context(monitor.context, raw, context)
    held = worked_on(layout, monitor.units, tags) if tags else np.zeros_like(state.mms.held)
    nominal = (state.mms.latent == mms.NOMINAL) & ~held
    orders = monitor.commands.orders(commands, snapshot)
    absorbed = absorb(
        monitor.allowances, state.absorbed, orders, raw, nominal, dt_s, monitor.unseen
    )
    raw = corrected(raw, monitor.centre, absorbed.offset)
    x = raw[:, monitor.columns]
    ims_state, scores = ims.observe(model, state.ims, x, monitor.unit_index, nominal)
    warming = snapshot.now_s - state.begun_s < WARM_UP_S
    mms_state = mms.step(
        monitor.params, state.mms, scores.deviation, scores.unknown | warming,
        model.tau_fast, model.tau_persist, snapshot.now_s, held,
    )  # fmt: skip
    hot = heat(x, model, monitor.unit_index, DOUBT * moved_k)
    tops = _tops(model, scores)
    findings = {
        unit: Finding(
            unit,
            float(scores.deviation[i]),
            float(mms_state.ema[i]),
            mms.STATE_NAMES[mms_state.state[i]],
            float(mms_state.since_s[i]),
            tops[i],
            float(hot[i]),
        )
        for i, unit in enumerate(monitor.units)
    }
    return MonitorState(
        ims_state, mms_state, context, absorbed, snapshot.now_s, state.begun_s
    ), findings


def reason(monitor: Monitor | None, state: MonitorState | None, unit: str) -> str:
    """One sentence: why a unit is in the state it is in; "" where nothing judges it."""
    if monitor is None or state is None:
        return ""
    model, at = monitor.model, monitor.units.index(unit)
    return mms.explain(monitor.params, state.mms, at, model.tau_fast, model.tau_persist)


def _tops(model: ImsModel, scores: ims.Scores, count: int = 3) -> list[tuple[str, ...]]:
    """The features that make most of each unit's deviation; none for a unit inside a region."""
    order = np.argsort(-scores.contributions, axis=1, kind="stable")[:, :count]
    shares = np.take_along_axis(scores.contributions, order, axis=1) > 0.0
    return [
        tuple(model.features[k] for k, counts in zip(o, some, strict=True) if counts)
        for o, some in zip(order.tolist(), shares.tolist(), strict=True)
    ]


def heat(x: F64, model: ImsModel, unit_index: NDArray[np.intp], doubt_k: F64) -> F64:
    """How far a unit is from its nominal centre towards danger: kelvin of inlet beyond what the
    context may be wrong about, doubt_k (n_units,), and fans slower than they should be. More power
    counts as a kelvin a tenth, but only confirms what inlets say: by itself it is work. Negative:
    over-cooled. Shape (n_units,)."""
    offset = np.broadcast_to(model.offset, x.shape).copy()
    if model.unit_offsets.size:
        known = unit_index >= 0
        offset[known] += model.unit_offsets[unit_index[known]]
    away = np.nan_to_num(x - offset)

    def of(name: str) -> F64:
        return away[:, model.features.index(name)] if name in model.features else np.zeros(len(x))

    inlet_k = of("inlet_c")
    inlet_k = np.where(inlet_k > 0.0, np.maximum(inlet_k - doubt_k, 0.0), inlet_k)
    hot = inlet_k - of("fan_rpm_pct") / FAN_PCT_PER_K
    if "pdu_kw" in model.features:
        usual_kw = np.maximum(np.abs(offset[:, model.features.index("pdu_kw")]), 1e-9)
        tenths = 10.0 * of("pdu_kw") / usual_kw
        hot += np.clip(tenths, 0.0, np.maximum(inlet_k, 0.0))
    return hot
