"""`skadi scan modbus` and `skadi scan bacnet`: a site file that loads and reads, nothing written."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import rusty_bacnet
from click.testing import CliRunner

from agent.cli.scan import scan
from config.loader import load_site
from config.site import Device, Site
from control.types import Reading
from drivers.modbus_frames import Answer, Framing, Incomplete, Wrong, check_reply
from drivers.modbus_identify import identify
from drivers.registry import make_driver
from tests.drivers.make import device
from tests.drivers.modbus_peer import ModbusPeer, frame, rtu_frame

IDENTITY = b"\x2b\x0e\x02\x82\x00\x00\x03\x00\x04Acme\x01\x02X1\x02\x03v\n2"
ASKED = b"\x2b\x0e\x02\x00"


class NamedPeer(ModbusPeer):
    """A peer that says what it is."""

    identity = IDENTITY

    def execute(self, pdu: bytes) -> bytes:
        return self.identity if pdu[0] == 0x2B else super().execute(pdu)


async def read_all(site: Site) -> list[Reading]:
    readings: list[Reading] = []
    for where in site.devices:
        driver = make_driver(where, {})
        readings += await driver.read(0)
        await driver.close()
    return readings


def run_scan(*args: str, path: Path) -> tuple[Site, str]:
    done = CliRunner().invoke(scan, list(args))
    assert done.exit_code == 0, done.stderr
    path.write_text(done.stdout)
    return load_site(path), done.stdout


@pytest.fixture
def apart() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Runs coroutines in a loop of its own thread, as the command under test has a loop too."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


Apart = Callable[[Coroutine[Any, Any, Any]], Any]


def test_modbus(apart: Apart, tmp_path: Path) -> None:
    unit = NamedPeer()
    unit.input = {0: 215, 1: 65535, 3: 4}
    unit.coils = {0: 1}
    apart(unit.__aenter__())
    target = f"127.0.0.1:{unit.port}"
    site, text = run_scan("modbus", target, "--count", "4", path=tmp_path / "site.toml")
    assert [p.id for p in site.points.values()] == ["input0", "input3", "coil0"]
    assert "# vendor: Acme" in text
    assert "# revision: v 2" in text
    assert [r.value for r in asyncio.run(read_all(site))] == [215, 4, 1]
    assert {r[0] for r in unit.requests} <= {1, 2, 3, 4, 0x2B}  # read only
    apart(unit.stop())


def test_a_modbus_unit_that_says_what_it_is_gets_its_profile(apart: Apart, tmp_path: Path) -> None:
    unit = NamedPeer()
    words = b"\x00\x06Vertiv\x01\x0cLiebert iCOM"
    unit.identity = IDENTITY[:6] + b"\x02" + words
    unit.holding = dict.fromkeys(range(500), 20)
    unit.input = dict.fromkeys(range(600), 20)
    apart(unit.__aenter__())
    site, text = run_scan("modbus", f"127.0.0.1:{unit.port}", path=tmp_path / "site.toml")
    (device,) = site.devices
    assert device.profile == "liebert-icom"
    assert "from a document only" in text
    assert not site.writable_points
    assert all(r.value is not None for r in asyncio.run(read_all(site)))
    apart(unit.stop())


def test_bacnet(apart: Apart, tmp_path: Path) -> None:
    server = rusty_bacnet.BACnetServer(
        1200, "bms", interface="127.0.0.1", port=0, broadcast_address="127.0.0.1"
    )
    server.add_analog_value(7, 'set"point\n[[device]]', 62)
    for i, units in enumerate((62, 48, 3, 18)):
        server.add_analog_input(i, f"ai{i}", units, 10.0 * i)

    async def start() -> str:
        await server.start()
        return str(await server.local_address())

    async def stop() -> None:
        await server.stop()

    target = apart(start())
    try:
        args = ("bacnet", target, "--local", "127.0.0.5", "--wait", "2")
        site, text = run_scan(*args, path=tmp_path / "site.toml")
        assert len(site.devices) == 1
        assert [(p.quantity, p.unit) for p in site.points.values()] == [
            ("state", ""), ("state", ""), ("state", ""), ("current_a", "A"), ("energy_kwh", "kWh"),
        ]  # fmt: skip
        assert "has a priority array" in text
        assert not site.writable_points
        values = [r.value for r in asyncio.run(read_all(site))]
        assert values == [0.0, 0.0, 10.0, 20.0, 0.03]
    finally:
        apart(stop())


@pytest.mark.parametrize("protocol", ["modbus", "bacnet"])
def test_nobody_there_is_75_and_nothing_on_stdout(protocol: str) -> None:
    args = ["--local", "127.0.0.5", "--wait", "0.2"] if protocol == "bacnet" else []
    done = CliRunner().invoke(scan, [protocol, "127.0.0.99:9", *args])
    assert (done.exit_code, done.stdout) == (75, "")
    assert done.stderr


def test_bacnet_needs_to_know_where() -> None:
    assert CliRunner().invoke(scan, ["bacnet"]).exit_code == 2
    assert CliRunner().invoke(scan, ["bacnet", "127.0.0.1", "--local", "x"]).exit_code == 2


@pytest.mark.parametrize("rtu", [False, True])
async def test_identity_is_checked_like_any_reply(rtu: bool) -> None:
    def where(peer: ModbusPeer) -> Device:
        return device([], "modbus-rtu-tcp" if rtu else "modbus-tcp", port=peer.port)

    async with NamedPeer(rtu=rtu) as peer:
        peer.crumbs = True
        said = await identify(where(peer))
        assert said == {"vendor": "Acme", "product code": "X1", "revision": "v 2"}
    async with ModbusPeer(rtu=rtu) as silent:
        assert await identify(where(silent)) == {}


def test_identity_frames() -> None:
    for framing, asked, right in (
        (Framing.TCP, frame(b"\0\1", 1, ASKED), frame(b"\0\1", 1, IDENTITY)),
        (Framing.RTU, rtu_frame(1, ASKED), rtu_frame(1, IDENTITY)),
    ):
        for size in range(len(right)):
            assert check_reply(framing, asked, right[:size]) == Incomplete()
        assert check_reply(framing, asked, right) == Answer()
    asked = frame(b"\0\1", 1, ASKED)
    for wrong in (b"\x2b\x0d" + IDENTITY[2:], IDENTITY[:2] + b"\1" + IDENTITY[3:],
                  IDENTITY[:-1], IDENTITY + b"\0", IDENTITY[:6] + b"\xff" + IDENTITY[7:]):  # fmt: skip
        assert isinstance(check_reply(Framing.TCP, asked, frame(b"\0\1", 1, wrong)), Wrong)
