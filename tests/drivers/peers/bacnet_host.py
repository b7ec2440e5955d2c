"""A BACnet device (rusty-bacnet) for a network namespace: INSTANCE IP BROADCAST [bbmd]."""

import asyncio
import sys

import rusty_bacnet


async def main(instance: int, ip: str, broadcast: str, bbmd: bool) -> None:
    server = rusty_bacnet.BACnetServer(
        device_instance=instance, device_name=f"device {instance}", interface=ip,
        broadcast_address=broadcast,
        bbmd=rusty_bacnet.Bbmd([], accept_foreign_devices=True) if bbmd else None,
    )  # fmt: skip
    server.add_analog_input(1, "outdoor", 62, 12.5)
    server.add_analog_value(7, "setpoint", 62)
    server.add_binary_input(3, "leak")
    await server.start()
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3], len(sys.argv) > 4))
