"""Ring two: the only code that reaches a driver's raw write.

Two entries. `apply(permit)` checks again, on its own and against what the device holds now, what
ring one has checked: the permit's expiry and single use, the allow-list, the hard envelope, step
and direction, arming, the priority. `give_back(points)` writes nothing but a journaled value, the
point's safe_value, or Null, and is never blocked; it rests on the intent of the write it takes
back, so a dying disk can't stop it. There is no flag to skip a check. No intent durable in the
journal, no write. `held` is the book of what may stand because of us. Never retries, nor decides.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog

from config.quantities import SAFE_DIRECTION
from config.site import Point
from control.types import (
    Applied,
    Change,
    Failed,
    Kind,
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
from drivers.contract import Driver, DriverError, Journal, NotSent, Refused

log = structlog.get_logger(__name__)

OUR_PRIORITIES = range(9, 16)
FENCED = "another agent of the pair may be the writer"
Now = Callable[[], float]


class JournalError(Exception):
    """The journal could not make a record durable: nothing may be written."""


class Gate:
    """Stands between every decision and every device of one site."""

    def __init__(
        self, points: Mapping[str, Point], drivers: Mapping[str, Driver], journal: Journal,
        armed: Callable[[Point], bool], fenced: Callable[[], bool] = bool,
    ) -> None:  # fmt: skip
        """fenced: True while another agent of a pair may be the writer. Then nothing is sent."""
        self._points = points
        self._drivers = drivers
        self._journal = journal
        self._armed = armed
        self._fenced = fenced
        self._locks = {name: asyncio.Lock() for name in drivers}
        self._used: dict[str, float] = {}
        self._ended: dict[str, float] = {}  # equipment -> when something on it was given back
        self.held = {k: x for k, x in journal.held().items() if k in points}

    async def apply(self, permit: Permit, now: Now) -> list[Outcome]:
        """Carry out a permit, device by device; stops at the first that is not Applied.

        Returns an outcome for each point that was reached. Undoing an incomplete change is
        the caller's, by `give_back`.
        """
        changes = permit.proposal.changes
        if reason := self._used_up(permit, now()) or self._refusal(permit, now()):
            return self._failed(changes, reason)
        done: list[Outcome] = []
        for device in dict.fromkeys(self._points[c.point].device for c in changes):
            part = [c for c in changes if self._points[c.point].device == device]
            async with self._locks[device]:
                results = await self._write(self._drivers[device], part, permit, now)
            done += results
            if not all(isinstance(o.receipt, Applied) for o in results):
                break
        return done

    async def give_back(self, keys: Sequence[str], target: Target, now: Now) -> list[Outcome]:
        """End leases on one device that are one change: to Null, a journaled or the safe value.

        Never blocked by a rule. Yields to an operator: a value that is neither ours nor what
        we replaced stays. Points without a lease are left out.
        """
        devices = {self._points[k].device for k in keys if k in self.held}
        if not devices:
            return []
        (device,) = devices
        async with self._locks[device]:
            leases = [self.held[k] for k in keys if k in self.held]  # as they are by now
            return await self._end(self._drivers[device], leases, target, now) if leases else []

    def prolong(self, leases: Sequence[Lease], now_s: float) -> None:
        """Take over the expiry of these leases and the age of their baseline, where they still
        stand, and nothing else of them. Raises JournalError."""
        kept = [replace(self.held[x.point], expires_s=x.expires_s, baseline_s=x.baseline_s)
                for x in leases if x.point in self.held]  # fmt: skip
        self._journal.renew(now_s, kept)
        self.held |= {x.point: x for x in kept}

    def _used_up(self, permit: Permit, now_s: float) -> str | None:
        """A permit is for one change: a second use of it is refused."""
        self._used = {name: until_s for name, until_s in self._used.items() if until_s >= now_s}
        name = f"{permit.cycle}|{permit.proposal.id}"
        if name in self._used:
            return "the permit was used before"
        self._used[name] = permit.expires_s
        return None

    def _refusal(self, permit: Permit, now_s: float) -> str | None:
        """Why this permit must not reach a wire, or None."""
        if not permit.issued_s <= now_s <= permit.expires_s:
            return f"the permit is not valid now ({now_s - permit.issued_s:.0f} s old)"
        changes = permit.proposal.changes
        if len({c.point for c in changes}) != len(changes):
            return "a point stands twice in one change"
        for change in changes:
            point = self._points.get(change.point)
            if point is None or point.writable is None or point.device not in self._drivers:
                return f"{change.point} is not on the allow-list"
            if not point.writable.min <= change.new <= point.writable.max:  # NaN fails too
                return f"{change.new:g} is outside {point.writable.min:g}..{point.writable.max:g}"
            if not self._armed(point):
                return f"{change.point} is not armed"
            ended_s = self._ended.get(point.equipment, -math.inf)  # a race with another task
            if permit.proposal.kind != Kind.PROTECTIVE and permit.issued_s <= ended_s:
                return f"{point.equipment} was given back meanwhile"
            if self._drivers[point.device].device.write_priority not in OUR_PRIORITIES:
                return "an optimizer writes at priority 9..15 only"
        return None

    async def _write(
        self, driver: Driver, part: Sequence[Change], permit: Permit, now: Now
    ) -> list[Outcome]:
        """Look, check, journal, write, read back: one device's part of a change."""
        wanted = {c.point: c.new for c in part}
        points = [self._points[key] for key in wanted]
        one = {(p.device, p.equipment) for p in points}  # another hand on part of it has it all
        held = [self._points[key] for key in self.held if key not in wanted]
        beside = [p for p in held if (p.device, p.equipment) in one]
        try:
            found = await driver.present([*points, *beside])
        except DriverError as error:
            return self._failed(part, f"can't be read before writing: {error}")
        for point in (*beside, *points):
            if taken := _taken(point, self.held.get(point.key), found[point.key], driver):
                return [Outcome(taken, self.held.get(point.key))]
        proposal, had = permit.proposal, {key: self.held.get(key) for key in wanted}
        strides = (_stride(p, wanted[p.key], found[p.key], proposal.kind) for p in points)
        if reason := next(filter(None, strides), None) or self._refusal(permit, now()):
            return self._failed(part, reason)  # looking took time, too: killed, disarmed, late
        stand = all(_stands(p, wanted[p.key], found[p.key], had[p.key]) for p in points)
        if proposal.kind == Kind.PROTECTIVE and stand:  # nothing to write
            return [Outcome(Applied(k, _number(found[k].value)), had[k]) for k in wanted]
        doubts = [_lease(p, wanted[p.key], found[p.key], had[p.key], permit, now()) for p in points]
        kind = f"protective:{proposal.move}" if proposal.kind == Kind.PROTECTIVE else proposal.move
        try:
            intent = self._journal.intend(now(), permit.cycle, kind, driver.device, doubts)
        except JournalError as error:
            return self._failed(part, f"journal: {error}")
        self.held |= {x.point: x for x in doubts}
        sent = await self._send(driver, wanted, found)
        after = [(x, sent[x.point], had[x.point]) for x in doubts]
        outcomes = [Outcome(receipt, _after_write(x, old, receipt)) for x, receipt, old in after]
        return self._record(now(), intent, outcomes, stays=False)

    async def _end(
        self, driver: Driver, leases: Sequence[Lease], target: Target, now: Now
    ) -> list[Outcome]:
        """Look, yield or journal, write, read back: the end of leases that are one change."""
        points = {x.point: self._points[x.point] for x in leases}
        try:
            found = await driver.present(list(points.values()))
        except DriverError as error:
            return _unknown(leases, f"can't be read before giving back: {error}")
        values = {x.point: ending_value(points[x.point], x, target, now()) for x in leases}
        self._ended |= {p.equipment: now() for p in points.values()}
        slots = {k: _slot(points[k], found[k]) for k in values}
        if any(s is None and not points[k].limits.relinquish for k, s in slots.items()):
            return _unknown(leases, "its present value can't be read")
        if not all(_ours(points[x.point], x, slots[x.point]) for x in leases):
            # An operator's, and what is one change is theirs as a whole.
            theirs = [_overridden(k, found[k], "changed by another hand") for k in values]
            return self._record(now(), 0, [Outcome(receipt, None) for receipt in theirs])
        if all(x.certain and points[x.point].same(slots[x.point], values[x.point]) for x in leases):
            # Nothing to write. After a doubt there is: a late write could still land.
            stands = [(x, Applied(x.point, _number(found[x.point].value))) for x in leases]
            done = [Outcome(receipt, _after_ending(x, x, target, receipt)) for x, receipt in stands]
            return self._record(now(), 0, done)
        doubts = [_ending(x, values[x.point], slots[x.point], now()) for x in leases]
        intent, cycle, kind = 0, leases[0].proposal, f"give_back:{target}"
        try:
            intent = self._journal.intend(now(), cycle, kind, driver.device, doubts)
        except JournalError as error:
            log.critical("giving back without a record", points=list(values), error=str(error))
            target = Target.BASELINE  # what nobody can look up must not stand half way
            values = {x.point: ending_value(points[x.point], x, target, now()) for x in leases}
            doubts = [_ending(x, values[x.point], slots[x.point], now()) for x in leases]
        self.held |= {x.point: x for x in doubts}
        receipts = await self._send(driver, values, found)
        said = {k: _of_ending(receipt, found[k], driver) for k, receipt in receipts.items()}
        outcomes = [
            Outcome(said[x.point], _after_ending(x, doubt, target, receipts[x.point]))
            for x, doubt in zip(leases, doubts, strict=True)
        ]
        return self._record(now(), intent, outcomes)

    def _failed(self, changes: Sequence[Change], reason: str) -> list[Outcome]:
        return [Outcome(Failed(c.point, reason), self.held.get(c.point)) for c in changes]

    def _record(
        self, now_s: float, intent: int, outcomes: list[Outcome], stays: bool = True
    ) -> list[Outcome]:
        """Book what stands now. Without a record (the intent still is one) a change does not stay."""
        for outcome in outcomes:
            if outcome.lease is None:
                self.held.pop(outcome.receipt.point, None)
            else:
                self.held[outcome.receipt.point] = outcome.lease
        try:
            self._journal.outcome(now_s, intent, outcomes)
        except JournalError as error:
            log.critical("an outcome can't be recorded", outcomes=repr(outcomes), error=str(error))
            if not stays:
                lost = "the journal is lost: a change without a record does not stay"
                outcomes = [replace(o, receipt=Unknown(o.receipt.point, lost))
                            if isinstance(o.receipt, Applied) else o for o in outcomes]  # fmt: skip
        return outcomes

    async def _send(
        self, driver: Driver, values: Mapping[str, float | None], before: Mapping[str, Present]
    ) -> dict[str, Receipt]:
        """Write raw, then prove it by reading back: slot, present value, active priority."""
        reason = ""
        if self._fenced():
            return {key: Failed(key, FENCED) for key in values}
        try:
            await driver.write_raw(values)
        except (NotSent, Refused) as error:
            return {key: Failed(key, str(error)) for key in values}
        except DriverError as error:
            reason = str(error)  # sent, no answer: only reading back can tell
        try:
            found = await driver.present([self._points[key] for key in values])
        except DriverError as error:
            why = f"{reason or 'sent'}; can't be read back: {error}"
            return {key: Unknown(key, why) for key in values}
        return {
            key: _proof(self._points[key], value, before[key], found[key], driver, reason)
            for key, value in values.items()
        }


