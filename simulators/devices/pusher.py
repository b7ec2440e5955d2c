"""A gateway of wireless sensors: posts what it measures to an agent's /telemetry, on and on.

Speaks as any HTTP client would; when the agent does not answer it tries again, ever more seldom.
"""

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from simulators.site import Pushed, SiteDevice
from simulators.world import World

_TIMEOUT_S = 5.0
_LEAST_S, _MOST_S = 0.5, 15.0  # between tries while nobody answers
_IDLE_S = 2.0  # a hall that stands still is still measured


class Pusher:
    """Posts one batch a step of the hall, the newest values only. `make`: its device at a place."""

    def __init__(
        self, make: Callable[[str, int], SiteDevice], url: str, token: str, world: World
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"--post {url!r}: give the API's address, as http://127.0.0.1:8790")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self.device = make(parts.hostname, port)
        self._url = f"{parts.scheme}://{parts.netloc}/telemetry"
        self._headers = {"Authorization": f"Bearer {token}"}
        self._world = world
        self._stepped = asyncio.Event()
        self._failing = False
        self._task: asyncio.Task[None] | None = None
        world.on_tick.append(self._stepped.set)

    async def start(self) -> None:
        """Begin to post."""
        self._task = asyncio.create_task(self._run(), name="pusher")

    async def stop(self) -> None:
        """Fall silent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        wait_s = _LEAST_S
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with aiohttp.ClientSession(headers=self._headers, timeout=timeout) as session:
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stepped.wait(), _IDLE_S)
                self._stepped.clear()
                why = await self._post(session)
                self._say(why)
                wait_s = min(2 * wait_s, _MOST_S) if why else _LEAST_S
                if why:
                    await asyncio.sleep(wait_s)

    async def _post(self, session: aiohttp.ClientSession) -> str:
        """Post once. Why it was not taken, or nothing."""
        try:
            async with session.post(self._url, json=self._batch()) as answer:
                said = (await answer.text())[:300]
                return "" if answer.status == 200 else f"status {answer.status}: {said}"
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            return f"{type(error).__name__}: {error}"

    def _batch(self) -> dict[str, Any]:
        readings = []
        for point in self.device.points:
            assert isinstance(point.wire, Pushed)
            readings.append({"point": point.short, "value": self._world.value(point.wire.source)})
        return {"device": self.device.id, "readings": readings}

    def _say(self, why: str) -> None:
        """Once when it is lost, once when it is back."""
        if bool(why) == self._failing:
            return
        self._failing = bool(why)
        text = f"is not taken: {why}; trying on" if why else "is taken again"
        print(f"skadi sim: telemetry to {self._url} {text}", file=sys.stderr, flush=True)
