"""Prometheus text over HTTP: gauges, rates and latency quantiles of one target.

Decides what a scrape means for each point. One GET a read, within timeout_s and MAX_BYTES,
from the very URL of the site file (no redirects, no compression, no proxy from the
environment). A metric that is not there is missing; one that can't be trusted is bad; one
that needs another scrape is unknown. It never fills in a number.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import aiohttp

from config.addresses import MetricAddress
from config.secrets import SecretError, resolve
from config.site import Device, Point
from control.types import Present, Quality, Reading
from drivers.contract import Permanent, Refused, Transient
from drivers.http_json import tls_of
from drivers.judge import judge_of
from drivers.prometheus_text import MAX_SERIES, Labels, Samples, TextReader
from drivers.prometheus_window import NoValue, Quantile, Rate, edge_problem

Series = dict[Labels, float]

MAX_BYTES = 8 * 1024 * 1024
_AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "sum": math.fsum,
    "mean": fmean,
    "max": max,
    "min": min,
}
_PERSON_NEEDED = {401: "give a token", 403: "give a token that may read", 404: "check the path"}


class PrometheusDriver:
    """One target. See drivers.contract.Driver for the meaning of each call."""

    def __init__(self, device: Device, environ: Mapping[str, str]) -> None:
        self.device = device
        self._environ = environ
        self._points = [Metric(point) for point in device.points]
        self._reader = TextReader(n for metric in self._points for n in metric.names)
        self._owners: dict[str, dict[Labels, tuple[int, ...]]] = {}
        self._http: aiohttp.ClientSession | None = None
        self._lock = asyncio.Lock()

    @property
    def edges(self) -> dict[str, tuple[float, ...]]:
        """Bucket edges seen at the last read, in the quantity's unit, by key of quantile points.

        With `drivers.prometheus_window.edge_problem` it tells whether a latency limit can be
        judged at all.
        """
        return {
            m.point.key: tuple(e * m.point.scale + m.point.offset for e in m.window.edges)
            for m in self._points
            if isinstance(m.window, Quantile)
        }

    async def connect(self) -> None:
        """Make the HTTP client; nothing is sent. Raises Permanent for a token that can't be read."""
        if self._http is not None:
            return
        headers = {
            "Accept": "text/plain;version=0.0.4",
            "Accept-Encoding": "identity",
            "User-Agent": "skadi",
        }
        if self.device.token is not None:
            try:
                token = resolve(self.device.token, self._environ).get_secret_value()
            except SecretError as error:
                raise Permanent(f"{self.device.id}: {error}") from None
            headers["Authorization"] = f"Bearer {token}"
        self._http = aiohttp.ClientSession(
            headers=headers,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self.device.timeout_s),
            connector=aiohttp.TCPConnector(limit=1, ssl=tls_of(self.device)),
        )

    async def close(self) -> None:
        """Close the connection."""
        if self._http is not None:
            http, self._http = self._http, None
            await http.close()

    async def read(self, now_s: float) -> list[Reading]:
        """Scrape once. Raises Transient or Permanent when there is no exposition to read."""
        async with self._lock:
            await self.connect()
            found = self._reader.read(await self._scrape())
        mine = self._shares(found)
        return [
            metric.reading(found, own, now_s)
            for metric, own in zip(self._points, mine, strict=True)
        ]

    def _shares(self, found: Mapping[str, Samples]) -> list[dict[str, Series]]:
        """Each point's own series by metric name: every series is looked at once."""
        mine: list[dict[str, Series]] = [{} for _ in self._points]
        for name, samples in found.items():
            owners = self._owners.setdefault(name, {})
            if len(owners) > 2 * MAX_SERIES:
                owners.clear()
            for labels, value in samples.series.items():
                places = owners.get(labels)
                if places is None:
                    places = owners[labels] = self._places(name, labels)
                for place in places:
                    mine[place].setdefault(name, {})[labels] = value
        return mine

    def _places(self, name: str, labels: Labels) -> tuple[int, ...]:
        """The positions of the points that a series belongs to."""
        have = dict(labels)
        return tuple(i for i, m in enumerate(self._points) if name in m.names and m.matches(have))

    async def present(self, points: Sequence[Point]) -> dict[str, Present]:
        """Metrics can't be written, so there is nothing to read back."""
        raise Permanent(f"{self.device.id}: Prometheus metrics are read only")

    async def write_raw(self, values: Mapping[str, float | None]) -> None:
        """Metrics can't be written."""
        raise Refused(f"{self.device.id}: Prometheus metrics are read only")

    async def _scrape(self) -> str:
        """The body of one GET, as text."""
        assert self._http is not None
        name = f"{self.device.id} at {self.device.url}"
        try:
            async with self._http.get(self.device.url, allow_redirects=False) as answer:
                if answer.status != 200:
                    hint = _PERSON_NEEDED.get(answer.status, "")
                    if 300 <= answer.status < 400:
                        hint = "redirects are not followed; write the final URL"
                    kind = Permanent if hint else Transient
                    raise kind(f"{name}: HTTP {answer.status}; {hint or 'it may recover'}")
                if answer.headers.get("Content-Encoding", "identity") != "identity":
                    raise Permanent(f"{name}: a compressed answer nobody asked for")
                body = bytearray()
                async for chunk in answer.content.iter_any():
                    body += chunk
                    if len(body) > MAX_BYTES:
                        raise Permanent(f"{name}: more than {MAX_BYTES} bytes; scrape less")
        except TimeoutError:
            raise Transient(f"{name}: no whole answer in {self.device.timeout_s:g} s") from None
        except aiohttp.ClientConnectorError as error:
            raise Transient(f"{name}: no connection; check host, port and network") from error
        except (aiohttp.ClientError, OSError) as error:
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise Transient(f"{name}: {text[:200]}") from None
        return body.decode("utf-8", errors="replace")


