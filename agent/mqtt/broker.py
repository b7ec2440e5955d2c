"""An MQTT broker inside the process, for the demo: loopback only, no passwords, no persistence.

Decides nothing. Must never listen beyond 127.0.0.0/8; a real site has a real broker.
"""

import asyncio
import ipaddress
import logging

from amqtt.broker import Broker

QUIET = ("amqtt", "transitions")


class DemoBroker:
    """amqtt in the caller's event loop. Speaks MQTT 3.1.1 only."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"{host}: the demo's broker listens on loopback only")
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._host = host
        self._port = port
        self._broker: Broker | None = None

    @property
    def url(self) -> str:
        """Where it listens, for [mqtt] url."""
        return f"mqtt://{self._host}:{self._port}"

    async def start(self) -> str:
        """Listen; the URL. Raises OSError when the port is taken."""
        listener = {"type": "tcp", "bind": f"{self._host}:{self._port}"}
        anyone = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        broker = Broker({"listeners": {"default": listener}, "plugins": anyone})
        await broker.start()
        server = broker._servers["default"].instance
        assert isinstance(server, asyncio.Server)
        self._port = server.sockets[0].getsockname()[1]
        self._broker = broker
        return self.url

    async def stop(self) -> None:
        """Disconnect everybody and stop listening."""
        if self._broker is not None:
            await self._broker.shutdown()
            self._broker = None
