"""The malformed-reply matrix: what does not answer the request never becomes a reading.

For each fault: the reading is rejected (none is good), and the next request, with the fault
gone, is right. Figures are printed at the end of each protocol's test run (-s).
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable

import pytest

from config.addresses import BacnetAddress
from config.site import Device
from control.types import Quality, Reading
from drivers.bacnet import BacnetDriver
from drivers.contract import Driver, DriverError, NotSent, Refused, Transient
from drivers.modbus import ModbusDriver
from drivers.workload import WorkloadDriver
from tests.drivers import test_prometheus, test_snmp_faults
from tests.drivers.bacnet_peer import PRESENT_VALUE, BacnetPeer, oid, real
from tests.drivers.http_peer import RouterPeer, reply
from tests.drivers.make import device, point, register, writable
from tests.drivers.modbus_peer import ModbusPeer, frame
from tests.drivers.test_workload import router

TIMEOUT_S = 0.15


async def rejected(read: Callable[[float], Awaitable[list[Reading]]]) -> None:
    """Read once: an error, or readings of which none is good and none has a value."""
    try:
        readings = await read(1.0)
    except DriverError:
        return
    assert all(r.value is None and r.quality is not Quality.GOOD for r in readings), readings
    assert all(r.reason for r in readings)


# Modbus: the peer holds 4 registers, the driver asks for them with FC 3 as unit 1.
# A fault gets the request and the right reply: MBAP (7 bytes), function, byte count, data.


def pdu_fault(change: Callable[[bytes], bytes]) -> Callable[[bytes, bytes], bytes]:
    """A fault on the PDU alone, in a right header."""
    return lambda request, right: frame(right[:2], right[6], change(right[7:]))


MODBUS_FAULTS: dict[str, Callable[[bytes, bytes], bytes | None]] = {
    "nothing": lambda q, r: None,
    "too few registers": pdu_fault(lambda p: bytes((p[0], 6)) + p[2:8]),
    "too many registers": pdu_fault(lambda p: bytes((p[0], 10)) + p[2:] + b"\0\1"),
    "no registers": pdu_fault(lambda p: bytes((p[0], 0))),
    "odd byte count": pdu_fault(lambda p: bytes((p[0], 7)) + p[2:9]),
    "byte count too large": pdu_fault(lambda p: bytes((p[0], 250)) + p[2:]),
    "byte count too small": pdu_fault(lambda p: bytes((p[0], 4)) + p[2:]),
    "FC 4 answers FC 3": pdu_fault(lambda p: b"\4" + p[1:]),
    "FC 16 answers FC 3": pdu_fault(lambda p: b"\x10\0\0\0\4"),
    "unknown function": pdu_fault(lambda p: b"\x55" + p[1:]),
    "exception of another function": pdu_fault(lambda p: b"\x84\2"),
    "exception too long": pdu_fault(lambda p: b"\x83\2\0"),
    "exception without code": pdu_fault(lambda p: b"\x83"),
    "another unit": lambda q, r: r[:6] + b"\2" + r[7:],
    "another transaction": lambda q, r: bytes((r[0], r[1] ^ 1)) + r[2:],
    "transaction 0": lambda q, r: b"\0\0" + r[2:],
    "another protocol": lambda q, r: r[:2] + b"\0\1" + r[4:],
    "truncated": lambda q, r: r[:-3],
    "header only": lambda q, r: r[:7],
    "length one short": lambda q, r: r[:5] + bytes((r[5] - 1,)) + r[6:],
    "length one long": lambda q, r: r[:5] + bytes((r[5] + 1,)) + r[6:],
    "length huge": lambda q, r: r[:4] + b"\xff\xff" + r[6:],
    "length 0": lambda q, r: r[:4] + b"\0\0" + r[6:],
    "reply twice at once": lambda q, r: r + r,
    "trailing bytes": lambda q, r: r + b"\0",
    "garbage": lambda q, r: b"\xde\xad\xbe\xef" * 5,
    "text": lambda q, r: b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "request echoed": lambda q, r: q,
    "flood": lambda q, r: r[:-1] + b"\0" * 70_000,
}


def modbus_on(peer: ModbusPeer) -> ModbusDriver:
    points = [point(f"p{i}", register(f"holding:{i}"), writable=writable(0, 100)) for i in range(4)]
    return ModbusDriver(device(points, port=peer.port, timeout_s=TIMEOUT_S), {})


@pytest.mark.parametrize("fault", MODBUS_FAULTS)
async def test_modbus(fault: str) -> None:
    async with ModbusPeer() as peer:
        peer.holding = {i: 10 + i for i in range(4)}
        driver = modbus_on(peer)
        for _ in range(2):
            peer.fault = MODBUS_FAULTS[fault]
            await rejected(driver.read)
            peer.fault = None
            assert [r.value for r in await driver.read(2.0)] == [10, 11, 12, 13]
        await driver.close()


async def test_modbus_late_and_duplicate_replies_never_answer_the_next_request() -> None:
    async with ModbusPeer() as peer:
        peer.holding = {i: 10 + i for i in range(4)}
        driver = modbus_on(peer)
        peer.delay_s = TIMEOUT_S * 1.5
        await rejected(driver.read)
        peer.delay_s, peer.holding[0] = 0.0, 99
        await asyncio.sleep(TIMEOUT_S)  # the late reply is sent meanwhile
        assert (await driver.read(2.0))[0].value == 99
        stray: list[bytes] = []

        def remember(request: bytes, right: bytes) -> bytes:
            stray.append(right)
            return right

        peer.fault = remember
        assert (await driver.read(3.0))[0].value == 99
        peer.fault = None
        for writer in peer._writers:
            writer.write(stray[0])  # once more, unasked
        await asyncio.sleep(0.02)
        peer.holding[0] = 98
        assert (await driver.read(4.0))[0].value == 98
        await driver.close()


async def test_modbus_a_reply_in_crumbs_is_right_and_a_reset_is_not() -> None:
    async with ModbusPeer() as peer:
        peer.holding = {i: 10 + i for i in range(4)}
        driver = modbus_on(peer)
        peer.crumbs = True
        assert [r.value for r in await driver.read(1.0)] == [10, 11, 12, 13]
        peer.crumbs = False
        peer.close_instead = True
        await rejected(driver.read)
        peer.close_instead = False
        assert (await driver.read(2.0))[0].value == 10
        await driver.close()


WRITE_FAULTS: dict[str, Callable[[bytes, bytes], bytes | None]] = {
    "nothing": lambda q, r: None,
    "another address echoed": pdu_fault(lambda p: p[:2] + bytes((p[2] ^ 1,)) + p[3:]),
    "another value echoed": pdu_fault(lambda p: p[:-1] + bytes((p[-1] ^ 1,))),
    "a read's reply": pdu_fault(lambda p: b"\3\2\0\1"),
    "another transaction": lambda q, r: bytes((r[0], r[1] ^ 1)) + r[2:],
    "device failure": pdu_fault(lambda p: bytes((p[0] | 0x80, 4))),
    "still working": pdu_fault(lambda p: bytes((p[0] | 0x80, 5))),
    "truncated": lambda q, r: r[:-1],
}


@pytest.mark.parametrize("keys", [["d/p0"], ["d/p0", "d/p1"]], ids=["FC6", "FC16"])
@pytest.mark.parametrize("fault", WRITE_FAULTS)
async def test_modbus_write_without_a_right_echo_is_unknown_and_never_repeated(
    fault: str, keys: list[str]
) -> None:
    async with ModbusPeer() as peer:
        peer.holding = dict.fromkeys(range(4), 0)
        driver = modbus_on(peer)
        peer.fault = WRITE_FAULTS[fault]
        with pytest.raises(Transient) as unsure:
            await driver.write_raw(dict.fromkeys(keys, 7.0))
        assert not isinstance(unsure.value, NotSent)
        assert len(peer.requests) == 1
        peer.fault = None
        present = await driver.present(driver.device.points[:1])
        assert present["d/p0"].value == 7.0
        await driver.close()


@pytest.mark.parametrize(("code", "kind"), [(1, Refused), (2, Refused), (3, Refused), (6, NotSent)])
async def test_modbus_refused_writes_surely_changed_nothing(code: int, kind: type) -> None:
    async with ModbusPeer() as peer:
        peer.holding = dict.fromkeys(range(4), 0)
        driver = modbus_on(peer)
        peer.fault = pdu_fault(lambda p: bytes((p[0] | 0x80, code)))
        with pytest.raises(kind):
            await driver.write_raw({"d/p0": 7.0})
        await driver.close()


SENTINELS = [
    ("uint16", "ffff"), ("int16", "8000"), ("uint32", "ffffffff"), ("int32", "80000000"),
    ("uint64", "f" * 16), ("int64", "8" + "0" * 15), ("float32", "7fc00000"),
    ("float32", "ffffffff"), ("float32", "7f800000"), ("float32", "ff800000"),
    ("float64", "7ff8000000000000"), ("float64", "7ff0000000000000"),
]  # fmt: skip


@pytest.mark.parametrize(("type_", "wire"), SENTINELS)
async def test_modbus_sentinels_are_missing(type_: str, wire: str) -> None:
    async with ModbusPeer() as peer:
        words = [int(wire[i : i + 4], 16) for i in range(0, len(wire), 4)]
        peer.input = dict(enumerate(words))
        driver = ModbusDriver(device([point("a", register("input:0", type_))], port=peer.port), {})
        (reading,) = await driver.read(0)
        assert (reading.value, reading.quality) == (None, Quality.MISSING)
        await driver.close()


async def test_modbus_implausible_and_own_sentinels() -> None:
    async with ModbusPeer() as peer:
        peer.input = {0: 0x10000 - 1, 1: 0x10000 - 410, 2: 9000}
        points = [
            point("a", register("input:0", "int16"), "pdu_kw", sentinels=(-1.0,), unit="kW"),
            point("b", register("input:1", "int16"), "inlet_c", sentinels=(-410.0,), scale=0.1),
            point("c", register("input:2", "int16"), "inlet_c", scale=0.1),
        ]
        driver = ModbusDriver(device(points, port=peer.port), {})
        a, b, c = await driver.read(0)
        assert (a.value, a.quality) == (None, Quality.MISSING)
        assert (b.value, b.quality) == (None, Quality.MISSING)
        assert (c.value, c.quality) == (None, Quality.BAD)
        assert "900 is outside -20..80" in c.reason
        await driver.close()


# BACnet: two objects by ReadPropertyMultiple. A reply APDU: 30 invoke 0e, then the results.


def result(type_: int, instance: int, property_: int, value: bytes) -> bytes:
    return oid(type_, instance) + b"\x1e\x29" + bytes((property_,)) + b"\x4e" + value + b"\x4f\x1f"


def body_fault(*results: bytes) -> Callable[[bytes, bytes], bytes]:
    return lambda request, right: right[:3] + b"".join(results)


A = result(0, 0, PRESENT_VALUE, real(20.0))
B = result(0, 1, PRESENT_VALUE, real(21.0))
BACNET_FAULTS: dict[str, Callable[[bytes, bytes], bytes | list[bytes] | None]] = {
    "nothing": lambda q, r: None,
    "another invoke id": lambda q, r: bytes((r[0], r[1] ^ 1)) + r[2:],
    "another service": lambda q, r: r[:2] + b"\x0c" + oid(0, 0) + b"\x19\x55\x3e" + real(1) + b"\x3f",
    "simple ack to a read": lambda q, r: b"\x20" + r[1:2] + b"\x0e",
    "another instance": body_fault(A, result(0, 2, PRESENT_VALUE, real(1))),
    "another object type": body_fault(A, result(2, 1, PRESENT_VALUE, real(1))),
    "another property": body_fault(A, result(0, 1, 104, real(1))),
    "swapped": body_fault(B, A),
    "one missing": body_fault(A),
    "one too many": body_fault(A, B, B),
    "same twice": body_fault(A, A),
    "empty": body_fault(),
    "an array index": body_fault(A, oid(0, 1) + b"\x1e\x29\x55\x39\x01\x4e" + real(1) + b"\x4f\x1f"),
    "truncated": lambda q, r: r[:-4],
    "one byte": lambda q, r: r[:1],
    "Real of 3 bytes": body_fault(A, result(0, 1, PRESENT_VALUE, b"\x43\x41\xa8\x00")),
    "no closing tag": body_fault(A, B[:-2]),
    "closing tag of another": body_fault(A, B[:-2] + b"\x3f\x1f"),
    "trailing bytes": lambda q, r: r + b"\x00",
    "garbage": body_fault(b"\xde\xad\xbe\xef" * 9),
    "length beyond the end": body_fault(A, B[:-7] + b"\x45\xfe\xff\xff" + B[-6:]),
    "segmented without end": lambda q, r: b"\x3c" + r[1:2] + b"\x00\x02" + r[2:],
    "error without body": lambda q, r: b"\x50" + r[1:3],
    "error of another service": lambda q, r: b"\x50" + r[1:2] + b"\x0f\x91\x02\x91\x25",
    "abort by the client's side": lambda q, r: b"\x70" + r[1:2] + b"\x00",
    "device failure": lambda q, r: b"\x50" + r[1:3] + b"\x91\x00\x91\x19",
    "reject": lambda q, r: b"\x60" + r[1:2] + b"\x01",
    "a request instead": lambda q, r: q,
}  # fmt: skip
# Right replies in form, whose values can't be used.
BACNET_VALUES = {
    "text": (b"\x75\x05\x0021.5", Quality.BAD),
    "Null": (b"\x00", Quality.BAD),
    "two values": (real(1) + real(2), Quality.BAD),
    "no value": (b"", Quality.BAD),
    "a constructed value": (b"\x0e\x21\x05\x0f", Quality.BAD),
    "Unsigned where Real belongs": (b"\x21\x15", Quality.BAD),
    "Double where Real belongs": (b"\x55\x08" + struct.pack(">d", 21.0), Quality.BAD),
    "NaN": (real(float("nan")), Quality.MISSING),
    "infinity": (real(float("inf")), Quality.MISSING),
    "implausible": (real(-500.0), Quality.BAD),
}


def bacnet_on(peer: BacnetPeer) -> BacnetDriver:
    points = [point(f"a{i}", BacnetAddress("analog-input", i), "inlet_c") for i in range(2)]
    return BacnetDriver(
        device(points, "bacnet-ip", host=peer.host, port=peer.port, timeout_s=TIMEOUT_S), {}
    )


def sensors() -> BacnetPeer:
    return BacnetPeer({(0, i, PRESENT_VALUE): real(20.0 + i) for i in range(2)})


@pytest.mark.parametrize("fault", BACNET_FAULTS)
async def test_bacnet(fault: str) -> None:
    async with sensors() as peer:
        driver = bacnet_on(peer)
        for _ in range(2):
            peer.fault = BACNET_FAULTS[fault]
            await rejected(driver.read)
            peer.fault = None
            assert [r.value for r in await driver.read(2.0)] == [20.0, 21.0]
        await driver.close()


@pytest.mark.parametrize("single", [False, True], ids=["multiple", "single"])
@pytest.mark.parametrize("what", BACNET_VALUES)
async def test_bacnet_values(what: str, single: bool) -> None:
    value, quality = BACNET_VALUES[what]
    async with sensors() as peer:
        peer.rpm = not single
        peer.values[0, 1, PRESENT_VALUE] = value
        driver = bacnet_on(peer)
        good, other = await driver.read(1.0)
        assert (good.value, other.value, other.quality) == (20.0, None, quality)
        peer.values[0, 1, PRESENT_VALUE] = real(21.0)
        assert [r.value for r in await driver.read(2.0)] == [20.0, 21.0]
        await driver.close()


SINGLE_FAULTS: dict[str, Callable[[bytes, bytes], bytes | None]] = {
    "another instance": lambda q, r: r[:3] + oid(0, 5) + r[8:],
    "another property": lambda q, r: r[:9] + b"\x68" + r[10:],
    "truncated": lambda q, r: r[:-1],
    "trailing bytes": lambda q, r: r + r[-7:],
    "an array index": lambda q, r: r[:10] + b"\x29\x01" + r[10:],
}


@pytest.mark.parametrize("fault", SINGLE_FAULTS)
async def test_bacnet_single_reads(fault: str) -> None:
    async with sensors() as peer:
        peer.rpm = False
        driver = bacnet_on(peer)
        await driver.read(0)
        peer.fault = SINGLE_FAULTS[fault]
        await rejected(driver.read)
        peer.fault = None
        assert [r.value for r in await driver.read(2.0)] == [20.0, 21.0]
        await driver.close()


DATAGRAM_FAULTS: dict[str, Callable[[bytes], bytes]] = {
    "BVLC length too long": lambda d: d[:2] + b"\x7f\xff" + d[4:],
    "BVLC length too short": lambda d: d[:2] + b"\x00\x05" + d[4:],
    "BVLC type": lambda d: b"\x82" + d[1:],
    "BVLC result": lambda d: b"\x81\x00\x00\x06\x00\x30",
    "NPDU version": lambda d: d[:4] + b"\x02" + d[5:],
    "NPDU says network message": lambda d: d[:5] + b"\x80" + d[6:],
    "NPDU from another network": lambda d: d[:5] + b"\x08\x00\x05\x01\x07" + d[6:],
    "nothing in it": lambda d: b"",
}


@pytest.mark.parametrize("fault", DATAGRAM_FAULTS)
async def test_bacnet_datagrams(fault: str) -> None:
    async with sensors() as peer:
        driver = bacnet_on(peer)
        peer.raw_fault = DATAGRAM_FAULTS[fault]
        await rejected(driver.read)
        peer.raw_fault = None
        assert [r.value for r in await driver.read(2.0)] == [20.0, 21.0]
        await driver.close()


async def test_bacnet_replies_from_elsewhere_late_or_twice() -> None:
    async with sensors() as peer:
        driver = bacnet_on(peer)
        peer.from_elsewhere = True
        await rejected(driver.read)
        peer.from_elsewhere = False
        kept: list[bytes] = []
        peer.fault = lambda q, r: kept.append(r)  # type: ignore[func-returns-value]
        await rejected(driver.read)
        peer.values[0, 0, PRESENT_VALUE] = real(30.0)
        peer.fault = lambda q, r: [kept[0], r, r]  # the late one, then the right one twice
        assert [r.value for r in await driver.read(2.0)] == [30.0, 21.0]
        peer.fault = None
        assert [r.value for r in await driver.read(3.0)] == [30.0, 21.0]
        await driver.close()


# HTTP: the router's state as a whole.

STATE = b'{"traffic_share_pct": {"A": 60, "B": 40}, "batch_window_ms": 40, "admission_pct": 100}'
HTTP_FAULTS: dict[str, Callable[[str, bytes], bytes | None]] = {
    "nothing": lambda q, r: None,
    "no JSON": lambda q, r: reply(b"<html>login</html>"),
    "empty": lambda q, r: reply(b""),
    "an array": lambda q, r: reply([1, 2]),
    "a number": lambda q, r: reply(7),
    "shares as list": lambda q, r: reply({"traffic_share_pct": [60, 40]}),
    "all null": lambda q, r: reply(
        {"traffic_share_pct": {"A": None, "B": None}, "batch_window_ms": None, "admission_pct": None}
    ),
    "all booleans": lambda q, r: reply(
        {"traffic_share_pct": {"A": True, "B": True}, "batch_window_ms": True, "admission_pct": True}
    ),
    "all text": lambda q, r: reply(
        {"traffic_share_pct": {"A": "60", "B": "4"}, "batch_window_ms": "1", "admission_pct": "1"}
    ),
    "all NaN": lambda q, r: reply(STATE.replace(b"60", b"NaN")),
    "infinity": lambda q, r: reply(STATE.replace(b"60", b"-Infinity")),
    "beyond a double": lambda q, r: reply(
        b'{"traffic_share_pct": {"A": 1e999, "B": -1e999}, "batch_window_ms": 1e400,'
        b' "admission_pct": 1' + b"0" * 400 + b"}"
    ),
    "implausible": lambda q, r: reply(
        {"traffic_share_pct": {"A": -1, "B": 101}, "batch_window_ms": 1e6, "admission_pct": 101}
    ),
    "duplicate names": lambda q, r: reply(STATE[:-1] + b', "admission_pct": 50}'),
    "deep nesting": lambda q, r: reply(b"[" * 30_000 + b"]" * 30_000),
    "oversized": lambda q, r: reply(STATE + b" " * 70_000),
    "endless": lambda q, r: b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n" + b" " * 100_000,
    "truncated": lambda q, r: r[:-5],
    "chunked and broken off": lambda q, r: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n55\r\n"
    + STATE,
    "not UTF-8": lambda q, r: reply(STATE.replace(b"A", b"\xff")),
    "compressed": lambda q, r: reply(b"\x1f\x8b\x08\0\0\0", head="Content-Encoding: gzip\r\n"),
    "500": lambda q, r: reply(STATE, "500 Internal Server Error"),
    "204": lambda q, r: b"HTTP/1.1 204 No Content\r\n\r\n",
    "redirect": lambda q, r: reply(STATE, "302 Found", "Location: /workload2\r\n"),
    "no HTTP": lambda q, r: b"\x00\x01\x00\x00\x00\x05\x01\x03\x02\x00\x01",
    "header flood": lambda q, r: b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
    "other names": lambda q, r: reply({"Traffic_share_pct": {}, "batch": 40}),
}  # fmt: skip


@pytest.mark.parametrize("fault", HTTP_FAULTS)
async def test_http(fault: str) -> None:
    async with RouterPeer() as peer:
        driver = WorkloadDriver(router(peer.url, timeout_s=2.0), {})
        for _ in range(2):
            peer.fault = HTTP_FAULTS[fault]
            await rejected(driver.read)
            peer.fault = None
            assert [r.value for r in await driver.read(2.0)] == [60.0, 40.0, 40.0, 100.0]
        await driver.close()


async def test_http_slow_reply() -> None:
    async with RouterPeer() as peer:
        driver = WorkloadDriver(router(peer.url, timeout_s=TIMEOUT_S), {})
        peer.delay_s = TIMEOUT_S * 2
        await rejected(driver.read)
        peer.delay_s = 0.0
        assert (await driver.read(2.0))[0].value == 60.0
        await driver.close()


def test_the_matrix_is_as_large_as_promised() -> None:
    sizes = {
        "modbus": len(MODBUS_FAULTS) + 4 + len(WRITE_FAULTS) * 2 + len(SENTINELS),
        "bacnet": len(BACNET_FAULTS) + len(BACNET_VALUES) * 2 + len(SINGLE_FAULTS) + len(DATAGRAM_FAULTS),
        "snmp": len(test_snmp_faults.FAULTS) + 1,
        "http": len(HTTP_FAULTS) + 1 + len(test_prometheus.FAULTS) + len(test_prometheus.HOSTILE_BODIES),
    }  # fmt: skip
    print("malformed replies tried:", sizes)
    assert min(sizes.values()) >= 14


def test_devices_are_of_one_shape() -> None:
    """The three drivers satisfy the contract."""
    made: list[Driver] = [
        ModbusDriver(device([], port=1), {}),
        BacnetDriver(device([], "bacnet-ip", port=1), {}),
        WorkloadDriver(router("http://127.0.0.1:1"), {}),
    ]
    assert all(isinstance(d.device, Device) for d in made)
