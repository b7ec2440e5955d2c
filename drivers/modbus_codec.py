"""Between Modbus registers and raw numbers: compiled decoders, and encoding for writes. Pure.

Facts: registers are big-endian on the wire (MODBUS Application Protocol V1.1b3, 4.2); the
order of the words of a longer value, and of the bytes within a word, is the vendor's. The
values a type reserves for "not implemented" are those of the SunSpec Information Model
Specification; many devices that aren't SunSpec use the same.

Must never wrap, clip or saturate: a number a register can't hold is refused.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from config.addresses import ModbusAddress
from config.site import Point
from drivers.plan import BITS, Span

CODES: dict[str, str] = {
    "bool": "H", "uint16": "H", "int16": "h", "uint32": "I", "int32": "i",
    "uint64": "Q", "int64": "q", "float32": "f", "float64": "d",
}  # fmt: skip

SENTINELS: dict[str, tuple[float, ...]] = {
    "uint16": (0xFFFF,),
    "int16": (-0x8000,),
    "uint32": (0xFFFF_FFFF,),
    "int32": (-0x8000_0000,),
    "uint64": (0xFFFF_FFFF_FFFF_FFFF,),
    "int64": (-0x8000_0000_0000_0000,),
}


class Unrepresentable(ValueError):
    """A value that a register of this type can't hold."""


def sentinels_of(address: ModbusAddress) -> tuple[float, ...]:
    """The raw values this type reserves for "not implemented"; none for single bits."""
    return () if address.bit is not None else SENTINELS.get(address.type, ())


@dataclass(frozen=True, slots=True)
class _Layout:
    """Addresses of one byte order whose bytes don't overlap: unpacked in one call."""

    swapped: bool
    format: struct.Struct
    items: tuple[int, ...]
    bits: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Decoder:
    """Turns the registers of one span into (item, raw number) pairs."""

    count: int
    layouts: tuple[_Layout, ...]
    words: struct.Struct

    def decode(self, registers: Sequence[int]) -> Iterator[tuple[int, float]]:
        """Yield (item, raw). Raises struct.error unless exactly `count` registers came."""
        plain = self.words.pack(*registers)
        for layout in self.layouts:
            data = swap_bytes(plain) if layout.swapped else plain
            for item, bit, raw in zip(
                layout.items, layout.bits, layout.format.unpack_from(data), strict=True
            ):
                yield item, raw if bit is None else raw >> bit & 1


def compile_span(span: Span, addresses: Sequence[ModbusAddress]) -> Decoder:
    """Compile the decoder of a span of registers (not of coils)."""
    groups: dict[tuple[bool, str], list[list[int]]] = {}
    for item in span.items:
        rows = groups.setdefault(_order(addresses[item]), [])
        for row in rows:  # overlapping values can't share one struct
            last = addresses[row[-1]]
            if last.offset + last.words <= addresses[item].offset:
                row.append(item)
                break
        else:
            rows.append([item])
    layouts = [
        _layout(swapped, endian, row, span, addresses)
        for (swapped, endian), rows in groups.items()
        for row in rows
    ]
    return Decoder(span.count, tuple(layouts), struct.Struct(f">{span.count}H"))


def _order(address: ModbusAddress) -> tuple[bool, str]:
    """(swap the bytes of each word first, struct's byte order): ABCD, DCBA, BADC or CDAB."""
    swapped = address.word_order != address.byte_order
    return swapped, ">" if address.word_order == "big" else "<"


def _layout(
    swapped: bool, endian: str, row: list[int], span: Span, addresses: Sequence[ModbusAddress]
) -> _Layout:
    format_, at = endian, span.start
    for item in row:
        address = addresses[item]
        format_ += f"{2 * (address.offset - at)}x{CODES[address.type]}"
        at = address.offset + address.words
    bits = tuple(addresses[item].bit for item in row)
    return _Layout(swapped, struct.Struct(format_), tuple(row), bits)


def swap_bytes(data: bytes) -> bytes:
    """Exchange the two bytes of every 16-bit word."""
    swapped = bytearray(len(data))
    swapped[0::2] = data[1::2]
    swapped[1::2] = data[0::2]
    return bytes(swapped)


def to_raw(point: Point, value: float) -> float:
    """Return the raw number that stands for `value`, rounded to what the type can hold.

    `value` is in the quantity's unit. Rounding never leaves the point's envelope: where the
    nearest raw number is outside, its neighbour inside is taken. Raises Unrepresentable.
    """
    address = point.address
    assert isinstance(address, ModbusAddress)
    if not math.isfinite(value):
        raise Unrepresentable(f"{point.key}: {value} is not a number a register can hold")
    exact = (value - point.offset) / point.scale
    if address.type in ("float32", "float64"):
        raw = struct.unpack(">" + CODES[address.type], _pack(point, ">", exact))[0]
        return float(raw)
    raw = round(exact)
    if not _inside(point, raw * point.scale + point.offset):
        raw = math.floor(exact) if raw > exact else math.ceil(exact)
        if not _inside(point, raw * point.scale + point.offset) and _inside(point, value):
            raise Unrepresentable(
                f"{point.key}: no value near {value:g} fits its envelope at scale {point.scale:g}"
            )
    if raw in sentinels_of(address) or raw in point.sentinels:
        raise Unrepresentable(f"{point.key}: {value:g} would be the sentinel {raw}")
    _pack(point, ">", raw)
    return raw


def _inside(point: Point, value: float) -> bool:
    """Inside the envelope, a hair's breadth of float arithmetic allowed."""
    w = point.writable
    if w is None:
        return True
    hair = 1e-9 * max(1.0, abs(value))
    return w.min - hair <= value <= w.max + hair


def _pack(point: Point, endian: str, raw: float) -> bytes:
    address = point.address
    assert isinstance(address, ModbusAddress)
    try:
        data = struct.pack(endian + CODES[address.type], raw)
    except (struct.error, OverflowError):
        raise Unrepresentable(
            f"{point.key}: raw value {raw:g} does not fit a {address.type} at {address.kind}:"
            f"{address.offset}; check scale and envelope"
        ) from None
    return data


def to_registers(point: Point, value: float) -> tuple[int, ...]:
    """Encode `value` (in the quantity's unit) into the words to write. Raises Unrepresentable."""
    address = point.address
    assert isinstance(address, ModbusAddress)
    if address.kind in BITS:
        return (to_bit(point, value),)
    swapped, endian = _order(address)
    data = _pack(point, endian, to_raw(point, value))
    data = swap_bytes(data) if swapped else data
    return struct.unpack(f">{address.words}H", data)


def to_bit(point: Point, value: float) -> int:
    """Encode `value` for a coil: it must stand for exactly 0 or 1. Raises Unrepresentable."""
    raw = (value - point.offset) / point.scale
    if raw not in (0.0, 1.0):
        raise Unrepresentable(f"{point.key}: a coil takes 0 or 1, not {value:g}")
    return int(raw)
