"""What a unit's features should be under the present setpoints and load: the monitor's context.

The agent's own moves are not anomalies. For each rack and row a linear model says how each
feature answers to what is commanded (supply air, fan, pump, water, batching, admission) and to the
work it is sent (the hall's prompts times the row's share of traffic); the monitor scores what is left. Where training has seen no
variation of a command, physics stands in (a kelvin of supply air is a kelvin of inlet).

Only commands and load are context, never measurements of the thing judged: a failing CRAC
must not explain its own inlets.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from control.layout import FEATURES, Groups, Layout
from control.types import Snapshot

F64 = NDArray[np.float64]
CONTEXT: tuple[str, ...] = (
    "supply_k", "fan_pct", "fan_pct_squared", "pump_pct", "water_k", "batch_ms", "admission_pct",
    "work",
)  # fmt: skip
_KNOBS = {  # column -> the quantity of the knob
    "supply_k": ("supply_air_setpoint_c", "zone_setpoint_c"),
    "fan_pct": ("fan_rpm_pct",),
    "pump_pct": ("pump_rpm_pct",),
    "water_k": ("chilled_water_setpoint_c",),
    "batch_ms": ("batch_window_ms",),
    "admission_pct": ("admission_pct",),
}
# Physics where nothing was learned: (context, feature) -> slope.
_PRIOR = {
    ("supply_k", "inlet_c"): 1.0,
    ("supply_k", "outlet_c"): 1.0,
    ("fan_pct", "inlet_c"): -0.05,
    ("fan_pct", "outlet_c"): -0.05,
    ("batch_ms", "latency_p95_ms"): 0.8,
}
_RIDGE = 20.0  # rows' worth of belief in the prior
_COMMANDED = {"fan_pct": "fan_rpm_pct", "pump_pct": "pump_rpm_pct"}
_THERMAL = [CONTEXT.index(c) for c in ("supply_k", "fan_pct", "pump_pct", "water_k")]
LAG_S = 150.0  # air, coils and probes follow a thermal command within some minutes


@dataclass(frozen=True, slots=True, eq=False)
class ContextModel:
    """How features answer to context. reference (units, k): the untouched hall's commands and
    load; slopes (units, k, 10); speeds (units, 2): usual fan and pump speed in %, untouched."""

    units: tuple[str, ...]
    reference: F64
    slopes: F64
    speeds: F64

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "context": list(CONTEXT), "features": list(FEATURES), "units": list(self.units),
            "reference": self.reference.tolist(), "slopes": self.slopes.tolist(),
            "speeds": self.speeds.tolist(),
        }  # fmt: skip

    @staticmethod
    def from_dict(data: dict[str, Any]) -> "ContextModel":
        """Read back what to_dict wrote. Raises ValueError for anything else."""
        try:
            if data["context"] != list(CONTEXT) or data["features"] != list(FEATURES):
                raise ValueError("its context or features are of another version; train again")
            units = tuple(map(str, data["units"]))
            arrays = [
                np.asarray(data[k], dtype=np.float64) for k in ("reference", "slopes", "speeds")
            ]
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a context model: {error!r}") from error
        n, k, f = len(units), len(CONTEXT), len(FEATURES)
        for array, shape in zip(arrays, ((n, k), (n, k, f), (n, 2)), strict=True):
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"a context array has shape {array.shape}, not finite {shape}")
        return ContextModel(units, *arrays)


class Commands:
    """Reads the commands that act on each unit off a snapshot. Compiled once a layout."""

    def __init__(self, layout: Layout) -> None:
        self._groups: dict[str, Groups] = {}
        rows_of_units = [*(layout.site.row_of_rack.get(r, "") for r in layout.racks), *layout.rows]
        self._n = len(rows_of_units)
        self._layout = layout
        for column, quantities in _KNOBS.items():
            hall = [
                layout.index[p.key] for q in quantities for p in layout.knobs(q) if p.row is None
            ]
            by_row = {
                row: [layout.index[p.key] for q in quantities for p in layout.knobs(q, row)]
                for row in layout.rows
            }
            self._groups[column] = Groups.of([by_row.get(r) or hall for r in rows_of_units])
        shares = {p.row: layout.index[p.key] for p in layout.knobs("traffic_share_pct")}
        self._shares = Groups.of([[shares[r]] if r in shares else [] for r in rows_of_units])

    def read(self, snapshot: Snapshot) -> F64:
        """Return (units, k): commands as last known (a lost reading does not change a command)
        and the work sent to a unit's row; NaN where a unit has no such command."""
        out = np.full((self._n, len(CONTEXT)), np.nan)
        for column, groups in self._groups.items():
            out[:, CONTEXT.index(column)] = groups.mean(snapshot.last)
        prompts = snapshot.last[self._layout.prompts]
        if prompts.size and not np.isnan(prompts).any():
            share = self._shares.mean(snapshot.last) / 100.0
            even = 1.0 / max(len(self._layout.rows), 1)
            out[:, CONTEXT.index("work")] = prompts.sum() * np.where(np.isnan(share), even, share)
        return out


