"""The parts of benchmarks/polling.py that run as processes of their own.

    polling_parts.py devices COUNT REGISTERS          # prints their ports, serves until killed
    polling_parts.py bare HOST PORTS REGISTERS PERIOD_S BROKER_PORT

`devices` is as cheap as it gets, so that it never is the bottleneck: the replies to the one
request it knows are made once, only the transaction id is filled in. `bare` is the least a
gateway can do with the same libraries: pymodbus reads, JSON, paho publishes.
"""

import asyncio
import json
import sys
import time
from random import Random

import paho.mqtt.client as mqtt
from pymodbus.client import AsyncModbusTcpClient


class Device(asyncio.Protocol):
    """Answers any read: every register wanders between 200 and 260 from one read to the next."""

    def __init__(self, registers: int) -> None:
        noise = Random(registers)
        levels = [230.0] * registers
        self.bodies = []
        for _ in range(64):
            levels = [min(260.0, max(200.0, v + noise.uniform(-3, 3))) for v in levels]
            self.bodies.append(b"".join(round(v).to_bytes(2, "big") for v in levels))
        self.head = b"\0\0" + (3 + 2 * registers).to_bytes(2, "big")
        self.count = bytes((2 * registers,))
        self.reads = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.reads += 1
        body = self.bodies[self.reads % len(self.bodies)]
        self.transport.write(data[:2] + self.head + data[6:8] + self.count + body)


async def serve(count: int, registers: int) -> None:
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(lambda: Device(registers), "127.0.0.1", 0) for _ in range(count)
    ]
    print(json.dumps([s.sockets[0].getsockname()[1] for s in servers]), flush=True)
    await asyncio.Event().wait()


async def bare(ports: list[int], registers: int, period_s: float, broker: int) -> None:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker)
    client.loop_start()

    async def poll(number: int, port: int) -> None:
        modbus = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=2, retries=0)
        await modbus.connect()
        topic = f"bare/{number}"
        due_s = time.monotonic() + period_s * number / len(ports)
        while True:
            if period_s:
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                due_s += period_s
            reply = await modbus.read_holding_registers(0, count=registers)
            values = {f"p{i}": round(v * 0.1, 3) for i, v in enumerate(reply.registers)}
            client.publish(topic, json.dumps({"ts": time.time(), "points": values}))

    await asyncio.gather(*(poll(i, port) for i, port in enumerate(ports)))


def main() -> None:
    match sys.argv[1:]:
        case ["devices", count, registers]:
            asyncio.run(serve(int(count), int(registers)))
        case ["bare", ports, registers, period_s, broker]:
            asyncio.run(bare(json.loads(ports), int(registers), float(period_s), int(broker)))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
