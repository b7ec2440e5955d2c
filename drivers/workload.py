"""The workload router over HTTP: traffic shares by row, batching window, admission.

GET {url}/workload                    -> {"traffic_share_pct": {"A": 16.67, ...},
                                          "batch_window_ms": 40.0, "admission_pct": 100.0}
PUT {url}/workload/traffic_share_pct  <- {"A": 20.0, ...}: all rows, as one change
PUT {url}/workload/batch_window_ms    <- {"value": 60.0}
PUT {url}/workload/admission_pct      <- {"value": 50.0}

Whatever comes is hostile until checked: its size is capped before it is parsed, and it must
be exactly numbers under known names. Redirects are not followed and proxies not used.

Must never retry a write, and never write on behalf of anyone but drivers.gate.
"""

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import aiohttp

from config.addresses import WorkloadAddress
from config.secrets import SecretError, resolve
from config.site import Device, Point
from control.types import Present, Quality, Reading
from drivers.contract import NotSent, Permanent, Refused, Transient
from drivers.judge import Judge, judge_of

MAX_BYTES = 65_536
SHARES = "traffic_share_pct"

State = dict[tuple[str, str | None], float | str]
"""(knob, row) -> its number, or why it has none."""


class WorkloadDriver:
    """The driver of one workload router. See drivers.contract.Driver."""

    def __init__(self, device: Device, environ: Mapping[str, str]) -> None:
        self.device = device
        self._environ = environ
        self._url = device.url.rstrip("/") + "/workload"
        self._judges = [judge_of(p) for p in device.points]
        self._by_key = {p.key: p for p in device.points}
        self._session: aiohttp.ClientSession | None = None
        self._lock = asyncio.Lock()

    async def connect(self) -> None:
        """Prepare the session. Nothing is sent. Raises Permanent where the token is missing."""
        self._opened()

    async def read(self, now_s: float) -> list[Reading]:
        """Read all knobs with one GET. Raises Transient when the router does not answer."""
        state = await self._get()
        return [
            _reading(judge, state, _address(point), now_s)
            for judge, point in zip(self._judges, self.device.points, strict=True)
        ]

    async def present(self, points: Sequence[Point]) -> dict[str, Present]:
        """What the router says of these knobs now."""
        state = await self._get()
        found: dict[str, Present] = {}
        for point in points:
            reading = _reading(judge_of(point), state, _address(point), 0.0)
            if reading.quality in (Quality.MISSING, Quality.UNKNOWN):
                raise Refused(f"device {self.device.id} {point.key}: {reading.reason}")
            found[point.key] = Present(reading.value)
        return found

    async def write_raw(self, values: Mapping[str, float | None]) -> None:
        """Write knobs; the shares of all rows are one request.

        Raises Transient as soon as a part of several has been written and another has not.
        """
        done: list[str] = []
        for knob, body in self._bodies(values).items():
            try:
                await self._put(knob, body)
            except (NotSent, Refused) as error:
                if not done:
                    raise
                raise Transient(f"written in part: {', '.join(done)}; then {error}") from error
            done.append(knob)

    def _bodies(self, values: Mapping[str, float | None]) -> dict[str, dict[str, float]]:
        """What to PUT under each knob. Raises Refused before anything is sent."""
        bodies: dict[str, dict[str, float]] = {}
        for key, value in values.items():
            point = self._by_key[key]
            address = _address(point)
            if point.writable is None:
                raise Refused(f"{key}: not writable")
            if value is None or not math.isfinite(value):
                raise Refused(f"{key}: a knob takes a number, it can't be relinquished")
            raw = (value - point.offset) / point.scale
            bodies.setdefault(address.knob, {})[address.row or "value"] = raw
        return bodies

    async def close(self) -> None:
        """Close the session."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers(),
                timeout=aiohttp.ClientTimeout(total=self.device.timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                connector=aiohttp.TCPConnector(limit=1, force_close=True),
            )
            # aiohttp repeats a PUT by itself when the peer hangs up; there is no public switch
            self._session._retry_connection = False
        return self._session

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if self.device.token is not None:
            try:
                token = resolve(self.device.token, self._environ).get_secret_value()
            except SecretError as error:
                raise Permanent(f"device {self.device.id}: token: {error}") from error
            headers["Authorization"] = f"Bearer {token}"
        return headers

    async def _get(self) -> State:
        async with self._lock:
            try:
                async with self._opened().get(self._url, allow_redirects=False) as reply:
                    if reply.status in (401, 403):
                        self._fail(Permanent, f"HTTP {reply.status}: check the token")
                    if reply.status != 200:
                        self._fail(Transient, f"HTTP {reply.status} to GET /workload")
                    return parse_state(await _body(reply))
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self._fail(Transient, f"no reply: {type(error).__name__}", error)
            except ValueError as error:
                self._fail(Transient, f"GET /workload: {error}", error)

    async def _put(self, knob: str, body: dict[str, float]) -> None:
        """One PUT. 2xx is done, 4xx certainly is not, anything else may be."""
        url = f"{self._url}/{knob}"
        async with self._lock:
            try:
                async with self._opened().put(url, json=body, allow_redirects=False) as reply:
                    status, text = reply.status, (await _body(reply))[:200]
            except aiohttp.ClientConnectorError as error:
                self._fail(NotSent, f"no connection: {type(error).__name__}", error)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                self._fail(Transient, f"PUT {knob}: no reply, {type(error).__name__}", error)
        if 200 <= status < 300:
            return
        kind = Refused if 400 <= status < 500 and status not in (408, 425, 429) else Transient
        self._fail(kind, f"PUT {knob}: HTTP {status} {text.decode('utf-8', 'replace')!r}")

    def _fail(
        self, kind: type[Permanent] | type[Transient], text: str, cause: Exception | None = None
    ) -> NoReturn:
        raise kind(f"device {self.device.id} at {self.device.url}: {text}") from cause


async def _body(reply: aiohttp.ClientResponse) -> bytes:
    """The whole body, capped. Raises ValueError when it is too long."""
    data = bytearray()
    async for part in reply.content.iter_chunked(8192):
        data += part
        if len(data) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
    return bytes(data)


def parse_state(body: bytes) -> State:
    """Check and flatten the router's state. Raises ValueError naming what is wrong.

    A knob of the wrong type has a reason in place of its number; unknown names are ignored,
    so that a newer router stays readable.
    """
    try:
        found = json.loads(
            body, object_pairs_hook=_no_twins, parse_constant=_no_constant, parse_int=float
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    state: State = {}
    for knob in ("batch_window_ms", "admission_pct"):
        if knob in found:
            state[knob, None] = _number(found[knob])
    shares = found.get(SHARES, {})
    if not isinstance(shares, dict):
        raise ValueError(f"{SHARES} is not an object of row: share")
    for row, share in shares.items():
        state[SHARES, row] = _number(share)
    return state


def _number(value: object) -> float | str:
    if isinstance(value, float) and math.isfinite(value):
        return value
    return f"not a number: {str(value)[:40]!r}"


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _address(point: Point) -> WorkloadAddress:
    assert isinstance(point.address, WorkloadAddress)
    return point.address


def _reading(judge: Judge, state: State, address: WorkloadAddress, now_s: float) -> Reading:
    raw = state.get((address.knob, address.row))
    match raw:
        case None:
            which = address.knob if address.row is None else f"{address.knob} of {address.row}"
            return judge.missing(f"the router has no {which}", now_s)
        case str():
            return judge.bad(raw, now_s)
    return judge.read(raw, now_s)
