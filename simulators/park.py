"""All simulated devices of one hall, each on its own address, and their life.

Starts and stops servers; knows no protocol's bytes and no physics.
"""

import asyncio

from simulators.devices.bacnet import Bms
from simulators.devices.base import Server
from simulators.devices.control import Control
from simulators.devices.http import HttpServer, exporter, router
from simulators.devices.modbus import ModbusUnit
from simulators.devices.pusher import Pusher
from simulators.devices.snmp import SnmpV2cPdu, SnmpV3Pdu
from simulators.secrets import Secrets
from simulators.site import CONTROL_OFFSET, DEFAULT_PORT_BASE, SiteDevice, devices, sensors
from simulators.world import World


def _server(device: SiteDevice, world: World, secrets: Secrets) -> Server:
    match device.protocol:
        case "modbus-tcp":
            return ModbusUnit(device, world)
        case "bacnet-ip":
            return Bms(device, world)
        case "snmp":
            pdu = SnmpV3Pdu if device.snmp == "3" else SnmpV2cPdu
            return pdu(device, world, secrets)
        case "prometheus":
            return exporter(device, world)
        case "workload-http":
            return router(device, world)
        case other:
            raise AssertionError(f"no server for {other}")


class Park:
    """The devices of a hall. `servers` by device id, `control` beside them.

    post: the base URL of an agent's API that room sensors post to; none without it. Raises
    ValueError when it is no such URL.
    """

    def __init__(
        self,
        world: World,
        secrets: Secrets,
        port_base: int = DEFAULT_PORT_BASE,
        post: str | None = None,
    ) -> None:
        self.world = world
        self.port_base = port_base
        self.servers: dict[str, Server] = {
            d.id: _server(d, world, secrets) for d in devices(port_base)
        }
        if post is not None:
            pusher = Pusher(sensors, post, secrets.push, world)
            self.servers[pusher.device.id] = pusher
        self.running: set[str] = set()
        port = port_base + CONTROL_OFFSET if port_base else 0
        place = SiteDevice("control", "control", "127.0.0.1", port, ())
        self.control = HttpServer(place, Control(self).routes)

    async def start(self) -> None:
        """Start every device and the control interface. OSError names a taken address."""
        try:
            for name in self.servers:
                await self._start(name)
            await self.control.start()
        except OSError:
            await self.stop()
            raise

    async def _start(self, name: str) -> None:
        server = self.servers[name]
        try:
            await server.start()
        except (OSError, RuntimeError) as error:
            place = f"{server.device.host}:{server.device.port}"
            raise OSError(f"{name}: can't listen on {place} ({error}); use --port-base 0") from None
        self.running.add(name)

    async def stop(self) -> None:
        """Stop everything."""
        await asyncio.gather(*(self.servers[name].stop() for name in sorted(self.running)))
        self.running.clear()
        await self.control.stop()

    async def act(self, name: str, action: str) -> None:
        """stop, start, reboot (volatile state is lost), local, remote. Idempotent."""
        if action in ("stop", "reboot") and name in self.running:
            await self.servers[name].stop()
            self.running.discard(name)
        if action == "reboot":
            server = self.servers[name]
            if isinstance(server, Bms):
                server.reboot()
        if action in ("start", "reboot") and name not in self.running:
            await self._start(name)
        if action == "local":
            self.world.local.add(name)
        if action == "remote":
            self.world.local.discard(name)

    @property
    def devices(self) -> list[SiteDevice]:
        """Every device with the port it is bound to."""
        return [server.device for server in self.servers.values()]

    def describe(self) -> dict[str, dict[str, object]]:
        """Return each device's protocol, address and whether it answers."""
        return {
            d.id: {
                "protocol": d.protocol,
                "address": d.url
                if d.path or d.protocol == "workload-http"
                else f"{d.host}:{d.port}",
                "running": d.id in self.running,
                "local": d.id in self.world.local,
            }
            for d in self.devices
        }
