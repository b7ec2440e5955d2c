"""The judge of a pair: from who wrote when, and who was killed when, was there ever a second writer?

Once another process has written, the one before is silent, for as long as the other lives. It may
have stopped by itself and be the standby now: then it writes again after the other is dead.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Write:
    """A write that reached the device at t_s (any clock), from a process."""

    t_s: float
    who: int


def one_writer(log: Iterable[Write], killed: Mapping[int, float]) -> list[str]:
    """Where a process wrote while another that had taken over from it was alive."""
    broken, now, before = [], 0, set[int]()
    for write in log:
        if write.who == now:
            continue
        if write.who in before and write.t_s < killed.get(now, math.inf):
            broken.append(
                f"{write.t_s:.3f} s: process {write.who} writes while {now} is the writer"
            )
            continue
        before.add(now)
        now = write.who
    return broken


def takeover_s(log: Sequence[Write], victim: int, killed_s: float) -> float | None:
    """Seconds from a kill to the first write of another process; None: there is none."""
    later = (w.t_s - killed_s for w in log if w.t_s >= killed_s and w.who != victim)
    return next(later, None)
