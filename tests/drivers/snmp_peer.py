"""An SNMP v2c device for tests, with its own BER: it shares nothing with drivers/.

A `Fault` is a function from a request to the datagrams that answer it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Datagrams = list[bytes]


def tlv(tag: int, body: bytes) -> bytes:
    size = len(body)
    if size < 128:
        return bytes([tag, size]) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def num(value: int, tag: int = 2) -> bytes:
    for size in range(1, 10):
        try:
            return tlv(tag, value.to_bytes(size, "big", signed=True))
        except OverflowError:
            continue
    raise ValueError(value)


def oid_body(text: str) -> bytes:
    parts = [int(p) for p in text.split(".")]
    out = bytes([parts[0] * 40 + parts[1]])
    for part in parts[2:]:
        chunk = [part & 127]
        while part := part >> 7:
            chunk.insert(0, part & 127 | 128)
        out += bytes(chunk)
    return out


def oid(text: str) -> bytes:
    return tlv(6, oid_body(text))


def seq(*parts: bytes) -> bytes:
    return tlv(0x30, b"".join(parts))


def elements(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(data):
        tag, size = data[at], data[at + 1]
        at += 2
        if size & 0x80:
            count = size & 0x7F
            size = int.from_bytes(data[at : at + count], "big")
            at += count
        found.append((tag, data[at : at + size]))
        at += size
    return found


def oid_text(body: bytes) -> str:
    parts, number = [str(min(body[0] // 40, 2)), str(body[0] - 40 * min(body[0] // 40, 2))], 0
    for byte in body[1:]:
        number = number << 7 | byte & 127
        if not byte & 128:
            parts.append(str(number))
            number = 0
    return ".".join(parts)


@dataclass
class Request:
    """What a client asked: PDU kind, request id, OIDs, and for SET the encoded values."""

    kind: int
    id: int
    oids: list[str]
    values: list[bytes]
    community: bytes
    version: int
    second: int = 0


def parse(data: bytes) -> Request:
    (_, version), (_, community), (kind, body) = elements(elements(data)[0][1])
    (_, rid), (_, _first), (_, second), (_, binds) = elements(body)
    pairs = [elements(b) for _, b in elements(binds)]
    return Request(
        kind, int.from_bytes(rid, "big"), [oid_text(p[0][1]) for p in pairs],
        [tlv(*p[1]) for p in pairs], community, int.from_bytes(version, "big"),
        int.from_bytes(second, "big"),
    )  # fmt: skip


def reply(
    request: Request, binds: list[tuple[str, bytes]], *, error: int = 0, index: int = 0,
    rid: int | None = None, version: int | None = None, community: bytes | None = None,
    kind: int = 0xA2,
) -> bytes:  # fmt: skip
    body = num(request.id if rid is None else rid) + num(error) + num(index)
    body += seq(*(seq(oid(o), v) for o, v in binds))
    return seq(
        num(request.version if version is None else version),
        tlv(4, request.community if community is None else community),
        tlv(kind, body),
    )


Fault = Callable[["Agent", Request], Datagrams]


@dataclass
class Agent(asyncio.DatagramProtocol):
    """Answers GET, GETBULK and SET from `values`; `fault` takes over while it is set."""

    values: dict[str, bytes] = field(default_factory=dict)
    fault: Fault | None = None
    community: bytes = b"public"
    most: int = 1_000  # larger requests are answered with tooBig
    mute_above: int = 1_000  # larger requests are met with silence
    requests: list[Request] = field(default_factory=list)
    port: int = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        request = parse(data)
        self.requests.append(request)
        if request.community != self.community:
            return
        for datagram in (self.fault or Agent.proper)(self, request):
            self.transport.sendto(datagram, addr)  # type: ignore[attr-defined]

    def held(self, request: Request) -> list[tuple[str, bytes]]:
        """The right varbinds for a GET."""
        return [(o, self.values.get(o, tlv(0x81, b""))) for o in request.oids]

    def proper(self, request: Request) -> Datagrams:
        """Answer as RFC 3416 has it."""
        if len(request.oids) > self.mute_above:
            return []
        if len(request.oids) > self.most:
            return [reply(request, [], error=1)]
        if request.kind == 0xA3:
            self.values.update(zip(request.oids, request.values, strict=True))
        if request.kind in (0xA1, 0xA5):
            return [reply(request, self.following(request))]
        return [reply(request, self.held(request))]

    def following(self, request: Request) -> list[tuple[str, bytes]]:
        def key(text: str) -> tuple[int, ...]:
            return tuple(map(int, text.split(".")))

        at = key(request.oids[0])
        after = [o for o in sorted(self.values, key=key) if key(o) > at]
        count = request.second if request.kind == 0xA5 else 1
        found = [(o, self.values[o]) for o in after[:count]]
        return found or [(request.oids[0], tlv(0x82, b""))]


@asynccontextmanager
async def serve(agent: Agent) -> AsyncIterator[Agent]:
    """Run an agent on a free port of 127.0.0.1."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: agent, local_addr=("127.0.0.1", 0))
    agent.port = transport.get_extra_info("sockname")[1]
    try:
        yield agent
    finally:
        transport.close()
