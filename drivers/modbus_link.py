"""One connection to a Modbus endpoint: one request at a time, each reply checked, no retries.

pymodbus opens and closes it, over TCP, TLS or a serial line; the frames on it are ours. It is
thrown away after anything that could let a late or wrong reply answer the next request: a
timeout, a wrong reply, stray bytes, a cancelled request. It connects when it is asked something;
who asks decides how often (the agent's poller).

Links are shared by all devices behind one endpoint (a gateway, a serial line): many of
those take a single connection, and a line carries one request at a time anyway.
"""

import asyncio
import logging
from collections.abc import Callable, Hashable
from weakref import WeakKeyDictionary

from pymodbus.client.base import ModbusBaseClient

from drivers.contract import NotSent, Transient
from drivers.modbus_frames import Answer, Framing, Incomplete, check_reply, make_frame, pdu_of

# pymodbus logs each failed connection; the agent logs a device once on loss and once on recovery.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

ClientMaker = Callable[["Watch", float], ModbusBaseClient]


class Watch:
    """Takes every byte that comes on one connection, through pymodbus' documented trace hooks.

    `fault` says what was wrong; the connection must not be used after that.
    """

    def __init__(self, framing: Framing) -> None:
        self.framing = framing
        self.fault = ""
        self._request = b""
        self._reply: asyncio.Future[bytes] | None = None

    def expect(self, request: bytes) -> "asyncio.Future[bytes]":
        """The reply to `request`, once it is whole and right. Raises Transient when it is not."""
        self._request = request
        self._reply = asyncio.get_running_loop().create_future()
        return self._reply

    def packet(self, sending: bool, data: bytes) -> bytes:
        """`data`: all that came since the last request. pymodbus gets to see none of it."""
        if sending:
            return data
        reply = self._reply
        if reply is None or reply.done():
            self.fault = self.fault or "bytes that nobody asked for"
            return b""
        match check_reply(self.framing, self._request, data):
            case Answer():
                reply.set_result(data)
            case Incomplete():
                pass
            case wrong:
                self._fail(reply, f"wrong reply dropped: {wrong.reason}")
        return b""

    def connection(self, connected: bool) -> None:
        """Called by pymodbus when the connection comes and goes."""
        if not connected:
            self.fault = self.fault or "the device closed the connection"
            if self._reply is not None and not self._reply.done():
                self._fail(self._reply, self.fault)

    def _fail(self, reply: "asyncio.Future[bytes]", why: str) -> None:
        self.fault = why
        reply.set_exception(Transient(why))
        reply.exception()  # looked at: a future nobody waits for any more must not complain


class Link:
    """A connection that is opened when needed and dropped when in doubt."""

    def __init__(
        self, name: str, framing: Framing, make_client: ClientMaker, advice: str = ""
    ) -> None:
        self.name = name
        self.advice = advice
        self.users = 0
        self._framing = framing
        self._make_client = make_client
        self._lock = asyncio.Lock()
        self._client: ModbusBaseClient | None = None
        self._watch = Watch(framing)
        self._tid = 0
        self._free_s = 0.0  # on the loop's clock: no request before

    async def open(self, timeout_s: float) -> None:
        """Connect now unless connected. Raises NotSent."""
        async with self._lock:
            await self._connected(timeout_s)

    async def ask(self, unit: int, pdu: bytes, timeout_s: float, pause_s: float = 0.0) -> bytes:
        """Send a request PDU and return the PDU that answers it: normal or exception.

        `pause_s`: what the device wants between two requests. Raises NotSent when nothing was
        sent, Transient when no right answer came.
        """
        loop = asyncio.get_running_loop()
        async with self._lock:
            if (wait_s := self._free_s - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            client = await self._connected(timeout_s)
            self._tid = self._tid % 0xFFFF + 1
            request = make_frame(self._framing, self._tid, unit, pdu)
            reply, answered = self._watch.expect(request), False
            try:
                client.ctx.send(request)
                async with asyncio.timeout(timeout_s):
                    data = await reply
                answered = True
                return pdu_of(self._framing, data)
            except TimeoutError as error:
                raise Transient(f"{self.name}: no reply within {timeout_s:g} s") from error
            except Transient as error:
                raise Transient(f"{self.name}: {error}") from error
            finally:
                if not answered:
                    reply.cancel()
                    self.drop()
                    pause_s = max(pause_s, self._quiet_s(timeout_s))
                self._free_s = loop.time() + pause_s

    def _quiet_s(self, timeout_s: float) -> float:
        """How long to keep still after a request that got no right reply.

        An RTU frame does not say which request it answers: a late reply must arrive where
        nobody takes it for the next one's.
        """
        return timeout_s if self._framing is Framing.RTU else 0.0

    async def _connected(self, timeout_s: float) -> ModbusBaseClient:
        if self._client is not None and not self._watch.fault and self._client.connected:
            return self._client
        self.drop()
        watch = Watch(self._framing)
        client = self._make_client(watch, timeout_s)
        try:
            connected = await client.connect()
        except BaseException:
            client.close()
            raise
        if not connected:
            client.close()
            raise NotSent(f"{self.name}: no connection; {self.advice}")
        self._client, self._watch = client, watch
        return client

    def drop(self) -> None:
        """Close the connection; the next request makes a new one."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


_links: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Link]] = WeakKeyDictionary()


def share_link(endpoint: Hashable, make: Callable[[], Link]) -> Link:
    """Return the link to `endpoint` in the running loop, made if need be. Pair with `leave_link`."""
    links = _links.setdefault(asyncio.get_running_loop(), {})
    link = links.get(endpoint)
    if link is None:
        link = links[endpoint] = make()
    link.users += 1
    return link


def leave_link(endpoint: Hashable, link: Link) -> None:
    """Give back a shared link; the last one to leave closes it."""
    link.users -= 1
    if link.users <= 0:
        link.drop()
        for links in _links.values():
            if links.get(endpoint) is link:
                del links[endpoint]
