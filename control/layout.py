"""How a site's points map onto racks, rows and the hall: compiled once, used every tick.

Knows the site's structure only; holds no readings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from config.site import Point, Site
from control.types import Snapshot

Positions = NDArray[np.intp]

HALL = "hall"  # the unit of everything
FEATURES: tuple[str, ...] = (
    "inlet_c", "outlet_c", "delta_t", "pdu_kw", "gpu_power_kw", "tokens_ps", "latency_p95_ms",
    "queue_depth", "fan_rpm_pct", "pump_rpm_pct", "flow_per_pump",
)  # fmt: skip
DERIVED = {  # of others, in control.features
    "delta_t": ("outlet_c", "inlet_c"),
    "flow_per_pump": ("flow_lps", "pump_rpm_pct"),
}


@dataclass(frozen=True, slots=True)
class Groups:
    """Many small groups of positions, reduced in one call each.

    flat: all positions, group after group; starts: where each group begins; counts: sizes;
    owner: the group of each position in flat; filled: the groups that are not empty. The result of
    an empty group is NaN.
    """

    flat: Positions
    starts: Positions
    counts: Positions
    owner: Positions
    filled: Positions

    @staticmethod
    def of(groups: Sequence[Sequence[int]]) -> "Groups":
        """Compile a list of lists of positions."""
        flat = [i for group in groups for i in group]
        counts = np.array([len(g) for g in groups], dtype=np.intp)
        owner = np.repeat(np.arange(len(counts), dtype=np.intp), counts)
        starts, filled = np.cumsum(counts) - counts, np.flatnonzero(counts)
        return Groups(np.array(flat, dtype=np.intp), starts, counts, owner, filled)

    def mean(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean of the good values of each group; NaN where a group has none. Shape (n,)."""
        total, known = self._sums(values)
        with np.errstate(invalid="ignore", divide="ignore"):
            return total / known

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of each group; NaN where any member is not good, or there is none. Shape (n,)."""
        total, known = self._sums(values)
        return np.where((known == self.counts) & (self.counts > 0), total, np.nan)

    def max(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The largest good value of each group; NaN where a group has none. Shape (n,)."""
        return self.reduced(np.fmax, values[self.flat])

    def reduced(self, by: np.ufunc, taken: NDArray[np.float64]) -> NDArray[np.float64]:
        """Each group reduced `by`, of values that stand as `flat` does; NaN where it is empty. Shape (n,)."""
        if len(self.filled) == len(self.counts) > 0:
            reduced: NDArray[np.float64] = by.reduceat(taken, self.starts)
            return reduced
        out = np.full(len(self.counts), np.nan)
        if len(self.filled):
            out[self.filled] = by.reduceat(taken, self.starts[self.filled])
        return out

    def leads(self, values: NDArray[np.float64], others: int) -> NDArray[np.float64]:
        """How far the largest good value of each group is over the next one; 0 in a group with fewer
        than so many other good ones. Shape (n,)."""
        out = np.zeros(len(self.counts))
        for i, (start, count) in enumerate(zip(self.starts, self.counts, strict=True)):
            mine = values[self.flat[start : start + count]]
            mine = np.sort(mine[~np.isnan(mine)])
            out[i] = mine[-1] - mine[-2] if len(mine) > others else 0.0
        return out

    def _sums(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        taken = values[self.flat]
        good = ~np.isnan(taken)
        total = np.bincount(self.owner, np.where(good, taken, 0.0), minlength=len(self.counts))
        known = np.bincount(self.owner, good, minlength=len(self.counts))
        return total.astype(np.float64), known.astype(np.float64)


class Layout:
    """The structure of one site, compiled. Units are racks, then rows, in sorted order, then the hall."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.worst_inlets: tuple[Snapshot, NDArray[np.float64]] | None = None  # of one snapshot
        self._knobs: dict[str, list[Point]] = {}
        for p in site.writable_points.values():
            self._knobs.setdefault(p.quantity, []).append(p)
        self.index: dict[str, int] = {key: i for i, key in enumerate(site.points)}
        self.racks = site.racks
        self.rows = site.rows
        self.judged = (*(f"row:{row}" for row in site.rows), HALL)  # units that a move is held by
        self.row_of_rack = np.array(
            [self._row_position(site.row_of_rack.get(r)) for r in self.racks], dtype=np.intp
        )
        at_row = np.arange(len(self.rows))[:, None]
        self.rack_in_row = (self.row_of_rack[None, :] == at_row).astype(np.float64)
        self._racks_of: dict[str, NDArray[np.bool_]] = {
            row: self.row_of_rack == i for i, row in enumerate(self.rows)
        }
        self.rack_in = np.vstack([self.rack_in_row, np.ones(len(self.racks))])  # and in the hall
        readable = [p for p in site.points.values() if p.writable is None and not p.part]
        self.rack_inlets = Groups.of(self._by(readable, "inlet_c", "rack", self.racks))
        self.rack_kw = Groups.of(self._by(readable, "pdu_kw", "rack", self.racks))
        self.inlets, self.rack_of_inlet = self.rack_inlets.flat, self.rack_inlets.owner
        # Told by others over HTTP, not read by us: never the only evidence for a move towards risk.
        self.pushed: NDArray[np.bool_] = np.array(
            [site.device[p.device].protocol == "push" for p in site.points.values()], dtype=np.bool_
        )
        self.slew = np.array([p.max_slew_per_s for p in site.points.values()])
        read = [*(f for f in FEATURES if f not in DERIVED), "flow_lps"]
        self.features = {f: self._feature(readable, f) for f in read}
        has = {f: self.rack_in_row @ (g.counts > 0) > 0 for f, g in self.features.items()}
        self.row_has = np.column_stack(  # (n_rows, f): which of FEATURES each row can have
            [np.logical_and.reduce([has[p] for p in DERIVED.get(f, (f,))]) for f in FEATURES]
        )
        self.latency = self._all(readable, "latency_p95_ms")
        self.prompts = self._all(readable, "prompts_ps")
        self.tokens = self._all(readable, "tokens_ps")
        self.pdu = self._all(readable, "pdu_kw")
        self.it = self._all(readable, "it_power_kw")
        self.cooling = self._all(readable, "cooling_power_kw")
        self.total = self._all(readable, "total_power_kw")
        self.outdoor = self._all(readable, "outdoor_c")
        self.row_inlets = [
            self._positions(g) for g in self._by(readable, "inlet_c", "row", self.rows)
        ]
        self.row_latency = [
            self._positions(g) for g in self._by(readable, "latency_p95_ms", "row", self.rows)
        ]

    def knobs(self, quantity: str, row: str | None = None) -> tuple[Point, ...]:
        """The writable points of a quantity, of one row or (None) of the whole site."""
        return tuple(p for p in self._knobs.get(quantity, ()) if row is None or p.row == row)

    def row_racks(self, row: str) -> NDArray[np.bool_]:
        """Mask over racks: those in this row."""
        return self._racks_of[row]

    def _row_position(self, row: str | None) -> int:
        return self.rows.index(row) if row in self.rows else -1

    def _by(
        self, points: Sequence[Point], quantity: str, kind: str, names: Sequence[str]
    ) -> list[list[int]]:
        """The positions of a quantity's points for each of `names`, racks or rows, in one pass."""
        found: dict[str, list[int]] = {name: [] for name in names}
        for p in points:
            name = getattr(p, kind)
            if p.quantity == quantity and name is not None:
                found[name].append(self.index[p.key])
        return list(found.values())

    def _positions(self, found: Sequence[int]) -> Positions:
        return np.array(found, dtype=np.intp)

    def _all(self, points: Sequence[Point], quantity: str) -> Positions:
        return self._positions([self.index[p.key] for p in points if p.quantity == quantity])

    def _feature(self, points: Sequence[Point], quantity: str) -> Groups:
        """For each rack: its own points of a quantity, else those of its row, else the hall's."""
        groups: list[list[int]] = []
        hall = [self.index[p.key] for p in points
                if p.quantity == quantity and p.rack is None and p.row is None]  # fmt: skip
        by_row: dict[str, list[int]] = {}
        by_rack: dict[str, list[int]] = {}
        for p in points:
            if p.quantity != quantity:
                continue
            if p.rack is not None:
                by_rack.setdefault(p.rack, []).append(self.index[p.key])
            elif p.row is not None:
                by_row.setdefault(p.row, []).append(self.index[p.key])
        for rack in self.racks:
            row = self.site.row_of_rack.get(rack, "")
            groups.append(by_rack.get(rack) or by_row.get(row) or hall)
        return Groups.of(groups)
