"""The judge of a pair: from who wrote when alone, was there ever more than one writer?

A process that was killed never comes back, so that the writes of each are one stretch: after
another has written, it is silent. Frozen processes may come back; the same is asked of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Write:
    """A write that reached the device at t_s (any clock), from a process."""

    t_s: float
    who: int


def one_writer(log: Iterable[Write]) -> list[str]:
    """Where a process wrote after another one had taken over from it."""
    broken, now, gone = [], 0, set[int]()
    for write in log:
        if write.who in gone:
            broken.append(
                f"{write.t_s:.3f} s: process {write.who} writes while {now} is the writer"
            )
        elif write.who != now:
            gone.add(now)
            now = write.who
    return broken


def takeover_s(log: Sequence[Write], victim: int, killed_s: float) -> float | None:
    """Seconds from a kill to the first write of another process; None: there is none."""
    later = (w.t_s - killed_s for w in log if w.t_s >= killed_s and w.who != victim)
    return next(later, None)
