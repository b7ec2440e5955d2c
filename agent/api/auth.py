"""Who calls: bearer tokens with a role, and what a browser on another site may not do.

Decides authentication only; what a role may do is in the table of operations. Tokens are kept
as hashes and compared in constant time. Must never log or show a token.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import structlog
from fastapi import HTTPException, Request
from starlette.requests import HTTPConnection

from agent.operations.table import RANK, Caller
from config.secrets import SecretRef, resolve
from config.site import Site

log = structlog.get_logger(__name__)

SHORTEST_TOKEN = 16
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def digest(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _secret(ref: SecretRef, what: str, environ: Mapping[str, str] | None) -> bytes:
    value = resolve(ref, environ).get_secret_value()
    if len(value) < SHORTEST_TOKEN:
        raise ValueError(f"{what}: at least {SHORTEST_TOKEN} characters; try  openssl rand -hex 32")
    return digest(value)


@dataclass(frozen=True, slots=True)
class Known:
    """A token that opens something: its name and role."""

    name: str
    role: str
    hash: bytes


class Tokens:
    """The tokens of a site. Raises SecretError or ValueError when one can't be read or is weak."""

    def __init__(self, site: Site, environ: Mapping[str, str] | None = None) -> None:
        api = site.api
        people = api.tokens if api else ()
        self._people = [
            Known(t.name, t.role, _secret(t.token, f"api.tokens {t.name}", environ)) for t in people
        ]
        self._devices = {
            d.id: _secret(d.token, f"device {d.id} token", environ)
            for d in site.devices
            if d.protocol == "push" and d.token is not None
        }
        self.open_reading = api is None or api.loopback

    def person(self, authorization: str | None) -> Caller | None:
        """Who shows this Authorization header, or None."""
        shown = digest(_bearer(authorization))
        found = [k for k in self._people if hmac.compare_digest(k.hash, shown)]
        return Caller(found[0].name, "http", found[0].role) if found else None

    def device(self, device: str, authorization: str | None) -> bool:
        """True when this is the token of a push device."""
        kept = self._devices.get(device)
        return kept is not None and hmac.compare_digest(kept, digest(_bearer(authorization)))


def _bearer(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def unauthorized(message: str) -> HTTPException:
    """401, with what to do."""
    return HTTPException(401, message, headers={"WWW-Authenticate": "Bearer"})


def caller_of(connection: HTTPConnection) -> Caller:
    """The caller of a request that changes something. Raises 401."""
    tokens: Tokens = connection.app.state.context.tokens
    caller = tokens.person(connection.headers.get("authorization"))
    if caller is None:
        log.warning("call without a valid token", path=connection.url.path)
        if connection.headers.get("authorization"):
            raise unauthorized(
                "this token is none of [[api.tokens]] in the site file, as its secrets are now"
            )
        raise unauthorized(
            "this takes a token: Authorization: Bearer TOKEN, one of [[api.tokens]] in the site file"
        )
    return caller


def person(request: Request) -> Caller:
    """A dependency: whoever changes something has a token."""
    return caller_of(request)


def reader(request: Request) -> None:
    """A dependency: on loopback anyone reads, beyond it takes a token of any role."""
    may_read(request)


def may_read(connection: HTTPConnection) -> None:
    """Raises 401 where reading takes a token and there is none."""
    tokens: Tokens = connection.app.state.context.tokens
    if not tokens.open_reading:
        caller = caller_of(connection)
        assert caller.role in RANK


def foreign(site: Site, headers: Mapping[str, str]) -> str | None:
    """Why a browser's request from elsewhere is refused, or None.

    On loopback a Host that is not this host's name means DNS rebinding; anywhere an Origin that
    is not one of our names means another site's page.
    """
    api = site.api
    ours = {*LOCAL_NAMES, *(api.hosts if api else ()), api.address[0] if api else "localhost"}
    host = _name(f"//{headers.get('host', '')}")
    if (api is None or api.loopback) and host and host not in ours:
        return f"host {host[:64]!r} is not a name of this API: add it to api.hosts"
    origin = headers.get("origin")
    if origin and origin != "null" and _name(origin) in {*ours, host}:
        return None
    return f"origin {origin[:64]!r} may not call: add its host to api.hosts" if origin else None


def _name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return "?"
