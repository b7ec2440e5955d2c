"""The workload driver against a hand-written router."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from config.addresses import WorkloadAddress
from config.secrets import SecretRef
from config.site import Device
from control.types import Quality
from drivers.contract import NotSent, Permanent, Refused, Transient
from drivers.workload import WorkloadDriver
from tests.drivers.http_peer import RouterPeer, reply
from tests.drivers.make import device, point, writable
from tests.drivers.modbus_peer import free_port

SHARES = ("A", "B")


def router(url: str, **more: object) -> Device:
    points = [
        point(
            f"traffic_share_pct.{row}",
            WorkloadAddress("traffic_share_pct", row),
            "traffic_share_pct",
            row=row,
            writable=writable(0, 100),
        )
        for row in SHARES
    ]
    points += [
        point(knob, WorkloadAddress(knob), knob, writable=writable(0, 120))  # type: ignore[arg-type]
        for knob in ("batch_window_ms", "admission_pct")
    ]
    more.setdefault("dry_run", False)
    return device(points, "workload-http", host="", url=url, **more)


@asynccontextmanager
async def driver_on(
    peer: RouterPeer, environ: Mapping[str, str] | None = None, **more: object
) -> AsyncIterator[WorkloadDriver]:
    driver = WorkloadDriver(router(peer.url, **more), environ or {})
    try:
        yield driver
    finally:
        await driver.close()


async def test_reads_all_knobs_with_one_request() -> None:
    async with RouterPeer() as peer, driver_on(peer) as driver:
        readings = await driver.read(3.0)
        assert [r.value for r in readings] == [60.0, 40.0, 40.0, 100.0]
        assert {r.quality for r in readings} == {Quality.GOOD}
        assert len(peer.requests) == 1


async def test_shares_are_one_change_and_read_back() -> None:
    async with RouterPeer() as peer, driver_on(peer) as driver:
        keys = [f"d/traffic_share_pct.{row}" for row in SHARES]
        await driver.write_raw(
            {keys[0]: 45.0, keys[1]: 55.0, "d/batch_window_ms": 60.0, "d/admission_pct": 50.0}
        )
        puts = [r[0] for r in peer.requests]
        assert puts == [
            "PUT /workload/traffic_share_pct",
            "PUT /workload/batch_window_ms",
            "PUT /workload/admission_pct",
        ]
        present = await driver.present(driver.device.points)
        assert [present[p.key].value for p in driver.device.points] == [45.0, 55.0, 60.0, 50.0]


async def test_outcomes_of_writes_are_told_apart() -> None:
    async with RouterPeer() as peer, driver_on(peer) as driver:
        with pytest.raises(Refused, match="sum to 100"):
            await driver.write_raw({"d/traffic_share_pct.A": 10.0})
        with pytest.raises(Refused, match="relinquished"):
            await driver.write_raw({"d/admission_pct": None})
        peer.fault = lambda request, right: reply({}, "503 Service Unavailable")
        with pytest.raises(Transient, match="503") as unsure:
            await driver.write_raw({"d/admission_pct": 10.0})
        assert not isinstance(unsure.value, NotSent)
        peer.fault = lambda request, right: (
            reply({}, "400 Bad Request") if "admission" in request else right
        )
        with pytest.raises(Transient, match="in part: batch_window_ms"):
            await driver.write_raw({"d/batch_window_ms": 20.0, "d/admission_pct": 10.0})
    closed = WorkloadDriver(router(f"http://127.0.0.1:{free_port()}"), {})
    with pytest.raises(NotSent):
        await closed.write_raw({"d/admission_pct": 10.0})
    await closed.close()


async def test_a_put_that_is_cut_off_is_not_repeated() -> None:
    async with RouterPeer() as peer, driver_on(peer) as driver:
        await driver.read(0)
        peer.fault = lambda request, right: None
        with pytest.raises(Transient):
            await driver.write_raw({"d/admission_pct": 10.0})
        assert [r[0] for r in peer.requests].count("PUT /workload/admission_pct") == 1


async def test_token_is_sent_and_never_shown() -> None:
    token = SecretRef(env="ROUTER_TOKEN")
    async with RouterPeer() as peer:
        async with driver_on(peer, {"ROUTER_TOKEN": "s3cret"}, token=token) as driver:
            await driver.read(0)
            assert peer.requests[-1][2]["authorization"] == "Bearer s3cret"
            peer.fault = lambda request, right: reply({}, "401 Unauthorized")
            with pytest.raises(Permanent, match="check the token") as told:
                await driver.read(0)
            assert "s3cret" not in str(told.value)
        async with driver_on(peer, {}, token=token) as driver:
            with pytest.raises(Permanent, match="ROUTER_TOKEN is not set"):
                await driver.connect()


async def test_a_knob_the_router_lacks_is_missing() -> None:
    async with RouterPeer() as peer, driver_on(peer) as driver:
        peer.state = {"traffic_share_pct": {"A": 100.0}, "batch_window_ms": True}
        readings = await driver.read(0)
        assert [r.value for r in readings] == [100.0, None, None, None]
        assert [r.quality for r in readings[1:]] == [Quality.MISSING, Quality.BAD, Quality.MISSING]


async def test_a_dry_run_sends_nothing_and_says_what_it_would_do() -> None:
    async with RouterPeer() as peer:
        driver = WorkloadDriver(router(peer.url, dry_run=True), {})
        with pytest.raises(Refused, match="dry_run: would do: PUT /workload/batch_window_ms"):
            await driver.write_raw({"d/batch_window_ms": 30.0})
        await driver.close()
        assert peer.requests == []
