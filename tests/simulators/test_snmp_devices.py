"""Row PDUs over SNMP, as net-snmp sees them, and hostile datagrams."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulators.devices import ber
from simulators.devices.mib import Mib
from simulators.devices.snmp import Agent
from simulators.hall import Hall
from simulators.park import Park
from simulators.site import POWER_OID, TEMPERATURE_OID, devices
from simulators.world import World
from tests.simulators.make import SECRETS, running_park

V3 = (
    "-v3", "-u", SECRETS.v3_user, "-l", "authPriv", "-a", "SHA-256", "-A", SECRETS.v3_auth,
    "-x", "AES", "-X", SECRETS.v3_priv,
)  # fmt: skip
V1 = ("-v1", "-c", SECRETS.community)
V2C = ("-v2c", "-c", SECRETS.community)


@pytest.fixture
async def park() -> AsyncIterator[Park]:
    async with running_park() as park:
        yield park


async def net_snmp(
    program: str, park: Park, device: str, options: tuple[str, ...], *words: str
) -> tuple[int, str]:
    at = park.servers[device].device
    where = f"{at.host}:{at.port}"
    started = await asyncio.create_subprocess_exec(
        program, "-On", "-Oe", "-t", "1", "-r", "0", *options, where, *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await started.communicate()
    return started.returncode or 0, out.decode()


@pytest.mark.peer
@pytest.mark.parametrize(("device", "how"), [("pdu-a", V2C), ("pdu-f", V3)])
async def test_a_bulk_walk_finds_every_rack(
    park: Park, peer: Callable[[str], str], device: str, how: tuple[str, ...]
) -> None:
    code, out = await net_snmp(peer("snmpbulkwalk"), park, device, how, "1.3.6.1")
    assert code == 0
    found = dict(re.findall(r"^\.([\d.]+) = INTEGER: (-?\d+)$", out, re.MULTILINE))
    row = device[-1].upper()
    for n in range(1, 13):
        readings = park.world.readings
        assert int(found[f"{POWER_OID}.{n}"]) == round(
            readings[f"{device}/pdu_kw.{row}{n:02d}"] * 100
        )
        assert int(found[f"{TEMPERATURE_OID}.{n}"]) == round(
            readings[f"{device}/inlet_c.{row}{n:02d}"] * 10
        )
    assert ".1.3.6.1.4.1.318.1.3.4.6" in out


@pytest.mark.peer
@pytest.mark.parametrize(("device", "how"), [("pdu-a", V2C), ("pdu-f", V3)])
async def test_nothing_is_writable(
    park: Park, peer: Callable[[str], str], device: str, how: tuple[str, ...]
) -> None:
    code, out = await net_snmp(peer("snmpset"), park, device, how, f"{POWER_OID}.1", "i", "5")
    assert code != 0
    assert "notWritable" in out
    assert park.world.journal_since(0)[0]["outcome"] == "refused: not writable"


@pytest.mark.peer
async def test_strangers_get_no_answer_and_v1_gets_v1(
    park: Park, peer: Callable[[str], str]
) -> None:
    get = peer("snmpget")
    code, out = await net_snmp(get, park, "pdu-a", ("-v2c", "-c", "public"), f"{POWER_OID}.1")
    assert code != 0
    assert "Timeout" in out
    code, _ = await net_snmp(get, park, "pdu-f", V2C, f"{POWER_OID}.1")
    assert code != 0
    code, out = await net_snmp(get, park, "pdu-a", V1, f"{POWER_OID}.1")
    assert code == 0
    code, out = await net_snmp(get, park, "pdu-a", V1, "1.3.9")
    assert "noSuchName" in out
    code, out = await net_snmp(get, park, "pdu-a", V2C, f"{POWER_OID}.99")
    assert "No Such" in out


@pytest.mark.peer
async def test_one_pdu_stops_alone(park: Park, peer: Callable[[str], str]) -> None:
    for device, how in (("pdu-a", V2C), ("pdu-f", V3)):
        await park.act(device, "stop")
        code, _ = await net_snmp(peer("snmpget"), park, device, how, f"{POWER_OID}.1")
        assert code != 0
        await park.act(device, "start")
        code, _ = await net_snmp(peer("snmpget"), park, device, how, f"{POWER_OID}.1")
        assert code == 0


WORLD = World(Hall())
DEVICE = next(d for d in devices() if d.id == "pdu-a")
AGENT = Agent(DEVICE, Mib(DEVICE, WORLD), WORLD, b"c")


class Sink:
    """Takes what the agent sends."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def sendto(self, data: bytes, _: object) -> None:
        self.sent.append(data)


def message(kind: int, names: list[tuple[int, ...]], a: int = 0, b: int = 0) -> bytes:
    bindings = b"".join(
        ber.tlv(ber.SEQUENCE, ber.oid(name) + bytes((ber.NULL, 0))) for name in names
    )
    pdu = ber.integer(7) + ber.integer(a) + ber.integer(b) + ber.tlv(ber.SEQUENCE, bindings)
    return ber.tlv(ber.SEQUENCE, ber.integer(1) + ber.tlv(ber.OCTETS, b"c") + ber.tlv(kind, pdu))


def exchange(data: bytes) -> list[bytes]:
    sink = Sink()
    AGENT._transport = sink  # type: ignore[assignment]
    AGENT.datagram_received(data, None)
    return sink.sent


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200))
def test_no_datagram_upsets_the_agent(data: bytes) -> None:
    assert exchange(data) == []


@settings(deadline=None)
@given(st.data())
def test_mutilated_requests_neither(data: st.DataObject) -> None:
    good = bytearray(message(ber.GET_BULK, [(1, 3, 6, 1)], 0, 10))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    for answer in exchange(bytes(good)):
        assert len(answer) <= 1600


def test_bulk_is_bounded() -> None:
    (answer,) = exchange(message(ber.GET_BULK, [(1, 3, 6, 1)], 0, 2**30))
    assert len(answer) < 1500


@given(
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=12), st.integers(-(2**63), 2**63 - 1)
)
def test_codec_round_trips(tail: list[int], value: int) -> None:
    name = (1, 3, *tail)
    tag, body = ber.Reader(ber.oid(name)).take()
    assert (tag, ber.read_oid(body)) == (ber.OID, name)
    if -(2**62) < value < 2**62:
        assert ber.Reader(ber.integer(value)).integer() == value
