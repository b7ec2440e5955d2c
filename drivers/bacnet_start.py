"""Starts BAC0's application and makes a quiet, closed client of it.

What BAC0 does on the side is undone here: it loads ./.env, makes ~/.BAC0, installs log
handlers and a display hook on import, and announces itself when started.

Must never leave a door open: writes to the local device, commands to fall silent and
subscriptions are refused, and strangers' datagrams are dropped before they are parsed.
"""

import asyncio
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from config.site import Device
from drivers.contract import NotSent, Permanent

DEFAULT_PORT = 47_808
BIND_TIMEOUT_S = 2.0
FOREIGN_TTL_S = 60  # of a registration; bacpypes3 renews it
# Services of the local device that nobody may use: it is a client.
REFUSED_SERVICES = (
    "WritePropertyRequest", "WritePropertyMultipleRequest", "DeviceCommunicationControlRequest",
    "SubscribeCOVRequest", "ReadRangeRequest", "ConfirmedCOVNotificationRequest",
)  # fmt: skip

# A malformed datagram is the sender's fault, not worth a traceback in the log each.
logging.getLogger("bacpypes3").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Local:
    """Where to send from. Port 0: the standard one, or a free one when that is in use."""

    ip: str
    mask: int = 32
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> "Local":
        """From `IP`, `IP:PORT`, `IP/MASK` or `IP/MASK:PORT`. Raises ValueError."""
        rest, _, port = text.partition(":")
        ip, _, mask = rest.partition("/")
        socket.inet_aton(ip)
        return cls(ip, int(mask or 32), int(port or 0))


async def resolve(device: Device) -> str:
    """The IPv4 address of the device's host. Raises NotSent."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(device.host, device.port, family=socket.AF_INET)
    except OSError as error:
        raise NotSent(
            f"device {device.id}: host {device.host!r} has no IPv4 address: {error}"
        ) from error
    return str(found[0][4][0])


def local_for(device: Device, host: str) -> Local:
    """As the device's local_address says, or else the address that leads to `host`."""
    if device.local_address:
        try:
            return Local.parse(device.local_address)
        except (ValueError, OSError):
            raise Permanent(
                f"device {device.id}: local_address {device.local_address!r} is not like"
                " 10.0.0.5, 10.0.0.5:47808 or 10.0.0.5/24:47808"
            ) from None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, device.port))
        except OSError as error:
            raise NotSent(f"device {device.id}: no route to {host}: {error}") from error
        return Local(str(probe.getsockname()[0]))


def _choose_port(local: Local) -> int:
    """The port asked for, or a free one when another program has it.

    So that `skadi read` and `skadi release` work beside whatever else speaks BACnet on this
    host: devices answer to the port that asks. Raises Permanent for a foreign address.
    """
    # bacpypes3 keeps what goes to 127.* on its own port for itself: not the standard one there
    wanted = local.port or (0 if local.ip.startswith("127.") else DEFAULT_PORT)
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((local.ip, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Permanent(f"BACnet: {local.ip} is not an address of this host; correct local_address")


async def start(local: Local, hosts: Container[str], bbmd: str | None = None) -> Any:
    """Start the application; only datagrams from `hosts` get in. Raises Permanent.

    `bbmd`: register there (IP[:PORT]) as a foreign device, to take part in its broadcasts.
    """
    at = f"{local.ip}/{local.mask}:{_choose_port(local)}"
    bac0 = _import_bac0()
    settings = Path(bac0.__file__).parent / "core" / "app" / "device.json"
    foreign = {"bbmdAddress": bbmd, "bbmdTTL": FOREIGN_TTL_S} if bbmd else {}
    lite = bac0.start(ip=at, ping=False, json_file=str(settings), **foreign)
    app = lite.this_application.app
    _keep_quiet(app)
    app.device_object.numberOfApduRetries = 0
    for service in REFUSED_SERVICES:
        setattr(app, f"do_{service}", None)
    app.do_IAmRequest = None  # a cache that strangers could fill without end
    _pass_bodies_through(app)
    _only_from(hosts, app)
    await _bound(lite, at)
    return lite


async def _bound(lite: Any, at: str) -> None:
    """Wait for the sockets: bacpypes3 opens them in tasks, and would try for ever."""
    tasks = [
        t
        for link in lite.this_application.app.link_layers.values()
        for t in link.server._transport_tasks
    ]
    _, pending = await asyncio.wait(tasks, timeout=BIND_TIMEOUT_S)
    if pending:
        for task in pending:
            task.cancel()
        await lite._disconnect()
        raise Permanent(f"BACnet: {at} can't be bound; set local_address to a free one")


def _keep_quiet(app: Any) -> None:
    """Swallow the announcement that BAC0 has scheduled, and only that one."""

    async def i_am(*_: object, **__: object) -> None:
        del app.i_am  # the class's own shows again

    app.i_am = i_am


def _pass_bodies_through(app: Any) -> None:
    """Hand replies to who waits for them, undecoded: bacnet_codec does that, strictly.

    bacpypes3 would raise refusals as exceptions outside the Exception tree.
    """

    async def sap_response(apdu: Any) -> None:
        for request, future in app._requests.get(apdu.pduSource, ()):
            if request.apduInvokeID == apdu.apduInvokeID and not future.done():
                future.set_result(apdu)
                return

    app.asap.sap_response = sap_response


def _only_from(hosts: Container[str], app: Any) -> None:
    """Drop datagrams from hosts that are no device of ours before anything parses them."""
    for link in app.link_layers.values():
        receive = link.server.confirmation

        async def confirmation(pdu: Any, receive: Any = receive) -> None:
            if pdu.pduSource.addrTuple[0] in hosts:
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
    # Each of its log lines reads the sources of everybody up the stack to name the caller.
    BAC0.core.utils.notes.inspect = SimpleNamespace(
        stack=lambda: ((None,), (None,)), getmodule=lambda _frame: None
    )
    return BAC0
