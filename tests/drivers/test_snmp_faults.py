"""The malformed-reply matrix of SNMP: nothing is invented, and the next request is right."""

import pytest

from config.addresses import SnmpAddress
from config.schema import AuthSection
from config.secrets import SecretRef
from config.site import Device
from control.types import Quality
from drivers.contract import Transient
from drivers.snmp import SnmpDriver
from tests.drivers import make
from tests.drivers.snmp_peer import Agent, Fault, Request, num, oid, reply, seq, serve, tlv

A, B = "1.3.6.1.4.1.99999.1.1", "1.3.6.1.4.1.99999.1.2"
FOREIGN = "1.3.6.1.4.1.99999.2.9"
VALUES = {A: num(230), B: num(412, 0x42)}


def device(port: int) -> Device:
    community = AuthSection(community=SecretRef(env="COMMUNITY"))
    points = [
        make.point("a", SnmpAddress(tuple(map(int, A.split(".")))), "voltage_v", unit="V"),
        make.point("b", SnmpAddress(tuple(map(int, B.split(".")))), "current_a", scale=0.1),
    ]
    return make.device(points, "snmp", port=port, auth=community, timeout_s=0.08)


def both(value: bytes) -> Fault:
    return lambda agent, request: [reply(request, [(o, value) for o in request.oids])]


def changed(**how: object) -> Fault:
    return lambda agent, request: [reply(request, agent.held(request), **how)]  # type: ignore[arg-type]


def binds(*pairs: tuple[str, bytes]) -> Fault:
    return lambda agent, request: [reply(request, list(pairs))]


def bent(how: object) -> Fault:
    return lambda agent, request: [how(reply(request, agent.held(request)))]  # type: ignore[operator]


def raw_binds(body: bytes) -> Fault:
    def answer(agent: Agent, request: Request) -> list[bytes]:
        head = num(request.id) + num(0) + num(0)
        return [seq(num(1), tlv(4, b"public"), tlv(0xA2, head + body))]

    return answer


