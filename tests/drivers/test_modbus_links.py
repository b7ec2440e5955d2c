"""Every flavour of Modbus: TCP, TLS, RTU over TCP and a serial line (a pseudo-terminal)."""

import asyncio
import os
import pty
import ssl
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from config.links import SerialSection, TlsSection
from config.site import Device, Point
from control.types import Quality
from drivers.contract import NotSent, Permanent, Refused, Transient
from drivers.modbus import ModbusDriver
from tests.certs import Certificates
from tests.drivers.make import device, point, register, writable
from tests.drivers.modbus_peer import ModbusPeer, rtu_frame

FLAVOURS = ["modbus-tcp", "modbus-tls", "modbus-rtu-tcp", "modbus-rtu"]


@asynccontextmanager
async def line_to(peer: ModbusPeer) -> AsyncIterator[str]:
    """A pseudo-terminal with `peer` at the other end; yields its path."""
    ours, theirs = pty.openpty()
    tty.setraw(ours)
    tty.setraw(theirs)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    file = os.fdopen(ours, "rb+", buffering=0)
    read_end, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    write_end, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(os.dup(ours), "wb", buffering=0)
    )
    writer = asyncio.StreamWriter(write_end, protocol, reader, loop)
    task = asyncio.create_task(peer.serve(reader, writer))
    try:
        yield os.ttyname(theirs)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        read_end.close()
        write_end.close()
        os.close(theirs)
        await asyncio.sleep(0)


@asynccontextmanager
async def flavoured(
    flavour: str, folder: Path, points: list[Point], **more: object
) -> AsyncIterator[tuple[ModbusPeer, Device]]:
    """A peer and a device that reaches it by this flavour of Modbus."""
    if flavour == "modbus-rtu":
        peer = ModbusPeer(unit=7, rtu=True)
        async with line_to(peer) as path:
            serial = SerialSection(path=path, parity="none")  # a pty has no parity
            yield peer, device(points, flavour, host="", unit_id=7, serial=serial, **more)
        return
    tls = context = None
    if flavour == "modbus-tls":
        certs = Certificates(folder)
        server, client = certs.issue("device", "127.0.0.1"), certs.issue("agent", "127.0.0.1")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certs.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(server, certs.key_of(server))
        tls = TlsSection(ca_file=certs.ca, cert_file=client, key_file=certs.key_of(client))
    async with ModbusPeer(7, rtu=flavour == "modbus-rtu-tcp", context=context) as peer:
        yield peer, device(points, flavour, port=peer.port, unit_id=7, tls=tls, **more)


def points() -> list[Point]:
    return [
        point("sp", register("holding:0", "int16"), scale=0.1, writable=writable(16, 27)),
        point("energy", register("holding:1", "uint32"), writable=writable(0, 1e9)),
        point("pump", register("coil:3", "bool"), writable=writable(0, 1)),
        point("manual", register("holding:9", "bool", bit=9), writable=writable(0, 1)),
        point("local", register("holding:9", "bool", bit=2), writable=writable(0, 1)),
        point("alarm", register("discrete:1", "bool")),
        point("supply", register("input:4", "float32"), "supply_air_c"),
    ]


