"""What a unit's features should be under the present setpoints and load: the monitor's context.

The agent's own moves are not anomalies. For each rack, row and the hall a linear model says how each
feature answers to what is commanded, in its row and in the hall (rows share a plenum), and to
the work it is sent (the hall's prompts times the row's share of traffic); the monitor scores
what is left. Where training has seen no variation of a command, physics stands in (a kelvin of
supply air is a kelvin of inlet).

Only commands and load are context, never measurements of the thing judged: a failing CRAC
must not explain its own inlets.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from control.holdoff import ORDERS
from control.layout import FEATURES, Groups, Layout
from control.types import Snapshot

F64 = NDArray[np.float64]
CONTEXT: tuple[str, ...] = (
    "supply_k", "fan_pct", "fan_squared", "pump_pct", "water_k", "hall_supply_k",
    "hall_fan_pct", "batch_ms", "admission_pct", "work", "batched_work",
)  # fmt: skip
_HALL = {"hall_supply_k": "supply_k", "hall_fan_pct": "fan_pct"}  # means over all rows
_KNOBS = {  # column -> the quantity of the knob
    "supply_k": ("supply_air_setpoint_c", "zone_setpoint_c"),
    "fan_pct": ("fan_rpm_pct",),
    "pump_pct": ("pump_rpm_pct",),
    "water_k": ("chilled_water_setpoint_c",),
    "batch_ms": ("batch_window_ms",),
    "admission_pct": ("admission_pct",),
}
# Physics where nothing was learned: (context, feature) -> slope. Half of a row's air is the
# hall's, by judgement.
_PRIOR = {
    (context, feature): slope / 2.0
    for feature in ("inlet_c", "outlet_c")
    for contexts, slope in (
        (("supply_k", "hall_supply_k"), 1.0),
        (("fan_pct", "hall_fan_pct"), -0.05),
    )
    for context in contexts
} | {("batch_ms", "latency_p95_ms"): 0.8}
# Belief in the prior: this share of the rows, which follow each other so closely that they are
# worth far fewer independent ones.
_RIDGE = 0.05
_ROUNDS = 5
_FAR = 3.0  # medians of what is missed: such a row counts for half
# What a unit's own controller answers to: the air that comes back to it.
_DEMAND = ("work", "supply_k", "hall_supply_k", "hall_fan_pct")
FREE_PCT = 1.0  # a drive this far below its command is left to itself
_COMMANDED = {"fan_pct": "fan_rpm_pct", "pump_pct": "pump_rpm_pct"}
_THERMAL = [CONTEXT.index(c) for c in
            ("supply_k", "fan_pct", "pump_pct", "water_k", "hall_supply_k", "hall_fan_pct")]  # fmt: skip
_WORK, _BATCHED = CONTEXT.index("work"), CONTEXT.index("batched_work")
SLOW_S = 150.0  # air, coils and probes follow a thermal command within some minutes
_AT_ONCE = [CONTEXT.index(c) for c in ("work", "batched_work")]
QUICK_S = 45.0  # drives and sliding windows of latency within one


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """Commands and work now, as drives and windows have followed them, and as air has; (..., k)."""

    now: F64
    quick: F64
    slow: F64

    @property
    def acting(self) -> F64:
        """What acts on the features: thermal commands slowly, the rest quickly."""
        out: F64 = self.quick.copy()
        out[..., _THERMAL] = self.slow[..., _THERMAL]
        out[..., _AT_ONCE] = self.now[..., _AT_ONCE]
        return out


@dataclass(frozen=True, slots=True, eq=False)
class ContextModel:
    """How features answer to context. reference (units, k): the untouched hall's commands and
    load; slopes (units, k, f); speeds (units, 2): usual fan and pump speed in %, untouched;
    demand (units, k, 2): how that speed answers to context by itself, where commands let it."""

    units: tuple[str, ...]
    reference: F64
    slopes: F64
    speeds: F64
    demand: F64

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "context": list(CONTEXT), "features": list(FEATURES), "units": list(self.units),
            "reference": self.reference.tolist(), "slopes": self.slopes.tolist(),
            "speeds": self.speeds.tolist(), "demand": self.demand.tolist(),
        }  # fmt: skip

    @staticmethod
    def from_dict(data: dict[str, Any]) -> "ContextModel":
        """Read back what to_dict wrote. Raises ValueError for anything else."""
        try:
            if data["context"] != list(CONTEXT) or data["features"] != list(FEATURES):
                raise ValueError("its context or features are of another version; train again")
            units = tuple(map(str, data["units"]))
            arrays = [
                np.asarray(data[k], dtype=np.float64)
                for k in ("reference", "slopes", "speeds", "demand")
            ]
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a context model: {error!r}") from error
        n, k, f = len(units), len(CONTEXT), len(FEATURES)
        for array, shape in zip(arrays, ((n, k), (n, k, f), (n, 2), (n, k, 2)), strict=True):
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"a context array has shape {array.shape}, not finite {shape}")
        return ContextModel(units, *arrays)


class Commands:
    """Reads the commands that act on each unit off a snapshot. Compiled once a layout."""

    def __init__(self, layout: Layout) -> None:
        self._groups: dict[str, Groups] = {}
        rows_of_units = [*(layout.site.row_of_rack.get(r, "") for r in layout.racks), *layout.rows]
        self._n = len(rows_of_units) + 1  # and the hall
        self._layout = layout
        first = {row: i for i, row in reversed(list(enumerate(rows_of_units)))}
        self._first_of_row = np.array(sorted(first.values()), dtype=np.intp)
        for column, quantities in _KNOBS.items():
            hall = [
                layout.index[p.key] for q in quantities for p in layout.knobs(q) if p.row is None
            ]
            by_row = {
                row: [layout.index[p.key] for q in quantities for p in layout.knobs(q, row)]
                for row in layout.rows
            }
            everything = [*hall, *(i for own in by_row.values() for i in own)]
            self._groups[column] = Groups.of(
                [*(by_row.get(r) or hall for r in rows_of_units), everything]
            )
        shares = {p.row: layout.index[p.key] for p in layout.knobs("traffic_share_pct")}
        self._shares = Groups.of([*([shares[r]] if r in shares else [] for r in rows_of_units), []])

    def orders(self, commands: F64, snapshot: Snapshot) -> F64:
        """Return (units, o): what somebody has set for each unit, in the order of ORDERS."""
        columns = [commands[:, CONTEXT.index(o)] for o in ORDERS[:-1]]
        return np.column_stack([*columns, self._shares.mean(snapshot.last)])

    def read(self, snapshot: Snapshot) -> F64:
        """Return (units, k): commands as last known (a lost reading does not change a command)
        and the work sent to a unit's row; NaN where a unit has no such command."""
        out = np.full((self._n, len(CONTEXT)), np.nan)
        for column, groups in self._groups.items():
            out[:, CONTEXT.index(column)] = groups.mean(snapshot.last)
        for column, own in _HALL.items():
            out[:, CONTEXT.index(column)] = _mean_of(out[self._first_of_row, CONTEXT.index(own)])
        prompts = snapshot.last[self._layout.prompts]
        if prompts.size and not np.isnan(prompts).any():
            share = self._shares.mean(snapshot.last) / 100.0
            even = 1.0 / max(len(self._layout.rows), 1)
            work = prompts.sum() * np.where(np.isnan(share), even, share)
            out[:, CONTEXT.index("work")] = work
            # A longer window saves on every prompt: what it does to power goes with the work.
            window_ms = out[:, CONTEXT.index("batch_ms")]
            out[:, CONTEXT.index("batched_work")] = work * window_ms / 100.0
        return out


