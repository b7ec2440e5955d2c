"""The one BACnet/IP application of this process, shared by all BACnet devices.

BAC0 gives it its life, bacpypes3 beneath it carries requests: invoke ids, segmentation,
timeouts. Bodies of requests and replies are ours (drivers.bacnet_codec).

What it must never do: serve others. It is a client: writes to it, commands to fall silent
and subscriptions are refused, and datagrams from hosts that are no configured device are
dropped before they are parsed.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from bacpypes3.apdu import (
    AbortPDU,
    ComplexAckPDU,
    ConfirmedRequestPDU,
    ErrorPDU,
    RejectPDU,
    SimpleAckPDU,
)
from bacpypes3.pdu import Address

from config.site import Device
from drivers.bacnet_codec import Failure, decode_error
from drivers.bacnet_start import Local, local_for, resolve, start
from drivers.bacnet_tags import Malformed
from drivers.contract import Permanent, Transient

Listener = Callable[[int, int, Sequence[tuple[int, bytes]]], None]
NO_RESPONSE = 65  # bacpypes3's own abort reason when nothing came


@dataclass(frozen=True, slots=True)
class Ack:
    """The device did it; `body` is empty for a simple acknowledgement."""

    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Abort:
    """The device broke off: too long, too much, out of resources ..."""

    reason: int


@dataclass(frozen=True, slots=True)
class Reject:
    """The device could not make sense of the request, or does not know the service."""

    reason: int


Outcome = Ack | Failure | Abort | Reject


@dataclass(eq=False)
class Network:
    """The application and who uses it."""

    lite: Any
    local: Local  # as asked for
    loop: asyncio.AbstractEventLoop
    hosts: dict[str, int]  # how many devices are at each
    listeners: dict[tuple[Address, int], Listener] = field(default_factory=dict)

    async def notified(self, apdu: Any) -> None:
        """Pass a COV notification to the subscriber it names, if it comes from its device."""
        try:
            process, type_, instance, values = unpack_notification(apdu)
        except (AttributeError, TypeError, ValueError):
            return  # not one a device of ours would send
        listener = self.listeners.get((apdu.pduSource, process))
        if listener is not None:
            listener(type_, instance, values)

    @property
    def app(self) -> Any:
        """bacpypes3's application."""
        return self.lite.this_application.app

    async def ask(self, address: Address, service: int, body: bytes, timeout_s: float) -> Outcome:
        """Send a confirmed request and return what the device said of it.

        Raises Transient when nothing came in time, or something that answers another service.
        """
        request = ConfirmedRequestPDU(service, destination=address)
        request.put_data(body)
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self.app.request(request)
        except TimeoutError:
            raise Transient(f"{address}: no reply within {timeout_s:g} s") from None
        match reply:
            case AbortPDU():
                if int(reply.apduAbortRejectReason) == NO_RESPONSE:
                    raise Transient(f"{address}: no reply")
                return Abort(int(reply.apduAbortRejectReason))
            case RejectPDU():
                return Reject(int(reply.apduAbortRejectReason))
        if int(reply.apduService) != service:
            raise Transient(f"{address}: reply to service {reply.apduService}, asked {service}")
        match reply:
            case ErrorPDU():
                try:
                    return decode_error(bytes(reply.pduData))
                except Malformed as error:
                    raise Transient(f"{address}: malformed error reply: {error}") from error
            case ComplexAckPDU():
                return Ack(bytes(reply.pduData))
            case SimpleAckPDU():
                return Ack()
        raise Transient(f"{address}: unexpected {type(reply).__name__}")


class _Process:
    """BAC0 allows one application a process: this is it."""

    def __init__(self) -> None:
        self.network: Network | None = None
        self.locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    @property
    def lock(self) -> asyncio.Lock:
        """Held while the application is started or stopped."""
        return self.locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())


_process = _Process()


def unpack_notification(apdu: Any) -> tuple[int, int, int, list[tuple[int, bytes]]]:
    """(process, object type, instance, values) of bacpypes3's UnconfirmedCOVNotification."""
    type_, instance = apdu.monitoredObjectIdentifier
    values = [
        (int(v.propertyIdentifier), bytes(v.value.tagList.encode().pduData))
        for v in apdu.listOfValues
        if v.propertyArrayIndex is None
    ]
    return int(apdu.subscriberProcessIdentifier), int(type_), int(instance), values


@dataclass(frozen=True, slots=True)
class Seat:
    """One device's place in the application: its BACnet address, and the host it is behind."""

    network: Network
    address: Address
    host: str

    async def ask(self, service: int, body: bytes, timeout_s: float) -> Outcome:
        """A request to this device. Raises as Network.ask."""
        return await self.network.ask(self.address, service, body, timeout_s)


async def join(device: Device) -> Seat:
    """Start or share the process's application, and take a seat in it for `device`.

    Pair with `leave`. Raises NotSent when the host has no address, Permanent when the local
    address can't be used.
    """
    host = await resolve(device)
    local = local_for(device, host)
    async with _process.lock:
        network = _process.network
        if network is None or network.loop is not asyncio.get_running_loop():
            hosts: dict[str, int] = {}
            lite = await start(local, hosts)
            network = Network(lite, local, asyncio.get_running_loop(), hosts)
            network.app.do_UnconfirmedCOVNotificationRequest = network.notified
            _process.network = network
        elif device.local_address and local != network.local:
            raise Permanent(
                f"device {device.id}: local_address {device.local_address} differs from"
                f" {network.local.ip}, where another BACnet device is asked from; a process has one"
            )
        network.hosts[host] = network.hosts.get(host, 0) + 1
        _outlast(network, device.timeout_s)
        return Seat(network, await _address(network, device, host), host)


async def _address(network: Network, device: Device, host: str) -> Address:
    """Where the device is: at the host, or on a BACnet network that the host routes to."""
    there = Address(f"{host}:{device.port}")
    if device.bacnet_network is None:
        return there
    nsap = network.app.nsap
    for adapter in nsap.adapters:
        await nsap.update_router_references(adapter, there, [device.bacnet_network])
    return Address(f"{device.bacnet_network}:{device.bacnet_mac}")


async def leave(seat: Seat) -> None:
    """Stop using the application; the last device to leave stops it."""
    network = seat.network
    async with _process.lock:
        network.hosts[seat.host] -= 1
        if not network.hosts[seat.host]:
            del network.hosts[seat.host]
        if network.hosts:
            return
        if _process.network is network:
            _process.network = None
        await network.lite._disconnect()


def _outlast(network: Network, timeout_s: float) -> None:
    """bacpypes3's own timer must not end a request before ours does."""
    needed_ms = int(timeout_s * 1000) + 500
    device = network.app.device_object
    device.apduTimeout = max(int(device.apduTimeout), needed_ms)
