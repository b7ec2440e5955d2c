"""Just enough BER for an SNMP v1/v2c agent: reading requests, writing responses.

Own code, shared with nobody: the drivers use other engines. Raises BerError for anything
that is not a well-formed message; never reads beyond the datagram.
"""

from dataclasses import dataclass

INTEGER, OCTETS, NULL, OID, SEQUENCE = 0x02, 0x04, 0x05, 0x06, 0x30
TICKS = 0x43
NO_SUCH_OBJECT, END_OF_MIB = 0x80, 0x82
GET, GET_NEXT, RESPONSE, SET, GET_BULK = 0xA0, 0xA1, 0xA2, 0xA3, 0xA5


class BerError(Exception):
    """Not a message this agent understands."""


@dataclass(frozen=True, slots=True)
class Request:
    """A decoded request. a, b: error status and index, or non-repeaters and max-repetitions."""

    version: int
    community: bytes
    kind: int
    request_id: int
    a: int
    b: int
    names: list[tuple[int, ...]]
    raw_bindings: bytes


def tlv(tag: int, body: bytes) -> bytes:
    """Return tag, length and body."""
    n = len(body)
    if n < 0x80:
        return bytes((tag, n)) + body
    size = n.to_bytes((n.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(size))) + size + body


def integer(value: int, tag: int = INTEGER) -> bytes:
    """Return a (signed) integer; for unsigned types a leading zero keeps it positive."""
    length = max(1, (value + (value < 0)).bit_length() // 8 + 1)
    return tlv(tag, value.to_bytes(length, "big", signed=True))


def oid(name: tuple[int, ...]) -> bytes:
    """Return an object identifier."""
    out = bytearray()
    for part in (name[0] * 40 + name[1], *name[2:]):  # the first two are one number
        if part < 0x80:
            out.append(part)
            continue
        groups = [part & 0x7F]
        part >>= 7
        while part:
            groups.append(part & 0x7F | 0x80)
            part >>= 7
        out += bytes(reversed(groups))
    return tlv(OID, bytes(out))


class Reader:
    """Takes elements off the front of a buffer."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> bool:
        """True while there is more."""
        return self._at < len(self._data)

    def take(self, *tags: int) -> tuple[int, bytes]:
        """Return (tag, body) of the next element, whose tag must be one of `tags` if any."""
        data, at = self._data, self._at
        if at + 2 > len(data):
            raise BerError("cut short")
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            count = length & 0x7F
            if not 1 <= count <= 4 or at + count > len(data):
                raise BerError("bad length")
            length = int.from_bytes(data[at : at + count], "big")
            at += count
        if at + length > len(data):
            raise BerError("cut short")
        if tags and tag not in tags:
            raise BerError(f"unexpected tag {tag:#x}")
        self._at = at + length
        return tag, data[at : at + length]

    def integer(self) -> int:
        """Return the next element as an integer of at most 8 bytes."""
        _, body = self.take(INTEGER)
        if not 1 <= len(body) <= 8:
            raise BerError("bad integer")
        return int.from_bytes(body, "big", signed=True)


def read_oid(body: bytes) -> tuple[int, ...]:
    """Return the numbers of an object identifier."""
    if not body or len(body) > 256 or body[-1] & 0x80:
        raise BerError("bad object identifier")
    parts: list[int] = []
    part = 0
    for byte in body:
        part = part << 7 | byte & 0x7F
        if not byte & 0x80:
            parts.append(part)
            part = 0
    first = min(parts[0] // 40, 2)
    return (first, parts[0] - 40 * first, *parts[1:])


def read_request(datagram: bytes) -> Request:
    """Decode a v1 or v2c request. Raises BerError."""
    message = Reader(Reader(datagram).take(SEQUENCE)[1])
    version = message.integer()
    if version not in (0, 1):
        raise BerError("not v1 or v2c")
    _, community = message.take(OCTETS)
    kind, body = message.take(GET, GET_NEXT, SET, GET_BULK)
    pdu = Reader(body)
    request_id, a, b = pdu.integer(), pdu.integer(), pdu.integer()
    _, raw = pdu.take(SEQUENCE)
    bindings = Reader(raw)
    names = []
    while bindings.left:
        binding = Reader(bindings.take(SEQUENCE)[1])
        names.append(read_oid(binding.take(OID)[1]))
    return Request(version, community, kind, request_id, a, b, names, raw)


def write_response(request: Request, status: int, index: int, bindings: bytes) -> bytes:
    """Return the response to a request, with encoded bindings."""
    pdu = integer(request.request_id) + integer(status) + integer(index)
    pdu += tlv(SEQUENCE, bindings)
    body = integer(request.version) + tlv(OCTETS, request.community) + tlv(RESPONSE, pdu)
    return tlv(SEQUENCE, body)
