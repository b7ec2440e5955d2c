"""Thresholds for IMS scores, from rows that took no part in the model they are scored by.

Decides tau_fast and tau_persist: percentiles of D(x) over nominal rows, each block of time
scored by a model fitted on the other blocks. Blocks, not single rows, because neighbours in time
are near-copies of each other and would make every model look perfect (Roberts et al.,
Ecography 2017). Must never see a row outside of the training window. Pure.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MIN_SCORES = 20
TAIL_ROWS = 10_000
MOST_MARGIN = 4.0


@dataclass(frozen=True, slots=True)
class Thresholds:
    """`tau_fast` and `tau_persist`, and the out-of-block `scores` (n,) they are percentiles of."""

    tau_fast: float
    tau_persist: float
    scores: Floats


def calibrate(
    judge: Callable[[Floats, Floats], Floats],
    rows: Floats,
    blocks: int = 5,
    fast_percentile: float = 95.0,
    persist_percentile: float = 98.0,
) -> Thresholds:
    """Score each of `blocks` contiguous blocks of `rows` (n, f) by a model of the others.

    `judge(others, block)` answers the D (m,) of `block` (m, f) by a model of `others`. `rows` are in
    time order. Raises ValueError when fewer than MIN_SCORES rows can be scored or the percentiles
    are not in order.
    """
    if not 50.0 <= fast_percentile <= persist_percentile < 100.0:
        raise ValueError("percentiles must be 50 <= fast <= persist < 100")
    edges = np.linspace(0, len(rows), blocks + 1).astype(int)
    parts = []
    for low, high in itertools.pairwise(edges):
        scores = judge(np.concatenate([rows[:low], rows[high:]]), rows[low:high])
        parts.append(scores[np.isfinite(scores)])
    return from_scores(np.concatenate(parts), fast_percentile, persist_percentile)


def from_scores(scores: Floats, fast_percentile: float, persist_percentile: float) -> Thresholds:
    """The thresholds of nominal `scores` (n,), kept above zero and in order."""
    if len(scores) < MIN_SCORES:
        raise ValueError(f"{len(scores)} rows can be scored, {MIN_SCORES} are needed")
    fast, persist = np.percentile(scores, [fast_percentile, persist_percentile])
    floor = max(float(np.max(scores)) * 0.05, 1e-6)
    fast = max(float(fast), floor)
    return Thresholds(fast, max(float(persist), fast * 1.02), scores)


def margin(taus: Thresholds, least: float, rows_seen: int) -> float:
    """What to multiply the thresholds by: at least `least`, at most MOST_MARGIN.

    Percentiles say what is rare, not what never happens: 2 % of a week of 72 racks are 170,000 rows
    over p98. Where there are rows enough to see the tail, it is continued as an exponential
    from its 99th and 99.9th percentiles to where one of `rows_seen` rows would be over tau_fast.
    """
    if len(taus.scores) < TAIL_ROWS:
        return least
    high, higher = np.quantile(taus.scores, [0.99, 0.999])
    rare = higher + (higher - high) * np.log10(0.001 * max(rows_seen, len(taus.scores)))
    return float(np.clip(rare / taus.tau_fast, least, MOST_MARGIN))
