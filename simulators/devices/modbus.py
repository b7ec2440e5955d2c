"""CRAC and pump units as Modbus TCP servers, one server a unit.

Registers are filled from the world when they are read; a write to a holding register takes
effect in the hall at once, or is answered with an exception.
"""

import struct

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from simulators.devices.base import free_port
from simulators.site import Register, SiteDevice, WirePoint
from simulators.world import World

_WRITES = frozenset({5, 6, 15, 16, 22})
_BLOCK_OF_READ = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
_FORMAT = {"int16": ">h", "uint16": ">H", "float32": ">f"}
_ALARM_STATE = 3.0


def words(value: float, at: Register) -> list[int]:
    """Return the registers a value takes, most significant word first; saturates."""
    if at.type == "float32":
        return list(struct.unpack(">2H", struct.pack(">f", value)))
    low, high = (-32768, 32767) if at.type == "int16" else (0, 65535)
    raw = min(max(round(value / at.scale), low), high)
    return [raw & 0xFFFF]


def value_of(raw: int, at: Register) -> float:
    """Return what one written register means."""
    signed = struct.unpack(">h", struct.pack(">H", raw))[0] if at.type == "int16" else raw
    return round(float(signed) * at.scale, 9)


class ModbusUnit:
    """One unit's Modbus side."""

    def __init__(self, device: SiteDevice, world: World) -> None:
        self.device = device
        self._world = world
        self._server: ModbusTcpServer | None = None
        self._at: dict[str, list[tuple[Register, WirePoint]]] = {"input": [], "holding": []}
        for point in device.points:
            assert isinstance(point.wire, Register)
            self._at[point.wire.kind].append((point.wire, point))
        self._holding = {r.offset: (r, p) for r, p in self._at["holding"]}

    async def start(self) -> None:
        """Serve on the device's address."""
        if not self.device.port:
            self.device = self.device.at(free_port(self.device.host))
        address = (self.device.host, self.device.port)
        server = ModbusTcpServer(self._sim(), address=address)
        await server.serve_forever(background=True)
        self._server = server

    async def stop(self) -> None:
        """Close the port and its connections."""
        if self._server is not None:
            await self._server.shutdown()  # type: ignore[no-untyped-call]
            self._server = None

    def _sim(self) -> SimDevice:
        inputs = max(r.offset + len(words(0.0, r)) for r, _ in self._at["input"])
        bits = [SimData(0, values=[False] * 16, datatype=DataType.BITS)]
        return SimDevice(
            id=self.device.unit_id,
            simdata=(
                bits,
                [SimData(0, values=[False] * 16, datatype=DataType.BITS)],
                [SimData(0, count=len(self._holding), datatype=DataType.REGISTERS)],
                [SimData(0, count=inputs, datatype=DataType.REGISTERS)],
            ),
            action=self._action,
        )

    async def _action(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Fill registers before a read; judge and apply a write."""
        if function in _WRITES and values is not None:
            return self._write(function, address, [int(v) for v in values])
        block = _BLOCK_OF_READ.get(function, "holding")
        if block == "discrete":
            registers[0] = self._discrete()
        for at, point in self._at.get(block, ()):
            if at.offset < address + count and at.offset + 2 > address:
                for i, word in enumerate(words(self._world.value(point.id) or 0.0, at)):
                    registers[at.offset - start + i] = word
        return None

    def _discrete(self) -> int:
        """Bit 0: alarm. Bit 1: the switch stands on remote."""
        alarm = self._world.value(f"{self.device.id}/state") == _ALARM_STATE
        remote = self.device.id not in self._world.local
        return int(alarm) | int(remote) << 1

    def _write(self, function: int, address: int, values: list[int]) -> ExcCodes | None:
        name = self.device.id
        if function not in (6, 16):
            self._world.refuse(name, "modbus-tcp", f"fc{function}:{address}", "not writable")
            return ExcCodes.ILLEGAL_FUNCTION
        changes: dict[str, tuple[str, float]] = {}
        for offset, raw in enumerate(values, address):
            at, point = self._holding[offset]
            changes[point.id] = (f"holding:{offset}", value_of(raw, at))
        if self._world.write(name, "modbus-tcp", changes) is None:
            return None
        return ExcCodes.DEVICE_BUSY if name in self._world.local else ExcCodes.ILLEGAL_VALUE