def follow(before: F64 | None, commands: F64, dt_s: float) -> F64:
    """Let thermal commands act with the lag of air and water: a first-order filter of LAG_S."""
    if before is None or before.shape != commands.shape:
        return commands
    out = commands.copy()
    share = 1.0 - np.exp(-max(dt_s, 0.0) / LAG_S)
    old, new = before[:, _THERMAL], commands[:, _THERMAL]
    out[:, _THERMAL] = np.where(np.isnan(old), new, old + share * (new - old))
    return out


def fit_context(x: F64, commands: F64, units: tuple[str, ...], untouched: int) -> ContextModel:
    """Learn how features answer to commands.

    x (rows, units, 10), commands (rows, units, k); the first `untouched` rows are the hall
    as it runs by itself. Ridge regression towards physics, unit by unit.
    """
    quiet = slice(0, max(untouched, 1))
    reference = np.nan_to_num(np.nanmedian(_filled(commands[quiet]), axis=0))
    speeds = np.column_stack([
        np.nanmedian(_filled(x[quiet])[:, :, FEATURES.index(f)], axis=0) for f in _COMMANDED.values()
    ])  # fmt: skip
    speeds = np.where(np.isfinite(speeds), speeds, 100.0)
    slopes = np.zeros((len(units), len(CONTEXT), len(FEATURES)))
    for unit in range(len(units)):
        c = _design(commands[:, unit], reference[unit], speeds[unit])
        free = _freed(x[:, unit], commands[:, unit], speeds[unit])
        for column, feature in enumerate(FEATURES):
            slopes[unit, :, column] = _ridge(c, free[:, column], feature)
    return ContextModel(units, reference, slopes, speeds)


def _filled(values: F64) -> F64:
    """Columns without a single value would only make numpy complain: they count as 0."""
    return np.where(np.isnan(values).all(axis=0), 0.0, values)


def _design(commands: F64, reference: F64, speeds: F64) -> F64:
    """Commands as differences from the untouched hall, (rows, k). A speed limit above the usual
    speed changes nothing, so fans and pumps count from their usual speed down."""
    c: F64 = np.nan_to_num(commands - reference)
    for i, column in enumerate(_COMMANDED):
        at = CONTEXT.index(column)
        command = commands[..., at]
        c[..., at] = np.where(np.isnan(command), 0.0, np.minimum(command - speeds[..., i], 0.0))
    c[..., CONTEXT.index("fan_pct_squared")] = c[..., CONTEXT.index("fan_pct")] ** 2 / 100.0
    return c


def _ridge(c: F64, y: F64, feature: str) -> F64:
    """Slopes of one feature on all context, pulled towards the prior; 0 where nothing is known."""
    prior = np.array([_PRIOR.get((name, feature), 0.0) for name in CONTEXT])
    good = np.isfinite(y)
    if good.sum() < 30:
        return prior
    centred = c[good] - c[good].mean(axis=0)
    spread = centred.std(axis=0)
    used = spread > 1e-9
    slopes = prior.copy()
    if used.any():
        z = centred[:, used] / spread[used]
        rest = y[good] - y[good].mean() - centred @ prior
        solved = np.linalg.solve(z.T @ z + _RIDGE * np.eye(int(used.sum())), z.T @ rest)
        slopes[used] += solved / spread[used]
    return slopes


def _freed(x: F64, commands: F64, speeds: F64) -> F64:
    """Features (..., 10) with fan and pump as if their command were not below their usual speed."""
    out: F64 = x.copy()
    for i, (column, feature) in enumerate(_COMMANDED.items()):
        usual, command = speeds[..., i], commands[..., CONTEXT.index(column)]
        expected = np.where(np.isnan(command), usual, np.minimum(command, usual))
        out[..., FEATURES.index(feature)] += usual - expected
    return out


def without_context(model: ContextModel, x: F64, commands: F64) -> F64:
    """Return x (units, 10) with what commands (units, k) explain taken out."""
    c = _design(commands, model.reference, model.speeds)
    rest: F64 = _freed(x, commands, model.speeds) - np.einsum("uk,ukf->uf", c, model.slopes)
    return rest
