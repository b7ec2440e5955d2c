"""The SNMP codec against any bytes at all, and against published vectors."""

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.contract import Permanent
from drivers.snmp_ber import (
    Absent,
    Garbled,
    answers,
    decode_oid,
    encode_oid,
    header,
    integer,
    number_of_kind,
    tlv,
)
from drivers.snmp_privacy import Aes, localized_key
from drivers.snmp_session import Community
from drivers.snmp_usm import Usm
from tests.drivers.snmp_peer import Request, num, oid, reply

OIDS = [(1, 3, 6, 1, 4, 1, 99999, 1, n) for n in (1, 2)]
NAMES = [".".join(map(str, o)) for o in OIDS]
GOOD = reply(
    Request(0xA0, 77, NAMES, [], b"public", 1), [(NAMES[0], num(230)), (NAMES[1], num(-5))]
)


def values(data: bytes) -> list[object]:
    found = Community(1, b"public").reply(data, 77)
    return list(answers(found, [encode_oid(o) for o in OIDS]))


def test_a_good_reply_is_read() -> None:
    assert values(GOOD) == [230, -5]


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_in_order(data: bytes) -> None:
    with contextlib.suppress(Garbled):
        values(data)


@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4)
)
def test_a_bent_reply_is_refused_or_holds_values(bends: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for place, byte in bends:
        data[place] = byte
    with contextlib.suppress(Garbled):
        assert all(isinstance(v, int | float | bytes | tuple | Absent) for v in values(bytes(data)))


@given(st.integers(0, len(GOOD) - 1))
def test_a_cut_reply_is_refused(size: int) -> None:
    with pytest.raises(Garbled):
        values(GOOD[:size])


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_over_v3(data: bytes) -> None:
    async def refuse() -> None:
        for usm in (
            Usm("u"),
            Usm("u", ("sha256", b"sign-here-12"), Aes("aes128", b"hide-here-12")),
        ):
            for datagram in (data, b"\x30\x82\x01\x00" + data):
                with contextlib.suppress(Garbled, Permanent):
                    usm.reply(datagram, 77)

    asyncio.run(refuse())


@given(st.lists(st.integers(0, 2**32 - 1), max_size=20), st.integers(0, 2), st.integers(0, 39))
def test_oids_survive_and_match_the_tests_own_encoding(rest: list[int], one: int, two: int) -> None:
    whole = (one, two, *rest)
    encoded = encode_oid(whole)
    _, start, stop = header(encoded, 0, len(encoded))
    assert decode_oid(encoded[start:stop]) == whole
    if rest:
        assert encoded == oid(".".join(map(str, whole)))


@given(st.integers(-(2**31), 2**31 - 1))
def test_integers_take_the_fewest_bytes(number: int) -> None:
    assert integer(number) == num(number)


@pytest.mark.parametrize(
    ("number", "kind", "body"),
    [(-1, 2, b"\xff"), (128, 2, b"\x00\x80"), (2**32 - 1, 0x42, b"\x00\xff\xff\xff\xff"),
     (0, 0x42, b"\x00"), (2**64 - 1, 0x46, b"\x00" + b"\xff" * 8)],
)  # fmt: skip
def test_a_number_is_written_as_its_objects_type(number: int, kind: int, body: bytes) -> None:
    assert number_of_kind(number, kind) == tlv(kind, body)


@pytest.mark.parametrize(
    ("number", "kind"), [(2**31, 2), (-1, 0x42), (2**32, 0x41), (1, 0x04), (1, 0x06), (2**64, 0x46)]
)
def test_a_number_its_object_can_not_hold_is_refused(number: int, kind: int) -> None:
    with pytest.raises(ValueError, match=r"fit|no number"):
        number_of_kind(number, kind)


# RFC 3414 A.3.1 and A.3.2: password "maplesyrup", engine 00 .. 00 02.
@pytest.mark.parametrize(
    ("signing", "key"),
    [
        ("md5", "526f5eed9fcce26f8964c2930787d82b"),
        ("sha1", "6695febc9288e36282235fc7151f128497b38f3f"),
    ],
)
def test_keys_are_those_of_the_rfc(signing: str, key: str) -> None:
    engine = bytes(11) + b"\x02"
    assert localized_key(signing, b"maplesyrup", engine).hex() == key