class Metric:
    """One point: which series are its own, and what it remembers between scrapes."""

    def __init__(self, point: Point) -> None:
        if not isinstance(point.address, MetricAddress):
            raise Permanent(f"{point.key} has no metric")
        self.point = point
        self._judge = judge_of(point)
        self._address = address = point.address
        suffix = "_bucket" if address.kind == "quantile" else ""
        self.names = tuple(name + suffix for name in address.metrics)
        self._wanted = tuple((k, frozenset(values)) for k, values in address.labels)
        self.window: Rate | Quantile | None = None
        if address.kind == "rate":
            self.window = Rate(address.window_s, max(60.0, 4 * point.max_age_s))
        elif address.kind == "quantile":
            self.window = Quantile(address.quantile, address.window_s, address.min_count)

    def reading(
        self, found: Mapping[str, Samples], own: Mapping[str, Series], now_s: float
    ) -> Reading:
        """The point's reading from one scrape, of which the series in `own` are its."""
        for name in self.names:
            if name in found and found[name].fault:
                return self._none(now_s, Quality.BAD, f"{name}: {found[name].fault}")
            if name in own:
                return self.of_series(own[name], now_s)
        text = f"no sample of {' or '.join(self.names)}"
        return self._none(now_s, Quality.MISSING, text + (" with its labels" * bool(self._wanted)))

    def of_series(self, series: Series, now_s: float) -> Reading:
        """The point's reading from its own series of one scrape."""
        return self._judged(self._value(series, now_s), now_s)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a series with these labels is one of the point's."""
        return all(labels.get(k) in values for k, values in self._wanted)

    def _value(self, series: Series, now_s: float) -> float | NoValue:
        limit = self._address.limit
        match self.window:
            case Quantile() as quantile:
                value = quantile.take(series, now_s)
                problem = edge_problem(limit, quantile.edges) if limit and quantile.edges else None
                return NoValue(f"the limit of {problem}", unknown=False) if problem else value
            case Rate() as rate:
                return rate.take(series, now_s)
            case None:
                pass
        if not all(map(math.isfinite, series.values())):
            return NoValue("NaN or Inf among its samples", unknown=False)
        return _AGGREGATES[self._address.aggregate](list(series.values()))

    def _judged(self, raw: float | NoValue, now_s: float) -> Reading:
        if isinstance(raw, NoValue):
            quality = Quality.UNKNOWN if raw.unknown else Quality.BAD
            return self._none(now_s, quality, raw.reason)
        return self._judge.read(raw, now_s)

    def _none(self, now_s: float, quality: Quality, reason: str) -> Reading:
        return Reading(self.point.key, None, now_s, quality, reason)
