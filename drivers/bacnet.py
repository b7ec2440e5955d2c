"""BACnet/IP: reads objects many at a time, writes present values at a priority, relinquishes.

Writing goes to one priority of 9..15 only: 1-8 belong to life safety and operators, 16 is
everyone's. Refused here once more, whatever the configuration says. Giving back is Null at
the same priority.

Must never retry a write, never write on behalf of anyone but drivers.gate, and never take a
value whose object and property are not those that were asked for.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence

from config.addresses import BacnetAddress
from config.site import Device, Point
from control.types import Present, Reading
from drivers.bacnet_batch import BacnetBatch, Result, ref_of
from drivers.bacnet_codec import (
    NOT_THERE,
    PRIORITY_ARRAY,
    STATUS_FLAGS,
    VALUE_TAGS,
    WRITE_PROPERTY,
    Failure,
    Ref,
    encode_write,
)
from drivers.bacnet_cov import Subscriptions
from drivers.bacnet_net import Abort, Ack, Outcome, Reject, Seat, join, leave
from drivers.bacnet_tags import Item, Value, encode_value
from drivers.bacnet_values import flags_of, reading_of, wrong_value
from drivers.contract import NotSent, Permanent, Refused, Transient
from drivers.judge import judge_of

PRIORITIES = range(9, 16)


class BacnetDriver:
    """The driver of one BACnet device. See drivers.contract.Driver."""

    def __init__(self, device: Device, environ: Mapping[str, str]) -> None:
        if device.write_priority not in PRIORITIES:
            raise Permanent(
                f"device {device.id}: write_priority {device.write_priority} is refused;"
                " 1-8 belong to life safety and operators, 16 to everyone; use 9..15"
            )
        self.device = device
        refs = [ref_of(_address(p)) for p in device.points]
        self._rows = [
            (judge_of(p), _address(p), ref, flags_of(ref))
            for p, ref in zip(device.points, refs, strict=True)
        ]
        self._all = tuple(r for *_, ref, flags in self._rows for r in (ref, flags) if r)
        self._asked = self._all  # less the status flags that turned out not to be there
        self._batch = BacnetBatch(self._asked)
        self._cov = _subscriptions(device, self._asked)
        self._by_key = {p.key: p for p in device.points}
        self._lock = asyncio.Lock()
        self._seat: Seat | None = None

    async def connect(self) -> None:
        """Start or share the process's BACnet application. Nothing is sent to the device."""
        async with self._lock:
            await self._seated()

    async def read(self, now_s: float) -> list[Reading]:
        """Read every point. Raises Transient when the device does not answer."""
        try:
            said = await self._read_all(now_s)
        except Transient:
            self._forget()
            raise
        self._learn_flags(said)
        return [reading_of(*row, said, now_s) for row in self._rows]

    async def _read_all(self, now_s: float) -> dict[Ref, tuple[Result, float]]:
        """The last word about every property, polled or told, each with its own time."""
        cov = self._cov
        if cov is None:
            results = await self._batch.read(self._ask, self._asked)
            return {ref: (r, now_s) for ref, r in zip(self._asked, results, strict=True)}
        await cov.renew(self._ask)
        wanted = cov.to_poll(now_s)
        polled = dict(zip(wanted, await self._batch.read(self._ask, wanted), strict=True))
        for ref, result in polled.items():
            cov.polled(ref, result, now_s)
        cov.read_done(now_s)
        said = {ref: word for ref in self._asked if (word := cov.known(ref)) is not None}
        return said | {ref: (result, now_s) for ref, result in polled.items()}

    def _forget(self) -> None:
        """The device was away: it may come back as another."""
        self._asked = self._all
        if self._cov is not None:
            self._cov.refs = self._all
            self._cov.forget()

    def _learn_flags(self, said: Mapping[Ref, tuple[Result, float]]) -> None:
        """Status flags that an object does not have are not asked for again."""
        lacking = {
            ref
            for ref, (result, _) in said.items()
            if ref.property == STATUS_FLAGS
            and isinstance(result, Failure)
            and result.code in NOT_THERE
        }
        if lacking:
            self._asked = tuple(ref for ref in self._asked if ref not in lacking)
            if self._cov is not None:
                self._cov.refs = self._asked

    async def present(self, points: Sequence[Point]) -> dict[str, Present]:
        """Present value, the priority that rules and what our slot holds, from the wire now."""
        addresses = [_address(p) for p in points]
        refs = [ref_of(a) for a in addresses]
        arrays = [Ref(r.type, r.instance, PRIORITY_ARRAY) for r in refs]
        both = tuple(ref for pair in zip(refs, arrays, strict=True) for ref in pair)
        batch = BacnetBatch(both, chunk=8)  # a priority array is about 50 bytes
        results = await batch.read(self._ask)
        found: dict[str, Present] = {}
        for point, address, value, array in zip(
            points, addresses, results[0::2], results[1::2], strict=True
        ):
            where = f"device {self.device.id} {point.key}"
            if isinstance(value, Failure | str):
                raise Refused(f"{where}: {value}")
            if isinstance(array, str):
                raise Transient(f"{where}: priority array {array}")
            if isinstance(array, Failure):
                if array.code not in NOT_THERE:
                    raise Transient(f"{where}: priority array: {array}")
                array = ()
            found[point.key] = self._present(point, address, value, array, where)
        return found

    def _present(
        self, point: Point, address: BacnetAddress, value: tuple[Item, ...],
        array: tuple[Item, ...], where: str,
    ) -> Present:  # fmt: skip
        if len(array) not in (0, 16):
            raise Transient(f"{where}: a priority array of {len(array)}")
        slots = [_number(item, point) for item in array]
        active = next((i for i, slot in enumerate(slots, 1) if slot is not None), None)
        ours = slots[self.device.write_priority - 1] if slots else None
        if wrong := wrong_value(address, value):
            raise Transient(f"{where}: {wrong}")
        return Present(_number(value[0], point), active, ours, slots=bool(slots))

    async def write_raw(self, values: Mapping[str, float | None]) -> None:
        """Write present values at our priority; None is Null, which relinquishes our slot.

        Each object is a request of its own: Transient as soon as a part has been written and
        another has not.
        """
        requests = [(key, self._encode(self._by_key[key], value)) for key, value in values.items()]
        done: list[str] = []
        for key, body in requests:
            try:
                self._check_written(key, await self._ask(WRITE_PROPERTY, body))
            except (NotSent, Refused) as error:
                if not done:
                    raise
                raise Transient(f"written in part: {', '.join(done)}; then {error}") from error
            done.append(key)

    def _encode(self, point: Point, value: float | None) -> bytes:
        address = _address(point)
        if point.writable is None or address.property != "present-value":
            raise Refused(f"{point.key}: not writable")
        priority = self.device.write_priority
        if priority not in PRIORITIES:
            raise Refused(f"{point.key}: priority {priority} is not 9..15")
        raw = None if value is None else (value - point.offset) / point.scale
        if raw is not None and not math.isfinite(raw):
            raise Refused(f"{point.key}: {value} is not a number to write")
        try:
            encoded = encode_value(VALUE_TAGS[address.object_type], _whole(address, raw))
        except ValueError as error:
            raise Refused(f"{point.key}: {error}") from error
        return encode_write(ref_of(address), encoded, priority)

    def _check_written(self, key: str, outcome: Outcome) -> None:
        where = f"device {self.device.id} {key}"
        match outcome:
            case Ack(body=b""):
                return
            case Failure():
                raise Refused(f"{where}: write refused: {outcome}")
            case Reject(reason):
                raise Refused(f"{where}: write rejected, reason {reason}")
            case Abort(reason):
                raise Transient(f"{where}: write aborted, reason {reason}; it may have been done")
        raise Transient(f"{where}: a reply with data to a write; it may have been done")

    async def close(self) -> None:
        """Leave the shared application; the last device stops it."""
        seat, self._seat = self._seat, None
        if seat is not None:
            if self._cov is not None:
                seat.network.listeners.pop((seat.address, self._cov.process), None)
            self._forget()
            await leave(seat)

    async def _seated(self) -> Seat:
        if self._seat is None:
            self._seat = seat = await join(self.device)
            if self._cov is not None:
                seat.network.listeners[seat.address, self._cov.process] = self._cov.notified
        return self._seat

    async def _ask(self, service: int, body: bytes) -> Outcome:
        """One request at a time a device: more at once ends in aborts."""
        async with self._lock:
            seat = await self._seated()
            try:
                return await seat.ask(service, body, self.device.timeout_s)
            except Transient as error:
                raise type(error)(f"device {self.device.id} at {error}") from error


def _subscriptions(device: Device, refs: tuple[Ref, ...]) -> Subscriptions | None:
    """For a device that is to tell by itself: checked twice before a value is too old."""
    if device.cov_lifetime_s is None or not refs:
        return None
    verify_s = min(p.max_age_s for p in device.points) / 2
    return Subscriptions(refs, device.cov_lifetime_s, verify_s)


def _address(point: Point) -> BacnetAddress:
    assert isinstance(point.address, BacnetAddress)
    return point.address


def _whole(address: BacnetAddress, raw: float | None) -> float | None:
    """Round off what float arithmetic left of a whole number (3.0000000001 is 3)."""
    if raw is None or address.object_type.startswith(("analog", "large-analog")):
        return raw
    return float(round(raw)) if abs(raw - round(raw)) < 1e-6 else raw


def _number(item: Item, point: Point) -> float | None:
    """In the quantity's unit; None for Null. A slot that is no number counts as taken: NaN."""
    if isinstance(item, Value):
        return None if item.number is None else item.number * point.scale + point.offset
    return math.nan
