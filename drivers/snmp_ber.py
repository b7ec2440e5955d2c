"""BER for SNMP, strict: builds requests once, and reads a reply only as the answer to one.

Decides whether a datagram is a well-formed SNMP reply, and what values its varbinds hold.
It never guesses: an integer without bytes, a length that does not fit, an OID that was not
asked for or bytes left over raise `Garbled`. Facts: X.690 (BER), RFC 3416 (PDUs, error
status, exceptions), RFC 2578 section 7 (types and their ranges).

OIDs are tuples of ints outside of this module and encoded bytes inside of it.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

Oid = tuple[int, ...]


class Absent(Enum):
    """Why a varbind has no value (RFC 3416 section 3)."""

    NO_SUCH_OBJECT = "the device has no such object"
    NO_SUCH_INSTANCE = "the device has no such instance"
    END_OF_MIB = "end of the device's MIB"
    NULL = "the device answered with no value"


Value = int | float | bytes | Oid | Absent


class Garbled(Exception):
    """A datagram that is no answer to what was asked. The message says in what way."""


GET, GET_NEXT, RESPONSE, SET, GET_BULK, REPORT = 0xA0, 0xA1, 0xA2, 0xA3, 0xA5, 0xA8
V1, V2C, V3 = 0, 1, 3

_INTEGER, _STRING, _NULL, _OID, _SEQUENCE = 0x02, 0x04, 0x05, 0x06, 0x30
_UNSIGNED_MAX_BYTES = {0x41: 5, 0x42: 5, 0x43: 5, 0x46: 9, 0x47: 5}  # counter gauge ticks c64 u32
_ABSENT = {
    _NULL: Absent.NULL, 0x80: Absent.NO_SUCH_OBJECT, 0x81: Absent.NO_SUCH_INSTANCE,
    0x82: Absent.END_OF_MIB,
}  # fmt: skip
_OPAQUE_FLOATS = {b"\x9f\x78\x04": ">f", b"\x9f\x79\x08": ">d"}  # net-snmp's opaque float, double
MAX_OID_LENGTH = 128  # RFC 2578 section 3.5


def tlv(tag: int, body: bytes) -> bytes:
    """Encode one element."""
    size = len(body)
    if size < 0x80:
        return bytes((tag, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + body


def integer(number: int, tag: int = _INTEGER) -> bytes:
    """Encode a signed integer in the fewest bytes."""
    bits = (number if number >= 0 else ~number).bit_length() + 1
    return tlv(tag, number.to_bytes((bits + 7) // 8, "big", signed=True))


def number_of_kind(number: int, tag: int) -> bytes:
    """Encode a number as the type an object has. Raises ValueError when it can't hold it."""
    limit = {_INTEGER: 1 << 31, 0x46: 1 << 64}.get(tag, 1 << 32)
    if tag != _INTEGER and tag not in _UNSIGNED_MAX_BYTES:
        raise ValueError(f"an object of type {tag:#04x} holds no number")
    low = -limit if tag == _INTEGER else 0
    if not low <= number < limit:
        raise ValueError(f"{number} does not fit its type")
    return integer(number, tag)


def octets(text: bytes) -> bytes:
    """Encode an OCTET STRING."""
    return tlv(_STRING, text)


def sequence(*parts: bytes) -> bytes:
    """Encode a SEQUENCE."""
    return tlv(_SEQUENCE, b"".join(parts))


def encode_oid(oid: Oid) -> bytes:
    """Encode an OID with its tag and length."""
    body = bytearray(_base128(oid[0] * 40 + oid[1]))
    for number in oid[2:]:
        body += _base128(number)
    return tlv(_OID, bytes(body))


def _base128(number: int) -> bytes:
    out = [number & 0x7F]
    while number := number >> 7:
        out.append(number & 0x7F | 0x80)
    return bytes(reversed(out))


