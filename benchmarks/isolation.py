"""One dead and one slow device among 200: what it does to the period of the others.

    .venv/bin/python benchmarks/isolation.py [--devices 200] [--seconds 30]

Modbus devices at 1 Hz, polled by the agent's own poller. One device accepts connections and
never answers, one answers after 5 s. Printed is how far the mean period of each of the others
is from 1 s, and the longest wait between two of its readings. The goal is 10 %.
"""

import argparse
import asyncio
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import itertools

from agent.clock import WallClock
from agent.polling import Poller
from config.addresses import ModbusAddress
from config.site import Device, Point
from control.types import Reading
from drivers.modbus import ModbusDriver

PARTS = str(Path(__file__).parent / "polling_parts.py")
REGISTERS = 20
SLOW_S = 5.0
GOAL_PCT = 10.0


async def misbehave(delay_s: float | None) -> int:
    """A device that answers late, or never (None). Returns its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(300):
            if delay_s is not None:
                await asyncio.sleep(delay_s)
                body = b"\0" * (2 * REGISTERS)
                writer.write(
                    head[:2] + b"\0\0" + (3 + len(body)).to_bytes(2, "big") + head[6:8]
                    + bytes((len(body),)) + body
                )  # fmt: skip

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    return port


def device(number: int, port: int) -> Device:
    name = f"dev{number:03}"
    points = tuple(
        Point(key=f"{name}/p{i}", device=name, id=f"p{i}", quantity="inlet_c", unit="degC",
              address=ModbusAddress("holding", i), equipment=name, scale=0.1)
        for i in range(REGISTERS)
    )  # fmt: skip
    return Device(name, "modbus-tcp", points, host="127.0.0.1", port=port, poll_interval_s=1.0)


async def run(ports: list[int], seconds: float) -> None:
    bad = [await misbehave(None), await misbehave(SLOW_S)]
    devices = [device(i, port) for i, port in enumerate([*bad, *ports])]
    times: dict[str, list[float]] = defaultdict(list)
    clock = WallClock()

    def take(where: Device, readings: list[Reading]) -> None:
        if readings[0].value is not None:
            times[where.id].append(clock.boot_s())

    drivers = [ModbusDriver(d, {}) for d in devices]
    poller = Poller(drivers, clock, take)
    poller.start()
    await asyncio.sleep(seconds)
    await poller.stop()
    await asyncio.gather(*(d.close() for d in drivers))
    good = [times[d.id] for d in devices[len(bad) :]]
    periods = [(t[-1] - t[0]) / (len(t) - 1) for t in good]
    longest = max(b - a for t in good for a, b in itertools.pairwise(t))
    off_pct = max(abs(p - 1.0) for p in periods) * 100
    print(f"{len(good)} devices beside 1 dead and 1 slow, {seconds:g} s: mean period off by at most"
          f" {off_pct:.2f} %, longest wait {longest:.3f} s; goal {GOAL_PCT:g} %"
          f" -> {'held' if off_pct <= GOAL_PCT else 'MISSED'}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0)
    args = parser.parse_args()
    command = [sys.executable, PARTS, "devices", str(args.devices - 2), str(REGISTERS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            asyncio.run(run(json.loads(process.stdout.readline()), args.seconds))
        finally:
            process.kill()


if __name__ == "__main__":
    main()
