"""Ring two: the only code that reaches a driver's raw write.

Two entries. `apply(permit)` checks again, on its own, what ring one has checked: the permit's
expiry, the allow-list, the hard envelope, arming, the priority. `give_back(leases)` writes
nothing but a journaled value, the point's safe_value, or Null, and is never blocked. There
is no flag to skip a check. The intent is durable in the journal before the wire is touched;
no intent, no write. Never retries, never decides what is wanted.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Protocol

from config.addresses import ModbusAddress
from config.quantities import SAFE_DIRECTION
from config.site import Device, Point
from control.types import (
    Applied,
    Failed,
    Lease,
    Mismatch,
    Outcome,
    Overridden,
    Permit,
    Present,
    Receipt,
    Target,
    Unknown,
)
from drivers.contract import Driver, DriverError, NotSent, Refused

OUR_PRIORITIES = range(9, 16)


class JournalError(Exception):
    """The journal could not make a record durable: nothing may be written."""


class Journal(Protocol):
    """What the gate needs of the journal."""

    def intend(
        self, now_s: float, cycle: str, kind: str, device: Device, leases: Sequence[Lease]
    ) -> int:
        """Make the intent durable and return its number. Raises JournalError."""
        ...

    def outcome(self, now_s: float, intent: int, outcomes: Sequence[Outcome]) -> None:
        """Record what came of an intent, and which leases still stand (0: no intent)."""
        ...


class Gate:
    """Stands between every decision and every device of one site."""

    def __init__(
        self,
        points: Mapping[str, Point],
        drivers: Mapping[str, Driver],
        journal: Journal,
        armed: Callable[[Point], bool],
    ) -> None:
        self._points = points
        self._drivers = drivers
        self._journal = journal
        self._armed = armed

    async def apply(
        self, permit: Permit, leases: Mapping[str, Lease], now_s: float
    ) -> list[Outcome]:
        """Carry out a permit, device by device; stops at the first that is not Applied.

        Returns an outcome for each point that was reached. Undoing an incomplete change is
        the caller's, by `give_back`.
        """
        changes = permit.proposal.changes
        if reason := self._refusal(permit, now_s):
            return [Outcome(Failed(c.point, reason), leases.get(c.point)) for c in changes]
        done: list[Outcome] = []
        for device, part in groupby(changes, lambda c: self._points[c.point].device):
            wanted = {c.point: c.new for c in part}
            results = await self._write(device, wanted, permit, leases, now_s)
            done += results
            if not all(isinstance(o.receipt, Applied) for o in results):
                break
        return done

    async def give_back(
        self, leases: Sequence[Lease], target: Target, now_s: float
    ) -> list[Outcome]:
        """End leases that are one change: relinquish, or the journaled or safe value.

        Never blocked by a rule. Yields to an operator: a value that is neither ours nor what
        we replaced stays. Raises JournalError when the intent can't be made durable.
        """
        points = {lease.point: self._points[lease.point] for lease in leases}
        driver = self._drivers[next(iter(points.values())).device]
        values = {x.point: ending_value(points[x.point], x, target) for x in leases}
        try:
            found = await driver.present(list(points.values()))
        except DriverError as error:
            reason = f"can't be read before giving back: {error}"
            return [Outcome(Unknown(x.point, reason), x) for x in leases]
        if any(
            values[x.point] is not None and not _is_ours(points[x.point], x, found[x.point])
            for x in leases
        ):  # one of them is an operator's: what is one change is theirs as a whole
            yielded = [
                Outcome(Overridden(x.point, found[x.point].priority, found[x.point].value), None)
                for x in leases
            ]
            self._journal.outcome(now_s, 0, yielded)
            return yielded
        endings = [_ending(x, values[x.point], found[x.point], now_s) for x in leases]
        move = f"give_back:{target}"
        intent = self._journal.intend(now_s, leases[0].proposal, move, driver.device, endings)
        receipts = await self._send(driver, values)
        outcomes = [
            Outcome(receipts[x.point], _after_ending(x, doubt, target, receipts[x.point]))
            for x, doubt in zip(leases, endings, strict=True)
        ]
        self._journal.outcome(now_s, intent, outcomes)
        return outcomes

    def _refusal(self, permit: Permit, now_s: float) -> str | None:
        """Why this permit must not reach a wire, or None."""
        if not permit.issued_s <= now_s <= permit.expires_s:
            return f"the permit is not valid now ({now_s - permit.issued_s:.0f} s old)"
        for change in permit.proposal.changes:
            point = self._points.get(change.point)
            if point is None or point.writable is None or point.device not in self._drivers:
                return f"{change.point} is not on the allow-list"
            if not point.writable.min <= change.new <= point.writable.max:
                return f"{change.new:g} is outside {point.writable.min:g}..{point.writable.max:g}"
            if not self._armed(point):
                return f"{change.point} is not armed"
            if self._drivers[point.device].device.write_priority not in OUR_PRIORITIES:
                return "an optimizer writes at priority 9..15 only"
        return None

    async def _write(
        self,
        device: str,
        wanted: Mapping[str, float],
        permit: Permit,
        leases: Mapping[str, Lease],
        now_s: float,
    ) -> list[Outcome]:
        """Look, journal, write, read back: one device's part of a change."""
        driver = self._drivers[device]
        points = [self._points[key] for key in wanted]
        try:
            found = await driver.present(points)
        except DriverError as error:
            reason = f"can't be read before writing: {error}"
            return [Outcome(Failed(key, reason), leases.get(key)) for key in wanted]
        for point in points:
            if taken := _taken(point, leases.get(point.key), found[point.key]):
                return [
                    Outcome(taken, None if isinstance(taken, Overridden) else leases.get(point.key))
                ]
        intended = [
            _lease(p, wanted[p.key], found[p.key], leases.get(p.key), permit, now_s) for p in points
        ]
        try:
            intent = self._journal.intend(
                now_s, permit.cycle, permit.proposal.move, driver.device, intended
            )
        except JournalError as error:
            return [Outcome(Failed(key, f"journal: {error}"), leases.get(key)) for key in wanted]
        receipts = await self._send(driver, wanted)
        outcomes = [
            Outcome(receipts[x.point], _after_write(x, leases.get(x.point), receipts[x.point]))
            for x in intended
        ]
        self._journal.outcome(now_s, intent, outcomes)
        return outcomes

    async def _send(self, driver: Driver, values: Mapping[str, float | None]) -> dict[str, Receipt]:
        """Write raw, then prove it by reading back: slot, present value, active priority."""
        reason = ""
        try:
            await driver.write_raw(values)
        except (NotSent, Refused) as error:
            return {key: Failed(key, str(error)) for key in values}
        except DriverError as error:
            reason = str(error)  # sent, no answer: only reading back can tell
        try:
            found = await driver.present([self._points[key] for key in values])
        except DriverError as error:
            return {
                key: Unknown(key, f"{reason or 'sent'}; can't be read back: {error}")
                for key in values
            }
        return {
            key: self._proof(self._points[key], value, found[key], driver, reason)
            for key, value in values.items()
        }

    def _proof(
        self, point: Point, value: float | None, found: Present, driver: Driver, reason: str
    ) -> Receipt:
        """Compare what the device holds with what was written."""
        if value is None:
            if found.ours is None:
                return Applied(point.key, found.value if found.value is not None else math.nan)
            return Mismatch(point.key, math.nan, found.ours)
        slot = found.ours if _relinquishes(point) else found.value
        if not same(point, slot, value):
            # No answer and not there yet: it may still be carried out.
            return Unknown(point.key, reason) if reason else Mismatch(point.key, value, slot)
        if found.priority is not None and found.priority < driver.device.write_priority:
            return Overridden(point.key, found.priority, found.value)
        if not same(point, found.value, value):
            return Mismatch(point.key, value, found.value)
        return Applied(point.key, value)


