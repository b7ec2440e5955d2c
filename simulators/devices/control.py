"""The simulators' own interface, for tests, checkers and demonstrations; no device has it.

GET /truth, /wire?since=SEQ, /devices, /state; POST /scenario, /devices/{id}, /meter.
"""

import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from simulators.devices.router import BadRequest, number, parse
from simulators.scenarios import OVERLAYS

if TYPE_CHECKING:
    from simulators.park import Park

_ACTIONS = ("stop", "start", "reboot", "local", "remote")


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


class Control:
    """Handlers over a park of devices."""

    def __init__(self, park: "Park") -> None:
        self._park = park

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/state", self._state),
            web.get("/truth", self._truth),
            web.get("/wire", self._wire),
            web.get("/devices", self._devices),
            web.post("/devices/{id}", self._device),
            web.post("/scenario", self._scenario),
            web.post("/meter", self._meter),
        ]

    async def _state(self, _: web.Request) -> web.Response:
        hall = self._park.world.hall
        return web.json_response(
            {
                "utc": hall.utc.isoformat(),
                "time_s": hall.now_s,
                "step_s": hall.step_s,
                "scenario": hall.scenario,
                "seed": hall.seed,
                "overlays": hall.overlays.running(hall.now_s),
                "over": hall.over,
                "values": self._park.world.readings | hall.setpoints.values,
            }
        )

    async def _truth(self, _: web.Request) -> web.Response:
        return web.json_response(self._park.world.hall.truth())

    async def _meter(self, _: web.Request) -> web.Response:
        self._park.world.hall.start_meter()
        return web.json_response({"started_s": self._park.world.hall.now_s})

    async def _wire(self, request: web.Request) -> web.Response:
        since = request.query.get("since", "0")
        if not since.isascii() or not since.isdigit():
            return _error(400, "since must be a sequence number")
        world = self._park.world
        body = {"last_seq": world.seq, "writes": world.journal_since(int(since))}
        return web.Response(text=json.dumps(body), content_type="application/json")

    async def _devices(self, _: web.Request) -> web.Response:
        return web.json_response(self._park.describe())

    async def _device(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if name not in self._park.servers:
            return _error(404, f"no device {name!r}")
        try:
            action = parse(await request.read()).get("action")
        except BadRequest as why:
            return _error(400, str(why))
        if action not in _ACTIONS:
            return _error(400, f"action must be one of {', '.join(_ACTIONS)}")
        await self._park.act(name, action)
        return web.json_response(self._park.describe()[name])

    async def _scenario(self, request: web.Request) -> web.Response:
        try:
            data = parse(await request.read())
            name, action, duration_s = self._plan(data)
        except BadRequest as why:
            return _error(400, str(why))
        hall = self._park.world.hall
        if action == "start":
            hall.overlays.start(name, hall.now_s, duration_s)
            changed = True
        else:
            changed = hall.overlays.stop(name, hall.now_s)
        return web.json_response(
            {"scenario": name, "changed": changed, "running": hall.overlays.running(hall.now_s)}
        )

    @staticmethod
    def _plan(data: dict[str, Any]) -> tuple[str, str, float | None]:
        unknown = set(data) - {"scenario", "action", "duration_s"}
        if unknown:
            raise BadRequest(f"unknown key {sorted(unknown)[0]!r}")
        name, action = data.get("scenario"), data.get("action")
        if not isinstance(name, str) or name not in OVERLAYS:
            raise BadRequest(f"scenario must be one of {', '.join(OVERLAYS)}")
        if action not in ("start", "stop"):
            raise BadRequest("action must be start or stop")
        if data.get("duration_s") is None:
            return name, action, None
        duration_s = number(data, "duration_s")
        if not 0.0 < duration_s <= 7 * 86_400.0:
            raise BadRequest("duration_s must be above 0 and at most seven days")
        return name, action, duration_s
