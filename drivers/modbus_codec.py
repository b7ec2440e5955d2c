"""Between Modbus registers and raw numbers: compiled decoders, and encoding for writes. Pure.

Facts: registers are big-endian on the wire (MODBUS Application Protocol V1.1b3, 4.2); the
order of the words of a longer value, and of the bytes within a word, is the vendor's. The
values a type reserves for "not implemented" are those of the SunSpec Information Model
Specification; many devices that aren't SunSpec use the same.

Must never wrap, clip or saturate: a number a register can't hold is refused.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
class _Group:
    """Values of one type: where each of their bytes lies in the reply, the most significant first.

    places (n, size): positions in the data; shifts (n,): which bit is meant, None: the whole.
    """

    items: NDArray[np.intp] | slice
    places: NDArray[np.intp]
    dtype: np.dtype[Any]
    shifts: NDArray[np.uint16] | None

    def take(self, data: NDArray[np.uint8], raws: NDArray[np.float64]) -> None:
        found = data[self.places].view(self.dtype)[:, 0]
        raws[self.items] = found if self.shifts is None else found >> self.shifts & 1


@dataclass(frozen=True, slots=True)
class Decoder:
    """Turns the data bytes of one reply into raw numbers, at the positions of its items."""

    size: int
    groups: tuple[_Group, ...]

    def decode(self, data: bytes, raws: NDArray[np.float64]) -> None:
        """Write into `raws`. The frame was checked: another size is a bug (AssertionError)."""
        if len(data) != self.size:
            raise AssertionError(f"{len(data)} bytes of data for a decoder of {self.size}")
        read = np.frombuffer(data, np.uint8)
        with np.errstate(invalid="ignore"):  # a signalling NaN is judged like any other
            for group in self.groups:
                group.take(read, raws)


def compile_span(span: Span, addresses: Sequence[ModbusAddress]) -> Decoder:
    """Compile the decoder of a span."""
    if span.kind in BITS:
        offsets = [addresses[item].offset - span.start for item in span.items]
        places = [[offset // 8] for offset in offsets]
        shifts = np.array([offset % 8 for offset in offsets], np.uint16)
        return Decoder((span.count + 7) // 8, (_group(span.items, places, np.dtype("u1"), shifts),))
    kinds: dict[tuple[str, bool], list[int]] = {}
    for item in span.items:
        kinds.setdefault((addresses[item].type, addresses[item].bit is not None), []).append(item)
    groups = []
    for (type_, single), items in kinds.items():
        places = [_places(addresses[item], span.start) for item in items]
        bits = np.array([addresses[i].bit for i in items], np.uint16) if single else None
        groups.append(_group(items, places, np.dtype(">" + CODES[type_]), bits))
    return Decoder(2 * span.count, tuple(groups))


def _group(
    items: Sequence[int], places: list[list[int]], dtype: np.dtype[Any], bits: Any
) -> _Group:
    """Items in one run are written as a slice, which is faster than by index."""
    first, last = items[0], items[-1] + 1
    run = list(items) == list(range(first, last))
    return _Group(
        slice(first, last) if run else np.array(items, np.intp),
        np.array(places, np.intp), dtype, bits,
    )  # fmt: skip


def _places(address: ModbusAddress, start: int) -> list[int]:
    """Where the bytes of a value lie in a span, the most significant first."""
    words = range(address.offset - start, address.offset - start + address.words)
    pair = (0, 1) if address.byte_order == "big" else (1, 0)
    ordered = words if address.word_order == "big" else reversed(words)
    return [2 * word + byte for word in ordered for byte in pair]


def _order(address: ModbusAddress) -> tuple[bool, str]:
    """(swap the bytes of each word first, struct's byte order): ABCD, DCBA, BADC or CDAB."""
    swapped = address.word_order != address.byte_order
    return swapped, ">" if address.word_order == "big" else "<"


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
