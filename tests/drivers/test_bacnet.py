"""The BACnet driver against a hand-written device and against rusty-bacnet."""

import asyncio
import logging
import math
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import rusty_bacnet

from config.addresses import BacnetAddress
from config.site import Device, Point
from control.types import Present, Quality
from drivers.bacnet import BacnetDriver
from drivers.bacnet_batch import GROW_AFTER_READS
from drivers.contract import NotSent, Permanent, Refused, Transient
from tests.drivers.bacnet_peer import PRESENT_VALUE, PRIORITY_ARRAY, STATUS_FLAGS, BacnetPeer, real
from tests.drivers.make import device, point, writable

SETPOINT = (2, 7, PRESENT_VALUE)


def setpoint(instance: int = 7, type_: str = "analog-value", **more: object) -> Point:
    return point(
        f"sp{instance}", BacnetAddress(type_, instance), "chilled_water_setpoint_c",
        writable=writable(7, 18, relinquish=True), **more,
    )  # fmt: skip


def flags(*raised: int) -> bytes:
    """BACnetStatusFlags: in-alarm 0, fault 1, overridden 2, out-of-service 3."""
    return b"\x82\x04" + bytes((sum(0x80 >> bit for bit in raised),))


def inputs(count: int) -> list[Point]:
    return [point(f"ai{i}", BacnetAddress("analog-input", i)) for i in range(count)]


def bms(peer: BacnetPeer, points: list[Point], **more: object) -> Device:
    return device(points, "bacnet-ip", host=peer.host, port=peer.port, **more)


@asynccontextmanager
async def driver_on(
    peer: BacnetPeer, points: list[Point], **more: object
) -> AsyncIterator[BacnetDriver]:
    driver = BacnetDriver(bms(peer, points, **more), {})
    try:
        yield driver
    finally:
        await driver.close()


def hall(count: int = 4) -> BacnetPeer:
    values = {(0, i, PRESENT_VALUE): real(20.0 + i) for i in range(count)}
    values |= {(0, i, STATUS_FLAGS): flags() for i in range(count)}
    return BacnetPeer({**values, SETPOINT: real(7.0)}, slots={SETPOINT: {}})


async def test_reads_many_objects_with_one_request() -> None:
    async with hall(40) as peer, driver_on(peer, inputs(40)) as driver:
        readings = await driver.read(5.0)
        assert [r.value for r in readings] == [20.0 + i for i in range(40)]
        assert {r.quality for r in readings} == {Quality.GOOD}
        assert len(peer.requests) == 1


async def test_an_object_that_is_not_there_is_missing() -> None:
    async with hall() as peer, driver_on(peer, inputs(5)) as driver:
        readings = await driver.read(5.0)
        assert [r.value for r in readings] == [20, 21, 22, 23, None]
        assert readings[4].quality is Quality.MISSING
        assert "unknown object" in readings[4].reason


async def test_requests_are_halved_until_the_device_takes_them_and_that_is_remembered() -> None:
    async with hall(40) as peer, driver_on(peer, inputs(40)) as driver:
        peer.max_results = 12
        for _ in range(2):
            before = len(peer.requests)
            readings = await driver.read(5.0)
            assert [r.value for r in readings] == [20.0 + i for i in range(40)]
        assert len(peer.requests) - before == 8  # 80 properties, ten at a time


async def test_a_device_without_read_property_multiple_is_read_one_by_one() -> None:
    async with hall(6) as peer, driver_on(peer, inputs(7)) as driver:
        peer.rpm = False
        for _ in range(2):
            readings = await driver.read(5.0)
            assert [r.value for r in readings] == [20, 21, 22, 23, 24, 25, None]
        # 13 properties; the lacking flags of the seventh object are not asked for again
        assert [r[3] for r in peer.requests] == [14] + [12] * 14 + [12] * 13


@pytest.mark.parametrize(
    ("raised", "reason"), [((1,), "fault"), ((2,), "overridden"), ((0, 3), "out of service")]
)
async def test_an_input_that_the_device_disowns_is_no_measurement(
    raised: tuple[int, ...], reason: str
) -> None:
    async with hall() as peer, driver_on(peer, inputs(2)) as driver:
        peer.values[0, 1, STATUS_FLAGS] = flags(*raised)
        good, bad = await driver.read(0)
        assert (good.value, bad.value, bad.quality) == (20.0, None, Quality.BAD)
        assert reason in bad.reason
        peer.values[0, 1, STATUS_FLAGS] = flags(0)  # in alarm, and measuring
        assert [r.value for r in await driver.read(1)] == [20.0, 21.0]


