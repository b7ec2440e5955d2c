"""How far inlets have stood above their air setpoints, by hour, for two days.

Rows (h, 1 + 3 n): the hour, each place's highest inlet over its air setpoint in it, that setpoint, and
its fans then in %, NaN where nobody knows. Arithmetic only.
"""

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

HOURS = 48
# Peaks at setpoints this near count (colder air is held less well, warmer better), the nearer alone where
# half a day of them was seen.
ALIKE_K, ALIKE_HOURS = (1.5, 3.0), 12
SLOWER_PCT = 5.0  # and where fans were slower by more they say nothing: less air is warmer air


def with_look(old: F64, over: F64, air: F64, fan_pct: F64, now_s: float) -> F64:
    """With one more look at inlets over their air, at the air setpoints and the fans, (n,) each."""
    hour, n = now_s // 3600.0, len(over)
    if not len(old) or old[-1, 0] != hour:
        return np.vstack([old, np.r_[hour, over, air, fan_pct]])[-HOURS:]
    last = old[-1, 1:].reshape(3, n)
    higher = (over > last[0]) | np.isnan(last[0])
    now = np.where(higher, np.stack([over, air, fan_pct]), last)
    return np.vstack([old[:-1], np.r_[hour, now.ravel()]])


def highest(peaks: F64, air: F64, fan_pct: F64) -> F64:
    """Each place's highest at air setpoints and fans like these (n,), in K; -inf without. (n,)"""
    peak, then, fans = peaks[:, 1:].reshape(len(peaks), 3, len(air)).swapaxes(0, 1)
    peak = np.where(fans < fan_pct - SLOWER_PCT, np.nan, peak)
    near, wide = (np.where(np.abs(then - air) <= k, peak, np.nan) for k in ALIKE_K)
    enough = np.isfinite(near).sum(axis=0) >= ALIKE_HOURS
    out: F64 = np.fmax.reduce(np.where(enough, near, wide), axis=0, initial=-np.inf)
    return out
