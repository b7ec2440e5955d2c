"""A Modbus device of a few lines, on raw bytes, that can be told to misbehave.

It speaks TCP (with TLS if given a context), RTU over TCP, and RTU over any pair of streams.

It shares nothing with drivers/ nor with pymodbus: what it says is spelled out here.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable

Fault = Callable[[bytes, bytes], bytes | None]
"""(request ADU, right reply ADU) -> what is sent instead; None: nothing."""


def frame(transaction: bytes, unit: int, pdu: bytes) -> bytes:
    """Wrap a PDU in an MBAP header."""
    return transaction + b"\0\0" + (len(pdu) + 1).to_bytes(2, "big") + bytes((unit,)) + pdu


def rtu_frame(unit: int, pdu: bytes) -> bytes:
    """Wrap a PDU for a serial line; the CRC bit by bit, as the specification draws it."""
    body = bytes((unit,)) + pdu
    crc = 0xFFFF
    for byte in body:
        crc ^= byte
        for _ in range(8):
            carry, crc = crc & 1, crc >> 1
            if carry:
                crc ^= 0xA001
    return body + bytes((crc & 0xFF, crc >> 8))


async def read_rtu(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """One request from a line: (unit, PDU). Checks its CRC."""
    start = await reader.readexactly(7)
    size = {15: 9 + start[6], 16: 9 + start[6], 22: 10, 43: 7}.get(start[1], 8)
    whole = start + await reader.readexactly(size - 7)
    assert rtu_frame(whole[0], whole[1:-2]) == whole, whole.hex()
    return whole[:1], whole[1:-2]


class ModbusPeer:
    """Holding and input registers and coils as dicts; unknown addresses are exception 2."""

    def __init__(
        self, unit: int = 1, rtu: bool = False, context: ssl.SSLContext | None = None
    ) -> None:
        self.unit = unit
        self.rtu = rtu
        self.context = context
        self.holding: dict[int, int] = {}
        self.input: dict[int, int] = {}
        self.coils: dict[int, int] = {}
        self.discrete: dict[int, int] = {}
        self.requests: list[bytes] = []  # PDUs
        self.connections = 0
        self.fault: Fault | None = None
        self.delay_s = 0.0
        self.close_instead = False
        self.crumbs = False  # send byte by byte
        self.host, self.port = "127.0.0.1", 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> "ModbusPeer":
        self._server = await asyncio.start_server(
            self.serve, self.host, self.port, ssl=self.context
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop listening and cut all connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.close()
        await asyncio.sleep(0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                if self.rtu:
                    head, pdu = await read_rtu(reader)
                else:
                    head = await reader.readexactly(7)
                    pdu = await reader.readexactly(int.from_bytes(head[4:6], "big") - 1)
                await self._answer(head, pdu, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client hung up
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, head: bytes, pdu: bytes, writer: asyncio.StreamWriter) -> None:
        if self.rtu and head[0] != self.unit:
            return  # another unit's on this line
        self.requests.append(pdu)
        if self.rtu:
            right = rtu_frame(head[0], self.execute(pdu))
        else:
            right = frame(head[:2], head[6], self.execute(pdu))
        sent = self.fault(head + pdu, right) if self.fault else right
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.close_instead:
            raise ConnectionError("told to close")
        for part in [sent[i : i + 1] for i in range(len(sent))] if sent and self.crumbs else [sent]:
            if part:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)

    def execute(self, pdu: bytes) -> bytes:
        """The PDU that answers `pdu`."""
        function, address = pdu[0], int.from_bytes(pdu[1:3], "big")
        table = {1: self.coils, 2: self.discrete, 3: self.holding, 4: self.input}.get(function)
        if table is not None:
            return self._read(function, table, address, int.from_bytes(pdu[3:5], "big"))
        return self._write(function, address, pdu)

    def _read(self, function: int, table: dict[int, int], address: int, count: int) -> bytes:
        try:
            values = [table[a] for a in range(address, address + count)]
        except KeyError:
            return bytes((function | 0x80, 2))
        if function <= 2:
            packed = sum(v << i for i, v in enumerate(values)).to_bytes((count + 7) // 8, "little")
        else:
            packed = b"".join(v.to_bytes(2, "big") for v in values)
        return bytes((function, len(packed))) + packed

    def _write(self, function: int, address: int, pdu: bytes) -> bytes:
        if function == 5 and address in self.coils:
            self.coils[address] = int(pdu[3] == 0xFF)
            return pdu
        if function == 6 and address in self.holding:
            self.holding[address] = int.from_bytes(pdu[3:5], "big")
            return pdu
        if function == 22 and address in self.holding:
            keep, put = int.from_bytes(pdu[3:5], "big"), int.from_bytes(pdu[5:7], "big")
            self.holding[address] = self.holding[address] & keep | put & ~keep & 0xFFFF
            return pdu
        count = int.from_bytes(pdu[3:5], "big")
        table = self.coils if function == 15 else self.holding
        if function not in (15, 16) or any(a not in table for a in range(address, address + count)):
            return bytes((function | 0x80, 2 if function in (5, 6, 15, 16) else 1))
        for i in range(count):
            if function == 15:
                table[address + i] = pdu[6 + i // 8] >> i % 8 & 1
            else:
                table[address + i] = int.from_bytes(pdu[6 + 2 * i : 8 + 2 * i], "big")
        return pdu[:5]


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
