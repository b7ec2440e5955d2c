"""Which Modbus requests write a set of values: all encoded before the first is sent.

Registers and coils that touch each other go as one request, so they change as one; bits of
one register are set with a mask (FC 22), which leaves the other bits to the device. Reading
a register, changing a bit and writing it back would undo what somebody else did meanwhile.

Must never send what a register can't hold, and never write anything but these points.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from config.addresses import ModbusAddress, RegisterKind
from config.site import Point
from drivers.contract import Refused
from drivers.modbus_codec import Unrepresentable, to_bit, to_registers


@dataclass(frozen=True, slots=True, order=True)
class _Words:
    """Neighbouring registers or coils and what they should hold."""

    kind: RegisterKind
    start: int
    words: tuple[int, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Mask:
    """Bits of one register: those to clear first, those to set."""

    clear: int
    set: int
    keys: tuple[str, ...]


Write = tuple[bytes, tuple[str, ...]]  # a request PDU, and whose values it carries


def encode_writes(
    points: Mapping[str, Point], values: Mapping[str, float | None], multiple: bool = False
) -> list[Write]:
    """The requests that write `values` (by key, in the quantity's unit), each with its keys.

    `multiple`: FC 15 and 16 for single values too. Raises Refused for what can't be written.
    """
    words: list[_Words] = []
    masks: dict[int, _Mask] = {}
    for key, value in values.items():
        point = points[key]
        address = point.address
        assert isinstance(address, ModbusAddress)
        if point.writable is None or address.kind not in ("coil", "holding"):
            raise Refused(f"{key}: {address.kind}:{address.offset} is not writable")
        if value is None:
            raise Refused(f"{key}: Modbus has no priority array to relinquish; write a value")
        try:
            if address.bit is not None:
                masks[address.offset] = _add_bit(masks.get(address.offset), point, value)
            else:
                found = to_registers(point, value)
                words.append(_Words(address.kind, address.offset, found, (key,)))
        except Unrepresentable as error:
            raise Refused(str(error)) from error
    requests = [(_request(run, multiple), run.keys) for run in _runs(words)]
    return requests + [_mask_request(offset, mask) for offset, mask in sorted(masks.items())]


def _add_bit(mask: _Mask | None, point: Point, value: float) -> _Mask:
    address = point.address
    assert isinstance(address, ModbusAddress)
    assert address.bit is not None
    mask = mask or _Mask(0, 0, ())
    bit = 1 << (address.bit ^ 8 if address.byte_order == "little" else address.bit)
    on = bit if to_bit(point, value) else 0
    return _Mask(mask.clear | bit, mask.set | on, (*mask.keys, point.key))


def _mask_request(offset: int, mask: _Mask) -> Write:
    return struct.pack(">BHHH", 22, offset, ~mask.clear & 0xFFFF, mask.set), mask.keys


def _runs(words: list[_Words]) -> list[_Words]:
    """Join what touches: each run is one request."""
    runs: list[_Words] = []
    for word in sorted(words):
        last = runs[-1] if runs else None
        if last and last.kind == word.kind and last.start + len(last.words) == word.start:
            runs[-1] = _Words(last.kind, last.start, last.words + word.words, last.keys + word.keys)
        else:
            runs.append(word)
    return runs


def _request(run: _Words, multiple: bool) -> bytes:
    """Function 5, 6, 15 or 16 (MODBUS Application Protocol V1.1b3, 6.5, 6.6, 6.11, 6.12)."""
    coils, count = run.kind == "coil", len(run.words)
    if count == 1 and not multiple:
        word = 0xFF00 * run.words[0] if coils else run.words[0]
        return struct.pack(">BHH", 5 if coils else 6, run.start, word)
    if coils:
        data = sum(bit << i for i, bit in enumerate(run.words)).to_bytes((count + 7) // 8, "little")
    else:
        data = struct.pack(f">{count}H", *run.words)
    return struct.pack(">BHHB", 15 if coils else 16, run.start, count, len(data)) + data
