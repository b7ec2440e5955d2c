"""The workload router's HTTP interface: traffic shares, batching window, admission.

Reads and changes three knobs of the hall. Every change is one whole request: all rows of
the traffic shares together, or nothing. Anything else is answered with 4xx and a reason.
"""

import json
import math
from collections.abc import Callable
from typing import Any

from aiohttp import web

from simulators.hall.layout import ROWS
from simulators.world import World

MAX_BODY = 4096
SUM_TOLERANCE_PCT = 0.01


class BadRequest(Exception):
    """A body this router doesn't take; the message says why."""


def _no_constant(text: str) -> float:
    raise BadRequest(f"{text} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise BadRequest("a key stands twice")
    return made


def parse(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body. Raises BadRequest."""
    if len(body) > MAX_BODY:
        raise BadRequest(f"larger than {MAX_BODY} bytes")
    try:
        data = json.loads(body, parse_constant=_no_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise BadRequest("not JSON") from None
    if not isinstance(data, dict):
        raise BadRequest("not a JSON object")
    return data


def number(data: dict[str, Any], key: str) -> float:
    """Return a finite number under `key`. Raises BadRequest."""
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest(f"{key} must be a number")
    if not math.isfinite(value):
        raise BadRequest(f"{key} must be finite")
    return float(value)


def shares(body: bytes) -> dict[str, float]:
    """Return a share for every row. Raises BadRequest."""
    data = parse(body)
    if set(data) != set(ROWS):
        raise BadRequest(f"give a share for each of the rows {', '.join(ROWS)} and nothing else")
    found = {row: number(data, row) for row in ROWS}
    for row, share in found.items():
        if not 0.0 <= share <= 100.0:
            raise BadRequest(f"{row}: {share:g} is outside 0..100 %")
    total = sum(found.values())
    if abs(total - 100.0) > SUM_TOLERANCE_PCT:
        raise BadRequest(f"shares sum to {total:g} %, not to 100")
    return found


def single(body: bytes) -> float:
    """Return the number of {"value": number}. Raises BadRequest."""
    data = parse(body)
    if set(data) != {"value"}:
        raise BadRequest('send {"value": number} and nothing else')
    return number(data, "value")


class Router:
    """Handlers of the router's routes."""

    def __init__(self, world: World) -> None:
        self._world = world

    def state(self) -> dict[str, object]:
        """Return the knobs as they stand."""
        values = self._world.hall.setpoints.values
        return {
            "traffic_share_pct": {r: values[f"router/traffic_share_pct.{r}"] for r in ROWS},
            "batch_window_ms": values["router/batch_window_ms"],
            "admission_pct": values["router/admission_pct"],
            "jobs_waiting": round(
                self._world.hall.work.job_backlog / self._world.hall.k.job_prompts
            ),
        }

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/workload", self._get),
            web.put("/workload/traffic_share_pct", self._put_shares),
            web.put("/workload/batch_window_ms", self._put("batch_window_ms")),
            web.put("/workload/admission_pct", self._put("admission_pct")),
        ]

    async def _get(self, _: web.Request) -> web.Response:
        return web.json_response(self.state())

    async def _put_shares(self, request: web.Request) -> web.Response:
        address = "/workload/traffic_share_pct"
        try:
            found = shares(await request.read())
        except BadRequest as why:
            return self._bad(address, why)
        changes = {f"router/traffic_share_pct.{r}": (address, v) for r, v in found.items()}
        return self._apply(changes)

    def _put(self, knob: str) -> Callable[[web.Request], Any]:
        address = f"/workload/{knob}"

        async def put(request: web.Request) -> web.Response:
            try:
                value = single(await request.read())
            except BadRequest as why:
                return self._bad(address, why)
            return self._apply({f"router/{knob}": (address, value)})

        return put

    def _bad(self, address: str, why: BadRequest) -> web.Response:
        self._world.refuse("router", "workload-http", address, str(why))
        return web.json_response({"error": str(why)}, status=400)

    def _apply(self, changes: dict[str, tuple[str, float]]) -> web.Response:
        refused = self._world.write("router", "workload-http", changes)
        if refused is not None:
            status = 409 if "router" in self._world.local else 422
            return web.json_response({"error": refused}, status=status)
        return web.json_response(self.state())
