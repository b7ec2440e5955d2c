"""Asks `skadi sim` to start or stop an overlay, over its own HTTP interface.

Only for simulated sites, and only what POST /demo/scenario and its like pass on.
"""

from typing import Any

import aiohttp

from agent import json_in
from agent.plain import plain
from agent.services import Answer

TIMEOUT_S = 5.0
MOST_BYTES = 65_536


class Simulator:
    """The control interface of a running `skadi sim`."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    async def scenario(self, name: str, action: str, duration_s: float | None) -> Answer:
        """Start or stop an overlay. Returns (done, detail)."""
        body: dict[str, Any] = {"scenario": name, "action": action}
        if duration_s is not None:
            body["duration_s"] = duration_s
        try:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(f"{self._url}/scenario", json=body) as response,
            ):
                said = json_in.loads(await response.content.read(MOST_BYTES), MOST_BYTES)
                status = response.status
        except (TimeoutError, aiohttp.ClientError, json_in.BadJson, OSError) as error:
            reason = (
                f"simulator at {self._url}: {type(error).__name__}: {error}: is skadi sim running?"
            )
            return False, {"reason": reason}
        detail: dict[str, Any] = plain(said) if isinstance(said, dict) else {"answer": plain(said)}
        if status != 200:
            return False, {"reason": str(detail.get("error", f"status {status}"))}
        return True, detail
