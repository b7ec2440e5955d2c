"""One step of one actuator, tried with a person watching: which step, and what it showed.

Decides the step (inside the envelope, towards the safe side where there is room) and judges what
sensors near the actuator did: which of them respond, how fast, and with the sign that physics
wants. A sign that is wrong is never passed, whoever accepts it. Pure.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from config.quantities import SAFE_DIRECTION
from config.site import Point, Site

F64 = NDArray[np.float64]

# What an actuator moves, and which way: sensor quantity -> sign. The first that is there proves it.
EXPECTED: dict[str, dict[str, int]] = {
    "supply_air_setpoint_c": {"supply_air_c": +1, "inlet_c": +1},
    "zone_setpoint_c": {"zone_c": +1, "supply_air_c": +1, "return_air_c": +1, "inlet_c": +1},
    "chilled_water_setpoint_c": {"chilled_water_c": +1},
    "fan_rpm_pct": {"fan_rpm_pct": +1, "differential_pressure_pa": +1},
    "pump_rpm_pct": {"pump_rpm_pct": +1, "flow_lps": +1, "differential_pressure_pa": +1},
    "traffic_share_pct": {"tokens_ps": +1, "prompts_ps": +1, "gpu_power_kw": +1},
    "batch_window_ms": {"latency_p95_ms": +1},
}
NOISE_SIGMAS = 4.0
LEAST_SHARE = 0.005  # of the value: what moves by less has not responded
LEAST = 0.05  # in the quantity's unit
SETTLED = 1.0 / 3.0  # the end of the watch, which counts as settled


@dataclass(frozen=True, slots=True)
class Watched:
    """What sensors read around the step: times (t,) in seconds from it, values (t, n) with NaN
    where nothing good was read; those before the step have negative times."""

    sensors: tuple[str, ...]
    times_s: F64
    values: F64


@dataclass(frozen=True, slots=True)
class Response:
    """A sensor that moved: from what to what, after how long, and whether with the right sign
    (None: physics expects nothing of it)."""

    sensor: str
    before: float
    after: float
    delay_s: float
    right: bool | None


@dataclass(frozen=True, slots=True)
class Shown:
    """What a trial showed. `wrong`: what must not be accepted; `unclear`: what a person may."""

    responses: tuple[Response, ...]
    wrong: tuple[str, ...]
    unclear: tuple[str, ...]


def step(point: Point, present: float | None, size: float | None = None) -> float | str:
    """The value to try, or why there is none. `size`: how far (default: max_step), signed to choose
    the direction."""
    w = point.writable
    if w is None:
        return f"{point.key} is not writable in the site file"
    if present is None:
        return f"{point.key} has no good reading: what it holds must be known first"
    if not w.min <= present <= w.max:
        return (
            f"{point.key} reads {present:g} {point.about.unit}, outside {w.min:g}..{w.max:g}:"
            " look at register, scale and unit before anything is written"
        )
    if size is not None and not 0 < abs(size) <= w.max_step * (1 + 1e-9):
        return f"a step of {size:g}: at most {w.max_step:g} (max_step)"
    by = w.max_step if size is None else abs(size)
    first = (SAFE_DIRECTION.get(point.quantity) or 1) if size is None else np.sign(size)
    for direction in (first, -first):
        value = present + direction * by
        if w.min <= value <= w.max:
            return float(value)
    return f"{point.key}: no room for a step of {by:g} from {present:g} in {w.min:g}..{w.max:g}"


def near(site: Site, point: Point) -> list[Point]:
    """The sensors that may show it: of its equipment, row or zone; of the hall where it has none."""
    local = point.row is not None or point.zone is not None
    return [
        p
        for p in site.points.values()
        if p.writable is None
        and not p.part
        and p.about.unit
        and (
            p.equipment == point.equipment
            or (p.zone is not None and p.zone == point.zone)
            or (p.row is not None and p.row == point.row)
            or (not local and p.row is None)
        )
    ]


def shown(site: Site, point: Point, change: float, watched: Watched) -> Shown:
    """What a step of `change` (new - old) did to the sensors."""
    expected = EXPECTED.get(point.quantity, {})
    responses = []
    for i, key in enumerate(watched.sensors):
        found = _response(key, watched.times_s, watched.values[:, i])
        if found is None:
            continue
        sign = expected.get(site.points[key].quantity)
        right = None if sign is None else (found.after - found.before) * sign * change > 0
        responses.append(replace(found, right=right))
    proofs = [p for p in watched.sensors if site.points[p].quantity in expected]
    own = [r for r in responses if site.points[r.sensor].equipment == point.equipment]
    wrong = tuple(
        f"{r.sensor} went {r.before:.4g} -> {r.after:.4g}, the wrong way"
        for r in own
        if r.right is False
    )
    unclear: list[str] = []
    if not proofs:
        names = ", ".join(expected) or "no quantity"
        unclear.append(f"no sensor near it could show its effect (looked for {names})")
    elif not any(r.right for r in responses):
        unclear.append(f"none of {len(proofs)} sensors that should respond did")
    return Shown(tuple(responses), wrong, tuple(unclear))


def _response(key: str, times_s: F64, values: F64) -> Response | None:
    """How one sensor moved, or None where it stayed in its noise or was not read."""
    good = np.isfinite(values)
    before, after = values[good & (times_s < 0)], good & (times_s >= 0)
    if before.size < 3 or after.sum() < 3:
        return None
    start = float(before.mean())
    late = after & (times_s >= times_s[-1] * (1 - SETTLED))
    if not late.any():
        return None
    end = float(values[late].mean())
    least = max(LEAST, LEAST_SHARE * abs(start), NOISE_SIGMAS * float(before.std()))
    if abs(end - start) <= least:
        return None
    there = (values - start) * np.sign(end - start) > least
    stays = np.flip(np.logical_and.accumulate(np.flip((there | ~good)[times_s >= 0])))
    at = np.flatnonzero(stays)
    delay_s = float(times_s[times_s >= 0][at[0]]) if at.size else float(times_s[-1])
    return Response(key, start, end, delay_s, None)