# A fault on every reply: neither point may have a value.
FAULTS: dict[str, Fault] = {
    "silence": lambda agent, request: [],
    "another request's id": lambda agent, request: changed(rid=request.id + 1)(agent, request),
    "another community": changed(community=b"evil"),
    "another version": changed(version=0),
    "a request instead of a response": changed(kind=0xA0),
    "a report": changed(kind=0xA8),
    "genErr with values": changed(error=5, index=0),
    "an error status nobody knows, with values": changed(error=99, index=0),
    "tooBig with values": changed(error=1),
    "tooBig for ever": lambda agent, request: [reply(request, [], error=1)],
    "authorizationError": changed(error=16, index=1),
    "an index outside the request": changed(error=5, index=77),
    "no varbinds": binds(),
    "foreign OIDs": binds((FOREIGN, num(1)), (FOREIGN + ".1", num(2))),
    "swapped": lambda agent, request: [reply(request, [(FOREIGN, num(1)), *agent.held(request)])],
    "more varbinds than asked for": lambda agent, request: [
        reply(request, [*agent.held(request), (FOREIGN, num(3))])
    ],
    "NULL values": both(tlv(5, b"")),
    "noSuchObject": both(tlv(0x80, b"")),
    "noSuchInstance": both(tlv(0x81, b"")),
    "endOfMibView": both(tlv(0x82, b"")),
    "an integer without bytes": both(tlv(2, b"")),
    "an integer of five bytes": both(tlv(2, b"\x00\x00\x00\x00\x07")),
    "an unsigned of six bytes": both(tlv(0x42, b"\x00\x00\x00\x00\x00\x07")),
    "a counter64 of twenty bytes": both(tlv(0x46, b"\x00" * 20)),
    "a type nobody knows": both(tlv(0x4F, b"\x01")),
    "text": both(tlv(4, b"n/a")),
    "text that starts like a number": both(tlv(4, b"21.5 and more")),
    "no text": both(tlv(4, b"")),
    "an OID": both(oid("1.3.6.1")),
    "an IP address": both(tlv(0x40, b"\x01\x02\x03\x04")),
    "a float that is NaN": both(tlv(0x44, b"\x9f\x78\x04\x7f\xc0\x00\x00")),
    "a float that is infinite": both(tlv(0x44, b"\x9f\x78\x04\x7f\x80\x00\x00")),
    "a float of three bytes": both(tlv(0x44, b"\x9f\x78\x04\x42\xf6\xe9")),
    "implausible": both(num(-2_000_000)),
    "an exception with a body": both(tlv(0x81, b"\x01")),
    "two values in a varbind": both(num(1) + num(2)),
    "an empty OID": raw_binds(seq(seq(tlv(6, b""), num(1)), seq(tlv(6, b""), num(1)))),
    "varbinds that are no sequence": raw_binds(tlv(0x31, b"")),
    "nothing at all": lambda agent, request: [b""],
    "noise": lambda agent, request: [b"\x00\xff\x13garbage", b"\x30", bytes(1400)],
    "bytes after the message": bent(lambda data: data + b"\x00"),
    "an indefinite length": bent(lambda data: b"\x30\x80" + data[2:] + b"\x00\x00"),
    "a length of four gigabytes": bent(lambda data: b"\x30\x84\xff\xff\xff\xff" + data[2:]),
    "a length of nine bytes": bent(lambda data: b"\x30\x89" + bytes(8) + b"\x30" + data[2:]),
    "a flood": lambda agent, request: [b"\x30\x03\x02\x01\x01"] * 300,
    **{
        f"cut to {size} bytes": bent(lambda data, size=size: data[:size])
        for size in (1, 2, 3, 7, 12, 20, 30, 40)  # the reply of one point has some 45
    },
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_wrong_reply_never_becomes_a_reading(name: str) -> None:
    async with serve(Agent(dict(VALUES))) as agent:
        driver = SnmpDriver(device(agent.port), {"COMMUNITY": "public"})
        try:
            agent.fault = FAULTS[name]
            try:
                readings = await driver.read(1.0)
            except Transient:
                readings = []
            assert [r for r in readings if r.value is not None] == []
            assert all(r.quality is not Quality.GOOD and r.reason for r in readings)
            agent.fault = None
            after = await driver.read(2.0)
            assert [r.value for r in after] == [230.0, pytest.approx(41.2)]
        finally:
            await driver.close()


async def test_a_late_reply_does_not_answer_the_next_request() -> None:
    async with serve(Agent(dict(VALUES))) as agent:
        kept: list[bytes] = []

        def late(agent: Agent, request: Request) -> list[bytes]:
            sent = list(kept)
            kept[:] = [reply(request, [(o, num(1)) for o in request.oids])]
            return sent

        driver = SnmpDriver(device(agent.port), {"COMMUNITY": "public"})
        agent.fault = late
        for _ in range(3):
            with pytest.raises(Transient):
                await driver.read(1.0)
        agent.fault = lambda agent, request: [*kept, *agent.proper(request), *kept]
        for _ in range(3):
            assert [r.value for r in await driver.read(2.0)] == [230.0, pytest.approx(41.2)]
        await driver.close()


async def test_one_faulty_object_does_not_take_its_neighbour_with_it() -> None:
    def faulty(agent: Agent, request: Request) -> list[bytes]:
        if A in request.oids:
            return [reply(request, [], error=5, index=request.oids.index(A) + 1)]
        return agent.proper(request)

    async with serve(Agent(dict(VALUES), fault=faulty)) as agent:
        driver = SnmpDriver(device(agent.port), {"COMMUNITY": "public"})
        first, second = await driver.read(1.0)
        assert first.quality is Quality.BAD
        assert "genErr" in first.reason
        assert second.value == pytest.approx(41.2)
        await driver.close()
