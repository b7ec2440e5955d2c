"""Makes the HTTP application: routes, errors in one shape, and the border that requests cross.

Decides nothing of control. Must never answer with a stack trace, parse a body it has not
measured, or serve a page of another site.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent import json_in
from agent.api.auth import Tokens, foreign
from agent.api.models import Error, ErrorBody, Problem
from agent.api.views import Seen
from agent.glossary import WORDS, described
from agent.services import HistoryDown

if TYPE_CHECKING:
    from agent.api.push import PushDoor

log = structlog.get_logger(__name__)

MOST_BYTES = 65_536
JSON = "application/json"
MOST_TELEMETRY_BYTES = 1_048_576
TITLE = "Skadi"
ABOUT = """\
State, history and operations of one Skadi agent. Reading is open on loopback; whatever changes
state takes a bearer token with the role that the operation asks for (viewer < operator <
engineer). Times are UTC (ISO 8601), numbers carry their unit, null means not known. Raising the
mode, arming, and clearing the kill switch are refused here: they take an engineer on the host.
Bodies are JSON (`Content-Type: application/json`); every answer that is not 2xx is an Error.
The contract is version 1 (`schema_version` in `GET /state/overview`): members may be added, none is
renamed or removed within a version; ignore what you don't know.

`GET /ws/events` is a WebSocket: everything that happens, numbered. `?since=SEQ&boot=NONCE` goes on
where a connection broke, `&types=kpi,monitor,action` picks some. Frames are JSON: hello {boot, seq,
oldest, types}, gap {from, to} for what can no longer be given, then events {seq, ts, type, body}.
What does not fit is refused at the handshake with an Error (401, 403, 422, 503), as any other request. Closed
with 1013: too slow; 1001: the agent stops.
"""


@dataclass(slots=True, kw_only=True)
class Context(Seen):
    """What the routes answer from: what is seen, and who may come in."""

    tokens: Tokens
    push: "PushDoor"


# Named, not given as a model: FastAPI would build a validator of its own for each route and code.
# GET /explain gives the model, and so puts it among the schemas.
_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}


def _responses(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {c: {"content": _ERROR, "description": HTTPStatus(c).phrase} for c in codes}


READ_ERRORS = _responses(401, 403, 422)
HISTORY_ERRORS = _responses(401, 403, 422, 503)
WRITE_ERRORS = _responses(400, 401, 403, 409, 413, 415, 422)


class StrictRequest(Request):
    """A request whose JSON is parsed strictly."""

    async def json(self) -> Any:
        """The body. Raises RequestValidationError."""
        try:
            return json_in.loads(await self.body(), MOST_TELEMETRY_BYTES)
        except json_in.BadJson as error:
            raise HTTPException(400, str(error)) from None


class StrictRoute(APIRoute):
    """A route that reads bodies by StrictRequest, and takes none that says it is something else."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            inner = StrictRequest(request.scope, request.receive)
            kind = inner.headers.get("content-type", JSON).partition(";")[0].strip().lower()
            if self.body_field is not None and kind != JSON and await inner.body():
                raise HTTPException(415, f"send JSON, with the header  Content-Type: {JSON}")
            return await handle(inner)

        return strict