async def test_objects_without_status_flags_are_read_without() -> None:
    async with hall() as peer, driver_on(peer, inputs(2)) as driver:
        for i in range(2):
            del peer.values[0, i, STATUS_FLAGS]
        for _ in range(2):
            assert [r.value for r in await driver.read(0)] == [20.0, 21.0]
        assert len(peer.requests[1]) < len(peer.requests[0])


async def test_write_read_back_relinquish() -> None:
    sp = setpoint()
    async with hall() as peer, driver_on(peer, [sp]) as driver:
        assert await driver.present([sp]) == {"d/sp7": Present(7.0, None, None)}
        await driver.write_raw({"d/sp7": 8.5})
        assert peer.slots[SETPOINT] == {12: real(8.5)}
        assert await driver.present([sp]) == {"d/sp7": Present(8.5, 12, 8.5)}
        peer.slots[SETPOINT][8] = real(10.0)  # an operator
        assert await driver.present([sp]) == {"d/sp7": Present(10.0, 8, 8.5)}
        await driver.write_raw({"d/sp7": None})
        assert peer.slots[SETPOINT] == {8: real(10.0)}


async def test_a_device_without_priority_array_is_recognised() -> None:
    sp = setpoint()
    async with hall() as peer, driver_on(peer, [sp]) as driver:
        peer.slots.clear()
        await driver.write_raw({"d/sp7": 9.0})
        assert await driver.present([sp]) == {"d/sp7": Present(9.0, None, None)}


async def test_scale_and_offset_apply_to_every_slot() -> None:
    sp = setpoint(scale=5 / 9, offset=-160 / 9)  # the device speaks degF
    async with hall() as peer, driver_on(peer, [sp]) as driver:
        await driver.write_raw({"d/sp7": 10.0})
        assert peer.slots[SETPOINT] == {12: real(50.0)}
        present = (await driver.present([sp]))["d/sp7"]
        assert present.value == pytest.approx(10.0)
        assert present.ours == pytest.approx(10.0)


async def test_refusals_tell_whether_anything_changed() -> None:
    points = [setpoint(), setpoint(8)]
    async with hall() as peer, driver_on(peer, points) as driver:
        with pytest.raises(Refused, match="unknown object"):
            await driver.write_raw({"d/sp8": 8.0})
        with pytest.raises(Transient, match="in part: d/sp7"):
            await driver.write_raw({"d/sp7": 8.0, "d/sp8": 8.0})
        sent = len(peer.requests)
        for value in (float("nan"), float("inf"), 1e300):
            with pytest.raises(Refused):
                await driver.write_raw({"d/sp7": value})
        assert len(peer.requests) == sent
        peer.fault = lambda request, right: bytes((0x71, request[2], 0))
        with pytest.raises(Transient, match="may have been done"):
            await driver.write_raw({"d/sp7": 9.0})
        peer.fault = lambda request, right: None
        with pytest.raises(Transient) as unsure:
            await driver.write_raw({"d/sp7": 9.0})
        assert not isinstance(unsure.value, NotSent)
        assert len(peer.requests) == sent + 2  # nothing was repeated


async def test_what_cant_be_read_back_is_no_present_value() -> None:
    sp, gone = setpoint(), setpoint(8)
    async with hall() as peer, driver_on(peer, [sp, gone]) as driver:
        with pytest.raises(Refused, match="unknown object"):
            await driver.present([gone])
        array = (2, 7, PRIORITY_ARRAY)
        peer.slots.clear()
        for there, why in ((real(1) * 15, "a priority array of 15"), (b"\x00" * 17, "of 17")):
            peer.values[array] = there
            with pytest.raises(Transient, match=why):
                await driver.present([sp])
        peer.values[array] = b"\x00" * 11 + b"\x75\x02\x00x" + b"\x00" * 4
        odd = (await driver.present([sp]))[sp.key]
        assert odd.priority == 12  # taken by something that is no number, and not empty
        assert odd.ours is not None
        assert math.isnan(odd.ours)
        peer.values[SETPOINT] = b"\x75\x02\x00x"
        with pytest.raises(Transient, match="not a number"):
            await driver.present([sp])


