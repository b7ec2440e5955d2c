"""How the hall answers to its knobs: physics for the shape, measurements for the size.

Four small regressions, learned all the time from averages over a slow period: cooling power,
IT power, worst latency, and for each place how its worst inlet stands above its supply air. All
answer to what is measured (fan speed, water and air temperature), so that a limit that does not
bind or a coil that can't follow is no riddle. Before any measurement physics stands in:

- fans and pumps: power goes with the cube of speed (fan affinity laws, ASHRAE Handbook,
  HVAC Systems and Equipment, ch. Fans)
- a kelvin warmer water: chiller COP better by 2-3 % a kelvin (device facts); without a chilled
  water loop the supply air takes its place (direct expansion)
- chips leak and server fans turn faster with a warmer inlet: +0.2 % of IT power a kelvin, and
  beyond about 25 degC, where server fans ramp (device facts), +1 % a kelvin, by judgement
- heat stored in water, slab and steel is given back: a change of temperature looks like a
  saving (or a loss) at first that is none; its own terms take that out

Predicts; never decides.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from control.estimate import Gaussian, learn
from control.signals import HALL, PLACE

F64 = NDArray[np.float64]

COOLING = ("base", "it_kw", "outdoor_c", "fan_cube", "pump_cube", "water_c", "air_c",
           "air_store", "water_store")  # fmt: skip
_SIGN = {"fan_cube": 1.0, "pump_cube": 1.0, "water_c": -1.0}  # whatever else moved at the same time
IT = ("base", "prompts_ps", "batched", "inlet_c", "hot_k")
LATENCY = ("base", "prompts_ps", "batch_ms")
EXCESS = ("base", "fan_pct")

AIR_STORE_S = 1800.0  # slab and steel follow the air in about half an hour
WATER_STORE_S = 600.0  # pipes and chillers in ten minutes
LOAD_S = 600.0  # and so does the heat of a burst of work, through air, coils and pipes
STEP_S = 120.0  # wander and noise below are for this long

# Shares of cooling power, typical for chilled-water halls (ASHRAE Datacom series): chillers and
# tower over half, fans a third, pumps a tenth.
CHILLER_SHARE, FAN_SHARE, PUMP_SHARE = 0.55, 0.33, 0.10
COP_PER_K = 0.025
COP_MOST = 10.0  # no compressor of a water chiller carries more heat than this many times its power


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """What is believed of this hall. origin (len(HALL),): the first averages, regressors count
    from there; fan_origin (n,) likewise a place; slow_*: air and water as what stores heat has
    followed them, IT power as it has reached the chillers; at_s: the last measurement taken in."""

    cooling: Gaussian
    it: Gaussian
    latency: Gaussian
    excess: tuple[Gaussian, ...]
    origin: F64
    fan_origin: F64
    slow_air_c: float
    slow_water_c: float
    slow_it_kw: float
    at_s: float


def prior(hall: F64, places: F64, now_s: float) -> Belief | None:
    """What physics says of a hall with these first averages; None while its power is unknown."""
    cooling_kw, it_kw = split(hall)
    if not np.isfinite(cooling_kw):
        return None
    at = dict(zip(HALL, hall, strict=True))
    fan, pump = (np.nan_to_num(at[k], nan=1.0) or 1.0 for k in ("fan_cube", "pump_cube"))
    water = np.isfinite(at["water_c"])
    lift = -COP_PER_K * CHILLER_SHARE * cooling_kw
    per_it = cooling_kw / it_kw if it_kw > 0 else 0.0
    cooling = Gaussian.prior(*_columns(
        (cooling_kw, 0.05 * cooling_kw, 0.0015 * cooling_kw),
        (0.6 * per_it, 0.3 * per_it, 0.01 * per_it),
        (0.01 * cooling_kw, 0.01 * cooling_kw, 0.0005 * cooling_kw),
        (FAN_SHARE * cooling_kw / fan, 0.4 * FAN_SHARE * cooling_kw / fan, 0.01 * cooling_kw / fan),
        (PUMP_SHARE * cooling_kw / pump, 0.5 * PUMP_SHARE * cooling_kw / pump, 0.003 * cooling_kw / pump),
        (lift, 0.6 * abs(lift), 0.15 * abs(lift)),
        (0.0, 0.005 * cooling_kw, 0.001 * cooling_kw) if water else (lift, 0.6 * abs(lift), 0.15 * abs(lift)),
        (0.0, 0.03 * cooling_kw, 0.0),
        (0.0, 0.03 * cooling_kw, 0.0),
    ), np.array([_SIGN.get(k, 0.0) for k in COOLING]))  # fmt: skip
    known_it = it_kw if it_kw > 0 else 0.0
    prompts = max(float(np.nan_to_num(at["prompts_ps"])), 1e-3)
    it = Gaussian.prior(*_columns(
        (known_it, 0.05 * known_it, 0.001 * known_it),
        (0.4 * known_it / prompts, 0.3 * known_it / prompts, 0.005 * known_it / prompts),
        (-0.03 * known_it / prompts, 0.03 * known_it / prompts, 0.002 * known_it / prompts),
        (0.002 * known_it, 0.0015 * known_it, 0.0001 * known_it),
        (0.01 * known_it, 0.005 * known_it, 0.0005 * known_it),
    ))  # fmt: skip
    known_ms = bool(np.isfinite(at["latency_ms"]))  # not at once: a p95 needs its window
    worst_ms = at["latency_ms"] if known_ms else 0.0
    latency = Gaussian.prior(*_columns(
        (worst_ms, 20.0 if known_ms else 1e4, 2.0), (0.2, 0.2, 0.02), (0.7, 0.3, 0.02)
    ))  # fmt: skip
    excess = tuple(
        Gaussian.prior(*_columns((_excess_k(row), 1.0, 0.05), (-0.03, 0.03, 0.002)))
        for row in places
    )
    fans = places[:, PLACE.index("fan_pct")]
    return Belief(cooling, it, latency, excess, hall, fans,
                  at["air_c"], at["water_c"], at["it_kw"], now_s)  # fmt: skip


def _columns(*terms: tuple[float, float, float]) -> tuple[F64, F64, F64]:
    mean, sigma, wander = (np.array([float(t[i]) for t in terms]) for i in range(3))
    return mean, np.maximum(sigma, 1e-12), wander


def split(hall: F64) -> tuple[float, float]:
    """(cooling, IT) power in kW; where one is not metered, what the total leaves."""
    total, it, cooling = (float(hall[HALL.index(k)]) for k in ("total_kw", "it_kw", "cooling_kw"))
    if np.isnan(cooling):
        cooling = total if np.isnan(it) else total - it
    return cooling, 0.0 if np.isnan(it) else it


def metered(hall: F64, usual: F64) -> tuple[float, float]:
    """As split(), NaN for both while a meter that is usually there, by `usual` averages, is silent:
    what is left of the total would be another thing."""
    for name in ("cooling_kw", "it_kw"):
        at = HALL.index(name)
        if np.isfinite(usual[at]) and not np.isfinite(hall[at]):
            return np.nan, np.nan
    return split(hall)


def _excess_k(place: F64) -> float:
    gap = place[PLACE.index("inlet_c")] - place[PLACE.index("air_c")]
    return float(gap) if np.isfinite(gap) else 0.0


def updated(belief: Belief, hall: F64, places: F64, now_s: float) -> Belief:
    """The belief after one more window of averages that ended at now_s."""
    dt_s = max(now_s - belief.at_s, 1.0)
    steps = dt_s / STEP_S
    belief = replace(belief, origin=np.where(np.isnan(belief.origin), hall, belief.origin),
                     slow_air_c=_follow(belief.slow_air_c, hall[HALL.index("air_c")], dt_s / AIR_STORE_S),
                     slow_water_c=_follow(belief.slow_water_c, hall[HALL.index("water_c")], dt_s / WATER_STORE_S),
                     slow_it_kw=_follow(belief.slow_it_kw, hall[HALL.index("it_kw")], dt_s / LOAD_S),
                     at_s=now_s)  # fmt: skip
    cooling_kw, it_kw = metered(hall, belief.origin)
    latency_ms = float(hall[HALL.index("latency_ms")])
    return replace(
        belief,
        cooling=learn(_lifted(belief.cooling, hall, cooling_kw, it_kw), _cooling_x(belief, hall), cooling_kw,
                      0.002 * abs(cooling_kw) + 0.02, steps, jumps_at=np.zeros(len(belief.cooling.mean))),
        it=learn(belief.it, _offsets(belief, hall, IT), it_kw if it_kw > 0 else np.nan,
                 0.002 * abs(it_kw) + 0.02, steps),
        latency=learn(belief.latency, _offsets(belief, hall, LATENCY), latency_ms,
                      2.0 + 0.01 * abs(np.nan_to_num(latency_ms)), steps),
        excess=tuple(
            learn(g, np.array([1.0, _zero(p[PLACE.index("fan_pct")] - f)]),
                  float(p[PLACE.index("inlet_c")] - p[PLACE.index("air_c")]), 0.15, steps)
            for g, p, f in zip(belief.excess, places, belief.fan_origin, strict=True)
        ),
    )  # fmt: skip


def _lifted(cooling: Gaussian, hall: F64, cooling_kw: float, it_kw: float) -> Gaussian:
    """With what physics says of a kelvin of lift now: as much of it as compressors run. What fans and
    pumps leave of the power is theirs, unless it is less than any could do the work with."""
    moved_kw = sum(float(cooling.usual[COOLING.index(k)]) * _zero(_signal(hall, k))
                   for k in ("fan_cube", "pump_cube"))  # fmt: skip
    rest_kw = max(cooling_kw - moved_kw, 0.0)
    running = min(1.0, COP_MOST * rest_kw / it_kw) if it_kw > 0 and np.isfinite(rest_kw) else 1.0
    share = np.ones(len(COOLING))
    share[COOLING.index("water_c" if np.isfinite(_signal(hall, "water_c")) else "air_c")] = running
    return cooling.scaled(share)


def _follow(slow: float, value: float, share: float) -> float:
    if not np.isfinite(value):
        return slow
    return float(value if not np.isfinite(slow) else slow + (1.0 - np.exp(-share)) * (value - slow))


def _offsets(belief: Belief, hall: F64, terms: tuple[str, ...]) -> F64:
    """1 and how far each signal stands from the origin; 0 for what is not known."""
    off = [_zero(_signal(hall, t) - _signal(belief.origin, t)) for t in terms[1:]]
    return np.array([1.0, *off])


def _signal(hall: F64, term: str) -> float:
    """One of the averages, or `batched`: a longer window saves on every prompt, so what it does
    goes with the prompts; in a prompt a second at 100 ms. A hall without prompts counts as one."""
    if term != "batched":
        return float(hall[HALL.index(term)])
    prompts = float(hall[HALL.index("prompts_ps")])
    return (prompts if np.isfinite(prompts) else 1.0) * float(hall[HALL.index("batch_ms")]) / 100.0


def _cooling_x(belief: Belief, hall: F64) -> F64:
    at = dict(zip(HALL, hall, strict=True))
    x = _offsets(belief, hall, COOLING[:-2])
    x[COOLING.index("it_kw")] = _zero(belief.slow_it_kw - _signal(belief.origin, "it_kw"))
    stored = (_zero(at["air_c"] - belief.slow_air_c), _zero(at["water_c"] - belief.slow_water_c))
    return np.array([*x, *stored])


def _zero(value: float) -> float:
    return float(value) if np.isfinite(value) else 0.0


@dataclass(frozen=True, slots=True)
class Shift:
    """What a move changes in the hall's averages."""

    fan_cube: float = 0.0
    pump_cube: float = 0.0
    water_c: float = 0.0
    air_c: float = 0.0
    batched: float = 0.0
    inlet_c: float = 0.0
    hot_k: float = 0.0