def follow(before: Context | None, commands: F64, dt_s: float) -> Context:
    """Let commands act with the lag of drives and air: two first-order filters."""
    if before is None or before.now.shape != commands.shape:
        return Context(commands, commands, commands)
    return Context(
        commands,
        _lag(before.quick, commands, dt_s / QUICK_S),
        _lag(before.slow, commands, dt_s / SLOW_S),
    )


def _lag(old: F64, new: F64, steps: float) -> F64:
    share = 1.0 - np.exp(-max(steps, 0.0))
    return np.where(np.isnan(old), new, old + share * (new - old))


def _mean_of(values: F64) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else np.nan


def fit_context(
    x: F64, context: Context, units: tuple[str, ...], quiet: NDArray[np.bool_]
) -> ContextModel:
    """Learn how features answer to commands.

    x (rows, units, f), context (rows, units, k); the rows of `quiet` (rows,) are the hall
    as it runs by itself. Ridge regression towards physics, unit by unit.
    """
    reference = np.nan_to_num(np.nanmedian(_filled(context.now[quiet]), axis=0))
    speeds = np.column_stack([
        np.nanmedian(_filled(x[quiet])[:, :, FEATURES.index(f)], axis=0) for f in _COMMANDED.values()
    ])  # fmt: skip
    speeds = np.where(np.isfinite(speeds), speeds, 100.0)
    acting = context.acting
    slopes = np.zeros((len(units), len(CONTEXT), len(FEATURES)))
    demand = np.zeros((len(units), len(CONTEXT), len(_COMMANDED)))
    for unit in range(len(units)):
        c = _design(acting[:, unit], reference[unit], speeds[unit])
        ours = Context(*(part[:, unit] for part in (context.now, context.quick, context.slow)))
        demand[unit] = _demand(c, x[:, unit], ours)
        free = _freed(x[:, unit], ours, speeds[unit], speeds[unit] + c @ demand[unit])
        for column, feature in enumerate(FEATURES):
            if feature not in _COMMANDED.values():  # a drive's command says all there is to say
                slopes[unit, :, column] = _ridge(c, free[:, column], feature)
    return ContextModel(units, reference, slopes, speeds, demand)