async def test_what_is_not_writable_is_refused_before_anything_is_sent() -> None:
    mode = setpoint(4, "multi-state-value")
    points = [*inputs(1), mode, setpoint(5, "positive-integer-value")]
    async with hall() as peer, driver_on(peer, points) as driver:
        for key, value in (("d/ai0", 1.0), (mode.key, 1.5), ("d/sp5", -1.0)):
            with pytest.raises(Refused):
                await driver.write_raw({key: value})
        assert peer.requests == []


async def test_larger_requests_are_tried_again_after_a_while() -> None:
    async with hall(40) as peer, driver_on(peer, inputs(40)) as driver:
        peer.max_results = 12
        await driver.read(0)
        peer.max_results = 1000
        for _ in range(4 * GROW_AFTER_READS):
            await driver._batch.read(driver._ask, ())
        peer.requests.clear()
        assert (await driver.read(1))[39].value == 59.0
        assert len(peer.requests) == 1


@pytest.mark.parametrize(("mac", "wire"), [("5", b"\x05"), ("0x0a0b", b"\x0a\x0b")])
async def test_a_device_behind_a_router(mac: str, wire: bytes) -> None:
    sp = setpoint()
    async with hall() as peer:
        peer.behind = (2001, wire)
        more = {"bacnet_network": 2001, "bacnet_mac": mac}
        async with driver_on(peer, [sp, *inputs(3)], **more) as driver:
            assert [r.value for r in await driver.read(0)] == [7.0, 20.0, 21.0, 22.0]
            await driver.write_raw({"d/sp7": 8.5})
            assert await driver.present([sp]) == {"d/sp7": Present(8.5, 12, 8.5)}
            peer.behind = (2001, b"\x63")
            with pytest.raises(Transient):  # the reply of another device behind that router
                await driver.read(1)


@pytest.mark.parametrize("priority", [1, 8, 16, 0, 17])
def test_priorities_of_others_are_refused(priority: int) -> None:
    with pytest.raises(Permanent, match="refused"):
        BacnetDriver(device([setpoint()], "bacnet-ip", write_priority=priority), {})


async def test_devices_share_one_application_and_the_last_stops_it() -> None:
    async with hall() as a, hall() as b:
        one, two = BacnetDriver(bms(a, inputs(1)), {}), BacnetDriver(bms(b, inputs(1)), {})
        await asyncio.gather(one.read(0), two.read(0))
        await one.close()
        assert (await two.read(0))[0].value == 20.0
        await two.close()
        await two.close()  # twice is fine
        assert (await one.read(0))[0].value == 20.0  # lazily again
        await one.close()


async def test_a_local_port_that_is_taken_gives_way_to_a_free_one() -> None:
    taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(("127.0.0.3", 0))
    local = f"127.0.0.3:{taken.getsockname()[1]}"
    async with hall() as peer, driver_on(peer, inputs(1), local_address=local) as driver:
        assert (await driver.read(0))[0].value == 20.0
        assert driver._seat is not None
        assert driver._seat.network.lite.localIPAddr.addrTuple[0] == "127.0.0.3"
    taken.close()
    for wrong in ("203.0.113.9", "nowhere", "127.0.0.1:x"):
        async with driver_on(peer, inputs(1), local_address=wrong) as driver:
            with pytest.raises(Permanent, match="local_address"):
                await driver.connect()


async def test_two_local_addresses_are_refused() -> None:
    async with hall() as a, hall() as b, driver_on(a, inputs(1)) as one:
        await one.read(0)
        two = BacnetDriver(bms(b, inputs(1), local_address="127.0.0.9:47999"), {})
        with pytest.raises(Permanent, match="a process has one"):
            await two.connect()
        await two.close()


async def test_a_dead_device_does_not_hold_another() -> None:
    async with hall() as peer:
        dead = BacnetDriver(
            device(inputs(1), "bacnet-ip", host="127.0.1.41", port=47808, timeout_s=0.5), {}
        )
        async with driver_on(peer, inputs(1)) as alive:
            task = asyncio.create_task(dead.read(0))
            await asyncio.sleep(0.01)
            for _ in range(10):
                assert (await alive.read(0))[0].value == 20.0
            assert not task.done()
            with pytest.raises(Transient, match="no reply"):
                await task
            await dead.close()


