"""What a hall takes beside its cooling, as far as setpoints have a hand in it.

Chips leak and server fans turn faster with a warmer inlet. Credited are the inlets that setpoints
make, never those that are measured: load warms inlets and takes power of itself. Learned from jumps
around moves; load's own ups and downs are carried on as a trend. Arithmetic only.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from control.estimate import Gaussian, learn

F64 = NDArray[np.float64]

RAMP_C = 25.0  # server fans ramp above (device facts)
# Per cent of power a kelvin of inlet, and a kelvin beyond the ramp: device facts, by judgement wide.
_SHARES = ((1.0, 0.3, 0.002), (0.003, 0.003, 0.00003), (0.01, 0.006, 0.0001))  # mean, sigma, wander
SIGN = np.array([0.0, 1.0, 1.0])  # warmer inlets never take less
# Of the power: by how much a look is off what was expected, setpoints at rest: at first, at least and
# at most. Noise is a part of that, the base's own way the greater one.
OFF, OFF_LEAST, OFF_MOST, NOISE, BASE = 0.0025, 0.0002, 0.005, 0.4, 0.8
FORGET = 0.1  # a look
AT_REST_K = 0.1
UNSETTLED = 0.005  # of the power a kelvin, or 10 %, that levels are still to go: a look tells less
TREND = 0.05  # a look: how fast the trend is followed
JUMP = 0.01  # of the power: a change that is no trend
STEP_S = 120.0
MIXING = (
    1.5  # what stands over the air goes with fan speed to minus this: temperature rise and leaks
)
USUAL_OVER_K = 4.0  # where it is not known


@dataclass(frozen=True, slots=True, eq=False)
class Rest:
    """What is believed: of the base in kW, kW a kelvin of inlet, kW a kelvin beyond RAMP_C.

    inlet_c: the mean inlet when levels stood at found (f,); over_k: of that, over the air. air,
    fans (f,): which families are which; last (3,): regressors at the last look: a load jumps there.
    """

    belief: Gaussian
    found: F64
    air: NDArray[np.bool_]
    fans: NDArray[np.bool_]
    inlet_c: float
    over_k: float
    last: F64 = field(default_factory=lambda: np.array([1.0, 0.0, 0.0]))
    trend_kw: float = 0.0
    off: float = OFF

    def inlets_c(self, levels: F64) -> F64:
        """The mean inlet that levels (m, f) should make, load as it was. Shape (m,)."""
        warmer = (levels - self.found)[:, self.air].sum(axis=1) / max(int(self.air.sum()), 1)
        slower = np.maximum(self.found, 1.0) / np.maximum(levels, 1.0)
        over = np.prod(np.where(self.fans, slower, 1.0), axis=1) ** MIXING - 1.0
        inlets: F64 = self.inlet_c + warmer + self.over_k * over
        return inlets

    def x(self, levels: F64) -> F64:
        """Regressors at levels (m, f): (m, 3)."""
        inlets = self.inlets_c(levels)
        ones = np.ones(len(levels))
        return np.column_stack([ones, inlets - self.inlet_c, np.maximum(inlets - RAMP_C, 0.0)])

    def effects(self, levels: F64, now: F64) -> tuple[F64, F64]:
        """(mean, variance) in kW of going from now (f,) to levels (m, f)."""
        x = self.x(levels) - self.x(now[None])
        return x @ self.belief.mean, np.maximum(np.einsum("ij,jk,ik->i", x, self.belief.cov, x), 0.0)  # fmt: skip


def begun(kw: float, inlet_c: float, air_c: float, levels: F64, air: NDArray[np.bool_], fans: NDArray[np.bool_]) -> Rest | None:  # fmt: skip
    """What physics says; None while power or inlets are unknown."""
    if not np.isfinite([kw, inlet_c]).all() or kw <= 0:
        return None
    mean, sigma, wander = np.array(_SHARES).T * kw
    over_k = max(inlet_c - air_c, 0.0) if np.isfinite(air_c) else USUAL_OVER_K
    return Rest(Gaussian.prior(mean, sigma, wander, SIGN), levels, air, fans, inlet_c, over_k)


def learned(rest: Rest, kw: float, levels: F64, asked: F64, dt_s: float) -> Rest:
    """After one more look of dt_s, at levels (f,) as they have settled towards those asked."""
    if not np.isfinite(kw) or kw <= 0:
        return rest
    steps = dt_s / STEP_S
    ahead = rest.belief.mean + np.array([rest.trend_kw * steps, 0.0, 0.0])
    wander = np.r_[BASE * rest.off * kw, rest.belief.wander[1:]]
    before = replace(rest.belief, mean=ahead, wander=wander)
    x, to_go = rest.x(levels[None])[0], _to_go(rest, levels, asked)
    noise_kw = np.hypot(NOISE * rest.off, UNSETTLED * to_go) * kw
    belief = learn(before, x, kw, float(noise_kw), steps, jumps_at=rest.last)
    off = float(belief.mean[0] - ahead[0])
    trend_kw = rest.trend_kw + TREND * off / steps if abs(off) < JUMP * kw else rest.trend_kw
    usual = rest.off
    if to_go < AT_REST_K:
        missed = min(abs(kw - float(x @ ahead)) / kw / max(steps, 1.0) ** 0.5, 3.0 * usual)
        usual = float(np.clip(usual + FORGET * (missed - usual), OFF_LEAST, OFF_MOST))
    return replace(rest, belief=belief, last=x, trend_kw=trend_kw, off=usual)


def _to_go(rest: Rest, levels: F64, asked: F64) -> float:
    """How far the levels are from where they will settle, K (10 % of a speed is as much)."""
    return float((np.abs(asked - levels) * np.where(rest.fans, 0.1, 1.0)).max(initial=0.0))
