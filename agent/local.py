"""The local door: a Unix socket in data_dir over which the CLI reaches a running agent.

One JSON object a line in, one out. The socket's file mode is the access control: who may
open it is on the host and in the agent's group, hence an engineer. Works with the network
and the broker down.
"""

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Any

import structlog

from agent.core import Agent
from agent.memory import KILL_FILE as KILL_FILE
from agent.operations.table import Caller, call

log = structlog.get_logger(__name__)

MAX_LINE = 65_536
SOCKET = "control.sock"


class LocalDoor:
    """Serves operations on a Unix socket."""

    def __init__(self, agent: Agent, folder: Path) -> None:
        self._agent = agent
        self._path = folder / SOCKET
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen; a socket left by a former run is replaced (the lock proves it is dead)."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path, limit=MAX_LINE)
        self._path.chmod(0o660)

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), 5.0)
            answer = await self._answer(line)
            writer.write(json.dumps(answer, default=str).encode() + b"\n")
            await writer.drain()
        except (TimeoutError, ValueError, ConnectionError) as error:
            log.warning("local call failed", error=str(error))
        except Exception:  # a bug must not look like an agent that isn't there
            log.exception("local call failed")
            writer.write(b'{"ok": false, "detail": {"reason": "the agent failed; see its log"}}\n')
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            name, arguments = str(request["operation"]), request.get("arguments", {})
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            return {"ok": False, "detail": {"reason": f"not a request: {error}"}}
        caller = Caller(str(request.get("principal", "local"))[:64], "cli", "engineer")
        result = await call(self._agent, name, arguments, caller)
        return {"ok": result.ok, "detail": result.detail, "refused": result.refused}


def ask(folder: Path, operation: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
    """Call a running agent from the CLI. Raises ConnectionError when none answers."""
    request = {"operation": operation, "arguments": arguments or {},
               "principal": os.environ.get("SUDO_USER") or os.environ.get("USER") or "local"}  # fmt: skip
    try:
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(30.0)
            door.connect(str(folder / SOCKET))
            door.sendall(json.dumps(request).encode() + b"\n")
            with door.makefile("rb") as answer:
                reply: dict[str, Any] = json.loads(answer.readline(1 << 22))
    except (OSError, ValueError) as error:
        raise ConnectionError(f"no agent answers at {folder / SOCKET}: {error}") from error
    return reply
