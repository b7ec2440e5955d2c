"""SNMP reading and writing: sizes, missing values, SET, and a read-back."""

import pytest

from config.addresses import SnmpAddress
from config.schema import AuthSection
from config.secrets import SecretRef
from config.site import Device, Point
from control.types import Quality
from drivers.contract import NotSent, Permanent, Refused, Transient
from drivers.snmp import SnmpDriver
from drivers.snmp_batch import BatchSize
from tests.drivers import make
from tests.drivers.snmp_peer import Agent, num, reply, serve, tlv

BASE = (1, 3, 6, 1, 4, 1, 99999, 7)


def point(index: int, quantity: str = "state", **more: object) -> Point:
    return make.point(f"p{index}", SnmpAddress((*BASE, index)), quantity, **more)


def name(index: int) -> str:
    return ".".join(map(str, (*BASE, index)))


def device(port: int, points: list[Point], **more: object) -> Device:
    more.setdefault("auth", AuthSection(community=SecretRef(env="COMMUNITY")))
    return make.device(points, "snmp", port=port, timeout_s=0.1, **more)


ENV = {"COMMUNITY": "public"}


async def test_values_come_in_the_order_of_the_points_and_each_oid_is_asked_once() -> None:
    points = [point(2), point(1), point(2, "voltage_v", unit="V", scale=0.1)]
    async with serve(Agent({name(1): num(7), name(2): num(2_301)})) as agent:
        driver = SnmpDriver(device(agent.port, points), ENV)
        readings = await driver.read(5.0)
        await driver.close()
    assert [r.value for r in readings] == [2301, 7, pytest.approx(230.1)]
    assert {r.taken_s for r in readings} == {5.0}
    assert [sorted(r.oids) for r in agent.requests] == [[name(1), name(2)]]


async def test_number_types_and_sentinels() -> None:
    values = {
        1: (num(-40), -40.0), 2: (tlv(0x42, b"\x00\xff\xff\xff\xff"), 4294967295.0),
        3: (tlv(0x41, b"\xff\xff\xff\xff"), 4294967295.0), 4: (num(2**60, 0x46), float(2**60)),
        5: (tlv(4, b" 21.5\x00"), 21.5), 6: (tlv(0x44, b"\x9f\x78\x04\x41\xac\x00\x00"), 21.5),
        7: (num(-1), None), 8: (tlv(0x43, b"\x05"), 5.0),
    }  # fmt: skip
    points = [point(i, sentinels=(-1.0, -410.0)) for i in values]
    async with serve(Agent({name(i): v for i, (v, _) in values.items()})) as agent:
        driver = SnmpDriver(device(agent.port, points), ENV)
        readings = await driver.read(0.0)
        await driver.close()
    assert [r.value for r in readings] == [wanted for _, wanted in values.values()]
    assert readings[6].quality is Quality.MISSING


