"""What a move towards risk rests on: readings that are there, and never those alone that others push to us.

Decides which inlets speak for a move, whether its lease would end at once because too much is silent, and
whether among inlets, latency and rack power that are good there is one that we have read ourselves. Pure.
"""

import numpy as np

from config.quantities import WORK
from control.case import Case
from control.endings import blind
from control.layout import Layout, Positions
from control.types import Proposal, Snapshot

ALONE = "is pushed; one that is polled must bear it out"


def rows_of(case: Case, proposal: Proposal) -> tuple[str, ...]:
    """The rows whose points a proposal changes, sorted."""
    rows = {case.point(c.point).row for c in proposal.changes}
    return tuple(sorted(r for r in rows if r))


def inlets_of(case: Case, row: str | None) -> Positions:
    """The inlets of a row; the hall's where there is no row, or none is measured in it."""
    mine = case.layout.row_inlets[case.layout.rows.index(row)] if row else case.layout.inlets
    return mine if len(mine) else case.layout.inlets


def silent(case: Case, proposal: Proposal) -> str | None:
    """Why its leases would end as soon as they were made, or None: to and fro wears controllers out."""
    return next(iter(blind(case, [c.point for c in proposal.changes]).values()), None)


def pushed_alone(case: Case, proposal: Proposal) -> str | None:
    """Which evidence of a proposal is pushed only, or None."""
    layout, snapshot = case.layout, case.snapshot
    for row in rows_of(case, proposal) or (None,):
        if _lost(layout, snapshot, inlets_of(case, row)):
            return f"{f'row {row}' if row else 'hall'}: every good inlet {ALONE}"
    points = [case.point(c.point) for c in proposal.changes]
    felt = not proposal.effect.latency_ms <= 0 or any(p.quantity in WORK for p in points)
    if felt and _lost(layout, snapshot, layout.latency):
        return f"every good p95 {ALONE}"
    for row in sorted({p.row for p in points if p.quantity == "traffic_share_pct" and p.row}):
        mine = layout.row_racks(row)[layout.rack_kw.owner]
        if _lost(layout, snapshot, layout.rack_kw.flat[mine]):
            return f"row {row}: every good rack power {ALONE}"
    return None


def _lost(layout: Layout, snapshot: Snapshot, places: Positions) -> bool:
    """True when something is known there, and none of it by polling."""
    good = places[~np.isnan(snapshot.values[places])]
    return len(good) > 0 and bool(layout.pushed[good].all())
