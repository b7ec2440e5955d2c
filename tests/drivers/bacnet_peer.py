"""A BACnet/IP device of a few lines, on raw bytes, that can be told to misbehave.

It answers ReadProperty, ReadPropertyMultiple and WriteProperty for a dict of values, and
shares nothing with drivers/ nor with bacpypes3. Bytes are spelled out as in ASHRAE 135
annex F, so that a test can change any of them.
"""

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

Key = tuple[int, int, int]  # object type, instance, property
Fault = Callable[[bytes, bytes], bytes | list[bytes] | None]
"""(request APDU, right reply APDU) -> APDU(s) sent instead; None: nothing."""

PRESENT_VALUE, PRIORITY_ARRAY, STATUS_FLAGS = 85, 87, 111


def real(value: float) -> bytes:
    """An application-tagged Real."""
    return b"\x44" + struct.pack(">f", value)


def oid(type_: int, instance: int) -> bytes:
    """Context tag 0 with an object identifier."""
    return b"\x0c" + (type_ << 22 | instance).to_bytes(4, "big")


def datagram(apdu: bytes) -> bytes:
    """Wrap an APDU in NPDU and BVLC of a unicast (original-unicast-NPDU)."""
    return b"\x81\x0a" + (6 + len(apdu)).to_bytes(2, "big") + b"\x01\x00" + apdu


