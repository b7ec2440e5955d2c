"""Modbus: reads all points of a device in few requests, writes registers and coils.

The plan and the decoders are compiled when the driver is made. A device that refuses a span
(illegal address) has the span split until what it does hold is found; the result is
remembered, and a point it refuses alone is asked again only now and then.

Must never retry a write, never write on behalf of anyone but drivers.gate, and never turn
a reply that does not answer the request into a reading (drivers.modbus_frames).
"""

from collections.abc import Mapping, Sequence

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.client.base import ModbusBaseClient
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.bit_message import WriteMultipleCoilsRequest, WriteSingleCoilRequest
from pymodbus.pdu.register_message import WriteMultipleRegistersRequest, WriteSingleRegisterRequest

from config.addresses import ModbusAddress, RegisterKind
from config.site import Device, Point
from control.types import Present, Quality, Reading
from drivers.contract import NotSent, Refused, Transient
from drivers.modbus_batch import Absent, Batch, limits_of, why
from drivers.modbus_codec import Unrepresentable, to_registers
from drivers.modbus_frames import Framing
from drivers.modbus_link import Link, Watch, leave_link, share_link

REFUSED = frozenset({1, 2, 3})  # of a write: surely nothing changed
NOT_TAKEN = frozenset({6, 10})  # of a write: surely nothing changed, worth another try


class ModbusDriver:
    """The driver of one Modbus unit. See drivers.contract.Driver."""

    def __init__(self, device: Device, environ: Mapping[str, str]) -> None:
        self.device = device
        self._points = device.points
        self._batch = Batch(device.points, limits_of(device))
        self._by_key = {p.key: p for p in device.points}
        self._endpoint = (device.protocol, device.host, device.port)
        self._link: Link | None = None

    def _make_link(self) -> Link:
        return Link(self.device.address, Framing.TCP, self._make_client)

    def _make_client(self, watch: Watch, timeout_s: float) -> ModbusBaseClient:
        return AsyncModbusTcpClient(
            self.device.host,
            port=self.device.port,
            timeout=timeout_s,
            retries=0,
            reconnect_delay=0,
            trace_packet=watch.packet,
            trace_connect=watch.connection,
        )

    async def connect(self) -> None:
        """Open the connection. Raises NotSent when nobody listens."""
        await self._shared().open(self.device.timeout_s)

    async def read(self, now_s: float) -> list[Reading]:
        """Read every point. Raises Transient when the device does not answer."""
        try:
            return await self._batch.read(self._ask, now_s)
        except Transient:
            self._batch.forget()
            raise

    async def present(self, points: Sequence[Point]) -> dict[str, Present]:
        """Read these points from the wire now; a register has no priorities."""
        batch = Batch(tuple(points), limits_of(self.device))
        raws = await batch.raws(self._ask)
        found: dict[str, Present] = {}
        for point, judge, raw in zip(points, batch.judges, raws, strict=True):
            if isinstance(raw, Absent):
                raise Refused(f"{self.device.address} {point.key}: {raw.reason}")
            said = judge.read(raw, 0.0)
            believable = said.quality is not Quality.MISSING  # implausible is still what it holds
            found[point.key] = Present(raw * judge.scale + judge.offset if believable else None)
        return found

    async def write_raw(self, values: Mapping[str, float | None]) -> None:
        """Write registers and coils; neighbours go as one request, atomically.

        Raises Refused for a value a register can't hold (nothing was sent), and Transient
        as soon as a part of several has been written and another has not.
        """
        done: list[str] = []
        for request, keys in self._encode(values):
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
            self._link = share_link(self._endpoint, self._make_link)
        return self._link

    async def _ask(self, request: ModbusPDU) -> ModbusPDU:
        request.dev_id = self.device.unit_id
        return await self._shared().ask(request, self.device.timeout_s)

    def _encode(self, values: Mapping[str, float | None]) -> list[tuple[ModbusPDU, list[str]]]:
        """The requests that write `values`, all encoded before the first is sent."""
        words: list[tuple[RegisterKind, int, tuple[int, ...], str]] = []
        for key, value in values.items():
            point = self._by_key[key]
            address = point.address
            assert isinstance(address, ModbusAddress)
            if point.writable is None or address.kind not in ("coil", "holding"):
                raise Refused(f"{key}: {address.kind}:{address.offset} is not writable")
            if value is None:
                raise Refused(f"{key}: Modbus has no priority array to relinquish; write a value")
            try:
                words.append((address.kind, address.offset, to_registers(point, value), key))
            except Unrepresentable as error:
                raise Refused(str(error)) from error
        return [_write_request(run) for run in _runs(sorted(words))]

    async def _write_one(self, request: ModbusPDU, keys: list[str]) -> None:
        reply = await self._ask(request)
        if not reply.isError():
            return  # the echo was compared byte by byte
        code = reply.exception_code
        text = f"{self.device.address} unit {self.device.unit_id} {', '.join(keys)}: {why(code)}"
        if code in REFUSED:
            raise Refused(text)
        raise (NotSent if code in NOT_TAKEN else Transient)(text)


Word = tuple[RegisterKind, int, tuple[int, ...], str]


def _runs(words: list[Word]) -> list[list[Word]]:
    """Group words that touch each other: each group is one request."""
    runs: list[list[Word]] = []
    for word in words:
        if runs and (last := runs[-1][-1])[0] == word[0] and last[1] + len(last[2]) == word[1]:
            runs[-1].append(word)
        else:
            runs.append([word])
    return runs


def _write_request(run: list[Word]) -> tuple[ModbusPDU, list[str]]:
    """FC 5 or 6 for one bit or register, FC 15 or 16 for more."""
    kind, start = run[0][0], run[0][1]
    values = [v for word in run for v in word[2]]
    keys = [word[3] for word in run]
    if kind == "coil":
        bits = [bool(v) for v in values]
        single: type[ModbusPDU] = WriteSingleCoilRequest
        request = (single if len(bits) == 1 else WriteMultipleCoilsRequest)(
            address=start, bits=bits
        )
        return request, keys
    single = WriteSingleRegisterRequest
    return (single if len(values) == 1 else WriteMultipleRegistersRequest)(
        address=start, registers=values
    ), keys
