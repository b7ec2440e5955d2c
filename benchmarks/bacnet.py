"""What reading BACnet costs: our driver beside bacpypes3's own ReadPropertyMultiple.

    .venv/bin/python benchmarks/bacnet.py [--objects 60] [--seconds 5]

The device is rusty-bacnet in a process of its own. Counted is the CPU time of the reader
alone, for a million values. The goal is 330 with the stock stack, and as far below as it goes.
"""

import argparse
import asyncio
import sys
import time
from multiprocessing import Process, Queue
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from config.addresses import BacnetAddress
from config.site import Device, Point
from drivers.bacnet import BacnetDriver

GOAL_CPU_S_PER_MILLION = 330.0


def serve(objects: int, ports: "Queue[int]") -> None:
    import rusty_bacnet

    async def run() -> None:
        server = rusty_bacnet.BACnetServer(
            1200, "bms", interface="127.0.0.1", port=0, broadcast_address="127.0.0.1"
        )
        for i in range(objects):
            server.add_analog_input(i, f"ai{i}", 62, 20.0 + i)
        await server.start()
        ports.put(int((await server.local_address()).rpartition(":")[2]))
        await asyncio.Event().wait()

    asyncio.run(run())


def device(objects: int, port: int) -> Device:
    points = tuple(
        Point(key=f"bms/ai{i}", device="bms", id=f"ai{i}", quantity="state", unit="",
              address=BacnetAddress("analog-input", i), equipment="bms")
        for i in range(objects)
    )  # fmt: skip
    return Device("bms", "bacnet-ip", points, host="127.0.0.1", port=port, timeout_s=2.0)


async def ours(driver: BacnetDriver, seconds: float) -> float:
    """CPU seconds for a million values by our driver."""
    await driver.read(0)
    count, cpu, end = 0, time.process_time(), time.monotonic() + seconds
    while time.monotonic() < end:
        count += sum(r.value is not None for r in await driver.read(0))
    return (time.process_time() - cpu) / count * 1e6


async def stock(driver: BacnetDriver, objects: int, seconds: float) -> float:
    """The same by bacpypes3's read_property_multiple on the same application."""
    assert driver._seat is not None
    network, address = driver._seat.network, driver._seat.address
    app = network.app
    del app.asap.sap_response  # its own decoding again
    count, cpu, end = 0, time.process_time(), time.monotonic() + seconds
    while time.monotonic() < end:
        wanted = [x for i in range(objects) for x in (f"analog-input,{i}", ["present-value"])]
        found = await app.read_property_multiple(address, wanted)
        count += sum(isinstance(value, float) for *_, value in found)
    return (time.process_time() - cpu) / count * 1e6


async def run(objects: int, seconds: float, port: int) -> None:
    driver = BacnetDriver(device(objects, port), {})
    mine = await ours(driver, seconds)
    theirs = await stock(driver, objects, seconds)
    await driver.close()
    print(f"CPU seconds for a million values: driver {mine:.1f}, bacpypes3 {theirs:.1f}"
          f" (ratio {mine / theirs:.3f}); goal {GOAL_CPU_S_PER_MILLION:g}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--objects", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    ports: Queue[int] = Queue()
    server = Process(target=serve, args=(args.objects, ports), daemon=True)
    server.start()
    try:
        asyncio.run(run(args.objects, args.seconds, ports.get(timeout=10)))
    finally:
        server.terminate()


if __name__ == "__main__":
    main()
