"""Many futures of one hall side by side: what each of some sets of setpoints would give.

The physics takes a leading axis, so a hundred candidates cost little more than one. All futures
see the same weather, arrivals and events; the hall itself stays where it is. No sensors.
"""

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simulators.hall.layout import Array
from simulators.hall.setpoints import Setpoints

if TYPE_CHECKING:
    from simulators.hall.plant import Hall

# Beyond about this many the arrays no longer fit the processor's caches.
_TOGETHER = 96


def futures(
    hall: "Hall",
    candidates: Sequence[Mapping[str, float]],
    dt_s: float,
    limits: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Roll every candidate out for dt_s. limits: inlet (degC), latency (ms), rack (kW).

    Each answer: total_kwh, prompts, and over, the steps over each limit. Raises Refused for a
    setpoint that can't be.
    """
    # What most ask of the work is computed once for them: queues and histograms are the dearer part.
    knobs = [name for name in hall.setpoints.values if name.startswith("router/")]
    asked = [tuple(c.get(k, hall.setpoints.values[k]) for k in knobs) for c in candidates]
    most = Counter(asked).most_common(1)[0][0] if asked else ()
    alike = [[i for i, a in enumerate(asked) if (a == most) is same] for same in (True, False)]
    found: dict[int, dict[str, Any]] = {}
    for group in alike:
        for first in range(0, len(group), _TOGETHER):
            part = group[first : first + _TOGETHER]
            found |= zip(
                part, _roll(hall, [candidates[i] for i in part], dt_s, limits), strict=True
            )
    return [found[i] for i in range(len(candidates))]


def _roll(
    hall: "Hall",
    candidates: Sequence[Mapping[str, float]],
    dt_s: float,
    limits: Mapping[str, float],
) -> list[dict[str, Any]]:
    spare = (hall.measure, hall.meter, hall.setpoints)
    ahead = copy.deepcopy(hall, {id(part): None for part in spare})
    ahead.work.latency.only_shown()
    ahead.setpoints = _together(hall.setpoints, candidates)
    n = len(candidates)
    kwh, prompts = np.zeros(n), np.zeros(n)
    over = {name: np.zeros(n, dtype=np.int64) for name in limits}
    for _ in range(round(dt_s / hall.step_s)):
        ahead.advance()
        kwh += ahead.power_now().total_kw * (hall.step_s / 3600.0)
        prompts += ahead.work.served.sum(axis=-1)
        worst = {
            "inlet": ahead.air.probe_c.max(axis=-1),
            "latency": np.fmax.reduce(ahead.work.latency.shown_ms, axis=-1, initial=0.0),
            "rack": ahead.racks.pdu_kw.max(axis=-1),
        }
        for name, limit in limits.items():
            over[name] += worst[name] > limit
    return [
        {
            "total_kwh": float(kwh[i]),
            "prompts": float(prompts[i]),
            "over": {name: int(count[i]) for name, count in over.items()},
        }
        for i in range(n)
    ]


def _together(base: Setpoints, candidates: Sequence[Mapping[str, float]]) -> Setpoints:
    """Setpoints with a leading axis of candidates, but only where these differ: what they share
    is computed once."""
    each = []
    for candidate in candidates:
        one = copy.copy(base)
        one.values = dict(base.values)
        one.set(dict(candidate))
        each.append(one)
    merged = each[0]
    for name in ("supply_c", "fan", "pump", "share"):
        setattr(merged, name, _stacked([getattr(one, name) for one in each]))
    for name in ("chilled_water_c", "batch_window_ms", "admission"):
        values = _stacked([np.asarray([getattr(one, name)]) for one in each])
        setattr(merged, name, values if values.ndim > 1 else float(values[0]))
    return merged


def _stacked(values: Sequence[Array]) -> Array:
    stacked = np.stack(values)
    return stacked[0] if (stacked == stacked[0]).all() else stacked