def ending_value(point: Point, lease: Lease, target: Target, now_s: float) -> float | None:
    """What giving back writes: a journaled value, the safe value, or None for Null. Without slots,
    BASELINE is the safer of baseline and safe_value; an old baseline yields to safe_value."""
    if target is Target.PREVIOUS:
        return lease.previous
    bounds = point.limits
    if bounds.relinquish:
        return None
    safe, direction = bounds.safe_value, SAFE_DIRECTION.get(point.quantity, 0)
    if safe is None:
        return lease.baseline
    age_s = math.inf if lease.baseline_s is None else now_s - lease.baseline_s
    if target is Target.SAFE or lease.baseline is None or age_s > bounds.baseline_max_age_s:
        return safe
    if not bounds.min <= lease.baseline <= bounds.max:  # giving back keeps the envelope, too
        return safe
    if direction == 0:
        return lease.baseline
    return max(safe, lease.baseline, key=lambda value: value * direction)


def _slot(point: Point, found: Present) -> float | None:
    """What the device holds where we write: our slot, or the value itself."""
    return found.ours if point.limits.relinquish else found.value


def _stands(point: Point, new: float, found: Present, lease: Lease | None) -> bool:
    """True when the device holds `new`, and no write of ours could still change that."""
    return point.same(found.value, new) and (lease is None or lease.certain)


