"""WS /ws/events: everything that happens, numbered, resumable; slow clients are let go.

Decides nothing. A client says from which number on (`since`) and of which run (`boot`); what can
no longer be given is announced as a gap, never left out silently. Reads from the hub's ring at
the client's pace, so nobody waits for it.

Frames (JSON text): hello {boot, seq, oldest, types}, gap {from, to}, then events
{seq, ts, type, body}. Refused at the handshake, as other requests are (401, 403, 422, 503); close codes: 1013 too
slow, 1001 the agent stops.
"""

import asyncio
from typing import Any

import structlog
from fastapi import APIRouter, HTTPException, WebSocket, WebSocketDisconnect

from agent.api.app import error_response
from agent.api.auth import may_read
from agent.events import TYPES, Hub
from agent.plain import strict_json

log = structlog.get_logger(__name__)

CLOSE_S = 1.0
SEND_S = 10.0  # a frame that is not taken within this ends the connection
MOST_CLIENTS = 64
MOST_MESSAGE = 1_024

router = APIRouter(tags=["events"])


class Clients:
    """Who listens now, so that they can be told that the agent stops."""

    def __init__(self) -> None:
        self.sockets: set[WebSocket] = set()
        self.dropped = 0

    async def close(self) -> None:
        """Tell everybody to go."""
        for socket in list(self.sockets):
            await _close(socket, 1001, "the agent stops")


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    """Say why, to a client that may be gone or not listen."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await socket.close(code, reason)
    except (TimeoutError, RuntimeError, OSError, WebSocketDisconnect) as error:
        log.debug("listener left without goodbye", error=repr(error))


@router.websocket("/ws/events")
async def events(socket: WebSocket) -> None:
    """Stream events from `?since=SEQ` of run `&boot=NONCE`; `&types=kpi,action` picks some."""
    clients: Clients = socket.app.state.clients
    try:
        may_read(socket)
        wanted = _wanted(socket)
        if len(clients.sockets) >= MOST_CLIENTS:
            raise HTTPException(503, f"{MOST_CLIENTS} clients listen already")
    except HTTPException as error:
        headers = dict(error.headers or {})
        answer = error_response(error.status_code, str(error.detail), headers=headers)
        await socket.send_denial_response(answer)
        return
    await socket.accept()
    clients.sockets.add(socket)
    hub: Hub = socket.app.state.context.hub
    sending = asyncio.create_task(_send(socket, hub, *wanted), name="ws: send")
    try:
        await _until_gone(socket, sending)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        clients.sockets.discard(socket)
    if not sending.cancelled() and isinstance(sending.exception(), _TooSlow):
        clients.dropped += 1


class _TooSlow(Exception):
    """The client did not keep up."""


def _wanted(socket: WebSocket) -> tuple[int | None, str, frozenset[str]]:
    """(since, boot, types) of the query. Raises 422."""
    query = socket.query_params
    since = query.get("since")
    if since is not None and not (since.isascii() and since.isdigit() and len(since) < 19):
        raise HTTPException(422, "since must be a sequence number")
    types = frozenset(query["types"].split(",")) if query.get("types") else frozenset(TYPES)
    if unknown := sorted(types - frozenset(TYPES)):
        raise HTTPException(422, f"no event type {unknown[0][:32]!r}; there are {', '.join(TYPES)}")
    return (int(since) if since is not None else None), query.get("boot", ""), types


async def _until_gone(socket: WebSocket, sending: "asyncio.Task[None]") -> None:
    """Until the client leaves, says something (it has nothing to say), or can't be served."""
    hearing = asyncio.create_task(_hear(socket), name="ws: hear")
    try:
        await asyncio.wait({hearing, sending}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)


async def _hear(socket: WebSocket) -> None:
    while True:
        message: dict[str, Any] = dict(await socket.receive())
        if message["type"] == "websocket.disconnect":
            return


async def _send(
    socket: WebSocket, hub: Hub, since: int | None, boot: str, types: frozenset[str]
) -> None:
    at = hub.seq if since is None else since
    await _frame(socket, strict_json({
        "type": "hello", "boot": hub.nonce, "seq": hub.seq, "oldest": hub.oldest, "types": sorted(types),
    }))  # fmt: skip
    if since is not None and (boot != hub.nonce or since > hub.seq):
        at = 0  # another run's numbers mean nothing here: all that is kept
    if since is not None and hub.oldest > at + 1:
        await _frame(socket, strict_json({"type": "gap", "from": at + 1, "to": hub.oldest - 1}))
        at = hub.oldest - 1
    try:
        while True:
            await hub.wait(at)
            if hub.oldest > at + 1:
                raise _TooSlow
            for event in hub.after(at):
                at = event.seq
                if event.type in types:
                    await _frame(socket, event.text)
    except _TooSlow:
        log.info("event listener dropped: too slow", at=at, seq=hub.seq)
        await _close(socket, 1013, "too slow: reconnect with since and boot")
        raise
    except (WebSocketDisconnect, OSError) as error:
        log.debug("event listener gone", error=str(error))


async def _frame(socket: WebSocket, text: str) -> None:
    try:
        async with asyncio.timeout(SEND_S):
            await socket.send_text(text)
    except TimeoutError:
        raise _TooSlow from None
    except RuntimeError as error:  # it was closed under our hands
        raise WebSocketDisconnect(1006) from error
