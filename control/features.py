"""Turns a snapshot into the numbers the monitor scores: eleven features a rack, a row and the hall.

    inlet_c, outlet_c, delta_t, pdu_kw, gpu_power_kw, tokens_ps, latency_p95_ms,
    queue_depth, fan_rpm_pct, pump_rpm_pct, flow_per_pump (l/s at full speed: flow goes with speed, so
    a pump that loses flow at the same speed shows whatever it is told)

A rack's value is its own reading, else its row's, else the hall's. A row's value is the
mean over its racks, the hall's the mean over its rows. What is not known is NaN, never a guess.
"""

import numpy as np
from numpy.typing import NDArray

from control.layout import DERIVED, FEATURES, HALL, Layout
from control.types import Snapshot

F64 = NDArray[np.float64]
INLET, OUTLET, DELTA = (FEATURES.index(f) for f in ("inlet_c", "outlet_c", "delta_t"))
PUMP, FLOW = FEATURES.index("pump_rpm_pct"), FEATURES.index("flow_per_pump")
SLOWEST_PCT = 10.0  # of a pump: below, its flow says nothing of it


def rack_features(layout: Layout, snapshot: Snapshot) -> F64:
    """Return (n_racks, f): one feature vector a rack, in the order of FEATURES."""
    out = np.full((len(layout.racks), len(FEATURES)), np.nan)
    for column, name in enumerate(FEATURES):
        if name not in DERIVED:
            out[:, column] = layout.features[name].mean(snapshot.values)
    out[:, DELTA] = out[:, OUTLET] - out[:, INLET]
    pump = np.where(out[:, PUMP] >= SLOWEST_PCT, out[:, PUMP], np.nan)
    out[:, FLOW] = 100.0 * layout.features["flow_lps"].mean(snapshot.values) / pump
    return out


def row_features(layout: Layout, racks: F64) -> F64:
    """Return (n_rows, f): the mean of each row's racks; NaN where a row has no good one."""
    good = ~np.isnan(racks)
    total = layout.rack_in_row @ np.where(good, racks, 0.0)
    count = layout.rack_in_row @ good
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: F64 = total / count
    return mean


def hall_features(layout: Layout, rows: F64) -> F64:
    """Return (1, f): the mean of the rows that can have each feature. NaN while one of them is not
    known: the mean of the others is of another hall."""
    having = layout.row_has
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: F64 = np.where(having, rows, 0.0).sum(axis=0) / having.sum(axis=0)
    return mean[None]


def unit_features(layout: Layout, snapshot: Snapshot) -> F64:
    """Return (n_racks + n_rows + 1, f): racks, rows, the hall; what the monitor scores in one call."""
    racks = rack_features(layout, snapshot)
    rows = row_features(layout, racks)
    return np.vstack([racks, rows, hall_features(layout, rows)])


def unit_names(layout: Layout) -> tuple[str, ...]:
    """Names of the units in the order of `unit_features`: "rack:A01", ..., "row:A", ..., "hall"."""
    return (*(f"rack:{r}" for r in layout.racks), *(f"row:{r}" for r in layout.rows), HALL)


def worst_inlets(layout: Layout, snapshot: Snapshot) -> F64:
    """Return (n_racks,): each rack's inlet at its worst: last value + age x slew, NaN if never read.

    Between readings a value may have drifted towards danger as fast as physics lets it.
    """
    if layout.worst_inlets is not None and layout.worst_inlets[0] is snapshot:
        return layout.worst_inlets[1]  # asked for many times a tick
    where = layout.inlets
    age_s = np.where(np.isnan(snapshot.values[where]), snapshot.age_s[where], 0.0)
    drift = np.where(np.isfinite(age_s), age_s, 0.0) * layout.slew[where]  # never read: NaN anyway
    worst = layout.rack_inlets.reduced(np.fmax, snapshot.last[where] + drift)
    layout.worst_inlets = (snapshot, worst)
    return worst


def read_inlets(layout: Layout, snapshot: Snapshot) -> F64:
    """Return (n_racks,): each rack's worst inlet as it was last read, however long ago; NaN if never."""
    return layout.rack_inlets.max(snapshot.last)
