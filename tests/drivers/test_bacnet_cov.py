"""COV: values that come by themselves, renewed, verified, never taken from a stranger."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import rusty_bacnet

from config.addresses import BacnetAddress
from control.types import Quality
from drivers.bacnet import BacnetDriver
from drivers.contract import Transient
from tests.drivers.bacnet_peer import PRESENT_VALUE, STATUS_FLAGS, BacnetPeer, real
from tests.drivers.make import device, point

MAX_AGE_S = 100.0  # verified every 50 s of the agent's clock
SUBSCRIBE, READ_MULTIPLE = 5, 14


@asynccontextmanager
async def watched(count: int = 3, **more: object) -> AsyncIterator[tuple[BacnetPeer, BacnetDriver]]:
    more.setdefault("cov_lifetime_s", 600)
    points = [
        point(f"a{i}", BacnetAddress("analog-input", i), max_age_s=MAX_AGE_S) for i in range(count)
    ]
    async with BacnetPeer({(0, i, PRESENT_VALUE): real(20.0 + i) for i in range(count)}) as peer:
        driver = BacnetDriver(
            device(points, "bacnet-ip", host=peer.host, port=peer.port, **more), {}
        )
        try:
            yield peer, driver
        finally:
            await driver.close()


def services(peer: BacnetPeer) -> list[int]:
    return [r[3] for r in peer.requests]


async def settle() -> None:
    await asyncio.sleep(0.02)


async def test_a_notification_is_read_without_a_request() -> None:
    async with watched() as (peer, driver):
        first = await driver.read(1000.0)
        assert [r.value for r in first] == [20.0, 21.0, 22.0]
        assert services(peer) == [SUBSCRIBE] * 3 + [READ_MULTIPLE]
        peer.requests.clear()
        peer.notify(0, 1, real(25.5))
        await settle()
        readings = await driver.read(1005.0)
        assert [r.value for r in readings] == [20.0, 25.5, 22.0]
        assert {r.quality for r in readings} == {Quality.GOOD}
        assert peer.requests == []


async def test_silence_ages_and_is_verified_before_it_is_too_old() -> None:
    async with watched() as (peer, driver):
        for now_s in (1000.0, 1020.0, 1040.0):
            readings = await driver.read(now_s)
            assert {r.taken_s for r in readings} == {1000.0}
        peer.notify(0, 0, real(30.0))
        await settle()
        readings = await driver.read(1045.0)
        assert [r.taken_s for r in readings] == [1040.0, 1000.0, 1000.0]  # never later than it was
        assert services(peer).count(READ_MULTIPLE) == 1
        peer.values[0, 0, PRESENT_VALUE] = real(30.0)
        readings = await driver.read(1050.0)
        assert {r.taken_s for r in readings} == {1050.0}
        assert services(peer).count(READ_MULTIPLE) == 2


async def test_a_change_nobody_told_voids_the_subscription() -> None:
    async with watched() as (peer, driver):
        await driver.read(1000.0)
        peer.subscribers.clear()  # it restarted, and forgot
        peer.values[0, 2, PRESENT_VALUE] = real(40.0)
        assert [r.value for r in await driver.read(1050.0)] == [20.0, 21.0, 40.0]
        await driver.read(1055.0)
        assert list(peer.subscribers) == [(0, 2)]


async def test_subscriptions_are_finite_and_renewed_at_half_their_life() -> None:
    async with watched(cov_lifetime_s=1) as (peer, driver):
        await driver.read(1000.0)
        assert {lifetime_s for *_, lifetime_s in peer.subscribers.values()} == {1}
        await driver.read(1001.0)
        assert services(peer).count(SUBSCRIBE) == 3
        await asyncio.sleep(0.6)
        await driver.read(1002.0)
        assert services(peer).count(SUBSCRIBE) == 6


async def test_an_expired_subscription_is_no_word() -> None:
    async with watched(count=12, cov_lifetime_s=1) as (peer, driver):
        for now_s in (1000.0, 1001.0):
            await driver.read(now_s)
        assert services(peer).count(SUBSCRIBE) >= 12  # a slow machine renews some meanwhile
        await asyncio.sleep(1.1)
        peer.requests.clear()
        peer.cov = False
        readings = await driver.read(1002.0)
        assert {r.taken_s for r in readings} == {1002.0}  # all polled
        assert READ_MULTIPLE in services(peer)


async def test_status_flags_are_told_with_the_value() -> None:
    async with watched() as (peer, driver):
        for i in range(3):
            peer.values[0, i, STATUS_FLAGS] = b"\x82\x04\x00"
        await driver.read(1000.0)
        peer.requests.clear()
        peer.notify(0, 1, real(21.0), flags=b"\x82\x04\x40")
        await settle()
        reading = (await driver.read(1005.0))[1]
        assert (reading.value, reading.quality) == (None, Quality.BAD)
        assert "fault" in reading.reason
        assert peer.requests == []


async def test_a_device_that_declines_is_polled() -> None:
    async with watched() as (peer, driver):
        peer.cov = False
        for now_s in (1000.0, 1005.0, 1010.0):
            readings = await driver.read(now_s)
            assert {r.taken_s for r in readings} == {now_s}
        assert services(peer).count(SUBSCRIBE) == 3
        assert services(peer).count(READ_MULTIPLE) == 3


async def test_strangers_and_nonsense_are_not_listened_to() -> None:
    async with watched() as (peer, driver):
        await driver.read(1000.0)
        addr, process, lifetime_s = peer.subscribers[0, 1]
        peer.subscribers[0, 9] = (addr, process, lifetime_s)
        peer.notify(0, 9, real(99.0))  # an object nobody asked about
        peer.notify(0, 1, real(99.0), process=b"\x7f")  # another process' subscription
        peer.from_elsewhere = True
        peer.notify(0, 1, real(99.0))  # another port of the same host
        peer.from_elsewhere = False
        peer.send(b"\x10\x02\x09", addr)
        peer.send(b"\x10\x02" + b"\xff" * 30, addr)
        await settle()
        assert [r.value for r in await driver.read(1005.0)] == [20.0, 21.0, 22.0]
        for value, quality in ((b"\x75\x03\x00hi", Quality.BAD), (b"\x00", Quality.BAD),
                               (real(float("nan")), Quality.MISSING)):  # fmt: skip
            peer.notify(0, 1, value)
            await settle()
            reading = (await driver.read(1010.0))[1]
            assert (reading.value, reading.quality) == (None, quality)


async def test_a_device_that_was_away_is_asked_everything_again() -> None:
    async with watched(timeout_s=0.1) as (peer, driver):
        await driver.read(1000.0)
        peer.fault = lambda request, right: None
        with pytest.raises(Transient):
            await driver.read(1050.0)
        peer.fault = None
        peer.subscribers.clear()
        peer.values[0, 0, PRESENT_VALUE] = real(33.0)
        assert [r.value for r in await driver.read(1055.0)] == [33.0, 21.0, 22.0]
        assert len(peer.subscribers) == 3


@pytest.mark.peer
async def test_against_an_independent_stack() -> None:
    server = rusty_bacnet.BACnetServer(
        1200, "bms", interface="127.0.0.1", port=0, broadcast_address="127.0.0.1"
    )
    server.add_analog_input(0, "outdoor", 62, 10.0)
    await server.start()
    port = int((await server.local_address()).rpartition(":")[2])
    one = point("a", BacnetAddress("analog-input", 0), max_age_s=1e6)
    driver = BacnetDriver(
        device([one], "bacnet-ip", port=port, cov_lifetime_s=300, timeout_s=2.0), {}
    )
    try:
        assert (await driver.read(1.0))[0].value == 10.0
        oid = rusty_bacnet.ObjectIdentifier(rusty_bacnet.ObjectType.ANALOG_INPUT, 0)
        await server.set_present_value_local(oid, rusty_bacnet.PropertyValue.real(17.0))
        async with asyncio.timeout(5):
            while (await driver.read(2.0))[0].value != 17.0:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        await driver.close()
        await server.stop()