def _stride(point: Point, new: float, found: Present, kind: Kind) -> str | None:
    """Why going from what the device holds now to `new` is not allowed, or None."""
    old, most = _number(found.value), point.limits.max_step
    if kind == Kind.PROTECTIVE:
        towards = (new - old) * SAFE_DIRECTION.get(point.quantity, 0) > 0 or point.same(old, new)
        return None if towards else f"{point.key}: {old:g} -> {new:g} is not towards safety"
    within = (size := abs(new - old)) <= most * (1 + 1e-9) + point.grain  # NaN fails too
    return None if within else f"{point.key}: a step of {size:g} from {old:g} is over {most:g}"


def _proof(
    point: Point, value: float | None, before: Present, found: Present, driver: Driver, reason: str
) -> Receipt:
    """Compare what the device holds with what was written: slot, value, active priority.
    reason: why there was no answer; a write that left no trace may still be carried out."""
    slot = _slot(point, found)
    if not point.same(slot, value):
        if reason and point.same(slot, _slot(point, before)):
            return Unknown(point.key, reason)
        return Mismatch(point.key, _number(value), slot)
    if _overruled(seen := found, driver) or _overruled(seen := before, driver):
        return _overridden(point.key, seen, "an operator's priority rules")
    if value is not None and not point.same(found.value, value):
        return Mismatch(point.key, value, found.value)
    return Applied(point.key, _number(found.value) if value is None else value)


