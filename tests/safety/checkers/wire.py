"""The judge at the wire: from what reached the devices alone, was a promise broken?

Knows each point's limits as plain numbers and the log of writes. Never asks the agent.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.safety.checkers.field import Wrote

HAIR = 1e-6


@dataclass(frozen=True, slots=True)
class Limits:
    """What a person wrote down for one point. direction: where it is safer, +1, -1 or 0.

    together: shares of one equipment only make sense as a whole; who sets one has set them all.
    """

    key: str
    equipment: str
    low: float
    high: float
    step: float
    direction: int
    baseline: float
    safe: float | None = None
    slots: bool = False
    work: bool = False
    most_a_day: int = 10_000
    together: bool = False


@dataclass(slots=True)
class _Seen:
    """What the judge remembers of one equipment."""

    last_s: float = -math.inf
    request: tuple[str, int] = ("", 0)
    last_protective_s: float = -math.inf


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What was found, and how much was looked at."""

    broken: tuple[str, ...]
    writes: int
    changes: int
    exempt: int


def judge(limits: Mapping[str, Limits], log: Sequence[Wrote], interval_s: float) -> Verdicts:
    """P1 and P2: nothing outside envelope, step and allow-list, and one change an interval.

    Giving back (a relinquish, the baseline, the safe value), undoing (what stood before our
    last write) and one protective move (towards safety) are exempt from step and interval, each
    starts a new interval, and protective moves keep an interval among themselves.
    """
    broken: list[str] = []
    seen: dict[str, _Seen] = {}
    floor = {k: {x.baseline} for k, x in limits.items()}  # what stood when we had nothing there
    stands = {k: x.baseline for k, x in limits.items()}
    earlier: dict[str, list[float]] = {}  # what stood before our last changes, retries included
    changes = exempt = writes = 0
    day: dict[tuple[str, int], int] = {}
    for wrote in log:
        point = limits.get(wrote.key)
        if wrote.by != "us":
            if point is not None:
                stands[point.key] = wrote.after
                for key in _taken(limits, point):
                    floor[key].add(stands[key])
            continue
        writes += 1
        if point is None:
            broken.append(f"{wrote}: not on the allow-list")
            continue
        stands[point.key] = wrote.after
        known, value = floor[point.key], wrote.value
        if value is None:
            back = True
            if not point.slots:
                broken.append(f"{wrote}: relinquished what has no slots")
        else:
            back = any(_same(value, v) for v in (*known, point.safe) if v is not None)
            inside = point.low - HAIR <= value <= point.high + HAIR
            if not inside and not any(_same(value, v) for v in known):
                broken.append(f"{wrote}: outside {point.low:g}..{point.high:g}")
        if _same(wrote.before, wrote.after):
            continue  # nothing changed
        before = earlier.setdefault(point.key, [])
        undo = value is not None and any(_same(value, v) for v in before[-3:])
        here = seen.setdefault(point.equipment, _Seen())
        since_s = wrote.t_s - here.last_s
        together = since_s == 0 and here.request == (wrote.device, wrote.request)
        if back or undo:
            exempt += 1
        elif not (together or since_s >= interval_s - HAIR) or not _stepped(point, wrote):
            protective_s = wrote.t_s - here.last_protective_s
            towards = (_wanted(wrote) - wrote.before) * point.direction > 0
            if not towards:
                broken.append(
                    f"{wrote}: {since_s:g} s after the last change of {point.equipment}, step"
                    f" {wrote.after - wrote.before:g} of {point.step:g}, and not towards safety"
                )
            elif not together and protective_s < interval_s - HAIR:
                broken.append(f"{wrote}: a second protective move after {protective_s:g} s")
            here.last_protective_s = wrote.t_s
            exempt += 1
        else:
            changes += 1
            name = (point.key, int(wrote.t_s // 86_400))
            day[name] = day.get(name, 0) + 1
            if day[name] > 2 * point.most_a_day:
                broken.append(f"{wrote}: over {point.most_a_day} a day")
        before.append(wrote.before)
        here.last_s, here.request = wrote.t_s, (wrote.device, wrote.request)
    return Verdicts(tuple(broken), writes, changes, exempt)


def left_behind(
    limits: Mapping[str, Limits], log: Sequence[Wrote], holds: Mapping[str, float]
) -> list[str]:
    """P4: what stands on the devices that is neither baseline, safe value, relinquished slot nor
    an operator's. holds: key -> present value (for slots: our slot's content, NaN when empty)."""
    wrong = []
    theirs: dict[str, set[float]] = {k: set() for k in limits}
    stands = {k: x.baseline for k, x in limits.items()}
    for wrote in log:
        stands[wrote.key] = wrote.after
        if wrote.by != "us":
            for key in _taken(limits, limits[wrote.key]):
                theirs[key].add(stands[key])
    for key, point in limits.items():
        value = holds[key]
        if point.slots:
            if not math.isnan(value):
                wrong.append(f"{key}: our slot still holds {value:g}")
            continue
        fine = [point.baseline, *sorted(theirs[key])]
        if point.safe is not None:
            fine.append(point.safe)
        if not any(_same(value, v) for v in fine):
            wrong.append(f"{key}: holds {value:g}, none of {fine}")
    return wrong


def _taken(limits: Mapping[str, Limits], point: Limits) -> list[str]:
    """What an operator who sets this point has taken: itself, or all that only go together."""
    if not point.together:
        return [point.key]
    return [k for k, x in limits.items() if x.together and x.equipment == point.equipment]


def untouched(log: Iterable[Wrote], allowed: Iterable[str] = ()) -> list[str]:
    """P19: writes of ours to anything but `allowed`."""
    fine = set(allowed)
    return [f"{w}: written while it must not be" for w in log if w.by == "us" and w.key not in fine]


def _stepped(point: Limits, wrote: Wrote) -> bool:
    """What was asked for, from what stood: a device that makes something else of it lies."""
    wanted = _wanted(wrote)
    return abs(wanted - wrote.before) <= point.step + max(HAIR, 5e-4 * abs(wanted))


def _wanted(wrote: Wrote) -> float:
    return wrote.after if wrote.value is None else wrote.value


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= HAIR + 5e-4 * max(1.0, abs(b))