@dataclass
class BacnetPeer(asyncio.DatagramProtocol):
    """`values`: encoded application data by object and property."""

    values: dict[Key, bytes] = field(default_factory=dict)
    slots: dict[Key, dict[int, bytes]] = field(default_factory=dict)
    rpm: bool = True
    max_results: int = 1000
    fault: Fault | None = None
    raw_fault: Callable[[bytes], bytes] | None = None  # on the whole datagram
    requests: list[bytes] = field(default_factory=list)
    from_elsewhere: bool = False
    behind: tuple[int, bytes] | None = None  # (network, MAC): this peer is only the router
    cov: bool = True
    subscribers: dict[tuple[int, int], tuple[tuple[str, int], bytes, int]] = field(
        default_factory=dict
    )  # (type, instance) -> (address, process, lifetime_s)
    host: str = "127.0.1.40"
    port: int = 0

    async def __aenter__(self) -> "BacnetPeer":
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, (self.host, 0))
        self._elsewhere, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, (self.host, 0)
        )
        self.port = self._transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transport.close()
        self._elsewhere.close()
        await asyncio.sleep(0)

    def send(self, apdu: bytes, to: tuple[str, int]) -> None:
        data = datagram(apdu)
        if self.behind is not None:  # NPDU with the source network and address
            network, mac = self.behind
            npdu = b"\x01\x08" + network.to_bytes(2, "big") + bytes((len(mac),)) + mac
            data = b"\x81\x0a" + (4 + len(npdu) + len(apdu)).to_bytes(2, "big") + npdu + apdu
        if self.raw_fault:
            data = self.raw_fault(data)
        (self._elsewhere if self.from_elsewhere else self._transport).sendto(data, to)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        apdu = data[6:]
        if self.behind is not None:  # destination network and address, then the hop count
            network, mac = self.behind
            assert data[4:8] == b"\x01\x24" + network.to_bytes(2, "big"), data.hex()
            assert data[8 : 9 + len(mac)] == bytes((len(mac),)) + mac
            apdu = data[10 + len(mac) :]
        if apdu[0] >> 4 != 0:  # only confirmed requests are answered
            return
        self.requests.append(apdu)
        if apdu[3] == 5 and self.cov:
            self._subscribe(apdu[4:], addr)
        right = self.answer(apdu[2], apdu[3], apdu[4:])
        sent = self.fault(apdu, right) if self.fault else right
        for one in sent if isinstance(sent, list) else [sent]:
            if one is not None:
                self.send(one, addr)

    def answer(self, invoke: int, service: int, body: bytes) -> bytes:
        """The APDU that answers a request."""
        ack = bytes((0x30, invoke, service))
        if service == 15:
            return self._write(invoke, body)
        if service == 5:
            error = bytes((0x50, invoke, service)) + b"\x91\x05\x91\x2b"  # no COV here
            return bytes((0x20, invoke, service)) if self.cov else error
        refs = _parse_refs(service, body)
        if service == 12:
            found = self._value(refs[0])
            if found is None:
                return bytes((0x50, invoke, service)) + b"\x91\x01\x91\x1f"
            return ack + body + b"\x3e" + found + b"\x3f"
        if not self.rpm:
            return bytes((0x60, invoke, 9))
        if len(refs) > self.max_results:
            return bytes((0x71, invoke, 4))  # abort: segmentation not supported
        return ack + b"".join(self._result(ref) for ref in refs)

    def _subscribe(self, body: bytes, addr: tuple[str, int]) -> None:
        """09 process, 1C object, 29 00 (unconfirmed), 39 or 3A lifetime."""
        size = body[0] & 7
        at = 1 + size
        assert (body[0] >> 4, body[at], body[at + 5 : at + 7]) == (0, 0x1C, b"\x29\x00")
        number = int.from_bytes(body[at + 1 : at + 5], "big")
        lifetime_s = int.from_bytes(body[at + 8 :], "big")
        key = (number >> 22, number & 0x3FFFFF)
        self.subscribers[key] = (addr, body[1:at], lifetime_s)

    def notify(
        self, type_: int, instance: int, value: bytes, process: bytes = b"", flags: bytes = b""
    ) -> None:
        """Send an unconfirmed COV notification of a present value (and flags) to the subscriber."""
        more = b"\x09\x6f\x2e" + flags + b"\x2f" if flags else b""
        addr, own, lifetime_s = self.subscribers[type_, instance]
        process = process or own
        self.send(
            b"\x10\x02" + bytes((0x08 | len(process),)) + process
            + b"\x1c\x02\x00\x04\xb0" + b"\x2c" + oid(type_, instance)[1:]
            + b"\x39" + bytes((min(lifetime_s, 255),))
            + b"\x4e\x09\x55\x2e" + value + b"\x2f" + more + b"\x4f", addr,
        )  # fmt: skip

    def _value(self, key: Key) -> bytes | None:
        type_, instance, property_ = key
        slots = self.slots.get((type_, instance, PRESENT_VALUE))
        if property_ == PRIORITY_ARRAY and slots is not None:
            return b"".join(slots.get(i, b"\x00") for i in range(1, 17))
        if property_ == PRESENT_VALUE and slots:
            return slots[min(slots)]
        return self.values.get(key)

    def _result(self, key: Key) -> bytes:
        found = self._value(key)
        what = b"\x29" + bytes((key[2],))
        if found is None:
            known = any(k[:2] == key[:2] for k in self.values)
            error = b"\x5e" + (b"\x91\x02\x91\x20" if known else b"\x91\x01\x91\x1f") + b"\x5f"
            return oid(*key[:2]) + b"\x1e" + what + error + b"\x1f"
        return oid(*key[:2]) + b"\x1e" + what + b"\x4e" + found + b"\x4f\x1f"

    def _write(self, invoke: int, body: bytes) -> bytes:
        key = _parse_refs(12, body[:7])[0]
        if key not in self.values:
            return bytes((0x50, invoke, 15)) + b"\x91\x01\x91\x1f"
        end = body.rindex(b"\x3f")
        value, priority = body[8:end], body[-1]
        if key in self.slots:
            if value == b"\x00":
                self.slots[key].pop(priority, None)
            else:
                self.slots[key][priority] = value
        else:
            self.values[key] = value
        return bytes((0x20, invoke, 15))


def _parse_refs(service: int, body: bytes) -> list[Key]:
    """The properties a ReadProperty or ReadPropertyMultiple asks for (one-byte properties)."""
    refs: list[Key] = []
    at = 0
    while at < len(body):
        assert body[at] == 0x0C, body[at:].hex()
        number = int.from_bytes(body[at + 1 : at + 5], "big")
        at += 5
        if service == 12:
            return [(number >> 22, number & 0x3FFFFF, body[at + 1])]
        assert body[at] == 0x1E
        at += 1
        while body[at] != 0x1F:
            assert body[at] == 0x09
            refs.append((number >> 22, number & 0x3FFFFF, body[at + 1]))
            at += 2
        at += 1
    return refs
