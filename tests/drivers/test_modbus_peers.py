"""Modbus against devices that share no code with pymodbus: libmodbus, modbus_tk; mbpoll checks."""

import asyncio
import os
import pty
import select
import socket
import subprocess
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import serial
from modbus_tk import defines, modbus_rtu, modbus_tcp

from config.links import SerialSection
from config.site import Device, Point
from control.types import Quality
from drivers.contract import Refused
from drivers.modbus import ModbusDriver
from tests.drivers.make import device, point, register, writable
from tests.peers import free_port, until

pytestmark = pytest.mark.peer
SOURCE = Path(__file__).parent / "peers" / "libmodbus_device.c"


@contextmanager
def wire() -> Iterator[tuple[str, str]]:
    """Two pseudo-terminals joined back to back: a serial cable."""
    ends = [pty.openpty(), pty.openpty()]
    for master, slave in ends:
        tty.setraw(master)
        tty.setraw(slave)
    masters = [m for m, _ in ends]
    stop_read, stop_write = os.pipe()

    def carry() -> None:
        while True:
            ready, _, _ = select.select([*masters, stop_read], [], [])
            if stop_read in ready:
                return
            for fd in ready:
                os.write(masters[1 - masters.index(fd)], os.read(fd, 512))

    thread = threading.Thread(target=carry)
    thread.start()
    try:
        yield os.ttyname(ends[0][1]), os.ttyname(ends[1][1])
    finally:
        os.write(stop_write, b"x")
        thread.join()
        for fd in (stop_read, stop_write, *(fd for end in ends for fd in end)):
            os.close(fd)


@pytest.fixture(scope="session")
def libmodbus(peer: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The compiled device."""
    program = str(tmp_path_factory.mktemp("libmodbus") / "device")
    made = subprocess.run(
        [peer("gcc"), str(SOURCE), "-o", program, "-lmodbus"], capture_output=True, check=False
    )
    if made.returncode:
        peer("libmodbus-dev (apt install libmodbus-dev)")
    return program


def points() -> list[Point]:
    return [
        *(point(f"in{i}", register(f"input:{i}")) for i in (0, 1, 7, 40)),
        point("sp", register("holding:5", "int16"), scale=0.1, writable=writable(-50, 50)),
        point("flow", register("holding:6", "float32", word_order="little"),
              writable=writable(0, 1e6)),
        point("pump", register("coil:9", "bool"), writable=writable(0, 1)),
        point("bit", register("holding:20", "bool", bit=11), writable=writable(0, 1)),
        point("door", register("discrete:3", "bool")),
        point("none", register("input:5000")),
    ]  # fmt: skip


async def exercise(where: Device) -> None:
    """Read, write, read back, and be refused."""
    driver = ModbusDriver(where, {})
    try:
        readings = await driver.read(0)
        assert [r.value for r in readings[:4]] == [1000, 1001, 1007, 1040]
        assert [r.value for r in readings[4:9]] == [0, 0, 0, 0, 1]
        assert readings[9].quality is Quality.MISSING
        await driver.write_raw({"d/sp": -12.3, "d/flow": 1234.5, "d/pump": 1.0, "d/bit": 1.0})
        present = await driver.present(where.points[4:8])
        found = [p.value for p in present.values()]
        assert found == [pytest.approx(-12.3), 1234.5, 1.0, 1.0]
        assert [r.value for r in (await driver.read(1))[4:8]] == found
        with pytest.raises(Refused):
            await driver.write_raw({"d/sp": float("nan")})
    finally:
        await driver.close()


@contextmanager
def running(*command: str) -> Iterator[int]:
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


async def test_libmodbus_over_tcp_and_mbpoll_agrees(
    libmodbus: str, peer: Callable[[str], str]
) -> None:
    mbpoll = peer("mbpoll")
    with running(libmodbus, "tcp") as port:
        await exercise(device(points(), port=port, timeout_s=2.0))
        said = await asyncio.to_thread(
            subprocess.run,
            [mbpoll, "-m", "tcp", "-a", "1", "-0", "-r", "5", "-c", "3", "-t", "4", "-1",
             "-p", str(port), "127.0.0.1"], capture_output=True, text=True, check=True,
        )  # fmt: skip
    # -12.3 is -123; 1234.5 as float32 is 449A5000, its low word first
    lines = dict(line.split(":")[:2] for line in said.stdout.splitlines() if line.startswith("["))
    assert [int(v.split()[0]) % 65536 for v in lines.values()] == [65536 - 123, 0x5000, 0x449A]


async def test_libmodbus_on_a_serial_line(libmodbus: str) -> None:
    with wire() as (ours, theirs), running(libmodbus, "rtu", theirs, "17"):
        line = SerialSection(path=ours, parity="none")
        await exercise(device(points(), "modbus-rtu", unit_id=17, serial=line, timeout_s=2.0))


def fill(server: modbus_tcp.TcpServer | modbus_rtu.RtuServer, unit: int) -> None:
    slave = server.add_slave(unit)
    blocks = {
        "in": (defines.ANALOG_INPUTS, [1000 + i for i in range(100)]),
        "holding": (defines.HOLDING_REGISTERS, [0] * 100),
        "coils": (defines.COILS, [0] * 100),
        "bits": (defines.DISCRETE_INPUTS, [i % 3 == 0 for i in range(100)]),
    }
    for name, (kind, values) in blocks.items():
        slave.add_block(name, kind, 0, 100)
        slave.set_values(name, 0, values)


def answers(port: int) -> bool:
    """Somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def without_bits(all_points: list[Point]) -> list[Point]:
    """modbus_tk has no FC 22: its bit stays where it is."""
    return [
        point("bit", register("coil:30", "bool"), writable=writable(0, 1)) if p.id == "bit" else p
        for p in all_points
    ]


@pytest.mark.filterwarnings("ignore:isSet:DeprecationWarning")  # its own
async def test_modbus_tk_over_tcp() -> None:
    port = free_port()
    server = modbus_tcp.TcpServer(port, "127.0.0.1", timeout_in_sec=0.2)
    fill(server, 1)
    server.start()
    try:
        await until(lambda: answers(port))
        await exercise(device(without_bits(points()), port=port, timeout_s=2.0))
    finally:
        await asyncio.to_thread(server.stop)


@pytest.mark.filterwarnings("ignore:isSet:DeprecationWarning")  # its own
async def test_modbus_tk_on_a_serial_line() -> None:
    with wire() as (ours, theirs):
        server = modbus_rtu.RtuServer(serial.Serial(theirs, baudrate=19200, timeout=0.02))
        fill(server, 3)
        server.start()
        try:
            line = SerialSection(path=ours, parity="none")
            where = device(
                without_bits(points()), "modbus-rtu", unit_id=3, serial=line, timeout_s=2.0
            )
            await exercise(where)
        finally:
            await asyncio.to_thread(server.stop)
