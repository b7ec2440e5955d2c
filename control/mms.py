"""MMS: is a deviation a passing thing or is the unit really in another state?

Decides a state for each unit from its stream of D(x): nominal, transient, persistent or
unknown, since when, and why. Three witnesses, all recursive and all causal:

- an EMA of D(x) (`alpha`) against tau_fast and tau_persist, held for `persist_ticks`;
- a likelihood ratio between the nominal score distribution (log-normal through the two
  thresholds, which are its 95th and 98th percentiles) and an anomalous one shifted up,
  accumulated as a CUSUM (Page, Biometrika 1954): one freak value can't make a fault;
- a second, faster EMA, which clears an alarm early once D(x) has come back.

The idea of telling transient from systemic by comparing two score distributions is NASA's
(Iverson, IEEE Aerospace 2008).

    NOMINAL --ema > tau_fast--> TRANSIENT --ema > tau_persist for persist_ticks
       ^                        |    ^           and the evidence agrees--> PERSISTENT
       |<--ema < tau_fast*clear-+    +<--fast ema < relief * peak------------+ |
       +<----------- fast ema < tau_fast * clear for clear_ticks --------------+
    UNKNOWN covers any of them while an input is missing; what lay under it comes back after.

Relief: a deviation that has fallen to a quarter of its peak is a fault that ended and left
something behind (a new balance, a sensor that settled elsewhere). It is transient then, and
persistent again if it doubles from there, or if it is still there after `relief_ticks`.

Must never: call a missing score nominal, forget a persistent state because a value went
missing, or raise a persistent one while a unit is held off (`held`: the agent has just moved
a setpoint there, or somebody works on it). Pure: the time is given, states are replaced.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NOMINAL, TRANSIENT, PERSISTENT, UNKNOWN = 0, 1, 2, 3
STATE_NAMES = ("nominal", "transient", "persistent", "unknown")


@dataclass(frozen=True, slots=True)
class MmsParams:
    """How quickly a unit is believed.

    `alpha`, `alpha_clear` in (0, 1] weigh a new score in the slow and the fast EMA;
    `persist_ticks` and `clear_ticks` are counts of rows; `clear` is the share of tau_fast that
    the score must fall below to be well again; `evidence` is the summed log-likelihood ratio
    that a persistent state needs, `evidence_cap` the most that is remembered of it. `relief` is
    the share of its peak at which a persistent deviation counts as over (0: never), for at most
    `relief_ticks` rows.
    """

    alpha: float = 0.3
    persist_ticks: int = 6
    alpha_clear: float = 0.6
    clear_ticks: int = 6
    clear: float = 0.8
    evidence: float = 6.0
    evidence_cap: float = 30.0
    relief: float = 0.25
    relief_ticks: int = 120

    def __post_init__(self) -> None:
        """Refuse values that have no meaning. Raises ValueError naming the parameter."""
        for name in ("alpha", "alpha_clear", "clear"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"mms.{name} must be above 0 and at most 1")
        if not 0.0 <= self.relief < 1.0:
            raise ValueError("mms.relief must be at least 0 and below 1")
        for name in ("persist_ticks", "clear_ticks", "relief_ticks"):
            if getattr(self, name) < 1:
                raise ValueError(f"mms.{name} must be at least 1")
        if not 0.0 <= self.evidence <= self.evidence_cap:
            raise ValueError("mms.evidence must be between 0 and evidence_cap")


@dataclass(frozen=True, slots=True, eq=False)
class MmsState:
    """The monitor's memory for n units. `state` (n,) is what to show; see STATE_NAMES.

    `latent` (n,) is the state under an unknown. `ema`, `ema_clear` (n,) are NaN before a
    unit's first score. `since_s` (n,) is when `state` last changed, on the caller's clock. `peak`
    (n,) is the highest fast EMA of the persistent state, or the level of the relief from it, of
    which `relieved` (n,) rows are left.
    """

    state: NDArray[np.int8]
    latent: NDArray[np.int8]
    since_s: Floats
    ema: Floats
    ema_clear: Floats
    over: NDArray[np.int64]
    under: NDArray[np.int64]
    evidence: Floats
    peak: Floats
    relieved: NDArray[np.int64]
    held: Bools = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))

    @property
    def persistent(self) -> Bools:
        """Which units are persistent: where something really is in another state."""
        return np.equal(self.state, PERSISTENT)


def start(n_units: int, now_s: float) -> MmsState:
    """Nothing has been seen yet: every unit unknown since `now_s`."""
    return MmsState(
        state=np.full(n_units, UNKNOWN, dtype=np.int8),
        latent=np.full(n_units, NOMINAL, dtype=np.int8),
        since_s=np.full(n_units, float(now_s)),
        ema=np.full(n_units, np.nan),
        ema_clear=np.full(n_units, np.nan),
        over=np.zeros(n_units, dtype=np.int64),
        under=np.zeros(n_units, dtype=np.int64),
        evidence=np.zeros(n_units),
        peak=np.zeros(n_units),
        relieved=np.zeros(n_units, dtype=np.int64),
        held=np.zeros(n_units, dtype=np.bool_),
    )


def step(
    params: MmsParams,
    old: MmsState,
    deviation: Floats,
    unknown: Bools,
    tau_fast: float | Floats,
    tau_persist: float | Floats,
    now_s: float,
    held: Bools | None = None,
) -> MmsState:
    """One tick: n scores in, the next state out. The thresholds are one number or one a unit.

    Units that are `held` (n,) keep being scored and may clear, but nothing new becomes
    persistent there and no evidence is gathered. Raises ValueError on a wrong length.
    """
    if deviation.shape != old.ema.shape or unknown.shape != old.ema.shape:
        raise ValueError(f"{deviation.shape[0]} scores for {old.ema.shape[0]} units")
    held = np.zeros_like(unknown) if held is None else held
    known = ~unknown & np.isfinite(deviation)
    d = np.where(known, deviation, 0.0)
    ema = _mean(old.ema, d, params.alpha, known, held)
    ema_clear = _mean(old.ema_clear, d, params.alpha_clear, known, held)
    evidence = _gather(params, old.evidence, d, tau_fast, tau_persist, known, held)
    over = np.where(known & ~held, np.where(ema > tau_persist, old.over + 1, 0), old.over)
    was = old.latent == PERSISTENT
    peak = np.where(known & was, np.maximum(old.peak, ema_clear), old.peak)
    calm = ema_clear < np.multiply(tau_fast, params.clear)
    well = calm | (was & (ema_clear < params.relief * peak))
    under = np.where(known, np.where(well, old.under + 1, 0), old.under)
    relieved = np.where(known & (calm | (ema > 2.0 * peak)), 0, old.relieved - known)
    relieved = np.where(was, 0, np.maximum(relieved, 0))
    believed = (over >= params.persist_ticks) & (evidence >= params.evidence) & (relieved == 0)
    moved = _next(params, old.latent, ema, tau_fast, believed, under, calm)
    latent = np.where(known, moved, old.latent).astype(np.int8)
    state = np.where(known, latent, UNKNOWN).astype(np.int8)
    raised, ended = ~was & (latent == PERSISTENT), was & (latent != PERSISTENT)
    return MmsState(
        state=state,
        latent=latent,
        since_s=np.where(state == old.state, old.since_s, now_s),
        ema=np.where(ended, ema_clear, ema),
        ema_clear=ema_clear,
        over=np.where(ended, 0, over),
        under=np.where(raised, 0, under),
        evidence=np.where(ended, 0.0, evidence),
        peak=np.where(raised | ended, ema_clear, peak),
        relieved=np.where(ended & ~calm, params.relief_ticks, relieved),
        held=held.copy(),
    )


def _mean(old: Floats, d: Floats, alpha: float, known: Bools, held: Bools) -> Floats:
    """The EMA; it starts at the first score, and falls but never rises while held off."""
    first = np.isnan(old)
    new = np.where(first, d, old + alpha * (d - np.where(first, 0.0, old)))
    new = np.where(held, np.fmin(new, np.where(first, 0.0, old)), new)
    return np.where(known, new, old)


def _gather(
    params: MmsParams,
    old: Floats,
    d: Floats,
    tau_fast: float | Floats,
    tau_persist: float | Floats,
    known: Bools,
    held: Bools,
) -> Floats:
    """CUSUM of log p(d | anomalous) / p(d | nominal), between 0 and the cap.

    log d is taken as normal. Its 95th and 98th percentiles are the thresholds, 1.645 and
    2.054 standard deviations up; anomalous scores lie 3 deviations up. One score counts for
    at most ±`_STEP_CAP`, so that a single freak decides nothing.
    """
    spread = np.clip((np.log(tau_persist) - np.log(tau_fast)) / (2.054 - 1.645), 0.05, 1.0)
    with np.errstate(divide="ignore"):
        height = 1.645 + (np.log(d) - np.log(tau_fast)) / spread
    ratio = np.clip(3.0 * height - 4.5, -_STEP_CAP, _STEP_CAP)
    new = np.clip(old + ratio, 0.0, params.evidence_cap)
    return np.where(known, np.where(held, np.minimum(new, old), new), old)


_STEP_CAP = 1.5


def _next(
    params: MmsParams,
    latent: NDArray[np.int8],
    ema: Floats,
    tau_fast: float | Floats,
    believed: Bools,
    under: NDArray[np.int64],
    calm_now: Bools,
) -> NDArray[np.int64]:
    """The diagram above, as one expression a state."""
    up = np.where(ema > tau_fast, TRANSIENT, NOMINAL)
    calm = ema < np.multiply(tau_fast, params.clear)
    from_nominal = np.where(believed, PERSISTENT, up)
    from_transient = np.where(believed, PERSISTENT, np.where(calm, NOMINAL, TRANSIENT))
    down = np.where(calm_now, NOMINAL, TRANSIENT)
    from_persistent = np.where(under >= params.clear_ticks, down, PERSISTENT)
    return np.choose(latent, [from_nominal, from_transient, from_persistent])


def explain(
    params: MmsParams, state: MmsState, unit: int, tau_fast: float, tau_persist: float
) -> str:
    """One sentence: why a unit is in the state it is in, with the numbers it rests on."""
    code = int(state.state[unit])
    ema, evidence = float(state.ema[unit]), float(state.evidence[unit])
    if code == UNKNOWN:
        under = STATE_NAMES[int(state.latent[unit])]
        return f"an input is missing; {under} when last known"
    over = f"EMA of D(x) {ema:.3g} against tau_fast {tau_fast:.3g}, tau_persist {tau_persist:.3g}"
    if code == PERSISTENT:
        return (
            f"{over}; over tau_persist for {int(state.over[unit])} rows (needs "
            f"{params.persist_ticks}), log-likelihood ratio {evidence:.1f} (needs "
            f"{params.evidence:g}); clears below {tau_fast * params.clear:.3g}"
        )
    if code == TRANSIENT:
        if left := int(state.relieved[unit]):
            return f"{over}; fell to {params.relief:.0%} of its peak, watched for {left} more rows"
        held = "; held off after a move of our own" if state.held[unit] else ""
        return f"{over}; over for {int(state.over[unit])} of {params.persist_ticks} rows{held}"
    return over


def resize(state: MmsState, keep: NDArray[np.intp], now_s: float) -> MmsState:
    """The state for another list of units: `keep` (m,) is where each was, -1 for a new one."""
    fresh = start(len(keep), now_s)
    had = keep >= 0
    at = np.where(had, keep, 0)
    if not len(state.ema):
        return fresh
    moved = {f: np.where(had, getattr(state, f)[at], getattr(fresh, f)) for f in _FIELDS}
    return replace(fresh, **moved)


_FIELDS = (
    "state",
    "latent",
    "since_s",
    "ema",
    "ema_clear",
    "over",
    "under",
    "evidence",
    "peak",
    "relieved",
    "held",
)
