"""Heartbeats: a device that watches one falls back by itself when Skadi is gone, however it went.

Decides when a device's heartbeat point is due for its next number: as often as an equipment may be
changed, for as long as the agent may write anything on that device. A heartbeat is a change like
any other, through both rings and the journal, and stops with them: killed, disarmed, tripped.
"""

from control.case import Case
from control.modes import may_write
from control.state import NEVER
from control.types import HEARTBEAT, Change, Proposal


def beats(case: Case, cycle: str) -> list[Proposal]:
    """The heartbeats that are due."""
    site, state, now_s = case.layout.site, case.state, case.snapshot.now_s
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
        new = old + 1.0 if old + 1.0 <= point.limits.max else point.limits.min
        found.append(Proposal(
            id=f"{HEARTBEAT}:{cycle}:{device.id}", loop=HEARTBEAT, move=HEARTBEAT,
            changes=(Change(point.key, old, new),), reason="Skadi is alive",
            scope=f"equipment:{point.equipment}", expires_s=now_s + site.limits.lease_s,
        ))  # fmt: skip
    return found