def _demand(c: F64, x: F64, context: Context) -> F64:
    """How drives left to themselves answer to context, (k, 2), from the rows of one unit in which
    their command leaves them free: c (rows, k), x (rows, f)."""
    out = np.zeros((len(CONTEXT), len(_COMMANDED)))
    others = np.array([name in _DEMAND for name in CONTEXT])
    for i, (column, feature) in enumerate(_COMMANDED.items()):
        at, speed = CONTEXT.index(column), x[:, FEATURES.index(feature)]
        command = np.fmin(context.now[:, at], context.quick[:, at])  # following one is not free
        free = speed < np.where(np.isnan(command), np.inf, command) - FREE_PCT
        slopes = _ridge(c[free] * others, speed[free], feature)
        out[:, i] = np.where(others, slopes, 0.0)
    return out


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
    for column, own in _HALL.items():
        if own in _COMMANDED:
            at, i = CONTEXT.index(column), list(_COMMANDED).index(own)
            usual = np.minimum(reference[..., at], np.mean(speeds[..., i]))
            c[..., at] = np.nan_to_num(np.minimum(commands[..., at] - usual, 0.0))
    # What a longer window does to the work, apart from the work itself: 0 at the usual window.
    window_ms = reference[..., CONTEXT.index("batch_ms")]
    c[..., _BATCHED] = np.nan_to_num(
        commands[..., _BATCHED] - commands[..., _WORK] * window_ms / 100.0
    )
    both = 0.5 * (c[..., CONTEXT.index("fan_pct")] + c[..., CONTEXT.index("hall_fan_pct")])
    c[..., CONTEXT.index("fan_squared")] = both**2 / 100.0
    return c


def _ridge(c: F64, y: F64, feature: str) -> F64:
    """Slopes of one feature on all context, pulled towards the prior; 0 where nothing is known.

    Rows that the line misses by far count for little (Cauchy weights, a few rounds): a hall that was
    driven to where its coils saturate must not bend what is learned of the hall as it runs.
    """
    prior = np.array([_PRIOR.get((name, feature), 0.0) for name in CONTEXT])
    good = np.isfinite(y)
    if good.sum() < 30:
        return prior
    centred = c[good] - c[good].mean(axis=0)
    spread = centred.std(axis=0)
    used = spread > 1e-9
    slopes = prior.copy()
    if used.any():
        z = np.column_stack([centred[:, used] / spread[used], np.ones(len(centred))])
        rest = y[good] - y[good].mean() - centred @ prior
        ridge = _RIDGE * np.diag([1.0] * int(used.sum()) + [0.0])  # none on the mean
        weight = np.ones(len(z))
        for _ in range(_ROUNDS):
            w = z * weight[:, None]
            solved = np.linalg.solve(z.T @ w + weight.sum() * ridge, w.T @ rest)
            miss = np.abs(rest - z @ solved)
            weight = 1.0 / (1.0 + (miss / max(_FAR * float(np.median(miss)), 1e-9)) ** 2)
        slopes[used] += solved[:-1] / spread[used]
    return slopes


def learned(model: ContextModel) -> NDArray[np.bool_]:
    """Which context was seen to vary in training, (units, k): for the rest physics stands in."""
    prior = np.array([[_PRIOR.get((name, f), 0.0) for f in FEATURES] for name in CONTEXT])
    out: NDArray[np.bool_] = (model.slopes != prior).any(axis=2)
    return out


def _freed(x: F64, context: Context, speeds: F64, usually: F64) -> F64:
    """Features (..., f) with fan and pump as if they stood at `speeds` (2,), where `usually`
    (..., 2) is what they would do now if their command left them free.

    While a drive follows its command, anything between where it was and where it goes is usual.
    """
    out: F64 = x.copy()
    for i, (column, feature) in enumerate(_COMMANDED.items()):
        usual, at, to = usually[..., i], CONTEXT.index(column), FEATURES.index(feature)
        ends = [
            np.where(np.isnan(c[..., at]), usual, np.minimum(c[..., at], usual))
            for c in (context.now, context.quick)
        ]
        expected = np.clip(x[..., to], np.minimum(*ends), np.maximum(*ends))
        out[..., to] += speeds[..., i] - expected
    return out


def without_context(model: ContextModel, x: F64, context: Context) -> tuple[F64, F64]:
    """Return x (units, f) with what context (units, k) explains taken out, and how far context has moved
    inlets, whatever its direction, K (units,): what the model may be wrong about goes with this."""
    c = _design(context.acting, model.reference, model.speeds)
    usually = model.speeds + np.einsum("uk,uki->ui", c, model.demand)
    free = _freed(x, context, model.speeds, usually)
    rest: F64 = free - np.einsum("uk,ukf->uf", c, model.slopes)
    moved_k: F64 = np.abs(c * model.slopes[:, :, FEATURES.index("inlet_c")]).sum(axis=1)
    return rest, moved_k
