"""The BMS over BACnet/IP, as rusty-bacnet sees it, which shares no code with bacpypes3."""

import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import rusty_bacnet as rb

from simulators.park import Park
from tests.peers import free_port
from tests.simulators.make import running_park

WATER = rb.ObjectIdentifier(rb.ObjectType.ANALOG_VALUE, 7)
OUTDOOR = rb.ObjectIdentifier(rb.ObjectType.ANALOG_INPUT, 1)
LEAK = rb.ObjectIdentifier(rb.ObjectType.BINARY_INPUT, 3)
PRESENT = rb.PropertyIdentifier.PRESENT_VALUE
POINT = "bms/chilled_water_setpoint_c"


class Hand:
    """A BACnet client's hand on the BMS."""

    def __init__(self, park: Park, client: Any) -> None:
        self.park, self.client = park, client

    @property
    def where(self) -> str:
        at = self.park.servers["bms"].device
        return f"{at.host}:{at.port}"

    async def read(self, thing: Any, what: Any = PRESENT, index: int | None = None) -> Any:
        return (await self.client.read_property(self.where, thing, what, index)).value

    async def write(self, thing: Any, value: float | None, priority: int | None = 12) -> None:
        wire = rb.PropertyValue.null() if value is None else rb.PropertyValue.real(value)
        await self.client.write_property(self.where, thing, PRESENT, wire, priority)

    def held(self) -> float:
        return self.park.world.hall.setpoints.values[POINT]


@pytest.fixture
async def hand() -> AsyncIterator[Hand]:
    async with running_park() as park:
        port = free_port("127.0.0.3", socket.SOCK_DGRAM)
        # share_port_by_address: bound to its own address, or it answers from another one
        client = rb.BACnetClient(
            "127.0.0.3", port, "127.255.255.255", 500, share_port_by_address=True
        )
        async with client:
            yield Hand(park, client)


async def test_inputs_say_what_the_hall_says(hand: Hand) -> None:
    assert await hand.read(OUTDOOR) == pytest.approx(hand.park.world.readings["bms/outdoor_c"])
    assert await hand.read(LEAK) == 0
    hand.park.world.hall.overlays.start("leak", hand.park.world.hall.now_s)
    hand.park.world.step()
    assert await hand.read(LEAK) == 1
    name = await hand.read(WATER, rb.PropertyIdentifier.OBJECT_NAME)
    assert name == "chilled_water_setpoint_c"


async def test_a_commanded_value_wins_by_priority_and_is_relinquished(hand: Hand) -> None:
    assert await hand.read(WATER) == 7.0
    await hand.write(WATER, 9.0)
    assert (await hand.read(WATER), hand.held()) == (9.0, 9.0)
    slot = await hand.read(WATER, rb.PropertyIdentifier.PRIORITY_ARRAY, 12)
    assert slot == 9.0
    await hand.write(WATER, 6.5, priority=8)  # the operator
    assert (await hand.read(WATER), hand.held()) == (6.5, 6.5)
    await hand.write(WATER, 10.0)  # beneath the operator: kept in its slot, no effect
    assert hand.held() == 6.5
    await hand.write(WATER, None, priority=8)
    assert hand.held() == 10.0
    await hand.write(WATER, None)
    assert (await hand.read(WATER), hand.held()) == (7.0, 7.0)  # relinquish default
    assert await hand.read(WATER, rb.PropertyIdentifier.RELINQUISH_DEFAULT) == 7.0
    wire = hand.park.world.journal_since(0)
    assert [(w["new"], w["priority"]) for w in wire] == [
        (9.0, 12), (6.5, 8), (10.0, 12), (None, 8), (None, 12),
    ]  # fmt: skip


async def test_no_priority_is_sixteen(hand: Hand) -> None:
    await hand.write(WATER, 8.0, priority=None)
    assert await hand.read(WATER, rb.PropertyIdentifier.PRIORITY_ARRAY, 16) == 8.0
    assert hand.park.world.journal_since(0)[0]["priority"] == 16


@pytest.mark.parametrize(("thing", "value"), [(OUTDOOR, 20.0), (WATER, 60.0), (WATER, -5.0)])
async def test_what_the_bms_refuses(hand: Hand, thing: Any, value: float) -> None:
    before = await hand.read(thing)
    with pytest.raises(rb.BacnetProtocolError):
        await hand.write(thing, value)
    assert await hand.read(thing) == before
    assert hand.held() == 7.0
    (noted,) = hand.park.world.journal_since(0)
    assert str(noted["outcome"]).startswith("refused")


async def test_a_reboot_forgets_the_slots_a_stop_does_not(hand: Hand) -> None:
    await hand.write(WATER, 9.5)
    await hand.park.act("bms", "stop")
    with pytest.raises(rb.BacnetAbortError):  # its own, after its retries
        await hand.read(WATER)
    await hand.park.act("bms", "start")
    assert await hand.read(WATER) == 9.5
    await hand.park.act("bms", "reboot")
    assert (await hand.read(WATER), hand.held()) == (7.0, 7.0)


async def test_local_refuses(hand: Hand) -> None:
    await hand.park.act("bms", "local")
    with pytest.raises(rb.BacnetProtocolError):
        await hand.write(WATER, 9.0)
    assert hand.held() == 7.0