def decode_oid(body: bytes) -> Oid:
    """Read the bytes of an OID (without tag and length). Raises Garbled."""
    numbers: list[int] = []
    number = 0
    for byte in body:
        number = number << 7 | byte & 0x7F
        if number > 0xFFFFFFFF + 80:
            raise Garbled("a sub-identifier above 32 bits")
        if byte & 0x80:
            continue
        numbers.append(number)
        number = 0
    if not numbers or body[-1] & 0x80 or len(numbers) >= MAX_OID_LENGTH:
        raise Garbled("an OID that is empty, unfinished or too long")
    first = min(numbers[0] // 40, 2)
    return (first, numbers[0] - first * 40, *numbers[1:])


def pdu(kind: int, request_id: int, first: int, second: int, varbinds: bytes) -> bytes:
    """Encode a PDU. `first`, `second`: error status and index, or the two numbers of GETBULK."""
    return tlv(kind, integer(request_id) + integer(first) + integer(second) + varbinds)


def asked(oids: Sequence[bytes]) -> bytes:
    """Encode the varbind list of a question: each OID with NULL."""
    return sequence(*(tlv(_SEQUENCE, oid + b"\x05\x00") for oid in oids))


def header(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Read tag and length at `at`: (tag, start of body, end of body), inside `end`."""
    try:
        tag, size = data[at], data[at + 1]
        at += 2
        if size & 0x80:
            count = size & 0x7F
            if not 1 <= count <= 4:
                raise Garbled("an indefinite or absurd length")
            size = int.from_bytes(data[at : at + count], "big")
            at += count
    except IndexError:
        raise Garbled("cut short") from None
    if at + size > end:
        raise Garbled("cut short")
    return tag, at, at + size


def expect(data: bytes, at: int, end: int, tag: int) -> tuple[int, int]:
    """Read a header that must have `tag`: (start, end) of its body."""
    found, start, stop = header(data, at, end)
    if found != tag:
        raise Garbled(f"tag {found:#04x} where {tag:#04x} belongs")
    return start, stop


def read_integer(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Read an INTEGER of at most 32 bits: (number, position after it)."""
    start, stop = expect(data, at, end, _INTEGER)
    if not 1 <= stop - start <= 4:
        raise Garbled(f"an integer of {stop - start} bytes")
    return int.from_bytes(data[start:stop], "big", signed=True), stop


def read_octets(data: bytes, at: int, end: int) -> tuple[bytes, int]:
    """Read an OCTET STRING: (bytes, position after it)."""
    start, stop = expect(data, at, end, _STRING)
    return data[start:stop], stop


@dataclass(frozen=True, slots=True)
class Reply:
    """A response PDU: what it answers, its error, and where its varbinds lie in `data`."""

    data: bytes
    request_id: int
    error: int
    index: int
    start: int
    end: int
    kind: int = RESPONSE


def read_pdu(data: bytes, at: int, end: int) -> Reply:
    """Read the PDU that fills `data[at:end]`. Raises Garbled."""
    kind, at, stop = header(data, at, end)
    if kind not in (RESPONSE, REPORT):
        raise Garbled(f"PDU {kind:#04x} is no response")
    if stop != end:
        raise Garbled("bytes after the PDU")
    request_id, at = read_integer(data, at, end)
    error, at = read_integer(data, at, end)
    index, at = read_integer(data, at, end)
    start, stop = expect(data, at, end, _SEQUENCE)
    if stop != end:
        raise Garbled("bytes after the varbinds")
    return Reply(data, request_id, error, index, start, stop, kind)


def answers(reply: Reply, oids: Sequence[bytes]) -> list[Value]:
    """The value of each encoded OID, which must stand in the reply in this order and alone."""
    data, at, end = reply.data, reply.start, reply.end
    values: list[Value] = []
    for oid in oids:
        start, stop = expect(data, at, end, _SEQUENCE)
        if not data.startswith(oid, start):
            raise Garbled("an OID that was not asked for")
        values.append(_value(data, start + len(oid), stop))
        at = stop
    if at != end:
        raise Garbled("more varbinds than asked for")
    return values


def tags(reply: Reply, oids: Sequence[bytes]) -> list[int]:
    """The BER tag of each value, checked as `answers` does."""
    answers(reply, oids)
    found: list[int] = []
    at = reply.start
    for oid in oids:
        start, stop = expect(reply.data, at, reply.end, _SEQUENCE)
        found.append(reply.data[start + len(oid)])
        at = stop
    return found


def varbinds(reply: Reply) -> list[tuple[Oid, Value]]:
    """All varbinds of a reply, as they stand."""
    data, at, end = reply.data, reply.start, reply.end
    found: list[tuple[Oid, Value]] = []
    while at < end:
        start, stop = expect(data, at, end, _SEQUENCE)
        name, after = expect(data, start, stop, _OID)
        found.append((decode_oid(data[name:after]), _value(data, after, stop)))
        at = stop
    return found


def _value(data: bytes, at: int, end: int) -> Value:
    """The value that fills `data[at:end]`."""
    tag, start, stop = header(data, at, end)
    if stop != end:
        raise Garbled("bytes after a value")
    size = stop - start
    if tag == _INTEGER:
        if not 1 <= size <= 4:
            raise Garbled(f"an integer of {size} bytes")
        return int.from_bytes(data[start:stop], "big", signed=True)
    if tag in _UNSIGNED_MAX_BYTES:
        limit = _UNSIGNED_MAX_BYTES[tag]
        if not 1 <= size <= limit or (size == limit and data[start] != 0):
            raise Garbled(f"an unsigned integer of {size} bytes")
        return int.from_bytes(data[start:stop], "big")
    if tag in _ABSENT:
        if size:
            raise Garbled("an exception with a body")
        return _ABSENT[tag]
    if tag in (_STRING, 0x40):  # 0x40: IpAddress
        return data[start:stop]
    if tag == _OID:
        return decode_oid(data[start:stop])
    if tag == 0x44:
        return _opaque(data[start:stop])
    raise Garbled(f"a value of unknown type {tag:#04x}")


def _opaque(body: bytes) -> float | bytes:
    form = _OPAQUE_FLOATS.get(body[:3])
    if form is None:
        return body
    if len(body) != 3 + struct.calcsize(form):
        raise Garbled("an opaque float of the wrong size")
    number: float = struct.unpack(form, body[3:])[0]
    return number