def same(point: Point, found: float | None, wanted: float | None) -> bool:
    """True when two values are one to the device: within its resolution."""
    if found is None or wanted is None:
        return found is wanted
    integer = isinstance(point.address, ModbusAddress) and "int" in point.address.type
    resolution = abs(point.scale) * 0.5 if integer else 0.0
    return abs(found - wanted) <= max(resolution, 1e-3 * max(1.0, abs(wanted)) * 0.5) + 1e-9


def ending_value(point: Point, lease: Lease, target: Target) -> float | None:
    """What giving back writes: a journaled value, the safe value, or None for Null.

    Without a priority array, BASELINE means whichever is safer of baseline and safe_value.
    """
    assert point.writable is not None
    if target is Target.PREVIOUS:
        return lease.previous
    if point.writable.relinquish:
        return None
    safe, direction = point.writable.safe_value, SAFE_DIRECTION.get(point.quantity, 0)
    if safe is None or (
        target is Target.BASELINE and direction == 0 and lease.baseline is not None
    ):
        return lease.baseline
    if target is Target.SAFE or lease.baseline is None:
        return safe
    return max(safe, lease.baseline, key=lambda value: value * direction)


def _relinquishes(point: Point) -> bool:
    return point.writable is not None and point.writable.relinquish


def _ending(lease: Lease, value: float | None, found: Present, now_s: float) -> Lease:
    """The lease while it is being ended: the device may hold what it did, or what we write."""
    fallback = found.value if found.value is not None else lease.value
    previous = found.ours if value is None else found.value
    return replace(
        lease,
        value=fallback if value is None else value,
        previous=previous,
        taken_s=now_s,
        certain=False,
    )


