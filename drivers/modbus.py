"""Modbus: reads all points of a device in few requests, writes registers and coils.

The plan and the decoders are compiled when the driver is made. A device that refuses a span
(illegal address) has the span split until what it does hold is found; the result is
remembered, and a point it refuses alone is asked again only now and then.

Must never retry a write, never write on behalf of anyone but drivers.gate, and never turn
a reply that does not answer the request into a reading (drivers.modbus_frames).
"""

from collections.abc import Mapping, Sequence

from config.site import Device, Point
from control.types import Present, Quality, Sweep
from drivers.contract import NotSent, Permanent, Refused, Transient
from drivers.modbus_batch import Batch, limits_of, why
from drivers.modbus_clients import endpoint_of, make_link
from drivers.modbus_link import Link, leave_link, share_link
from drivers.modbus_writes import encode_writes

REFUSED = frozenset({1, 2, 3})  # of a write: surely nothing changed
NOT_TAKEN = frozenset({6, 10})  # of a write: surely nothing changed, worth another try


class ModbusDriver:
    """The driver of one Modbus unit. See drivers.contract.Driver."""

    def __init__(self, device: Device, environ: Mapping[str, str]) -> None:
        self.device = device
        try:
            self._batch = Batch(device.points, limits_of(device))
        except ValueError as error:
            raise Permanent(f"device {device.id}: {error}") from error
        self._by_key = {p.key: p for p in device.points}
        self._endpoint = endpoint_of(device)
        self._link: Link | None = None

    async def connect(self) -> None:
        """Open the connection. Raises NotSent when nobody listens."""
        await self._shared().open(self.device.timeout_s)

    async def read(self, now_s: float) -> Sweep:
        """Read every point. Raises Transient when the device does not answer."""
        try:
            return await self._batch.read(self._ask, now_s)
        except Transient:
            self._batch.forget()
            raise

    async def present(self, points: Sequence[Point]) -> dict[str, Present]:
        """Read these points from the wire now; a register has no priorities."""
        batch = Batch(points, limits_of(self.device))
        raws, absent = await batch.raws(self._ask)
        said = batch.bench.read(raws, absent, 0.0)
        found: dict[str, Present] = {}
        for at, judge in enumerate(batch.bench.judges):
            if at in absent:
                raise Refused(f"{self.device.address} {judge.key}: {absent[at][1]}")
            quality, _ = said.faults.get(at, (Quality.GOOD, ""))
            believable = quality is not Quality.MISSING  # implausible is still what it holds
            value = float(raws[at]) * judge.scale + judge.offset
            found[judge.key] = Present(value if believable else None)
        return found

    async def write_raw(self, values: Mapping[str, float | None]) -> None:
        """Write registers and coils; neighbours go as one request, atomically.

        Raises Refused for a value a register can't hold (nothing was sent), and Transient
        as soon as a part of several has been written and another has not.
        """
        done: list[str] = []
        requests = encode_writes(self._by_key, values, self.device.write_multiple)
        for request, keys in requests:
            try:
                await self._write_one(request, keys)
            except (NotSent, Refused) as error:
                if not done:
                    raise
                raise Transient(f"written in part: {', '.join(done)}; then {error}") from error
            done += keys

    async def close(self) -> None:
        """Leave the shared connection; the last device on it closes it."""
        link, self._link = self._link, None
        if link is not None:
            leave_link(self._endpoint, link)

    def _shared(self) -> Link:
        if self._link is None:
            self._link = share_link(self._endpoint, lambda: make_link(self.device))
        return self._link

    async def _ask(self, pdu: bytes) -> bytes:
        device = self.device
        pause_s = device.pause_ms / 1000
        return await self._shared().ask(device.unit_id, pdu, device.timeout_s, pause_s)

    async def _write_one(self, pdu: bytes, keys: tuple[str, ...]) -> None:
        reply = await self._ask(pdu)
        if not reply[0] & 0x80:
            return  # the echo was compared byte by byte
        code = reply[1]
        text = f"{self.device.address} unit {self.device.unit_id} {', '.join(keys)}: {why(code)}"
        if code in REFUSED:
            raise Refused(text)
        raise (NotSent if code in NOT_TAKEN else Transient)(text)