def test_bac0_leaves_no_traces(tmp_path: Path) -> None:
    script = """
import asyncio, logging, os, sys
from tests.drivers.make import device, point
from config.addresses import BacnetAddress
from drivers.bacnet import BacnetDriver
from drivers.bacnet_batch import GROW_AFTER_READS
async def main():
    d = BacnetDriver(device([point("a", BacnetAddress("analog-input", 1))], "bacnet-ip", port=47808), {})
    hook = sys.displayhook
    await d.connect()
    assert sys.displayhook is hook
    assert "PLANTED" not in os.environ
    loggers = [logging.getLogger(n) for n in logging.root.manager.loggerDict if n.startswith("BAC0")]
    assert loggers and not any(log.handlers for log in loggers)
    await d.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.sleep(0.01)
    assert not [t for t in others if not t.done()], others
asyncio.run(main())
"""
    (tmp_path / ".env").write_text("PLANTED=1\n")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=tmp_path, capture_output=True, check=False,
        env={**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert [p.name for p in tmp_path.iterdir()] == [".env"]


async def test_commands_to_the_agent_itself_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with hall() as peer, driver_on(peer, inputs(1)) as driver:
        await driver.read(0)
        assert driver._seat is not None
        ours = driver._seat.network.app
        loop = asyncio.get_running_loop()
        replies: list[bytes] = []
        to = driver._seat.network.lite.localIPAddr.addrTuple
        peer.datagram_received = lambda data, addr: replies.append(data[6:])  # type: ignore[method-assign]
        silence = b"\x00\x05\x07\x11\x19\x01"  # DeviceCommunicationControl: disable
        write = b"\x00\x05\x08\x0f" + b"\x0c\x02\x00\x00\x01\x19\x4d\x3e\x75\x02\x00\x41\x3f"
        for request in (silence, write, b"\x00", b"\x30", b"\x00\x05\x09\x0e\xff\xff"):
            peer._transport.sendto(
                b"\x81\x0a\x00" + bytes((6 + len(request),)) + b"\x01\x04" + request, to
            )
        peer._transport.sendto(b"", to)
        peer._transport.sendto(b"\x81", to)
        await asyncio.sleep(0.05)
        assert {r[:2] for r in replies} >= {b"\x60\x07", b"\x60\x08"}  # rejected
        assert ours.asap.dccEnableDisable == "enable"
        stranger, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, ("127.0.1.77", 0)
        )
        stranger.sendto(b"\x81\x0a\x00\x08\x01\x00\x10\x08", to)  # Who-Is
        await asyncio.sleep(0.02)
        stranger.close()
        assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


@pytest.mark.peer
async def test_against_an_independent_stack() -> None:
    server = rusty_bacnet.BACnetServer(
        device_instance=1200, device_name="bms", interface="127.0.0.1", port=0,
        broadcast_address="127.0.0.1",
    )  # fmt: skip
    server.add_analog_value(7, "setpoint", 62)
    server.add_analog_value(8, "plain", 62, present_value_access="writable")
    server.add_multistate_value(4, "mode", 3)
    server.add_binary_value(4, "pump")
    for i in range(30):
        server.add_analog_input(i, f"ai{i}", 62, float(i))
    await server.start()
    port = int((await server.local_address()).rpartition(":")[2])
    try:
        sp, plain = setpoint(), setpoint(8)
        mode = setpoint(4, "multi-state-value")
        pump = point("pump", BacnetAddress("binary-value", 4), writable=writable(0, 1))
        points = [sp, plain, mode, pump, *inputs(31)]
        driver = BacnetDriver(device(points, "bacnet-ip", port=port, timeout_s=2.0), {})
        readings = await driver.read(0)
        assert [r.value for r in readings[4:]] == [*map(float, range(30)), None]
        await driver.write_raw({sp.key: 8.5, mode.key: 2.0, pump.key: 1.0})
        present = await driver.present([sp, mode, pump, plain])
        assert present[sp.key] == Present(8.5, 12, 8.5)
        assert present[mode.key] == Present(2.0, 12, 2.0)
        assert present[pump.key] == Present(1.0, 12, 1.0)
        assert present[plain.key].priority is None
        await driver.write_raw({sp.key: None, mode.key: None, pump.key: None})
        assert {p.ours for p in (await driver.present([sp, mode, pump])).values()} == {None}
        with pytest.raises(Refused):
            await driver.write_raw({mode.key: 9.0})
        await driver.close()
    finally:
        await server.stop()
