"""Finds BACnet devices and what they offer. Read only, one request at a time.

Who-Is, directed at a host or broadcast on a subnet, or through a BBMD as a foreign device
(ASHRAE 135, 16.10 and annex J.5); then the object list of a device with names, units and
present values, as the device gives them.

Must never write, and never take more than a device may sensibly claim.
"""

import asyncio
import fcntl
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from bacpypes3.apdu import WhoIsRequest
from bacpypes3.pdu import Address

from drivers.bacnet_batch import BacnetBatch, Result
from drivers.bacnet_codec import OBJECT_TYPES, PRESENT_VALUE, PROPERTIES, VALUE_TAGS, Ref
from drivers.bacnet_net import Network, Outcome
from drivers.bacnet_start import DEFAULT_PORT, Local, start
from drivers.bacnet_tags import Opaque, Value, object_of, text_of
from drivers.contract import DriverError, NotSent, Transient

MAX_DEVICES = 4_096
MAX_OBJECTS = 5_000
ANY = 4_194_303  # as device instance: whichever answers (135-2016, 12)
_SIOCGIFADDR, _SIOCGIFNETMASK = 0x8915, 0x891B
_NAMES = {number: name for name, number in OBJECT_TYPES.items()}


@dataclass(frozen=True, slots=True, order=True)
class FoundDevice:
    """What an I-Am says. `address` is IP:PORT, or NETWORK:MAC behind a router."""

    instance: int
    address: str
    vendor: int


@dataclass(frozen=True, slots=True)
class FoundObject:
    """One object that holds a number, in the device's own words. Units by their BACnet number."""

    type: str
    instance: int
    name: str
    description: str
    units: int | None
    value: float | None
    commandable: bool


class _Anyone:
    """A discoverer listens to everybody."""

    def __contains__(self, _host: object) -> bool:
        return True


def interface_of(ip: str) -> Local:
    """`ip` with the netmask of its interface, so that broadcasts go where it listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                mine = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)[20:24]
                mask = fcntl.ioctl(probe.fileno(), _SIOCGIFNETMASK, request)[20:24]
            except OSError:
                continue  # an interface without an IPv4 address
            if socket.inet_ntoa(mine) == ip:
                return Local(ip, int.from_bytes(mask, "big").bit_count())
    return Local(ip)


def route_to(host: str) -> Local:
    """The local address from which `host` is reached. Raises NotSent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, DEFAULT_PORT))
        except OSError as error:
            raise NotSent(f"{host}: {error}; check the name and the network") from error
        return interface_of(str(probe.getsockname()[0]))


@asynccontextmanager
async def discoverer(local: Local, bbmd: str | None = None) -> AsyncIterator["Discoverer"]:
    """A BACnet application for discovery alone; `bbmd`: IP[:PORT] to register with."""
    lite = await start(local, _Anyone(), bbmd)
    try:
        yield Discoverer(Network(lite, local, asyncio.get_running_loop(), {}))
    finally:
        await lite._disconnect()


class Discoverer:
    """Asks who is there, and what they have."""

    def __init__(self, network: Network) -> None:
        self._network = network

    async def who_is(self, target: str | None = None, wait_s: float = 3.0) -> list[FoundDevice]:
        """Every device that says I-Am within `wait_s`: at `target` (IP[:PORT]), or anywhere."""
        found: set[FoundDevice] = set()
        done = asyncio.Event()
        app = self._network.app

        async def i_am(apdu: Any) -> None:
            if len(found) < MAX_DEVICES:
                found.add(
                    FoundDevice(
                        int(apdu.iAmDeviceIdentifier[1]), str(apdu.pduSource), int(apdu.vendorID)
                    )
                )
            if target is not None:
                done.set()

        app.do_IAmRequest = i_am
        try:
            app.request(WhoIsRequest(destination=Address(target or "*:*")))
            async with asyncio.timeout(wait_s):
                await done.wait()
        except TimeoutError:
            pass  # a broadcast has no last answer: what came in time is what there is
        finally:
            app.do_IAmRequest = None
        return sorted(found)

    async def objects(self, device: FoundDevice, timeout_s: float = 3.0) -> list[FoundObject]:
        """The objects of a device that hold numbers. Raises Transient when it stops answering."""
        address = Address(device.address)

        async def ask(service: int, body: bytes) -> Outcome:
            return await self._network.ask(address, service, body, timeout_s)

        listed = await self._object_list(device.instance, ask)
        wanted = [(t, i) for t, i in listed if _NAMES.get(t) in VALUE_TAGS]
        refs = [Ref(t, i, PROPERTIES[name]) for t, i in wanted for name in _ASKED]
        results = await BacnetBatch(tuple(refs), chunk=5 * len(_ASKED)).read(ask)
        return [
            _object(t, i, dict(zip(_ASKED, results[n * len(_ASKED) :], strict=False)))
            for n, (t, i) in enumerate(wanted)
        ]

    async def _object_list(self, instance: int, ask: Any) -> list[tuple[int, int]]:
        """Element by element, many at a time: works where a device can't segment."""
        ref = Ref(OBJECT_TYPES["device"], instance, PROPERTIES["object-list"])
        (count,) = await BacnetBatch((Ref(ref.type, instance, ref.property, 0),)).read(ask)
        size = _number(count)
        if size is None:
            raise Transient(f"device {instance}: no object list: {count}")
        indexes = range(1, min(int(size), MAX_OBJECTS) + 1)
        refs = tuple(Ref(ref.type, instance, ref.property, i) for i in indexes)
        results = await BacnetBatch(refs, chunk=40).read(ask)
        found = [object_of(r[0]) for r in results if isinstance(r, tuple) and len(r) == 1]
        return [o for o in found if o is not None]


_ASKED = ("object-name", "description", "units", "present-value", "priority-array")
assert PROPERTIES["present-value"] == PRESENT_VALUE


def _number(result: Result) -> float | None:
    if isinstance(result, tuple) and len(result) == 1 and isinstance(result[0], Value):
        return result[0].number
    return None


def _text(result: Result) -> str:
    """Printable text of a property, shortened."""
    if isinstance(result, tuple) and len(result) == 1 and isinstance(result[0], Opaque):
        return "".join(c if c.isprintable() else " " for c in text_of(result[0]))[:80].strip()
    return ""


def _object(type_: int, instance: int, said: dict[str, Result]) -> FoundObject:
    units = _number(said["units"])
    slots = said["priority-array"]
    return FoundObject(
        type=_NAMES[type_],
        instance=instance,
        name=_text(said["object-name"]),
        description=_text(said["description"]),
        units=None if units is None else int(units),
        value=_number(said["present-value"]),
        commandable=isinstance(slots, tuple) and len(slots) == 16,
    )


async def one_by_one(
    local: Local, targets: Sequence[str], bbmd: str | None, wait_s: float
) -> list[tuple[FoundDevice, list[FoundObject] | DriverError]]:
    """Who-Is to each target (none: broadcast), then the objects of each device that answered."""
    found: dict[FoundDevice, list[FoundObject] | DriverError] = {}
    async with discoverer(local, bbmd) as discover:
        devices = [d for t in (targets or (None,)) for d in await discover.who_is(t, wait_s)]
        for device in dict.fromkeys(devices):
            try:
                found[device] = await discover.objects(device, wait_s)
            except DriverError as error:
                found[device] = error
    return list(found.items())
