"""The Modbus driver against a hand-written peer: reads, types, learning, writes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from config.schema import AuthSection
from config.secrets import SecretRef
from config.site import Point
from control.types import Quality
from drivers.contract import NotSent, Permanent, Refused, Transient
from drivers.modbus import ModbusDriver
from drivers.registry import DRIVERS, make_driver
from tests.drivers.make import device, point, register, writable
from tests.drivers.modbus_peer import ModbusPeer, free_port


@asynccontextmanager
async def driver_on(
    peer: ModbusPeer, points: list[Point], **more: object
) -> AsyncIterator[ModbusDriver]:
    driver = ModbusDriver(device(points, port=peer.port, **more), {})
    try:
        yield driver
    finally:
        await driver.close()


def setpoint(id_: str = "sp", at: int = 0) -> Point:
    return point(
        id_,
        register(f"holding:{at}", "int16"),
        "supply_air_setpoint_c",
        scale=0.1,
        writable=writable(16, 27),
    )


async def test_reads_scaled_values_in_one_request_per_table() -> None:
    async with ModbusPeer() as peer:
        peer.input = {0: 0xFF38, 1: 0, 2: 215}
        peer.holding = {0: 180}
        points = [
            point("a", register("input:0", "int16"), "supply_air_c", scale=0.1),
            setpoint(),
            point("b", register("input:2"), "inlet_c", scale=0.1),
        ]
        async with driver_on(peer, points) as driver:
            readings = await driver.read(7.0)
        assert [r.value for r in readings] == pytest.approx([-20.0, 18.0, 21.5])
        assert {r.quality for r in readings} == {Quality.GOOD}
        assert [r.point for r in readings] == ["d/a", "d/sp", "d/b"]
        assert {r.taken_s for r in readings} == {7.0}
        assert len(peer.requests) == 2


async def test_refused_gap_is_left_out_and_remembered() -> None:
    async with ModbusPeer() as peer:
        peer.holding = {0: 1, 4: 5, 9: 7}  # the registers between don't exist
        points = [point(f"p{a}", register(f"holding:{a}")) for a in (0, 4, 9)]
        async with driver_on(peer, points) as driver:
            assert [r.value for r in await driver.read(0)] == [1, 5, 7]
            learned = len(peer.requests)
            assert [r.value for r in await driver.read(1)] == [1, 5, 7]
            assert len(peer.requests) - learned == 3


async def test_point_the_device_lacks_is_missing_and_others_good() -> None:
    async with ModbusPeer() as peer:
        peer.holding = {0: 1, 1: 2, 3: 4}
        points = [point(f"p{a}", register(f"holding:{a}")) for a in range(4)]
        async with driver_on(peer, points) as driver:
            for _ in range(2):
                readings = await driver.read(0)
                assert [r.value for r in readings] == [1, 2, None, 4]
                assert readings[2].quality is Quality.MISSING
                assert "illegal data address" in readings[2].reason
            before = len(peer.requests)
            await driver.read(0)
            asked = {int.from_bytes(r[1:3], "big") for r in peer.requests[before:]}
            assert 2 not in asked
            peer.holding[2] = 3
            for _ in range(60):
                readings = await driver.read(0)
            assert readings[2].value == 3


async def test_writes_read_back() -> None:
    async with ModbusPeer() as peer:
        peer.holding = {0: 180}
        sp = setpoint()
        async with driver_on(peer, [sp]) as driver:
            await driver.write_raw({"d/sp": 21.34})
            assert peer.holding[0] == 213
            assert peer.requests[-1][0] == 6
            present = await driver.present([sp])
            assert present["d/sp"].value == pytest.approx(21.3)
            assert present["d/sp"].priority is None


async def test_neighbours_are_written_as_one_request() -> None:
    async with ModbusPeer() as peer:
        peer.holding = dict.fromkeys(range(8), 0)
        points = [setpoint("a", 0), setpoint("b", 1), setpoint("c", 5)]
        async with driver_on(peer, points) as driver:
            await driver.write_raw({"d/c": 20.0, "d/b": 21.0, "d/a": 22.0})
        assert [r[0] for r in peer.requests] == [16, 6]
        assert (peer.holding[0], peer.holding[1], peer.holding[5]) == (220, 210, 200)


async def test_refusals_tell_whether_anything_changed() -> None:
    async with ModbusPeer() as peer:
        peer.holding = {0: 180}
        points = [setpoint("a", 0), setpoint("b", 5)]
        async with driver_on(peer, points) as driver:
            with pytest.raises(Refused, match="illegal data address"):
                await driver.write_raw({"d/b": 20.0})
            with pytest.raises(Transient, match="in part"):
                await driver.write_raw({"d/a": 20.0, "d/b": 20.0})
            with pytest.raises(Refused, match="relinquish"):
                await driver.write_raw({"d/a": None})
            with pytest.raises(Refused, match="does not fit"):
                await driver.write_raw({"d/a": 4000.0})
            sent = len(peer.requests)
            await peer.stop()
            await asyncio.sleep(0.05)  # the driver sees the connection go
            with pytest.raises(NotSent):
                await driver.write_raw({"d/a": 20.0})
            assert len(peer.requests) == sent


async def test_nobody_listens() -> None:
    driver = ModbusDriver(device([setpoint()], port=free_port()), {})
    with pytest.raises(Transient, match="no connection"):
        await driver.connect()
    with pytest.raises(Transient):
        await driver.read(0)
    await driver.close()


async def test_a_gateway_that_answers_for_a_dead_unit_is_no_answer() -> None:
    async with ModbusPeer() as peer:
        peer.holding = {0: 180}
        async with driver_on(peer, [setpoint()]) as driver:
            peer.fault = lambda q, r: r[:5] + b"\x03" + r[6:7] + b"\x83\x0b"
            with pytest.raises(Transient, match="no answer behind the gateway"):
                await driver.read(0)
            peer.fault = None
            assert (await driver.read(1))[0].value == pytest.approx(18.0)


async def test_a_busy_device_leaves_its_points_unknown_this_time() -> None:
    async with ModbusPeer() as peer:
        peer.holding = {0: 180}
        async with driver_on(peer, [setpoint()]) as driver:
            peer.fault = lambda q, r: r[:5] + b"\x03" + r[6:7] + b"\x83\x06"
            (reading,) = await driver.read(0)
            assert (reading.value, reading.quality) == (None, Quality.UNKNOWN)
            peer.fault = None
            assert (await driver.read(1))[0].value == pytest.approx(18.0)


async def test_a_point_that_is_gone_has_no_present_value() -> None:
    async with ModbusPeer() as peer, driver_on(peer, [setpoint()]) as driver:
        with pytest.raises(Refused, match="illegal data address"):
            await driver.present([setpoint()])


@pytest.mark.parametrize("protocol", sorted(DRIVERS))
def test_the_registry_makes_every_driver(protocol: str) -> None:
    auth = AuthSection(community=SecretRef(env="X")) if protocol == "snmp" else None
    driver = make_driver(device([], protocol, port=9, url="http://127.0.0.1:9", auth=auth), {})
    assert driver.device.protocol == protocol


def test_an_unknown_protocol_is_told() -> None:
    with pytest.raises(Permanent, match="no driver for protocol 'knx'"):
        make_driver(device([], "knx"), {})


def test_a_point_in_a_hole_is_told() -> None:
    with pytest.raises(Permanent, match="lies in the hole"):
        ModbusDriver(device([setpoint()], no_read=("holding:0",)), {})
