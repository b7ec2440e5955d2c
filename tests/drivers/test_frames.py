"""The checks on raw replies, and the BACnet decoders, under arbitrary bytes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.bacnet_codec import (
    Failure,
    Ref,
    decode_error,
    decode_read,
    decode_read_multiple,
    encode_read_multiple,
)
from drivers.bacnet_tags import Malformed
from drivers.modbus_frames import Answer, Framing, Incomplete, Wrong, check_reply, crc16, make_frame
from drivers.workload import parse_state
from tests.drivers.modbus_peer import frame

READ = b"\x12\x34\0\0\0\6\x07\x03\x00\x10\x00\x02"
READ_REPLY = frame(b"\x12\x34", 7, b"\x03\x04\xaa\xbb\xcc\xdd")
RTU_READ = READ[6:] + crc16(READ[6:])
RTU_REPLY = READ_REPLY[6:] + crc16(READ_REPLY[6:])
CASES = [(Framing.TCP, READ, READ_REPLY), (Framing.RTU, RTU_READ, RTU_REPLY)]


def test_crc_is_the_one_of_the_specification() -> None:
    # MODBUS over Serial Line V1.02, appendix B: 02 07 gives 0x1241 (low byte 41 first)
    assert crc16(b"\x02\x07") == b"\x41\x12"


@pytest.mark.parametrize(("framing", "request_", "reply"), CASES, ids=["tcp", "rtu"])
def test_every_part_of_a_right_reply_is_incomplete_and_the_whole_answers(
    framing: Framing, request_: bytes, reply: bytes
) -> None:
    for size in range(len(reply)):
        assert check_reply(framing, request_, reply[:size]) == Incomplete()
    assert check_reply(framing, request_, reply) == Answer()
    assert isinstance(check_reply(framing, request_, reply + b"\0"), Wrong)
    tid, unit = (0x1234, 7) if framing is Framing.TCP else (0, 7)
    assert make_frame(framing, tid, unit, b"\x03\x00\x10\x00\x02") == request_


@pytest.mark.parametrize(("framing", "request_", "reply"), CASES, ids=["tcp", "rtu"])
@given(st.integers(0, 7), st.integers(1, 255))
def test_a_changed_header_byte_is_never_an_answer(
    framing: Framing, request_: bytes, reply: bytes, at: int, flip: int
) -> None:
    at = min(at, 1 if framing is Framing.RTU else 7)
    changed = bytearray(reply)
    changed[at] ^= flip
    verdict = check_reply(framing, request_, bytes(changed))
    if framing is Framing.RTU and at == 1 and flip == 0x80:
        assert isinstance(verdict, Wrong)  # an exception reply of the wrong size
    else:
        assert verdict != Answer()


@given(st.sampled_from(CASES), st.binary(max_size=300))
def test_arbitrary_bytes_never_raise(case: tuple[Framing, bytes, bytes], data: bytes) -> None:
    framing, request, reply = case
    verdict = check_reply(framing, request, data)
    if verdict == Answer():
        assert data[: -6 if len(data) > 9 else None][:2] == reply[:2] or data[1] & 0x80


REFS = (Ref(0, 1, 85), Ref(0, 1, 111), Ref(2, 4_194_302, 87))


def test_read_multiple_request_is_the_standards_own() -> None:
    # one specification an object: 0C oid 1E (09 property)... 1F
    assert encode_read_multiple(REFS).hex() == "0c000000011e0955096f1f" + "0c00bffffe1e09571f"


@settings(max_examples=300)
@given(st.binary(max_size=120))
def test_bacnet_decoders_only_ever_say_malformed(data: bytes) -> None:
    for decode in (decode_read, decode_read_multiple, decode_error):
        try:
            decode(data)
        except Malformed:
            continue


RIGHT = bytes.fromhex("0c000000011e29554e4441a800004f296f5e910291205f1f")


@settings(max_examples=300)
@given(st.integers(0, len(RIGHT) - 1), st.integers(1, 255), st.integers(0, len(RIGHT)))
def test_bacnet_decoders_survive_flips_and_cuts(at: int, flip: int, cut: int) -> None:
    changed = bytearray(RIGHT)
    changed[at] ^= flip
    for data in (bytes(changed), RIGHT[:cut], bytes(changed[:cut])):
        try:
            decode_read_multiple(data)
        except Malformed:
            continue


def test_bacnet_right_reply() -> None:
    (first, items), (second, failure) = decode_read_multiple(RIGHT)
    assert (first, second) == (Ref(0, 1, 85), Ref(0, 1, 111))
    assert [getattr(i, "number", None) for i in items] == [21.0]  # type: ignore[union-attr]
    assert failure == Failure(2, 32)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_router_state_only_ever_raises_value_error(data: bytes) -> None:
    try:
        state = parse_state(data)
    except ValueError:
        return
    assert all(isinstance(v, float | str) for v in state.values())
