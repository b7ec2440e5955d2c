"""One compiled batch of Modbus points: the requests that read them, and what was learned.

A device that refuses a span has it split until what it does hold is found; the result is
remembered, and a point it refuses alone is asked again only now and then.
"""

import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from config.addresses import ModbusAddress, RegisterKind
from config.links import parse_hole
from config.site import Device, Point
from control.types import Quality, Sweep
from drivers.contract import Transient
from drivers.judge import Bench, Fault, judge_of
from drivers.modbus_codec import Decoder, compile_span, sentinels_of
from drivers.plan import Hole, Limits, Span, plan_reads, split_span

Ask = Callable[[bytes], Awaitable[bytes]]  # a request PDU, and the PDU that answers it

READERS: dict[RegisterKind, int] = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
# MODBUS Application Protocol V1.1b3, chapter 7.
EXCEPTIONS = {
    1: "illegal function", 2: "illegal data address", 3: "illegal data value",
    4: "device failure", 5: "acknowledged, still working", 6: "device busy",
    8: "memory parity error", 10: "gateway path unavailable", 11: "no answer behind the gateway",
}  # fmt: skip
NOT_THERE = frozenset({1, 2, 3})  # the device says it has no such thing
SPLIT = frozenset({2, 3})  # a smaller request may succeed
NOBODY_HOME = frozenset({10, 11})  # a gateway answers for a unit that doesn't
ASK_AGAIN_READS = 60  # a refused point is asked again every so many reads


def why(code: int) -> str:
    """An exception code in words."""
    return f"exception {code} ({EXCEPTIONS.get(code, 'not in the specification')})"


def limits_of(device: Device) -> Limits:
    """What one request to this device may span."""
    holes = (parse_hole(text) for text in device.no_read)
    return Limits(
        device.max_registers,
        device.max_gap,
        tuple(Hole(cast(RegisterKind, kind), first, last) for kind, first, last in holes),
    )


class _Read:
    """One request of the plan, and how its reply is decoded."""

    __slots__ = ("decoder", "pdu")

    def __init__(self, span: Span, addresses: Sequence[ModbusAddress]) -> None:
        self.pdu = struct.pack(">BHH", READERS[span.kind], span.start, span.count)
        self.decoder: Decoder = compile_span(span, addresses)


class Batch:
    """A compiled plan over some points, which learns what the device refuses."""

    def __init__(self, points: Sequence[Point], limits: Limits) -> None:
        self.addresses: list[ModbusAddress] = []
        for point in points:
            assert isinstance(point.address, ModbusAddress)
            self.addresses.append(point.address)
        self.bench = Bench(
            [judge_of(p, sentinels_of(a)) for p, a in zip(points, self.addresses, strict=True)]
        )
        self._limits = limits
        self._spans: dict[Span, _Read] = {}
        self._refused: dict[Span, Fault] = {}
        self._reads = 0
        self.forget()

    def forget(self) -> None:
        """Start again from the plan: a device that was away may come back as another."""
        self._spans = {s: self._compile(s) for s in plan_reads(self.addresses, self._limits)}
        self._refused = {}

    def _compile(self, span: Span) -> _Read:
        return _Read(span, self.addresses)

    async def read(self, ask: Ask, now_s: float) -> Sweep:
        """Read all points."""
        return self.bench.read(*await self.raws(ask), now_s)

    async def raws(self, ask: Ask) -> tuple[NDArray[np.float64], dict[int, Fault]]:
        """The raw number of each point, and why the device has none for some."""
        raws, absent = np.full(len(self.addresses), np.nan), dict[int, Fault]()
        for span, fault in self._refused.items():
            absent |= dict.fromkeys(span.items, fault)
        self._reads += 1
        again = list(self._refused) if self._reads % ASK_AGAIN_READS == 0 else ()
        for span, read in (*self._spans.items(), *((span, self._compile(span)) for span in again)):
            await self._read_span(span, read, ask, raws, absent)
        return raws, absent

    async def _read_span(
        self, span: Span, read: _Read, ask: Ask, raws: NDArray[np.float64], absent: dict[int, Fault]
    ) -> None:
        reply = await ask(read.pdu)
        if not reply[0] & 0x80:
            if self._refused and self._refused.pop(span, None) is not None:
                self._spans[span] = read
                for item in span.items:
                    del absent[item]
            read.decoder.decode(reply[2:], raws)
            return
        code = reply[1]
        if code in NOBODY_HOME:
            raise Transient(why(code))
        smaller = split_span(span, self.addresses) if code in SPLIT else ()
        if not smaller:
            gone = code in NOT_THERE
            quality = Quality.MISSING if gone else Quality.UNKNOWN
            fault = quality, f"{why(code)} at {span.kind}:{span.start}"
            absent |= dict.fromkeys(span.items, fault)
            if gone:
                self._refused[span] = fault
                self._spans.pop(span, None)
            return
        self._spans.pop(span, None)
        self._refused.pop(span, None)
        parts = {part: self._compile(part) for part in smaller}
        self._spans |= parts
        for part, compiled in parts.items():
            await self._read_span(part, compiled, ask, raws, absent)