def _of_ending(receipt: Receipt, before: Present, driver: Driver) -> Receipt:
    """An ending that fails must not forget another hand that ruled before it: who is seen is latched."""
    if isinstance(receipt, Failed | Unknown) and _overruled(before, driver):
        return _overridden(receipt.point, before, "an operator's priority rules")
    return receipt


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _lease(
    point: Point, value: float, found: Present, held: Lease | None, permit: Permit, now_s: float
) -> Lease:
    """What may stand once we write: a doubt until it is read back."""
    slot, until_s, id_ = _slot(point, found), permit.proposal.expires_s, permit.proposal.id
    if held is None:
        return Lease(point.key, slot, slot, value, now_s, until_s, id_, False,
                     found.value, now_s, slot)  # fmt: skip
    return replace(held, previous=slot, value=value, taken_s=now_s, expires_s=until_s,
                   proposal=id_, certain=False, instead=slot)  # fmt: skip


def _ending(lease: Lease, value: float | None, slot: float | None, now_s: float) -> Lease:
    """The lease while it is being ended: the device may hold what it did, or what we write."""
    kept = lease.value if value is None else value
    return replace(lease, value=kept, instead=slot, taken_s=now_s, certain=False)


def _after_write(doubt: Lease, before: Lease | None, receipt: Receipt) -> Lease | None:
    """What stands after a write: ours, what stood before it, or a doubt that counts as ours."""
    match receipt:
        case Applied():
            return replace(doubt, certain=True)
        case Failed():
            return before
        case Mismatch(_, _, float(found)):
            return replace(doubt, value=found)  # the device made this of it: ours to take back
        case _:
            return doubt


def _after_ending(lease: Lease, doubt: Lease, target: Target, receipt: Receipt) -> Lease | None:
    """What stands after giving back: nothing, our earlier value, or a doubt."""
    earlier = lease.previous if target is Target.PREVIOUS else None
    done = isinstance(receipt, Applied) or (isinstance(receipt, Overridden) and earlier is None)
    if not done:
        return _after_write(doubt, doubt, receipt)
    if earlier is None or earlier == lease.baseline:
        return None
    return replace(lease, value=earlier, previous=lease.baseline, certain=True)


def _unknown(leases: Sequence[Lease], reason: str) -> list[Outcome]:
    return [Outcome(Unknown(x.point, reason), x) for x in leases]


def _taken(point: Point, lease: Lease | None, found: Present, driver: Driver) -> Receipt | None:
    """Why this point belongs to somebody else now, or None."""
    slot = _slot(point, found)
    if found.value is None:
        return Failed(point.key, "its present value can't be read")
    if lease is not None and not _ours(point, lease, slot):
        lost = "our slot was emptied" if slot is None else "changed by another hand"
        return _overridden(point.key, found, lost)
    if not point.limits.relinquish:
        return None
    if found.slots is False:
        return Failed(point.key, "has no priority array: set relinquish = false and a safe_value")
    if lease is None and slot is not None:
        return Failed(point.key, "our slot of the priority array is not empty; release it first")
    if _overruled(found, driver):
        return _overridden(point.key, found, "an operator's priority rules")
    return None


def _overruled(found: Present, driver: Driver) -> bool:
    """True when another hand's slot rules over ours."""
    return found.priority is not None and found.priority < driver.device.write_priority


def _overridden(key: str, found: Present, reason: str) -> Overridden:
    return Overridden(key, found.priority, found.value, reason)


def _ours(point: Point, lease: Lease, value: float | None) -> bool:
    """True when this is what we wrote, or (outcome unknown) what stood before."""
    if point.same(value, lease.value):
        return True
    return not lease.certain and point.same(value, lease.instead)
