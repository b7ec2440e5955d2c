"""HTTP servers on loopback: one for each exporter, the router, and the control interface."""

from collections.abc import Callable

from aiohttp import web

from simulators.devices.exposition import DcgmText, VllmText
from simulators.devices.router import MAX_BODY, Router
from simulators.site import SiteDevice
from simulators.world import World

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class HttpServer:
    """Some routes on one address; stop closes connections at once."""

    def __init__(self, device: SiteDevice, routes: Callable[[], list[web.RouteDef]]) -> None:
        self.device = device
        self._routes = routes
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Serve on the device's address."""
        app = web.Application(client_max_size=2 * MAX_BODY)
        app.add_routes(self._routes())
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, self.device.host, self.device.port, reuse_address=True)
        await site.start()
        self._runner = runner
        self.device = self.device.at(runner.addresses[0][1])

    async def stop(self) -> None:
        """Close the port and its connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


def exporter(device: SiteDevice, world: World) -> HttpServer:
    """Return the server of a dcgm-exporter (gpu-*) or a vLLM (vllm-*)."""
    source = DcgmText(device, world) if device.id.startswith("gpu-") else VllmText(device, world)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=source.build().encode(), headers={"Content-Type": _TEXT})

    return HttpServer(device, lambda: [web.get(device.path, metrics)])


def router(device: SiteDevice, world: World) -> HttpServer:
    """Return the workload router's server."""
    return HttpServer(device, Router(world).routes)
