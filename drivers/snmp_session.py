"""One SNMP conversation over UDP: asks, and takes only the reply that answers.

Decides which datagram answers the request in flight: it comes from the asked address (the
socket is connected), its community or security fits, its request id is ours. Anything else
is counted and ignored until the deadline, so a forged or late datagram can neither become
a value nor end a request. One request at a time; nothing is ever sent twice.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Protocol

from drivers.contract import Transient
from drivers.snmp_ber import (
    GET,
    GET_BULK,
    GET_NEXT,
    RESPONSE,
    SET,
    V1,
    Garbled,
    Oid,
    Reply,
    Value,
    answers,
    asked,
    encode_oid,
    expect,
    integer,
    octets,
    pdu,
    read_integer,
    read_octets,
    read_pdu,
    sequence,
    tags,
    varbinds,
)

STATUS = {
    1: "tooBig", 2: "noSuchName", 3: "badValue", 4: "readOnly", 5: "genErr", 6: "noAccess",
    7: "wrongType", 8: "wrongLength", 9: "wrongEncoding", 10: "wrongValue", 11: "noCreation",
    12: "inconsistentValue", 13: "resourceUnavailable", 14: "commitFailed", 15: "undoFailed",
    16: "authorizationError", 17: "notWritable", 18: "inconsistentName",
}  # fmt: skip
TOO_BIG, NO_SUCH_NAME, COMMIT_FAILED, UNDO_FAILED = 1, 2, 14, 15


class TimedOut(Transient):
    """No answer within the deadline."""


class Status(Exception):
    """The device answered with an error. `index` counts varbinds from 1; 0 names none."""

    def __init__(self, status: int, index: int) -> None:
        self.status, self.index = status, index
        super().__init__(STATUS.get(status, f"error {status}"))


class Security(Protocol):
    """How a PDU travels: SNMP version, who asks, and what makes a reply believable."""

    version: int

    def ready(self) -> bool:
        """True when requests can be sent; v3 must first learn the engine."""
        ...

    def hello(self, request_id: int) -> bytes:
        """The datagram that makes the device tell what `ready` lacks."""
        ...

    def message(self, pdu: bytes, request_id: int) -> bytes:
        """The datagram that carries a PDU."""
        ...

    def reply(self, data: bytes, request_id: int) -> Reply | None:
        """The PDU of a datagram; None when it taught the engine. Raises Garbled, Permanent."""
        ...


class Community:
    """v1 and v2c: a name in clear text."""

    def __init__(self, version: int, community: bytes) -> None:
        self.version = version
        self._head = integer(version) + octets(community)
        self._community = community

    def ready(self) -> bool:
        return True

    def hello(self, request_id: int) -> bytes:
        raise AssertionError("a community needs no hello")

    def message(self, pdu: bytes, request_id: int) -> bytes:
        return sequence(self._head, pdu)

    def reply(self, data: bytes, request_id: int) -> Reply:
        start, end = expect(data, 0, len(data), 0x30)
        if end != len(data):
            raise Garbled("bytes after the message")
        version, at = read_integer(data, start, end)
        community, at = read_octets(data, at, end)
        if version != self.version or community != self._community:
            raise Garbled("another version or community")
        return read_pdu(data, at, end)


class _Inbox(asyncio.DatagramProtocol):
    """Hands datagrams and ICMP errors to the one request that waits."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | OSError] = asyncio.Queue(maxsize=64)

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._put(data)

    def error_received(self, exc: Exception) -> None:
        if isinstance(exc, OSError):
            self._put(exc)

    def _put(self, item: bytes | OSError) -> None:
        if not self.queue.full():  # a flood is dropped, not stored
            self.queue.put_nowait(item)