def power_kw(belief: Belief, hall: F64, shift: Shift) -> tuple[float, float]:
    """Return the (mean, 1-sigma) change of total power in kW, once settled. Negative saves.

    IT power drags its distribution losses along: total less cooling, over IT.
    """
    cooling = np.array([_part(shift, t) for t in COOLING])
    it = np.array([_part(shift, t) for t in IT])
    c_mean, c_sigma = belief.cooling.predict(cooling)
    i_mean, i_sigma = belief.it.predict(it)
    cooling_kw, it_kw = split(hall)
    total = float(hall[HALL.index("total_kw")])
    drag = (total - cooling_kw) / it_kw if it_kw > 0 and np.isfinite(total) else 1.0
    # More heat from IT is more to cool.
    drag += max(0.0, float(belief.cooling.mean[COOLING.index("it_kw")]))
    return c_mean + drag * i_mean, float(np.hypot(c_sigma, drag * i_sigma))


def _part(shift: Shift, term: str) -> float:
    return float(getattr(shift, term)) if term in Shift.__dataclass_fields__ else 0.0


def inlet_per_fan(belief: Belief, place: int) -> tuple[float, float]:
    """(mean, 1-sigma) of how a place's worst inlet answers to a percent of fan, K/%; never above 0."""
    g = belief.excess[place]
    at = EXCESS.index("fan_pct")
    return min(float(g.mean[at]), 0.0), float(np.sqrt(g.cov[at, at]))


def latency_per_batch(belief: Belief) -> float:
    """Milliseconds of worst p95 a millisecond of batching window, never below 0."""
    return max(float(belief.latency.mean[LATENCY.index("batch_ms")]), 0.0)


def latency_per_prompt(belief: Belief) -> float:
    """Milliseconds of worst p95 a prompt a second more, never below 0."""
    return max(float(belief.latency.mean[LATENCY.index("prompts_ps")]), 0.0)