@pytest.mark.parametrize("limit", [{"most": 7}, {"mute_above": 7}, {"most": 1}])
async def test_requests_shrink_to_what_the_device_bears(limit: dict[str, int]) -> None:
    points = [point(i) for i in range(1, 101)]
    values = {name(i): num(i) for i in range(1, 101)}
    async with serve(Agent(values, **limit)) as agent:
        driver = SnmpDriver(device(agent.port, points), ENV)
        for _ in range(8):  # a device that is silent needs some polls to be understood
            try:
                readings = await driver.read(0.0)
            except Transient:
                continue
        assert [r.value for r in readings] == list(range(1, 101))
        agent.requests.clear()
        await driver.read(0.0)
        await driver.close()
    bound = next(iter(limit.values()))
    assert max(len(r.oids) for r in agent.requests) <= bound
    assert len(agent.requests) <= 100 / max(1, bound // 2) + 1


async def test_one_lost_datagram_is_asked_again() -> None:
    async with serve(Agent({name(1): num(3)})) as agent:
        lost = iter([True])
        agent.fault = lambda a, r: [] if next(lost, False) else a.proper(r)
        driver = SnmpDriver(device(agent.port, [point(1)]), ENV)
        assert (await driver.read(0.0))[0].value == 3
        await driver.close()


def test_a_refused_size_is_tried_again_ever_more_rarely() -> None:
    size = BatchSize(40)
    tries = []
    for read in range(500):
        if size.size > 10:
            tries.append(read)
            while size.size > 10:
                size.smaller(size.size)
            size.refused()
        size.answered()
        size.read_done()
    assert size.size == 10
    assert tries == sorted(set(tries))
    assert 2 <= len(tries) <= 5


async def test_a_device_that_is_gone_is_transient_and_says_where() -> None:
    async with serve(Agent()) as agent:
        port = agent.port
    driver = SnmpDriver(device(port, [point(1)]), ENV)
    with pytest.raises(Transient, match=f"127.0.0.1:{port}"):
        await driver.read(0.0)
    await driver.close()


async def test_a_secret_that_is_not_there_is_permanent_and_named() -> None:
    driver = SnmpDriver(device(9, [point(1)]), {})
    with pytest.raises(Permanent, match="COMMUNITY"):
        await driver.connect()


async def test_set_writes_the_objects_own_type_and_reads_back() -> None:
    written = point(1, "supply_air_setpoint_c", unit="degC", scale=0.1,
                    writable=make.writable(16, 27))  # fmt: skip
    for kind in (0x02, 0x42):
        async with serve(Agent({name(1): num(180, kind)})) as agent:
            driver = SnmpDriver(device(agent.port, [written]), ENV)
            await driver.write_raw({written.key: 21.5})
            assert agent.values[name(1)] == num(215, kind)
            held = await driver.present([written])
            assert held[written.key].value == pytest.approx(21.5)
            assert [r.kind for r in agent.requests] == [0xA0, 0xA3, 0xA0]
            await driver.close()


@pytest.mark.parametrize(
    ("status", "error"), [(17, Refused), (10, Refused), (5, Transient), (15, Transient)]
)
async def test_set_tells_a_refusal_from_an_unknown_outcome(status: int, error: type) -> None:
    async with serve(Agent({name(1): num(1)})) as agent:
        agent.fault = lambda a, r: (
            [reply(r, a.held(r), error=status, index=1)] if r.kind == 0xA3 else a.proper(r)
        )
        driver = SnmpDriver(device(agent.port, [point(1)]), ENV)
        with pytest.raises(error):
            await driver.write_raw({"d/p1": 2.0})
        assert [r.kind for r in agent.requests].count(0xA3) == 1
        await driver.close()


async def test_set_without_an_answer_is_sent_once_and_unknown() -> None:
    async with serve(Agent({name(1): num(1)})) as agent:
        agent.fault = lambda a, r: [] if r.kind == 0xA3 else a.proper(r)
        driver = SnmpDriver(device(agent.port, [point(1)]), ENV)
        with pytest.raises(Transient) as caught:
            await driver.write_raw({"d/p1": 2.0})
        assert not isinstance(caught.value, NotSent)
        assert [r.kind for r in agent.requests].count(0xA3) == 1
        await driver.close()


@pytest.mark.parametrize(
    ("held", "value", "error"),
    [(tlv(0x81, b""), 2.0, Refused), (tlv(4, b"auto"), 2.0, Refused), (num(1), 1e12, Refused),
     (num(1), None, Refused)],
)  # fmt: skip
async def test_nothing_is_sent_that_the_object_can_not_hold(
    held: bytes, value: float | None, error: type
) -> None:
    async with serve(Agent({name(1): held})) as agent:
        driver = SnmpDriver(device(agent.port, [point(1)]), ENV)
        with pytest.raises(error):
            await driver.write_raw({"d/p1": value})
        assert 0xA3 not in [r.kind for r in agent.requests]
        await driver.close()


async def test_a_device_that_does_not_read_is_not_written() -> None:
    async with serve(Agent({name(1): num(1)}, fault=lambda a, r: [])) as agent:
        driver = SnmpDriver(device(agent.port, [point(1)]), ENV)
        with pytest.raises(NotSent):
            await driver.write_raw({"d/p1": 2.0})
        assert 0xA3 not in [r.kind for r in agent.requests]
        await driver.close()
