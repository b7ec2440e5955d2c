"""The contract of a simulated device's server, and free ports."""

import socket
from typing import Protocol

from simulators.site import SiteDevice


class Server(Protocol):
    """One device on one address. `start` after `stop` comes back on the same port."""

    device: SiteDevice

    async def start(self) -> None:
        """Bind and serve. OSError when the address is taken."""

    async def stop(self) -> None:
        """Close the port and every connection; the device's state stays."""


def free_port(host: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port that is free on `host` right now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
