"""Work sent where a token costs less: the slow loop's reason to move traffic.

Weighs rows by GPU power a token; moves only between two rows that are nominal. Protection
moves traffic too, for another reason, in control.fast_loop.
"""

import numpy as np

from control.moves import MOVES, traffic_away
from control.predict import View
from control.types import Change, Effect

MARGINAL = 0.5  # of the difference of averages: idle power stays where it is


def traffic_candidates(view: View) -> list[tuple[tuple[Change, ...], Effect]]:
    """Moves from the row that spends most on a token to the one that spends least."""
    case = view.case
    costs = {r: c for r in case.layout.rows if _nominal(view, r) and (c := kw_per_token(view, r))}
    if len(costs) < 2:
        return []
    worst, best = max(costs, key=costs.__getitem__), min(costs, key=costs.__getitem__)
    moves = [
        traffic_away(case.layout, case.snapshot, (worst,), (best,), size)
        for size in MOVES["traffic_shift"].sizes
    ]
    return [(m, _effect(view, m, costs)) for m in moves if m]


def _nominal(view: View, row: str) -> bool:
    finding = view.case.state.findings.get(f"row:{row}")
    return (finding is None or finding.state == "nominal") and row not in view.case.state.aftercare


def kw_per_token(view: View, row: str) -> float | None:
    """GPU power a token each second in a row, kW s; None while it is not known."""
    site, snapshot = view.case.layout.site, view.case.snapshot
    kw = [snapshot.value(p.key) for p in site.of_quantity("gpu_power_kw") if p.row == row]
    rate = [snapshot.value(p.key) for p in site.of_quantity("tokens_ps") if p.row == row]
    if not kw or not rate or None in kw or None in rate:
        return None
    tokens = sum(v for v in rate if v is not None)
    return sum(v for v in kw if v is not None) / tokens if tokens > 0 else None


def _effect(view: View, changes: tuple[Change, ...], costs: dict[str, float]) -> Effect:
    tokens = view.case.snapshot.take(view.case.layout.tokens)
    tokens_ps = float(np.nansum(tokens))
    saved = 0.0
    for change in changes:
        row = view.case.point(change.point).row
        if row not in costs or change.old is None:
            return Effect()
        saved += MARGINAL * costs[row] * tokens_ps * (change.new - change.old) / 100.0
    most = max((c.new / c.old - 1.0 for c in changes if c.old), default=0.0)
    worst_ms = float(np.nan_to_num(view.number("latency_ms")))
    return Effect(
        total_power_kw=saved,
        total_power_sigma_kw=0.25 * abs(saved),
        inlet_c=max(most, 0.0),
        inlet_sigma_k=0.3,
        latency_ms=worst_ms * max(most, 0.0) * 0.25,
    )
