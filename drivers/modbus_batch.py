"""One compiled batch of Modbus points: the requests that read them, and what was learned.

A device that refuses a span has it split until what it does hold is found; the result is
remembered, and a point it refuses alone is asked again only now and then.
"""

import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import cast

from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from config.addresses import ModbusAddress, RegisterKind
from config.links import parse_hole
from config.site import Device, Point
from control.types import Reading
from drivers.contract import Transient
from drivers.judge import Judge, judge_of
from drivers.modbus_codec import Decoder, compile_span, sentinels_of
from drivers.plan import BITS, Hole, Limits, Span, plan_reads, split_span

Ask = Callable[[ModbusPDU], Awaitable[ModbusPDU]]

READERS: dict[RegisterKind, type[ModbusPDU]] = {
    "coil": ReadCoilsRequest,
    "discrete": ReadDiscreteInputsRequest,
    "holding": ReadHoldingRegistersRequest,
    "input": ReadInputRegistersRequest,
}
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


@dataclass(frozen=True, slots=True)
class Absent:
    """No raw number, and why. `gone`: the device says it has none (else: not this time)."""

    reason: str
    gone: bool


def why(code: int) -> str:
    """An exception code in words."""
    return f"exception {code} ({EXCEPTIONS.get(code, 'not in the specification')})"


_NEVER = Absent("never read", gone=False)


def _absent(judge: Judge, absent: Absent, now_s: float) -> Reading:
    make = judge.missing if absent.gone else judge.unknown
    return make(absent.reason, now_s)


def limits_of(device: Device) -> Limits:
    """What one request to this device may span."""
    holes = (parse_hole(text) for text in device.no_read)
    return Limits(
        device.max_registers,
        device.max_gap,
        tuple(Hole(cast(RegisterKind, kind), first, last) for kind, first, last in holes),
    )


class Batch:
    """A compiled plan over some points, which learns what the device refuses."""

    def __init__(self, points: Sequence[Point], limits: Limits) -> None:
        self.addresses: list[ModbusAddress] = []
        for point in points:
            assert isinstance(point.address, ModbusAddress)
            self.addresses.append(point.address)
        self.judges: list[Judge] = [
            judge_of(p, sentinels_of(a)) for p, a in zip(points, self.addresses, strict=True)
        ]
        self._limits = limits
        self._spans: dict[Span, Decoder | None] = {}
        self._refused: dict[Span, Absent] = {}
        self._reads = 0
        self.forget()

    def _compile(self, span: Span) -> Decoder | None:
        return None if span.kind in BITS else compile_span(span, self.addresses)

    def forget(self) -> None:
        """Start again from the plan: a device that was away may come back as another."""
        self._spans = {s: self._compile(s) for s in plan_reads(self.addresses, self._limits)}
        self._refused = {}

    async def read(self, ask: Ask, now_s: float) -> list[Reading]:
        """Read all points: a Reading each, in order."""
        raws = await self.raws(ask)
        return [
            _absent(judge, raw, now_s) if isinstance(raw, Absent) else judge.read(raw, now_s)
            for judge, raw in zip(self.judges, raws, strict=True)
        ]

    async def raws(self, ask: Ask) -> list[float | Absent]:
        """The raw number of each point, or why the device does not have it."""
        raws: list[float | Absent] = [_NEVER] * len(self.judges)
        for span, absent in self._refused.items():
            for item in span.items:
                raws[item] = absent
        self._reads += 1
        again = list(self._refused) if self._reads % ASK_AGAIN_READS == 0 else []
        for span in [*self._spans, *again]:
            await self._read_span(span, ask, raws)
        return raws

    async def _read_span(self, span: Span, ask: Ask, raws: list[float | Absent]) -> None:
        reply = await ask(READERS[span.kind](address=span.start, count=span.count))
        if not reply.isError():
            self._learn(span, None)
            self._take(span, reply, raws)
            return
        code = reply.exception_code
        if code in NOBODY_HOME:
            raise Transient(f"unit {reply.dev_id}: {why(code)}")
        smaller = split_span(span, self.addresses) if code in SPLIT else ()
        if not smaller:
            absent = Absent(f"{why(code)} at {span.kind}:{span.start}", code in NOT_THERE)
            for item in span.items:
                raws[item] = absent
            if absent.gone:
                self._learn(span, absent)
            return
        self._spans.pop(span, None)
        self._refused.pop(span, None)
        self._spans |= {part: self._compile(part) for part in smaller}
        for part in smaller:
            await self._read_span(part, ask, raws)

    def _learn(self, span: Span, refused: Absent | None) -> None:
        if refused is not None:
            self._refused[span] = refused
            self._spans.pop(span, None)
        elif self._refused.pop(span, None) is not None:
            self._spans[span] = self._compile(span)

    def _take(self, span: Span, reply: ModbusPDU, raws: list[float | Absent]) -> None:
        decoder = self._spans[span]
        if decoder is None:
            for item in span.items:
                raws[item] = int(reply.bits[self.addresses[item].offset - span.start])
            return
        try:
            for item, raw in decoder.decode(reply.registers):
                raws[item] = raw
        except struct.error as error:  # the frames were checked: this is a bug, not a device
            raise AssertionError(f"{len(reply.registers)} registers for {span}") from error
