"""The one BACnet/IP application of this process, shared by all BACnet devices.

BAC0 gives it its life, bacpypes3 beneath it carries requests: invoke ids, segmentation,
timeouts. Bodies of requests and replies are ours (drivers.bacnet_codec).

What it must never do: serve others. It is a client: writes to it, commands to fall silent
and subscriptions are refused, and datagrams from hosts that are no configured device are
dropped before they are parsed.

What BAC0 does on the side is undone here: it loads ./.env, makes ~/.BAC0, installs log
handlers and a display hook on import, and announces itself when started.
"""

import asyncio
import logging
import os
import socket
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from bacpypes3.apdu import (
    AbortPDU,
    ComplexAckPDU,
    ConfirmedRequestPDU,
    ErrorPDU,
    ErrorRejectAbortNack,
    RejectPDU,
    SimpleAckPDU,
)
from bacpypes3.comm import ServiceAccessPoint
from bacpypes3.pdu import Address

from config.site import Device
from drivers.bacnet_codec import Failure, decode_error
from drivers.bacnet_tags import Malformed
from drivers.contract import NotSent, Permanent, Transient

DEFAULT_PORT = 47_808
BIND_TIMEOUT_S = 2.0
NO_RESPONSE = 65  # bacpypes3's own abort reason when nothing came
# Services of the local device that nobody may use: it is a client.
REFUSED_SERVICES = (
    "WritePropertyRequest", "WritePropertyMultipleRequest", "DeviceCommunicationControlRequest",
    "SubscribeCOVRequest", "ReadRangeRequest",
)  # fmt: skip

# A malformed datagram is the sender's fault, not worth a traceback in the log each.
logging.getLogger("bacpypes3").setLevel(logging.CRITICAL)


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
    local: str
    loop: asyncio.AbstractEventLoop
    hosts: dict[str, int] = field(default_factory=dict)

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
        except ErrorRejectAbortNack as refusal:
            reply = refusal
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


async def join(device: Device) -> tuple[Network, Address]:
    """Start or share the process's application. Returns it and the device's address.

    Pair with `leave`. Raises NotSent when the host has no address, Permanent when the local
    address can't be used.
    """
    host = await _resolve(device)
    async with _process.lock:
        network = _process.network
        if network is None or network.loop is not asyncio.get_running_loop():
            network = _process.network = await _start(_local_address(device, host))
        elif device.local_address and _parse(device.local_address) != network.local:
            raise Permanent(
                f"device {device.id}: local_address {device.local_address} differs from"
                f" {network.local}, which another BACnet device uses; one process has one"
            )
        network.hosts[host] = network.hosts.get(host, 0) + 1
        _outlast(network, device.timeout_s)
        return network, Address(f"{host}:{device.port}")


async def leave(network: Network, address: Address) -> None:
    """Stop using the application; the last device to leave stops it."""
    host = address.addrTuple[0]
    async with _process.lock:
        network.hosts[host] -= 1
        if not network.hosts[host]:
            del network.hosts[host]
        if network.hosts:
            return
        if _process.network is network:
            _process.network = None
        await network.lite._disconnect()


async def _resolve(device: Device) -> str:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(device.host, device.port, family=socket.AF_INET)
    except OSError as error:
        raise NotSent(
            f"device {device.id}: host {device.host!r} has no IPv4 address: {error}"
        ) from error
    return str(found[0][4][0])


def _parse(text: str) -> str:
    """`IP`, `IP:PORT`, `IP/MASK` or `IP/MASK:PORT` -> always `IP/MASK:PORT`."""
    rest, _, port = text.partition(":")
    ip, _, mask = rest.partition("/")
    return f"{ip}/{mask or 32}:{port or DEFAULT_PORT}"


def _local_address(device: Device, host: str) -> str:
    """Where to send from: as configured, or the address that leads to the device.

    Without a configured port the standard one is taken, or a free one when that is in use
    (another BACnet program on this host, or another command of our own).
    """
    if device.local_address:
        return _parse(device.local_address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, device.port))
        except OSError as error:
            raise NotSent(f"device {device.id}: no route to {host}: {error}") from error
        ip: str = probe.getsockname()[0]
    port = DEFAULT_PORT
    # bacpypes3 keeps what goes to 127.* on its own port for itself
    if ip.startswith("127.") or not _is_free(ip, port):
        port = _free_port(ip)
    return f"{ip}/32:{port}"