def _after_write(doubt: Lease, before: Lease | None, receipt: Receipt) -> Lease | None:
    """What stands after a write: ours, what stood before it, or a doubt that counts as ours."""
    match receipt:
        case Applied():
            return replace(doubt, certain=True)
        case Failed():
            return before
        case _:
            return doubt


def _after_ending(lease: Lease, doubt: Lease, target: Target, receipt: Receipt) -> Lease | None:
    """What stands after giving back: nothing, our earlier value, or a doubt."""
    if not isinstance(receipt, Applied):
        return None if isinstance(receipt, Overridden) else doubt
    if (
        target is Target.PREVIOUS
        and lease.previous is not None
        and lease.previous != lease.baseline
    ):
        return replace(lease, value=lease.previous, certain=True)
    return None


def _taken(point: Point, lease: Lease | None, found: Present) -> Receipt | None:
    """Why this point belongs to somebody else now, or None."""
    if _relinquishes(point):
        held = found.ours is not None
        if lease is None and held:
            return Failed(
                point.key, "our slot of the priority array is not empty; release it first"
            )
        if lease is not None and lease.certain and not same(point, found.ours, lease.value):
            return Overridden(point.key, found.priority, found.value)
        if found.priority is not None and found.priority < min(OUR_PRIORITIES):
            return Overridden(point.key, found.priority, found.value)
        return None
    if found.value is None:
        return Failed(point.key, "its present value can't be read")
    if lease is not None and not _is_ours(point, lease, found):
        return Overridden(point.key, None, found.value)
    return None


def _is_ours(point: Point, lease: Lease, found: Present) -> bool:
    """True when the device holds what we wrote, or (outcome unknown) what stood before."""
    if same(point, found.value, lease.value) or same(point, found.ours, lease.value):
        return True
    return not lease.certain and same(point, found.value, lease.previous)


def _lease(
    point: Point, value: float, found: Present, held: Lease | None, permit: Permit, now_s: float
) -> Lease:
    slot = found.ours if _relinquishes(point) else found.value
    return Lease(
        point.key,
        baseline=held.baseline if held is not None else slot,
        previous=slot,
        value=value,
        taken_s=now_s,
        expires_s=permit.proposal.expires_s,
        proposal=permit.proposal.id,
        stood=held.stood if held is not None else found.value,
    )
