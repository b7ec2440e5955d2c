"""The HTTP API's server, in the agent's own event loop.

Decides where it listens and that it never takes the agent down: a port that is taken is said at
start, a failing request ends with its own answer. Signals stay the agent's (uvicorn's own
handlers are switched off), and open WebSockets are told before it stops.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
import uvicorn

from agent.api.app import Context, make_app
from agent.api.auth import Tokens
from agent.api.events import Clients
from agent.api.push import PushDoor
from agent.core import Agent
from agent.events import Hub
from agent.mqtt.mirror import Mirror
from agent.polling import DeviceStats
from config.secrets import SecretError
from config.site import Site

if TYPE_CHECKING:
    from agent.history.service import History

log = structlog.get_logger(__name__)

GRACE_S = 3
MOST_CONNECTIONS = 256


class ApiError(Exception):
    """The API can't be served. The message says why and what to do."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the agent has its own."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say when it listens."""
        await super().startup(sockets)
        self.ready.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing to capture."""
        yield


class Api:
    """Serves one agent. Raises ApiError when made with tokens that can't be read or are weak."""

    def __init__(
        self,
        agent: Agent,
        hub: Hub,
        version: str,
        history: "History | None" = None,
        mirror: Mirror | None = None,
        polls: dict[str, DeviceStats] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        if agent.site.api is None:
            raise ValueError("the site has no [api] section: there is nothing to serve")
        tokens = _tokens(agent.site, environ)
        self._section = agent.site.api
        self._hub = hub
        push = PushDoor(agent.site, agent.clock, agent.take)
        self.context = Context(
            agent=agent, clock=agent.clock, hub=hub, tokens=tokens, push=push, version=version,
            history=history, mirror=mirror, polls=polls if polls is not None else {},
        )  # fmt: skip
        self.app = make_app(self.context)
        self.clients: Clients = self.app.state.clients
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._socket is not None
        host, port = self._socket.getsockname()[:2]
        return f"{'https' if self._section.tls else 'http'}://{_shown(host)}:{port}"

    def prepare(self, site: Site, environ: Mapping[str, str] | None) -> tuple[Tokens, PushDoor]:
        """What another version of the site needs here. Raises ApiError; changes nothing."""
        return _tokens(site, environ), self.context.push.for_site(site)

    def adopt(self, tokens: Tokens, push: PushDoor) -> None:
        """Answer by these from now on."""
        self.context.tokens, self.context.push = tokens, push

    async def start(self) -> str:
        """Listen and serve; the URL. Raises ApiError."""
        self._socket, tls = self._bind(), self._section.tls
        config = uvicorn.Config(
            self.app, http="h11", ws="websockets-sansio", lifespan="off", log_config=None,
            access_log=False, proxy_headers=False, server_header=False, timeout_keep_alive=30,
            limit_concurrency=MOST_CONNECTIONS, timeout_graceful_shutdown=GRACE_S, ws_max_size=1_024,
            ws_per_message_deflate=False, ws_ping_interval=20.0, ws_ping_timeout=20.0,
            h11_max_incomplete_event_size=32_768,
            ssl_certfile=tls.cert_file if tls else None, ssl_keyfile=tls.key_file if tls else None,
        )  # fmt: skip
        self._server = _Server(config)
        self._task = asyncio.create_task(self._serve(self._server, self._socket), name="api")
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({ready, self._task}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            self._task.result()
        log.info("API listens", url=self.url)
        return self.url

    async def stop(self) -> None:
        """Tell listeners, end what is under way within some seconds, and close."""
        await self.clients.close()
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await asyncio.wait({self._task}, timeout=GRACE_S + 2)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()

    async def _serve(self, server: _Server, listening: socket.socket) -> None:
        try:
            await server.serve(sockets=[listening])
        except SystemExit as error:
            raise ApiError(f"api: the server ended with {error.code}") from None
        except (OSError, ssl.SSLError) as error:
            raise ApiError(f"api: {error}: check api.tls") from error

    def _bind(self) -> socket.socket:
        host, port = self._section.address
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, kind, proto, _, address = found[0]
            listening = socket.socket(family, kind, proto)
        except OSError as error:
            raise ApiError(f"api.listen {self._section.listen}: {error}") from error
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
        except OSError as error:
            listening.close()
            raise ApiError(
                f"api.listen {self._section.listen}: {error.strerror or error}: free the address or"
                " choose another one"
            ) from error
        listening.setblocking(False)
        return listening


def _tokens(site: Site, environ: Mapping[str, str] | None) -> Tokens:
    try:
        return Tokens(site, environ)
    except (SecretError, ValueError) as error:
        raise ApiError(f"api: {error}") from error


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
