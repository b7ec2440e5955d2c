"""What the hall spends and what it does with it, each term with where it came from.

Wh/prompt = (IT at the PDUs + distribution loss + all cooling) / completed prompts. With
total_power_kw metered that is the numerator; otherwise IT + cooling. A missing term is
missing: with cooling missing there is no Wh/prompt. Pure arithmetic; never fills a gap.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from control.layout import Layout
from control.types import Snapshot


@dataclass(frozen=True, slots=True)
class Power:
    """The hall now. kW; None: missing. `terms`: metered, summed or missing, for each term."""

    it_kw: float | None
    cooling_kw: float | None
    total_kw: float | None
    prompts_ps: float | None
    tokens_ps: float | None
    terms: Mapping[str, str]

    @property
    def wh_per_prompt(self) -> float | None:
        """Wh spent on one completed prompt, None while a term is missing."""
        if self.total_kw is None or not self.prompts_ps:
            return None
        return self.total_kw * 1000.0 / 3600.0 / self.prompts_ps

    @property
    def pue(self) -> float | None:
        """Total over IT power."""
        if self.total_kw is None or not self.it_kw:
            return None
        return self.total_kw / self.it_kw


def power_now(layout: Layout, snapshot: Snapshot) -> Power:
    """Read the hall's power terms off a snapshot."""
    racks = _sum(snapshot, layout.pdu)
    metered_it = _sum(snapshot, layout.it)
    it = metered_it if metered_it is not None else racks
    cooling = _sum(snapshot, layout.cooling)
    metered = _sum(snapshot, layout.total)
    total = metered
    if total is None and it is not None and cooling is not None:
        total = it + cooling
    terms = {
        "it": "metered" if it is not None else "missing",
        "cooling": "metered" if cooling is not None else "missing",
        "total": "metered" if metered is not None else "summed" if total is not None else "missing",
    }
    prompts, tokens = _sum(snapshot, layout.prompts), _sum(snapshot, layout.tokens)
    return Power(it, cooling, total, prompts, tokens, terms)


def _sum(snapshot: Snapshot, where: NDArray[np.intp]) -> float | None:
    """The sum over points; None when there are none or one is not good."""
    if not len(where):
        return None
    total = float(snapshot.take(where).sum())
    return None if np.isnan(total) else total