class Session:
    """One device's SNMP, v1, v2c or v3. Not for use by two tasks at once."""

    def __init__(
        self, host: str, port: int, security: Security, timeout_s: float, local: str | None = None
    ) -> None:
        self._where = (host, port)
        self._name = f"{host}:{port}"
        self._local = (local, 0) if local else None
        self._timeout_s = timeout_s
        self._security = security
        self._transport: asyncio.DatagramTransport | None = None
        self._inbox = _Inbox()
        self._id = random.randrange(1 << 24, 1 << 30)
        self.requests = 0
        self.strays = 0

    @property
    def version(self) -> int:
        """The SNMP version spoken."""
        return self._security.version

    async def open(self) -> None:
        """Open the socket; nothing is sent. Raises Transient when the name can't be resolved."""
        if self._transport is not None and not self._transport.is_closing():
            return
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(max(self._timeout_s, 1.0)):
                self._transport, self._inbox = await loop.create_datagram_endpoint(
                    _Inbox, remote_addr=self._where, local_addr=self._local
                )
        except (OSError, TimeoutError) as error:
            text = f"{self._name}: can't open a socket: {error or 'name not resolved in time'}"
            raise Transient(f"{text}; check host and local_address") from None

    def close(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    async def get(self, oids: Sequence[bytes]) -> list[Value]:
        """Read encoded OIDs in one request. Raises Transient, Permanent, Garbled or Status."""
        reply = await self._ask(GET, 0, 0, asked(oids))
        return answers(reply, oids)

    async def kinds(self, oids: Sequence[bytes]) -> list[int]:
        """Read encoded OIDs and tell the BER tag of each value. Raises as `get`."""
        return tags(await self._ask(GET, 0, 0, asked(oids)), oids)

    async def set(self, values: Sequence[tuple[bytes, bytes]]) -> None:
        """Write (encoded OID, encoded value) pairs in one request, once.

        Raises Status when the device refuses; Transient or Garbled when the outcome is unknown.
        """
        wanted = sequence(*(sequence(oid, value) for oid, value in values))
        reply = await self._ask(SET, 0, 0, wanted)
        answers(reply, [oid for oid, _ in values])

    async def next(self, oid: Oid, repetitions: int) -> list[tuple[Oid, Value]]:
        """What follows `oid` on the device: up to `repetitions` varbinds (one in v1)."""
        question = asked([encode_oid(oid)])
        if self.version == V1:
            try:
                return varbinds(await self._ask(GET_NEXT, 0, 0, question))
            except Status as status:
                if status.status == NO_SUCH_NAME:  # how v1 says: nothing follows
                    return []
                raise
        return varbinds(await self._ask(GET_BULK, 0, repetitions, question))

    async def _ask(self, kind: int, first: int, second: int, question: bytes) -> Reply:
        await self.open()
        if not self._security.ready():
            await self._exchange(None)
        for _ in range(2):  # a v3 device that restarted says so once; then the request goes again
            if not self._security.ready():
                break
            self._id = _after(self._id)
            reply = await self._exchange(pdu(kind, self._id, first, second, question))
            if reply is not None:
                if reply.error:
                    raise Status(reply.error, reply.index)
                return reply
        raise Transient(f"{self._name}: SNMPv3 engine and clock do not settle; is it restarting?")

    async def _exchange(self, body: bytes | None) -> Reply | None:
        """Send one datagram and wait for what answers it."""
        assert self._transport is not None
        while not self._inbox.queue.empty():
            self._inbox.queue.get_nowait()
            self.strays += 1
        if body is None:
            self._id = _after(self._id)
            data = self._security.hello(self._id)
        else:
            data = self._security.message(body, self._id)
        self.requests += 1
        self._transport.sendto(data)
        last = ""
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    try:
                        return self._answer(await self._inbox.queue.get())
                    except Garbled as stray:
                        self.strays += 1
                        last = f"; last datagram refused: {stray}"
        except TimeoutError:
            raise TimedOut(
                f"{self._name}: no answer in {self._timeout_s:g} s{last}; check address, "
                "port and community or user (a wrong one is met with silence)"
            ) from None

    def _answer(self, item: bytes | OSError) -> Reply | None:
        if isinstance(item, OSError):
            raise Transient(
                f"{self._name}: {item.strerror or item}; nothing listens there, or no route"
            )
        reply = self._security.reply(item, self._id)
        if reply is not None and (reply.request_id != self._id or reply.kind != RESPONSE):
            raise Garbled("an answer to another request")
        return reply


def _after(request_id: int) -> int:
    return request_id % 0x7FFFFFF0 + 1