def fill(peer: ModbusPeer) -> None:
    peer.holding = {0: 180, 1: 1, 2: 5, 9: 0b100}
    peer.coils = dict.fromkeys(range(5), 0)
    peer.discrete = {1: 1}
    peer.input = {4: 0x41B0, 5: 0}


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_reads_and_writes(flavour: str, tmp_path: Path) -> None:
    async with flavoured(flavour, tmp_path, points(), timeout_s=2.0) as (peer, where):
        fill(peer)
        driver = ModbusDriver(where, {})
        await driver.connect()
        values = [r.value for r in await driver.read(0)]
        assert values == [18.0, 65541, 0, 0, 1, 1, 22.0]
        peer.requests.clear()
        await driver.write_raw(
            {"d/sp": 20.0, "d/energy": 70_000.0, "d/pump": 1.0, "d/manual": 1.0, "d/local": 0.0}
        )
        assert [r[0] for r in peer.requests] == [5, 16, 22]  # neighbours as one, bits as one
        assert peer.holding == {0: 200, 1: 1, 2: 4464, 9: 0b10_0000_0000}
        present = await driver.present(where.points[:5])
        assert [p.value for p in present.values()] == [20.0, 70_000, 1, 1, 0]
        await driver.close()


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_silence_then_right_again(flavour: str, tmp_path: Path) -> None:
    async with flavoured(flavour, tmp_path, points()[:1], timeout_s=0.2) as (peer, where):
        fill(peer)
        driver = ModbusDriver(where, {})
        assert (await driver.read(0))[0].value == 18.0
        peer.fault = lambda request, right: None
        with pytest.raises(Transient, match="no reply"):
            await driver.read(1)
        peer.fault = None
        assert (await driver.read(2))[0].value == 18.0
        await driver.close()


async def test_fc16_only_devices_and_pauses(tmp_path: Path) -> None:
    more = {"write_multiple": True, "pause_ms": 20.0}
    async with flavoured("modbus-tcp", tmp_path, points(), **more) as (peer, where):
        fill(peer)
        driver = ModbusDriver(where, {})
        await driver.write_raw({"d/sp": 20.0, "d/pump": 1.0})
        assert [r[0] for r in peer.requests] == [15, 16]
        assert (peer.holding[0], peer.coils[3]) == (200, 1)
        await driver.close()


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("bit", [0, 7, 8, 15])
async def test_a_written_bit_is_the_bit_that_is_read(order: str, bit: int) -> None:
    async with ModbusPeer() as peer:
        peer.holding = {0: 0x5A5A}
        before = peer.holding[0]
        p = point("b", register("holding:0", "bool", bit=bit, byte_order=order),
                  writable=writable(0, 1))  # fmt: skip
        driver = ModbusDriver(device([p], port=peer.port), {})
        for value in (1.0, 0.0, 1.0):
            await driver.write_raw({p.key: value})
            assert (await driver.present([p]))[p.key].value == value
            assert (peer.holding[0] ^ before).bit_count() <= 1  # nothing else changed
        await driver.close()


async def test_a_device_without_mask_write_refuses_and_nothing_changed() -> None:
    async with ModbusPeer() as peer:
        peer.holding = {}
        p = point("b", register("holding:0", "bool", bit=3), writable=writable(0, 1))
        driver = ModbusDriver(device([p], port=peer.port), {})
        with pytest.raises(Refused, match="illegal function"):
            await driver.write_raw({p.key: 1.0})
        await driver.close()


@pytest.mark.parametrize("flavour", ["modbus-rtu-tcp", "modbus-rtu"])
async def test_rtu_frames_that_are_wrong(flavour: str, tmp_path: Path) -> None:
    faults = {
        "crc": lambda q, r: r[:-1] + bytes((r[-1] ^ 1,)),
        "another unit": lambda q, r: rtu_frame(8, r[1:-2]),
        "another function": lambda q, r: rtu_frame(7, b"\4" + r[2:-2]),
        "too few registers": lambda q, r: rtu_frame(7, b"\3\0"),
        "too many registers": lambda q, r: rtu_frame(7, b"\3\4" + r[3:5] + b"\0\0"),
        "noise before": lambda q, r: b"\0" + r,
        "noise after": lambda q, r: r + b"\0",
        "twice": lambda q, r: r + r,
        "truncated": lambda q, r: r[:-2],
        "exception of another function": lambda q, r: rtu_frame(7, b"\x84\2"),
        "echo of the request": lambda q, r: rtu_frame(7, q[1:]),
    }
    async with flavoured(flavour, tmp_path, points()[:1], timeout_s=0.1) as (peer, where):
        fill(peer)
        driver = ModbusDriver(where, {})
        for fault in faults.values():
            peer.fault = fault
            with pytest.raises(Transient):
                await driver.read(0)
            peer.fault = None
            assert (await driver.read(1))[0].value == 18.0
        await driver.close()


