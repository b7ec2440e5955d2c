"""The agent's own moves, where the context is not quite right: they may be absorbed, a little.

A command that has just changed explains a change of what is measured, up to an allowance that
goes with its size. So the monitor stays calm while setpoints are walked, and a fault in the same
minutes is hidden by no more than that allowance. Without a move nothing is absorbed, ever.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from control.layout import FEATURES

F64 = NDArray[np.float64]

ORDERS: tuple[str, ...] = (
    "supply_k", "fan_pct", "pump_pct", "water_k", "hall_supply_k", "hall_fan_pct", "batch_ms",
    "admission_pct", "share_pct",
)  # fmt: skip
STEP = {  # a usual step of each command, in its unit
    "supply_k": 1.0, "fan_pct": 5.0, "pump_pct": 5.0, "water_k": 0.5, "hall_supply_k": 1.0,
    "hall_fan_pct": 5.0, "batch_ms": 40.0, "admission_pct": 50.0, "share_pct": 2.0,
}  # fmt: skip
# What a usual step may shift without being trouble, in the model's scales of each feature:
# three where the command acts (less than alarms), little where it only might.
_ACTS, _MAY = 3.0, 0.5
_AIR = frozenset({"inlet_c", "outlet_c", "delta_t", "fan_rpm_pct", "pump_rpm_pct"})
_WORK = frozenset(
    {"outlet_c", "delta_t", "pdu_kw", "gpu_power_kw", "tokens_ps", "latency_p95_ms", "queue_depth"}
)
_ACTS_ON = dict.fromkeys(ORDERS[:6], _AIR) | dict.fromkeys(ORDERS[6:], _WORK)
# What a usual step may do by physics, where training has never seen it: in the feature's unit, power
# and tokens as a share of what is usual. By judgement, generous: it is absorbed only after a move.
_RELATIVE = frozenset({"pdu_kw", "gpu_power_kw", "tokens_ps"})
_AIR_MAY = {
    "inlet_c": 1.2,
    "outlet_c": 1.5,
    "delta_t": 1.2,
    "fan_rpm_pct": 8.0,
    "pump_rpm_pct": 8.0,
}
_AIR_MAY |= {"pdu_kw": 0.02, "gpu_power_kw": 0.02}
_WORK_MAY = {"pdu_kw": 0.08, "gpu_power_kw": 0.1, "tokens_ps": 0.1, "outlet_c": 1.5, "delta_t": 1.5}
_WORK_MAY |= {"latency_p95_ms": 60.0, "queue_depth": 20.0}
_UNSEEN = dict.fromkeys(ORDERS[:6], _AIR_MAY) | dict.fromkeys(ORDERS[6:8], _WORK_MAY)
DOUBT = 0.1  # how far off what the context says of a command may be, as a share
HOLD_S = 300.0  # a move is done acting after this; and this long until as much is allowed again
ABSORB_S = 60.0
USUAL_S = 600.0  # what is usual for a unit is a mean over this


@dataclass(frozen=True, slots=True, eq=False)
class Absorbed:
    """What was absorbed. orders (u, o) as last seen; held (u, o): 1 just after a usual step,
    falling to 0; left (u, f): the share of the allowance that is left; usual, offset (u, f)."""

    orders: F64
    held: F64
    left: F64
    usual: F64
    offset: F64
    ticks: int


def allowances(scales: F64, slopes: F64, unseen: NDArray[np.bool_], usual: F64) -> F64:
    """What a usual step of each order may shift: (u, o, f), from a model's feature scales (f,)
    and what the context says of each order, slopes (u, o, f). `unseen` (u, o) are orders that
    training has not seen to vary, `usual` (u, f) where features usually are."""
    factors = [[_ACTS if f in _ACTS_ON[o] else _MAY for f in FEATURES] for o in ORDERS]
    widest: F64 = np.array(factors) * scales + DOUBT * np.abs(slopes) * _STEPS[:, None]
    may = np.array([[_UNSEEN.get(o, {}).get(f, 0.0) for f in FEATURES] for o in ORDERS])
    size = np.where([f in _RELATIVE for f in FEATURES], np.abs(np.nan_to_num(usual)), 1.0)
    return np.where(unseen[:, :, None], np.maximum(widest, may * size[:, None]), widest)


_STEPS = np.array([STEP[o] for o in ORDERS])


def corrected(rest: F64, centre: F64, offset: F64) -> F64:
    """What is left of `rest` when `offset` is believed: moved towards the centre, never past it.

    An offset can only explain a deviation that is there; one that has outlived its reason is
    nothing to be alarmed by.
    """
    gap = np.nan_to_num(rest - centre)
    same = np.sign(offset) == np.sign(gap)
    explained = np.where(same, np.sign(gap) * np.minimum(np.abs(offset), np.abs(gap)), 0.0)
    left: F64 = rest - explained
    return left


def absorb(
    per_step: F64,
    before: Absorbed | None,
    orders: F64,
    rest: F64,
    nominal: NDArray[np.bool_],
    dt_s: float,
    unseen: NDArray[np.bool_] | None = None,
) -> Absorbed:
    """Take in one tick: per_step (u, o, f), orders (u, o), and what context has left of the
    features, rest (u, f). However many moves are made, no more than one allowance is absorbed
    in HOLD_S, and nothing where a unit is not nominal (u,): what is done about trouble must not
    explain it away. What an order that training has not seen, `unseen` (u, o), does is taken in
    at once: there is no model whose remainder could be waited for."""
    if before is None or before.orders.shape != orders.shape:
        zero = np.zeros_like(rest)
        return Absorbed(orders, np.zeros_like(orders), np.ones_like(rest), rest, zero, 1)
    dt_s = max(dt_s, 0.0)
    known = np.where(np.isnan(orders), before.orders, orders)
    size = np.minimum(np.nan_to_num(np.abs(known - before.orders)) / _STEPS, 1.0)
    held = np.maximum(before.held - dt_s / HOLD_S, size)
    reach = (held[:, :, None] * per_step).max(axis=1)
    left = np.minimum(before.left + dt_s / HOLD_S, 1.0)
    gap = np.nan_to_num(rest - before.usual - before.offset)
    wanted = (1.0 - np.exp(-dt_s / ABSORB_S)) * gap
    if unseen is not None and unseen.any():
        novel = ((held * unseen)[:, :, None] * per_step).max(axis=1)
        wanted = np.where((novel > 0.0) & (novel >= reach), gap, wanted)
    most = np.where(nominal[:, None], left * reach, 0.0)
    taken = np.clip(wanted, -most, most)
    spent = np.abs(taken) / np.maximum(reach, 1e-12)
    share = np.maximum(1.0 - np.exp(-dt_s / USUAL_S), 1.0 / (before.ticks + 1.0))
    follow = np.where((reach <= 0.0) & ~np.isnan(rest), share, 0.0)
    usual = np.where(np.isnan(before.usual), rest, before.usual + follow * gap)
    return Absorbed(known, held, left - spent, usual, before.offset + taken, before.ticks + 1)
