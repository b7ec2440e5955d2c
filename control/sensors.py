"""The quality gate on a site's air probes, in front of the monitor.

Decides which probes are watched, how far they may stray, and what is done about a verdict: a probe
that is stuck, jumping or impossible is not scored (its rack is unknown, not nominal), one that
drifts from its neighbours is scored and named, since a rack that really warms drifts too and must not
vanish. Power, work and speeds may jump and may stand still: they are not watched. Pure.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from control import quality
from control.layout import Layout
from control.types import Snapshot

# quantity -> (its row moved by this much while the probe stood still: stuck; distance to its row
# changed by this much: drifting), in K. By judgement: a row's inlets move together within a kelvin.
WATCHED = {"inlet_c": (1.0, 2.0), "outlet_c": (2.0, 5.0)}
RESOLUTION_K = 0.1
NOT_SCORED = (quality.IMPOSSIBLE, quality.JUMPING, quality.STUCK)
TOLD = (*NOT_SCORED, quality.DRIFTING)
PARAMS = quality.Params()


@dataclass(frozen=True, slots=True)
class Probes:
    """The watched probes: keys, where they stand in a snapshot (n,), limits, groups."""

    keys: tuple[str, ...]
    where: NDArray[np.intp]
    limits: quality.Limits
    members: NDArray[np.intp]

    @staticmethod
    def of(layout: Layout) -> "Probes":
        """Compile once a layout."""
        points = [p for p in layout.site.points.values()
                  if p.quantity in WATCHED and p.writable is None and not p.part and p.rack]  # fmt: skip
        groups = {g: i for i, g in enumerate(sorted({(p.quantity, p.row or "") for p in points}))}

        def each(values: list[float]) -> NDArray[np.float64]:
            return np.array(values, dtype=np.float64)

        limits = quality.Limits(
            low=each([p.about.low for p in points]), high=each([p.about.high for p in points]),
            max_age_s=each([p.max_age_s for p in points]),
            max_slew_per_s=each([p.max_slew_per_s for p in points]),
            resolution=np.full(len(points), RESOLUTION_K),
            moved=each([WATCHED[p.quantity][0] for p in points]),
            drift_limit=each([WATCHED[p.quantity][1] for p in points]),
            group=np.array([groups[p.quantity, p.row or ""] for p in points], dtype=np.intp),
        )  # fmt: skip
        where = np.array([layout.index[p.key] for p in points], dtype=np.intp)
        return Probes(tuple(p.key for p in points), where, limits, limits.members())


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """The gate's memory, and who is suspect: point -> (verdict, why); lost: where in a snapshot what
    is not to be scored stands."""

    state: quality.State
    suspect: dict[str, tuple[str, str]]
    lost: NDArray[np.intp]


def look(probes: Probes, before: Looked | None, snapshot: Snapshot) -> Looked:
    """Judge every probe once."""
    n, now_s = len(probes.keys), snapshot.now_s
    old = before.state if before is not None else quality.start(n, now_s)
    age_s = snapshot.age_s[probes.where]
    taken_s = np.where(np.isfinite(age_s), now_s - age_s, 0.0)
    values = snapshot.values[probes.where]
    state = quality.check(PARAMS, probes.limits, probes.members, old, values, taken_s, now_s)
    if before is not None and np.array_equal(state.code, old.code):
        return Looked(state, before.suspect, before.lost)
    found = {
        probes.keys[i]: (
            quality.NAMES[state.code[i]],
            quality.explain(PARAMS, probes.limits, state, i, now_s),
        )
        for i in np.flatnonzero(np.isin(state.code, TOLD)).tolist()
    }
    return Looked(state, found, probes.where[np.isin(state.code, NOT_SCORED)])


def believed(looked: Looked, snapshot: Snapshot) -> Snapshot:
    """The snapshot without what is not to be scored; the same one when all is well."""
    if not len(looked.lost):
        return snapshot
    values = snapshot.values.copy()
    values[looked.lost] = np.nan
    return replace(snapshot, values=values)
