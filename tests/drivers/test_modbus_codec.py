"""Decoding and encoding of registers, against numbers worked out by hand and back again."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.addresses import REGISTER_WORDS, ModbusAddress
from drivers.modbus_codec import Unrepresentable, compile_span, to_raw, to_registers
from drivers.plan import plan_reads
from tests.drivers.make import point, register, writable


def decode_all(addresses: list[ModbusAddress], words: list[int]) -> list[float]:
    (span,) = plan_reads(addresses)
    raws = np.full(len(addresses), np.nan)
    compile_span(span, addresses).decode(b"".join(w.to_bytes(2, "big") for w in words), raws)
    return [float(raw) for raw in raws]


def decode_one(address: ModbusAddress, words: list[int]) -> float:
    (raw,) = decode_all([address], words)
    return raw


# 0x12345678 = 305419896 in the four orders vendors use, and pi as float32 (40490FDB).
ORDERS = [
    ("ABCD", "big", "big", [0x1234, 0x5678], [0x4049, 0x0FDB]),
    ("CDAB", "little", "big", [0x5678, 0x1234], [0x0FDB, 0x4049]),
    ("BADC", "big", "little", [0x3412, 0x7856], [0x4940, 0xDB0F]),
    ("DCBA", "little", "little", [0x7856, 0x3412], [0xDB0F, 0x4940]),
]


@pytest.mark.parametrize(("name", "word", "byte", "whole", "pi"), ORDERS)
def test_word_and_byte_orders(
    name: str, word: str, byte: str, whole: list[int], pi: list[int]
) -> None:
    orders = {"word_order": word, "byte_order": byte}
    assert decode_one(register("input:0", "uint32", **orders), whole) == 305419896
    assert decode_one(register("input:0", "float32", **orders), pi) == pytest.approx(math.pi)
    assert decode_one(register("input:0", "uint16", **orders), [0x1234]) == (
        0x1234 if byte == "big" else 0x3412
    )


@pytest.mark.parametrize(
    ("type_", "words", "value"),
    [
        ("uint16", [0xFFFE], 65534),
        ("int16", [0xFFFE], -2),
        ("uint32", [0xFFFF, 0xFFFE], 4294967294),
        ("int32", [0xFFFF, 0xFFFE], -2),
        ("uint64", [0, 1, 0, 0], 4294967296),
        ("int64", [0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE], -2),
        ("float32", [0xC2C8, 0x0000], -100.0),
        ("float64", [0xC059, 0, 0, 0], -100.0),
    ],
)
def test_types(type_: str, words: list[int], value: float) -> None:
    assert decode_one(register("holding:0", type_), words) == value


@pytest.mark.parametrize("bit", range(16))
def test_bits_of_one_register_are_read_apart(bit: int) -> None:
    addresses = [register("holding:7", "bool", bit=b) for b in range(16)]
    assert decode_all(addresses, [1 << bit]) == [float(i == bit) for i in range(16)]


@pytest.mark.parametrize("order", ["big", "little"])
def test_a_bit_is_counted_within_the_register_in_its_own_byte_order(order: str) -> None:
    assert decode_one(register("holding:7", "bool", bit=3, byte_order=order), [0x0008]) == float(
        order == "big"
    )
    assert decode_one(register("holding:7", "bool", bit=3, byte_order=order), [0x0800]) == float(
        order == "little"
    )


def test_coils_are_read_bit_by_bit_from_the_lowest() -> None:
    addresses = [register(f"coil:{at}", "bool") for at in (20, 3, 11)]
    (span,) = plan_reads(addresses)
    assert (span.start, span.count) == (3, 18)
    raws = np.full(3, np.nan)
    compile_span(span, addresses).decode(bytes((0b1, 0b1, 0b0)), raws)
    assert raws.tolist() == [0.0, 1.0, 1.0]


def test_values_that_overlap_are_read_each_by_itself() -> None:
    addresses = [register("input:0", "uint32"), register("input:0"), register("input:1")]
    assert decode_all(addresses, [1, 2]) == [65538.0, 1.0, 2.0]


orders = st.sampled_from(["big", "little"])
types = st.sampled_from([t for t in REGISTER_WORDS if t != "bool"])


@given(st.lists(st.tuples(types, orders, orders), min_size=1, max_size=12), st.randoms())
def test_a_mixed_span_decodes_like_its_parts(
    parts: list[tuple[str, str, str]], random: object
) -> None:
    addresses, at = [], 0
    for type_, word, byte in parts:
        addresses.append(register(f"input:{at}", type_, word_order=word, byte_order=byte))
        at += REGISTER_WORDS[type_]
    words = [random.randrange(65536) for _ in range(at)]  # type: ignore[attr-defined]
    found = decode_all(addresses, words)
    for i, address in enumerate(addresses):
        alone = decode_one(address, words[address.offset : address.offset + address.words])
        assert found[i] == alone or math.isnan(alone)


@given(types, orders, orders, st.integers(-30_000, 30_000), st.sampled_from([1.0, 0.1, -0.5, 0.25]))
def test_what_is_written_reads_back(
    type_: str, word: str, byte: str, raw: int, scale: float
) -> None:
    address = register("holding:0", type_, word_order=word, byte_order=byte)
    p = point("p", address, scale=scale, offset=5.0, writable=writable(-1e9, 1e9))
    value = raw * scale + 5.0
    if type_.startswith("uint") and raw < 0:
        with pytest.raises(Unrepresentable):
            to_registers(p, value)
        return
    assert decode_one(address, list(to_registers(p, value))) == pytest.approx(raw)


@given(st.floats(16.0, 27.0), st.sampled_from([0.1, 0.3, 0.5, 1.0, 5 / 90]))
def test_rounding_is_near_and_never_leaves_the_envelope(value: float, scale: float) -> None:
    p = point("p", register("holding:0", "int16"), scale=scale, writable=writable(16.0, 27.0))
    held = to_raw(p, value) * scale
    assert abs(held - value) <= scale
    assert 16.0 - 1e-6 <= held <= 27.0 + 1e-6


def test_rounding_goes_inside_where_the_nearest_is_outside() -> None:
    p = point("p", register("holding:0"), scale=0.5, writable=writable(16.3, 26.8))
    assert to_raw(p, 26.8) * 0.5 == 26.5  # 27.0 is nearer, and outside
    assert to_raw(p, 16.3) * 0.5 == 16.5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 6553.5, 6553.6, 1e12])
def test_what_a_register_cant_hold_is_refused(value: float) -> None:
    p = point("p", register("holding:0"), scale=0.1, writable=writable(-1e15, 1e15))
    with pytest.raises(Unrepresentable):
        to_registers(p, value)


def test_a_float_register_overflow_is_refused() -> None:
    p = point("p", register("holding:0", "float32"), writable=writable(-1e300, 1e300))
    with pytest.raises(Unrepresentable):
        to_registers(p, 1e200)


@pytest.mark.parametrize(("value", "bit"), [(0.0, 0), (1.0, 1), (0.5, None), (2.0, None)])
def test_coils_take_0_or_1(value: float, bit: int | None) -> None:
    p = point("p", register("coil:0", "bool"), writable=writable(0, 1))
    if bit is None:
        with pytest.raises(Unrepresentable):
            to_registers(p, value)
    else:
        assert to_registers(p, value) == (bit,)
