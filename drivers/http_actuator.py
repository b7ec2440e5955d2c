"""Workload actuators that speak JSON over HTTP: one client, opened and closed with the driver."""

from collections.abc import Mapping
from typing import ClassVar

from config.site import Device
from drivers.actuator import Actuator
from drivers.http_json import HttpJson


class HttpActuator(Actuator):
    """An adapter with a client of its own, `self.http`."""

    most_bytes: ClassVar[int]  # the largest reply that is still read

    def __init__(self, device: Device, environ: Mapping[str, str]) -> None:
        super().__init__(device, environ)
        self.http = HttpJson(device, environ, self.most_bytes)

    async def connect(self) -> None:
        """Nothing is sent."""
        self.http.open()

    async def close(self) -> None:
        """Close the session."""
        await self.http.close()