def _is_free(ip: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((ip, port))
        except OSError:
            return False
    return True


def _free_port(ip: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((ip, 0))
        port: int = probe.getsockname()[1]
        return port


def _outlast(network: Network, timeout_s: float) -> None:
    """bacpypes3's own timer must not end a request before ours does."""
    needed_ms = int(timeout_s * 1000) + 500
    device = network.app.device_object
    device.apduTimeout = max(int(device.apduTimeout), needed_ms)


async def _start(local: str) -> Network:
    ip, port = local.split("/")[0], int(local.rpartition(":")[2])
    if not _is_free(ip, port):
        raise Permanent(
            f"BACnet: UDP {ip}:{port} is in use or not an address of this host;"
            " set local_address to a free one"
        )
    bac0 = _import_bac0()
    settings = Path(bac0.__file__).parent / "core" / "app" / "device.json"
    lite = bac0.start(ip=local, ping=False, json_file=str(settings))
    network = Network(lite, local, asyncio.get_running_loop())
    app = network.app
    _keep_quiet(app)
    app.device_object.numberOfApduRetries = 0
    for service in REFUSED_SERVICES:
        setattr(app, f"do_{service}", None)
    app.do_IAmRequest = None  # a cache that strangers could fill without end
    _pass_bodies_through(app)
    _only_known_hosts(network)
    await _bound(network)
    return network


async def _bound(network: Network) -> None:
    """Wait for the sockets: bacpypes3 opens them in tasks, and would try for ever."""
    tasks = [t for link in network.app.link_layers.values() for t in link.server._transport_tasks]
    _, pending = await asyncio.wait(tasks, timeout=BIND_TIMEOUT_S)
    if pending:
        for task in pending:
            task.cancel()
        await network.lite._disconnect()
        raise Permanent(f"BACnet: {network.local} can't be bound; set local_address to a free one")


def _keep_quiet(app: Any) -> None:
    """Swallow the announcement that BAC0 has scheduled, and only that one."""

    async def i_am(*_: object, **__: object) -> None:
        del app.i_am  # the class's own shows again

    app.i_am = i_am


def _pass_bodies_through(app: Any) -> None:
    """Hand replies up undecoded: their bodies are decoded strictly by bacnet_codec."""
    decode = app.asap.sap_response

    async def sap_response(apdu: Any) -> None:
        if isinstance(apdu, ComplexAckPDU | ErrorPDU):
            await ServiceAccessPoint.sap_response(app.asap, apdu)
        else:
            await decode(apdu)

    app.asap.sap_response = sap_response


def _only_known_hosts(network: Network) -> None:
    """Drop datagrams from hosts that are no device of ours before anything parses them."""
    for link in network.app.link_layers.values():
        receive = link.server.confirmation

        async def confirmation(pdu: Any, receive: Any = receive) -> None:
            if pdu.pduSource.addrTuple[0] in network.hosts:
                await receive(pdu)

        link.server.confirmation = confirmation


def _import_bac0() -> Any:
    """Import BAC0 and undo what its import does besides."""
    if "BAC0" in sys.modules:
        return sys.modules["BAC0"]
    environ, hook = dict(os.environ), sys.displayhook
    with tempfile.TemporaryDirectory(prefix="skadi-bac0-") as home:
        os.environ["HOME"] = home
        try:
            import BAC0
        finally:
            for name in set(os.environ) - set(environ):
                del os.environ[name]
            os.environ.update(environ)
            sys.displayhook = hook
            for name in list(logging.root.manager.loggerDict):
                if name.startswith("BAC0_Root"):
                    logger = logging.getLogger(name)
                    for handler in list(logger.handlers):
                        logger.removeHandler(handler)
                        handler.close()
                    logger.setLevel(logging.CRITICAL)
    return BAC0
