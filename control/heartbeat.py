"""Heartbeats: a device that watches one falls back by itself when Skadi is gone, however it went.

Decides when a device's heartbeat point is due for its next number: as often as an equipment may be
changed, for as long as the agent may write anything on that device. It counts in the lower half of its
range, and in the upper half while a limit of the hall is crossed: so a BMS that has no other way to
our alarms hears of both. A heartbeat is a change like
any other, through both rings and the journal, and stops with them: killed, disarmed, tripped.
"""

import math

from config.site import Writable
from control.case import Case
from control.features import worst_inlets
from control.modes import may_write
from control.state import NEVER
from control.types import HEARTBEAT, Change, Proposal


def beats(case: Case, cycle: str) -> list[Proposal]:
    """The heartbeats that are due."""
    site, state, now_s = case.layout.site, case.state, case.snapshot.now_s
    crossed = _limit_crossed(case)
    found = []
    for device in site.devices:
        if device.heartbeat is None:
            continue
        point = site.points[f"{device.id}/{device.heartbeat}"]
        old = case.snapshot.value(point.key)
        last_s = max(state.spent.get(k, NEVER).last_s for k in (point.key, point.equipment))
        due = now_s - last_s >= max(site.limits.write_interval_s, point.limits.min_interval_s)
        steered = any(
            p.writable and p is not point and may_write(state.modes, p) for p in device.points
        )
        mine = may_write(state.modes, point) and point.key not in state.owed
        if old is None or not due or not steered or not mine:
            continue
        new = _next(old, point.limits, crossed)
        found.append(Proposal(
            id=f"{HEARTBEAT}:{cycle}:{device.id}", loop=HEARTBEAT, move=HEARTBEAT,
            changes=(Change(point.key, old, new),), reason="Skadi is alive",
            scope=f"equipment:{point.equipment}", expires_s=now_s + site.limits.lease_s,
        ))  # fmt: skip
    return found


def _next(old: float, room: Writable, crossed: bool) -> float:
    """The next number in its half of the range; a range of fewer than four numbers has one part."""
    low, high = math.ceil(room.min), math.floor(room.max)
    if high - low >= 3:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if crossed else (low, middle)
    return old + 1.0 if low <= old + 1.0 <= high else float(low)


def _limit_crossed(case: Case) -> bool:
    """True when something that is read is over a limit of the hall."""
    layout, limits, snapshot = case.layout, case.layout.site.limits, case.snapshot
    held_against = (
        (worst_inlets(layout, snapshot), limits.inlet_max_c),
        (layout.rack_kw.sum(snapshot.values), limits.rack_max_kw),
        (snapshot.take(layout.latency), limits.latency_p95_max_ms),
    )
    return any(bool((values > limit).any()) for values, limit in held_against)
