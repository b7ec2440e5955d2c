"""What a move is expected to save: physics for the shape, measurements for the size.

One number a move is learned: how much of the physical prediction this hall really gives
(1 = as predicted), by Bayesian linear regression over what the hall's cooling power did
after moves. Shapes and their sources:

- fans and pumps: power goes with the cube of speed (fan affinity laws, ASHRAE Handbook,
  HVAC Systems and Equipment, ch. Fans)
- a kelvin warmer air or water: chiller COP better by 2-3 % a kelvin (device facts)
- server fans ramp and chips leak above about 25 degC inlet (device facts): +1 % IT power
  a kelvin above, by judgement; that is what makes too warm dear.
"""

from collections.abc import Mapping

import numpy as np

from control.energy import Power
from control.guardrails import Case
from control.leases import hottest_c
from control.moves import Knob
from control.state import Belief
from control.types import Change, Effect

COP_PER_K = 0.025
CHILLER_SHARE = 0.55  # of cooling power: chiller and tower; fans take most of the rest
FAN_SHARE, PUMP_SHARE = 0.35, 0.10
SERVER_RAMP_C = 25.0
SERVER_RAMP_PER_K = 0.01
INLET_PER_UNIT = {  # kelvin a unit of the knob, and its 1-sigma
    "supply_air_setpoint_c": (1.0, 0.15),
    "zone_setpoint_c": (1.0, 0.15),
    "chilled_water_setpoint_c": (0.1, 0.15),
    "fan_rpm_pct": (-0.05, 0.03),
    "pump_rpm_pct": (-0.02, 0.02),
}
MS_PER_BATCH_MS = 0.8  # p95 rises with most of the window
SAVING_PER_BATCH_MS = 0.0002  # share of IT power, by judgement
LEARNED = ("supply_air", "fan", "pump")
PRIOR_SIGMA = 0.5
NOISE_SHARE = 0.004  # of cooling power: what it wanders by itself between two ticks


def prior() -> Belief:
    """Before any measurement: physics, give or take half."""
    n = len(LEARNED)
    return Belief(np.ones(n), np.eye(n) * PRIOR_SIGMA**2)


def learn(
    belief: Belief, predicted_kw: Mapping[str, float], measured_kw: float, cooling_kw: float
) -> Belief:
    """Update with what moves were predicted to do to cooling power, and what it did.

    predicted_kw: sum of the unscaled physical predictions by move. measured_kw: the change
    of cooling power, corrected for the change of IT load.
    """
    x = np.array([predicted_kw.get(m, 0.0) for m in LEARNED])
    if not np.any(x) or not np.isfinite(measured_kw):
        return belief
    noise = (NOISE_SHARE * max(cooling_kw, 1.0)) ** 2
    gain = belief.cov @ x / float(x @ belief.cov @ x + noise)
    mean = belief.mean + gain * (measured_kw - float(x @ belief.mean))
    cov = belief.cov - np.outer(gain, x @ belief.cov)
    return Belief(np.clip(mean, -0.5, 3.0), (cov + cov.T) / 2)


def physical_kw(
    case: Case, knob: Knob, changes: tuple[Change, ...], power: Power
) -> tuple[float, float]:
    """Predict (cooling, IT) power change in kW from physics alone. Negative saves."""
    cooling_kw, it_kw = power.cooling_kw or 0.0, power.it_kw or 0.0
    share = len(knob.points) / max(len(case.layout.knobs(knob.quantity)), 1)
    old, new = _mean_ends(changes)
    match knob.move:
        case "supply_air":
            cooling = -COP_PER_K * (new - old) * CHILLER_SHARE * cooling_kw * share
            return cooling, _server_kw(case, knob, new - old, it_kw * share)
        case "fan":
            cooling = _cube(case, knob, old, new) * FAN_SHARE * cooling_kw * share
            warmer = (new - old) * INLET_PER_UNIT["fan_rpm_pct"][0]
            return cooling, _server_kw(case, knob, warmer, it_kw * share)
        case "pump":
            return _cube(case, knob, old, new) * PUMP_SHARE * cooling_kw * share, 0.0
        case "batching":
            return 0.0, -SAVING_PER_BATCH_MS * (new - old) * it_kw
        case _:
            return 0.0, 0.0


def _mean_ends(changes: tuple[Change, ...]) -> tuple[float, float]:
    old = float(np.mean([c.old if c.old is not None else c.new for c in changes]))
    return old, float(np.mean([c.new for c in changes]))


def _cube(case: Case, knob: Knob, old: float, new: float) -> float:
    """Relative change of power with the cube of speed.

    Where the setpoint is a limit above the real speed, nothing moves yet: half of what a
    step from the real speed would save is granted, so that the limit is walked down to it.
    """
    actual = _actual_speed(case, knob)
    if actual is not None and old > actual + 1.0:
        if new >= old:
            return 0.0
        size = old - new
        return 0.5 * (((actual - min(size, 3.0)) / actual) ** 3 - 1.0)
    return float((new / max(old, 1.0)) ** 3 - 1.0)


def _actual_speed(case: Case, knob: Knob) -> float | None:
    """The mean measured speed of the knob's devices, where they report one."""
    devices = {p.device for p in knob.points}
    measured = [
        v
        for p in case.layout.site.of_quantity(knob.quantity)
        if p.writable is None and p.device in devices
        and (v := case.snapshot.value(p.key)) is not None
    ]  # fmt: skip
    return float(np.mean(measured)) if measured and np.mean(measured) > 1.0 else None


def binding(case: Case, knob: Knob, old: float) -> bool:
    """True when the knob really drives its device (it is no idle limit): worth learning from."""
    actual = _actual_speed(case, knob)
    return actual is None or old <= actual + 1.0


def _server_kw(case: Case, knob: Knob, warmer_k: float, it_kw: float) -> float:
    """What servers spend more when their inlets get warmer beyond the knee."""
    worst_c = hottest_c(case, knob.row)
    if np.isnan(worst_c):
        return 0.0
    before = max(0.0, worst_c - SERVER_RAMP_C)
    after = max(0.0, worst_c + warmer_k - SERVER_RAMP_C)
    return SERVER_RAMP_PER_K * (after - before) * it_kw


def predict(
    case: Case, knob: Knob, changes: tuple[Change, ...], power: Power, belief: Belief
) -> Effect:
    """The expected effect of a move with its 1-sigma: power, inlet, latency."""
    cooling, it = physical_kw(case, knob, changes, power)
    if knob.move in LEARNED:
        i = LEARNED.index(knob.move)
        expected = cooling * float(belief.mean[i]) + it
        sigma = abs(cooling) * float(np.sqrt(belief.cov[i, i]))
    else:
        expected, sigma = cooling + it, 0.5 * abs(cooling + it)
    old, new = _mean_ends(changes)
    per_unit, per_unit_sigma = INLET_PER_UNIT.get(knob.quantity, (0.0, 0.0))
    latency = (new - old) * MS_PER_BATCH_MS if knob.move == "batching" else 0.0
    return Effect(
        total_power_kw=expected,
        total_power_sigma_kw=sigma,
        inlet_c=per_unit * (new - old),
        inlet_sigma_k=per_unit_sigma * abs(new - old),
        latency_ms=latency,
    )
