"""One HTTP client of one device: what every adapter that speaks JSON over HTTP shares.

Whatever comes is hostile until checked: its size is capped before it is parsed, and it must be
strict JSON. Redirects are not followed and proxies not used; TLS is always verified. Must never
retry a request.
"""

import asyncio
import json
import ssl
from collections.abc import Mapping
from typing import Any, NoReturn

import aiohttp

from config.secrets import SecretError, resolve
from config.site import Device
from drivers.contract import NotSent, Permanent, Refused, Transient

MAX_BYTES = 65_536


class HttpJson:
    """One request at a time to one device."""

    def __init__(
        self, device: Device, environ: Mapping[str, str], most_bytes: int = MAX_BYTES
    ) -> None:
        self.url = device.url.rstrip("/")
        self._device, self._environ, self._most = device, environ, most_bytes
        self._session: aiohttp.ClientSession | None = None
        self._lock = asyncio.Lock()

    def open(self) -> aiohttp.ClientSession:
        """Prepare the session; nothing is sent. Raises Permanent without its token or CA."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers(),
                timeout=aiohttp.ClientTimeout(total=self._device.timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                connector=aiohttp.TCPConnector(limit=1, force_close=True, ssl=tls_of(self._device)),
            )
            # aiohttp repeats a PUT by itself when the peer hangs up; there is no public switch
            self._session._retry_connection = False
        return self._session

    async def close(self) -> None:
        """Close the session."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def get(self, path: str) -> Any:
        """The JSON at a path. Raises Transient, or Permanent where a token or path is wrong."""
        async with self._lock:
            try:
                async with self.open().get(self.url + path, allow_redirects=False) as reply:
                    if reply.status in (401, 403):
                        self.fail(Permanent, f"HTTP {reply.status}: check the token")
                    if reply.status == 404:
                        self.fail(Permanent, f"GET {path}: HTTP 404: there is no such thing")
                    if reply.status != 200:
                        self.fail(Transient, f"HTTP {reply.status} to GET {path}")
                    return strict(await self._body(reply))
            except aiohttp.ClientConnectorError as error:
                self.fail(Transient, "no connection; check host, port and network", error)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self.fail(Transient, f"no reply: {type(error).__name__}", error)
            except ValueError as error:
                self.fail(Transient, f"GET {path}: {error}", error)

    async def send(self, method: str, path: str, body: Any = None, kind: str = "") -> bytes:
        """One request that changes something: 2xx is done, 4xx certainly is not, anything else
        may be. `kind`: the content type. Raises NotSent, Refused or Transient."""
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        headers = {"Content-Type": kind or "application/json"} if data is not None else {}
        async with self._lock:
            try:
                async with self.open().request(
                    method, self.url + path, data=data, headers=headers, allow_redirects=False
                ) as reply:
                    status, said = reply.status, await self._body(reply)
            except aiohttp.ClientConnectorError as error:
                self.fail(NotSent, "no connection; check host, port and network", error)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                self.fail(Transient, f"{method} {path}: no reply, {type(error).__name__}", error)
        if 200 <= status < 300:
            return said
        refused = 400 <= status < 500 and status not in (408, 425, 429)
        text = said[:200].decode("utf-8", "replace")
        self.fail(Refused if refused else Transient, f"{method} {path}: HTTP {status} {text!r}")

    def fail(
        self, kind: type[Permanent] | type[Transient], text: str, cause: Exception | None = None
    ) -> NoReturn:
        """Raise it, with the device named."""
        raise kind(f"device {self._device.id} at {self._device.url}: {text}") from cause

    async def _body(self, reply: aiohttp.ClientResponse) -> bytes:
        data = bytearray()
        async for part in reply.content.iter_chunked(8192):
            data += part
            if len(data) > self._most:
                raise ValueError(f"more than {self._most} bytes")
        return bytes(data)

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if self._device.token is not None:
            try:
                token = resolve(self._device.token, self._environ).get_secret_value()
            except SecretError as error:
                raise Permanent(f"device {self._device.id}: token: {error}") from error
            headers["Authorization"] = f"Bearer {token}"
        return headers


def tls_of(device: Device) -> ssl.SSLContext | bool:
    """What verifies an https device: its `tls`, else the host's own authorities (True).

    Raises Permanent for files that can't be used.
    """
    if device.tls is None:
        return True
    try:
        context = ssl.create_default_context(cafile=device.tls.ca_file)
        if device.tls.cert_file and device.tls.key_file:
            context.load_cert_chain(device.tls.cert_file, device.tls.key_file)
    except OSError as error:  # ssl.SSLError is one
        raise Permanent(f"device {device.id}: tls: {error}; check the files") from error
    return context


def strict(body: bytes) -> Any:
    """Parse JSON in which no name stands twice and every number is finite. Raises ValueError."""
    try:
        return json.loads(
            body, object_pairs_hook=_no_twins, parse_constant=_no_constant, parse_int=float
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")