def error_response(
    status: int,
    message: str,
    problems: list[Problem] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """An answer that is not 2xx, in the one shape."""
    code = HTTPStatus(status).phrase.lower().replace(" ", "_")
    body = Error(error=ErrorBody(code=code, message=message, problems=problems or []))
    return JSONResponse(body.model_dump(), status, headers=headers)


class Border:
    """What every request passes: host and origin, the body's size, no caching, no sniffing."""

    def __init__(self, app: ASGIApp, state: Any) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] not in ("http", "websocket"):
            return
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        context: Context | None = self._state.context
        if context is not None and (why := foreign(context.site, headers)):
            await error_response(403, why)(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        most = MOST_TELEMETRY_BYTES if scope["path"] == "/telemetry" else MOST_BYTES
        said = headers.get("content-length", "0")
        if said.isascii() and said.isdigit() and int(said[:20]) > most:
            refused = error_response(413, f"at most {most} bytes are taken here")
            await refused(scope, receive, send)
            return
        await self._app(scope, _measured(receive, most), _plainly(send))


def _measured(receive: Receive, most: int) -> Receive:
    """A body that grows beyond `most` ends in 413, whatever its headers said."""
    seen = 0

    async def measured() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise HTTPException(413, f"at most {most} bytes are taken here")
        return message

    return measured


def _plainly(send: Send) -> Send:
    extra = [(b"x-content-type-options", b"nosniff"), (b"x-frame-options", b"DENY"),
             (b"referrer-policy", b"no-referrer")]  # fmt: skip

    async def plainly(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", []), *extra]
            if not any(k.lower() == b"cache-control" for k, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        await send(message)

    return plainly


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    headers = dict(error.headers) if error.headers else None
    message = str(error.detail)
    if message == HTTPStatus.NOT_FOUND.phrase:  # Starlette's own: no route
        message = "no such path; /docs and GET /openapi.json list them all"
    if headers and error.status_code == 405:
        message = f"this path takes {headers.get('Allow', headers.get('allow'))}"
    return error_response(error.status_code, message, headers=headers)


async def _bad_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [
        Problem(where=".".join(map(str, e["loc"])), what=str(e["msg"])) for e in error.errors()[:32]
    ]
    return error_response(422, "the request does not fit; see problems", problems)


async def _history_down(_: Request, error: Exception) -> Response:
    return error_response(503, f"history can't answer now: {error}", headers={"Retry-After": "10"})


async def _failed(request: Request, error: Exception) -> Response:
    log.error("request failed", path=request.url.path, exc_info=error)
    return error_response(500, "an error of Skadi's own; the log has it")


async def _docs(request: Request) -> Response:
    from agent.api.docs_page import docs_page

    headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return HTMLResponse(docs_page(request.app.openapi()), headers=headers)


class Api(FastAPI):
    """An application whose OpenAPI says of each member and parameter what it is."""

    def openapi(self) -> dict[str, Any]:
        """The contract, made once."""
        if self.openapi_schema is not None:
            return self.openapi_schema
        shown = super().openapi()
        shapes = shown["components"]["schemas"]
        shapes |= {name: described(name, shape) for name, shape in shapes.items()}
        for path, method in ((p, m) for p, ms in shown["paths"].items() for m in ms.values()):
            if "state" in method["tags"]:
                method["security"] = [{"token": []}, {}]  # on loopback anyone reads
            for taken in method.get("parameters", ()):
                about = WORDS.get(f"{path}.{taken['name']}") or WORDS.get(taken["name"], "")
                taken.setdefault("description", about)
        return shown


def make_app(context: Context | None) -> FastAPI:
    """The application; without a context it only tells its OpenAPI."""
    from agent.api import events as api_events
    from agent.api import push as api_push
    from agent.api import read as api_read
    from agent.api import report as api_report
    from agent.api import write as api_write

    app = Api(
        title=TITLE, description=ABOUT, version=context.version if context else "0",
        redoc_url=None, docs_url=None, separate_input_output_schemas=False,
        exception_handlers={
            StarletteHTTPException: _http_error, RequestValidationError: _bad_request,
            HistoryDown: _history_down, Exception: _failed,
        },
    )  # fmt: skip
    app.state.context = context
    app.state.clients = api_events.Clients()
    app.state.reporting = False
    for router in (
        api_read.open_router, api_read.router, api_report.router, api_write.router, api_push.router, api_events.router,
    ):  # fmt: skip
        app.include_router(router)
    app.add_route("/docs", _docs, include_in_schema=False)
    app.add_middleware(Border, state=app.state)
    return app
