"""A workload router of a few lines on raw HTTP/1.1 bytes, that can be told to misbehave.

It shares nothing with drivers/ nor with aiohttp.
"""

import asyncio
import json
from collections.abc import Callable

Fault = Callable[[str, bytes], bytes | None]
"""(method and path, right reply) -> what is sent instead; None: nothing."""


def reply(body: object, status: str = "200 OK", head: str = "") -> bytes:
    """A whole HTTP reply; bytes are sent as they are, anything else as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{head}"
        f"Content-Length: {len(data)}\r\n\r\n"
    ).encode() + data


class RouterPeer:
    """Holds the state of the router; PUTs change it."""

    def __init__(self) -> None:
        self.state: dict[str, object] = {
            "traffic_share_pct": {"A": 60.0, "B": 40.0},
            "batch_window_ms": 40.0,
            "admission_pct": 100.0,
        }
        self.requests: list[tuple[str, bytes, dict[str, str]]] = []
        self.fault: Fault | None = None
        self.delay_s = 0.0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "RouterPeer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._one(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client hung up
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (h.partition(":") for h in head[1:] if h)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        method, path, _ = head[0].split()
        self.requests.append((f"{method} {path}", body, headers))
        right = self._answer(method, path, body)
        sent = self.fault(f"{method} {path}", right) if self.fault else right
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if sent is not None:
            writer.write(sent)
            await writer.drain()

    def _answer(self, method: str, path: str, body: bytes) -> bytes:
        if (method, path) == ("GET", "/workload"):
            return reply(self.state)
        knob = path.rpartition("/")[2]
        given = json.loads(body)
        if knob == "traffic_share_pct":
            if abs(sum(given.values()) - 100) > 0.01:
                return reply({"error": "shares must sum to 100"}, "422 Unprocessable Entity")
            self.state[knob] = given
        else:
            self.state[knob] = given["value"]
        return reply({"ok": True})