@pytest.mark.parametrize("flavour", ["modbus-rtu-tcp", "modbus-rtu"])
async def test_a_late_rtu_reply_never_answers_the_next_request(
    flavour: str, tmp_path: Path
) -> None:
    """Two spans of one shape: an RTU reply does not say which of them it answers."""
    two = [point("a", register("holding:0")), point("b", register("holding:100"))]
    async with flavoured(flavour, tmp_path, two, timeout_s=0.1) as (peer, where):
        peer.holding = {0: 1, 100: 2}
        driver = ModbusDriver(where, {})
        peer.delay_s = 0.15  # later than the timeout, earlier than the next request
        with pytest.raises(Transient):
            await driver.read(0)
        peer.delay_s = 0.0
        for _ in range(3):
            readings = await driver.read(1)
            assert [r.value for r in readings] == [1, 2]
        await driver.close()


async def test_units_on_one_line_take_turns(tmp_path: Path) -> None:
    peer = ModbusPeer(unit=7, rtu=True)
    peer.holding = {0: 180}
    async with line_to(peer) as path:
        serial = SerialSection(path=path, parity="none")
        there = ModbusDriver(
            device(points()[:1], "modbus-rtu", unit_id=7, serial=serial, timeout_s=0.5), {}
        )
        dead = ModbusDriver(
            device(points()[:1], "modbus-rtu", unit_id=9, serial=serial, timeout_s=0.05), {}
        )
        results = await asyncio.gather(
            there.read(0), dead.read(0), there.read(0), return_exceptions=True
        )
        assert isinstance(results[1], Transient)
        assert [r[0].value for r in (results[0], results[2])] == [18.0, 18.0]  # type: ignore[index]
        await dead.close()
        assert (await there.read(0))[0].value == 18.0
        await there.close()


async def test_what_cant_be_opened_says_what_to_do(tmp_path: Path) -> None:
    missing = SerialSection(path=str(tmp_path / "ttyUSB9"))
    driver = ModbusDriver(device(points()[:1], "modbus-rtu", serial=missing), {})
    with pytest.raises(NotSent, match=r"ttyUSB9: no connection; check path"):
        await driver.connect()
    await driver.close()
    no_file = TlsSection(ca_file=str(tmp_path / "ca.pem"))
    driver = ModbusDriver(device(points()[:1], "modbus-tls", tls=no_file, port=9), {})
    with pytest.raises(Permanent, match="check the files"):
        await driver.connect()
    await driver.close()


async def test_a_device_that_cant_prove_itself_is_not_spoken_to(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    certs, others = Certificates(tmp_path), Certificates(tmp_path / "other")
    for cert, keys in ((certs.issue("elsewhere", "127.0.0.99"), certs),
                       (others.issue("device", "127.0.0.1"), others)):  # fmt: skip
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(cert, keys.key_of(cert))
        async with ModbusPeer(context=context) as peer:
            fill(peer)
            tls = TlsSection(ca_file=certs.ca)
            driver = ModbusDriver(device(points()[:1], "modbus-tls", tls=tls, port=peer.port), {})
            with pytest.raises(NotSent, match="certificates"):
                await driver.read(0)
            assert peer.requests == []
            await driver.close()


async def test_holes_are_never_asked_for(tmp_path: Path) -> None:
    at = [point(f"p{a}", register(f"holding:{a}")) for a in (0, 3, 6)]
    async with flavoured("modbus-tcp", tmp_path, at, no_read=("holding:1-2",)) as (peer, where):
        peer.holding = dict.fromkeys(range(7), 1)
        driver = ModbusDriver(where, {})
        assert {r.quality for r in await driver.read(0)} == {Quality.GOOD}
        asked = [(int.from_bytes(r[1:3], "big"), r[4]) for r in peer.requests]
        assert asked == [(0, 1), (3, 4)]
        await driver.close()
