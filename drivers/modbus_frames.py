"""Checks that a Modbus reply answers its request, on the raw bytes. Pure.

Every byte that can be known in advance is compared before a value is looked at: transaction,
protocol, length, unit, function code, byte count, echoed address and values, CRC.

Facts: MODBUS Application Protocol V1.1b3 chapter 6 (PDUs), MODBUS Messaging on TCP/IP
V1.0b 3.1.3 (MBAP header), MODBUS over Serial Line V1.02 2.5.1 (RTU frame).

Must never accept in doubt: a wrong reply is dropped together with its connection.
"""

import struct
from dataclasses import dataclass
from enum import Enum

READ_BITS = frozenset({1, 2})
READ_REGISTERS = frozenset({3, 4})
# How much of the request's PDU a write's reply repeats, by function code.
ECHO_BYTES = {5: 5, 6: 5, 15: 5, 16: 5, 22: 7}
IDENTIFY = 43  # with MEI type 14: read device identification, 6.21
_MAX_PDU = 253
_MBAP = 7
_HEAD = struct.Struct(">HHHB")  # transaction, protocol, bytes that follow, unit


class Framing(Enum):
    """How a PDU is wrapped on the wire."""

    TCP = "tcp"  # MBAP header
    RTU = "rtu"  # unit, PDU, CRC: serial lines, and those tunnelled over TCP


@dataclass(frozen=True, slots=True)
class Incomplete:
    """Right so far; more bytes must come."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole reply, and it answers the request (an exception reply does, too)."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """Not an answer to the request: why."""

    reason: str


Check = Incomplete | Answer | Wrong


def check_reply(framing: Framing, request: bytes, reply: bytes) -> Check:
    """Compare the bytes received so far with the request that was sent."""
    return (_check_tcp if framing is Framing.TCP else _check_rtu)(request, reply)


def _check_tcp(request: bytes, reply: bytes) -> Check:
    head = reply[:_MBAP]
    if head[:2] != request[: min(2, len(head))]:
        return Wrong(f"transaction {head[:2].hex()}, asked with {request[:2].hex()}")
    if any(head[2:4]):
        return Wrong(f"protocol id {head[2:4].hex()} is not Modbus")
    if len(head) < _MBAP:
        return Incomplete()
    length = int.from_bytes(head[4:6], "big")
    if not 3 <= length <= _MAX_PDU + 1:
        return Wrong(f"length {length} in the header is impossible")
    if head[6] != request[6]:
        return Wrong(f"unit {head[6]}, asked unit {request[6]}")
    return _check_size(request[_MBAP:], reply[_MBAP:], length - 1)


def _check_rtu(request: bytes, reply: bytes) -> Check:
    if not reply:
        return Incomplete()
    if reply[0] != request[0]:
        return Wrong(f"unit {reply[0]}, asked unit {request[0]}")
    if len(reply) < 2:
        return Incomplete()
    body = 2 if reply[1] & 0x80 else _rtu_pdu(request[1:-2], reply[1:])
    if body is None:
        return Incomplete()
    verdict = _check_size(request[1:-2], reply[1:], body, tail=2)
    if verdict == Answer() and crc16(reply[:-2]) != reply[-2:]:
        return Wrong(f"CRC {reply[-2:].hex()}, expected {crc16(reply[:-2]).hex()}")
    return verdict


def _rtu_pdu(asked: bytes, pdu: bytes) -> int | None:
    """Bytes of a normal reply's PDU; None: not known yet (an identification says as it goes)."""
    if asked[0] != IDENTIFY or pdu[0] != IDENTIFY:
        return expected_pdu(asked)
    if len(pdu) < 7:
        return None
    at = 7
    for _ in range(pdu[6]):
        if at + 2 > len(pdu):
            return None
        at += 2 + pdu[at + 1]
    return at


def _check_size(asked: bytes, pdu: bytes, size: int, tail: int = 0) -> Check:
    """`size`: bytes of the PDU as the frame says; `tail`: bytes that follow it."""
    if pdu and (wrong := _wrong_start(asked, pdu, size)):
        return wrong
    if len(pdu) < size + tail:
        return Incomplete()
    if len(pdu) > size + tail:
        return Wrong(f"{len(pdu) - size - tail} bytes too many after the reply")
    return Answer()


def _wrong_start(asked: bytes, pdu: bytes, size: int) -> Wrong | None:
    function = asked[0]
    if pdu[0] == function | 0x80:
        return None if size == 2 else Wrong(f"exception reply of {size} bytes")
    if pdu[0] != function:
        return Wrong(f"function code {pdu[0]}, asked {function}")
    if function == IDENTIFY:
        return _wrong_identity(asked, pdu, size)
    if size != expected_pdu(asked):
        return Wrong(f"{size} bytes for function {function}, expected {expected_pdu(asked)}")
    if function in ECHO_BYTES:
        echo = asked[: ECHO_BYTES[function]]
        if pdu[:size] != echo[: len(pdu)]:
            return Wrong(f"echo {pdu[:size].hex()}, expected {echo.hex()}")
    elif len(pdu) > 1 and pdu[1] != size - 2:
        return Wrong(f"byte count {pdu[1]}, expected {size - 2}")
    return None


def _wrong_identity(asked: bytes, pdu: bytes, size: int) -> Wrong | None:
    """MEI type and read code are echoed; the objects must fill the reply exactly."""
    if pdu[1:3] != asked[1:3][: len(pdu[1:3])]:
        return Wrong(f"MEI type and code {pdu[1:3].hex()}, asked {asked[1:3].hex()}")
    if len(pdu) >= size and _rtu_pdu(asked, pdu[:size]) != size:
        return Wrong("objects that don't fill the identification")
    return None


def expected_pdu(asked: bytes) -> int:
    """Bytes that the PDU of a normal reply to this request PDU must have."""
    function = asked[0]
    if function in ECHO_BYTES:
        return ECHO_BYTES[function]
    count = int.from_bytes(asked[3:5], "big")
    return 2 + ((count + 7) // 8 if function in READ_BITS else 2 * count)


def make_frame(framing: Framing, tid: int, unit: int, pdu: bytes) -> bytes:
    """A request as it goes on the wire. `tid`: the transaction, which RTU has no room for."""
    if framing is Framing.TCP:
        return _HEAD.pack(tid, 0, len(pdu) + 1, unit) + pdu
    body = bytes((unit,)) + pdu
    return body + crc16(body)


def pdu_of(framing: Framing, frame: bytes) -> bytes:
    """The PDU inside a frame that was checked."""
    return frame[_MBAP:] if framing is Framing.TCP else frame[1:-2]


def crc16(data: bytes) -> bytes:
    """The CRC of an RTU frame, low byte first (MODBUS over Serial Line V1.02, 6.2.2)."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc.to_bytes(2, "little")


def _crc_of(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0xA001 if byte & 1 else 0)
    return byte


_CRC = tuple(map(_crc_of, range(256)))
